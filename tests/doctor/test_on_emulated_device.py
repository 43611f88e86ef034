"""`check_backend` passes every stage on the emulated device, and finds faults."""

import re
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import cuda_on_host, require_emulation
from examined import heard
from host_cuda import HostCudaBackend, library

import deltaprop as dp
from deltaprop.backends.cuda.compiler import kernel_files
from deltaprop.backends.kernel_names import Rule
from deltaprop.cli import run
from deltaprop.doctor import Check, emulated, epochs, operations, small_kernels
from deltaprop.doctor.emulated import HOST_CUDA
from deltaprop.doctor.fits import Fit
from deltaprop.doctor.record import NotTriedError, Record, hearing_warnings
from deltaprop.doctor.stages import trials_of
from deltaprop.doctor.ways import only
from deltaprop.epochs.graph import GraphEpoch

EMULATED = trials_of("cupy", emulated=True)
KERNELS = [(name, dtype) for name in kernel_files() for dtype in ("float64", "float32")]


@pytest.fixture(scope="module")
def on_host():
    """The emulated device, whose kernels are compiled two files at a time."""
    require_emulation()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(library, *zip(*KERNELS, strict=True)))
    return cuda_on_host()


@pytest.mark.parametrize("trial", EMULATED, ids=lambda trial: trial.name)
def test_every_stage_on_the_emulated_device(on_host, trial):
    checks = heard(trial.run, on_host)
    assert checks
    assert [str(check) for check in checks if not check.passed] == []


def test_the_first_of_two_devices(on_host):
    """Networks are on the current device by default, so a stage's settings are those of its networks."""
    backend = HostCudaBackend(devices=2).on_device(None)
    assert backend.label == "cupy:0"
    streamed = next(trial for trial in EMULATED if trial.name == "streamed epochs")
    checks = heard(streamed.run, backend)
    assert [check.passed for check in checks] == 4 * [True]


def test_what_is_wrong_on_a_device_is_found(on_host, monkeypatch):
    """The faults are a row too far, and a velocity that is forgotten."""
    backend = on_host
    gather, update = backend.gather, backend.update
    wrong = lambda index: backend.asarray(np.roll(backend.to_numpy(index), 1), index.dtype)  # noqa: E731
    monkeypatch.setattr(backend, "gather", lambda X, index, out: gather(X, wrong(index), out))
    assert operations.error(operations.gather, backend, "float32") > 0.1
    forgets = Rule("momentum", {"momentum": 0.0})
    monkeypatch.setattr(backend, "update", lambda rule, *arguments: update(forgets, *arguments))
    assert operations.error(operations.momentum, backend, "float64") > 0.01
    fit = Fit("float32", "momentum")
    with only():  # step by step
        assert fit.error(backend) > 100 * fit.allowed


def test_a_way_that_is_not_taken_is_no_pass(on_host, monkeypatch):
    monkeypatch.setattr(epochs, "CAPTURED_SAMPLES", 8)
    monkeypatch.setattr(epochs, "OPTIMIZERS", {"SGD": None})
    for refused in (False, True):
        if refused:
            monkeypatch.setattr(GraphEpoch, "find", lambda task: None)
        events: list[Any] = []
        epochs.captured(on_host, Record(events.append))
        assert [what for kind, what in events if kind == "not taken"] == ["captured"] * refused


def test_smaller_clusters_where_large_ones_are_refused(monkeypatch):
    """Training is right, and the report says that it went another way."""
    require_emulation()
    backend, events = HostCudaBackend(), list[Any]()
    launch = backend.run_resident

    def refusing(plan, dtype, residence, members):
        if residence.blocks > 1:
            raise backend.cp.cuda.runtime.CUDARuntimeError("too many blocks")
        launch(plan, dtype, residence, members)

    monkeypatch.setattr(backend, "run_resident", refusing)
    monkeypatch.setattr(epochs, "TWO_RULES", ("SGD",))
    record = Record(events.append)
    with hearing_warnings(record):
        epochs.resident_on(2)(backend, record)
    (why,) = [what for kind, what in events if kind == "slow"]
    assert why.startswith("a launch with a network in shared memory failed on this device")
    assert ("not taken", "resident") in events
    assert [Check(*what).passed for kind, what in events if kind == "check"] == [True, True]  # for each dtype


def test_without_cublaslt_nothing_is_captured(monkeypatch):
    backend = SimpleNamespace(products=SimpleNamespace(capturable=False), shared_memory_limits=lambda: (0, 1, 1))
    for trial in EMULATED:
        if trial.name.startswith(("captured", "precision")):
            with pytest.raises(NotTriedError, match="it needs cublasLt"):
                heard(trial.run, backend)
        if trial.name == "resident, 8 blocks":
            with pytest.raises(NotTriedError, match=r"compute capability 9\.0"):
                heard(trial.run, backend)


def test_emulated_by_the_command(capsys):
    require_emulation()
    if not HOST_CUDA.is_file():
        pytest.skip("the package is not installed in place, and so has no tests beside it")
    assert run(["doctor", "--emulated", "--only", "out of memory"]) == 0
    captured = capsys.readouterr()
    assert re.search(r"│ emulated │ out of memory │ ok ", captured.out)
    assert captured.err == "emulated: out of memory\n"


def test_there_is_no_emulation_without_a_checkout(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(emulated, "HOST_CUDA", tmp_path / "host_cuda.py")
    assert run(["doctor", "--emulated"]) == 2
    assert "it needs a checkout of the repository" in capsys.readouterr().err
    assert run(["doctor", "--emulated", "--backend", "numpy"]) == 2
    assert "--emulated: expected --backend cupy" in capsys.readouterr().err
    with pytest.raises(ValueError, match="emulated: expected backend 'cupy', got 'numpy'"):
        dp.check_backend("numpy", emulated=True)


def test_every_small_kernel_has_every_tile_tried(on_host, monkeypatch):
    """If a kernel does not write its result, the stage blames this kernel and no other."""
    of_backend = type(on_host)._kernel

    def kernel(self, file, function, *rest):
        launch = of_backend(self, file, function, *rest)
        return (lambda *arguments: None) if function == "small_gradient_4x128" else launch

    monkeypatch.setattr(type(on_host), "_kernel", kernel)
    monkeypatch.setattr(small_kernels, "SIZES", ((3, 5, 2, 2),))
    checks = {check.name: check.passed for check in heard(small_kernels.small_kernels, on_host)}
    tiles = {"small_forward": 3, "small_output": 2, "small_delta": 2, "small_gradient": 2}
    of_tensor_cores = {"small_forward": 2, "small_output": 1, "small_delta": 2, "small_gradient": 1}
    counts = {"float64": tiles, "float32": tiles, "tf32": of_tensor_cores}
    assert set(checks) == {
        f"{kind} {name}, tile {i + 1}" for kind, of in counts.items() for name, n in of.items() for i in range(n)
    }
    assert {name for name, passed in checks.items() if not passed} == {
        f"{kind} {name}, tile 2" for kind in ("float64", "float32") for name in tiles if name != "small_forward"
    }
