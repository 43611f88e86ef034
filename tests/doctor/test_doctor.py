"""What `check_backend` and ``deltaprop doctor`` find: on the CPU, on the emulated device, and where things go wrong."""

import dataclasses
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import reference
from conftest import cuda_on_host, missing
from host_cuda import HostCudaBackend, compiler_problem, library
from processes import run as run_program

import deltaprop as dp
from deltaprop.backends import get_backend
from deltaprop.backends.cuda import compiler as cuda_compiler
from deltaprop.backends.cuda.compiler import kernel_files
from deltaprop.backends.numpy.backend import NumpyBackend
from deltaprop.cli import run
from deltaprop.cli.doctor import COLOURS, show
from deltaprop.doctor import (
    Check,
    Report,
    Stage,
    device,
    emulated,
    epochs,
    host_epochs,
    memory,
    operations,
    small_kernels,
    textbook,
)
from deltaprop.doctor import run as running
from deltaprop.doctor.emulated import HOST_CUDA
from deltaprop.doctor.fits import Fit
from deltaprop.doctor.process import Ending, module_command, run_process
from deltaprop.doctor.record import NotTriedError, Record, hearing_warnings
from deltaprop.doctor.stages import Trial, trials_of
from deltaprop.doctor.ways import only

EMULATED = trials_of("cupy", emulated=True)
KERNELS = [(name, dtype) for name in kernel_files() for dtype in ("float64", "float32")]
#: A process that says what it does and then goes on for ever, unless its parent does not.
ENDLESS = """
import os, sys, time
from pathlib import Path
from deltaprop.doctor.process import end_with_parent, events_to_stdout
end_with_parent()
tell = events_to_stdout()
tell(("trying", "to wait"))
Path(sys.argv[1]).write_text(str(os.getpid()))
def waits_for_ever():
    while True:
        time.sleep(0.01)
waits_for_ever()
"""


@pytest.fixture(scope="module")
def report():
    """What is found on the CPU, by processes as users have them."""
    return dp.check_backend("numpy")


@pytest.fixture
def no_device(monkeypatch):
    """Nor is there where there is one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def instead(monkeypatch):
    """Runs a program in place of a stage."""

    def replace(stage, program, *arguments):
        command = running.module_command

        def chosen(module, backend, name, *options):
            if name == stage:
                return [sys.executable, "-c", program, *map(str, arguments)]
            return command(module, backend, name, *options)

        monkeypatch.setattr(running, "module_command", chosen)

    return replace


def heard(stage, backend):
    """The checks of a stage that is run in this process."""
    events = []
    stage(backend, Record(events.append))
    return [Check(*what) for kind, what in events if kind == "check"]


# -- on the CPU ---------------------------------------------------------------------------------------------------


def test_every_way_of_training_on_the_cpu_is_right(report):
    assert report.ok
    assert [stage.name for stage in report.stages] == ["compiled epochs", "recorded epochs", "single steps", "40 fits"]
    for stage in report.stages:
        # The first of all may have compiled the library, and a busy machine may be slow.
        assert stage.status in ("ok", "slow"), stage
        assert stage.found <= stage.allowed
        assert stage.seconds > 0
        assert all(check.passed for check in stage.checks)
    assert [len(stage.checks) for stage in report.stages[:3]] == [10, 10, 10]
    assert report.machine["NumPy"] == np.__version__
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.stages[0].status = "failed"


def test_the_textbook_is_the_lecture(rng):
    """A step over one minibatch, against the gradient of the loop that all tests are held to."""
    W, b = [rng.standard_normal((5, 4)), rng.standard_normal((3, 5))], [rng.standard_normal(5), rng.standard_normal(3)]
    X, y = rng.standard_normal((6, 4)), rng.integers(0, 3, 6)
    how = {"l2": 0.3}
    loss = "categorical_cross_entropy"
    _, of_W, of_b, _ = reference.cost_and_gradient(W, b, ["sigmoid", "softmax"], loss, X, np.eye(3)[y], **how)
    expected = [x - 0.5 * g for x, g in zip((*W, *b), (*of_W, *of_b), strict=True)]
    new_W, new_b = ([x.copy() for x in xs] for xs in (W, b))
    (cost,) = textbook.trained(new_W, new_b, X, y, [np.arange(6)], 6, 0.3, dp.SGD(0.5))
    for got, x in zip((*new_W, *new_b), expected, strict=True):
        assert np.allclose(got, x, rtol=1e-13, atol=1e-14)
    J, *_ = reference.cost_and_gradient(W, b, ["sigmoid", "softmax"], loss, X, np.eye(3)[y])
    assert cost == pytest.approx(J + 0.3 / 12 * sum((w**2).sum() for w in new_W), rel=1e-13)


def test_what_is_wrong_on_the_cpu_is_found(monkeypatch):
    """A millionth of an update too much."""
    update = NumpyBackend.sgd_update

    def wrong(self, parameters, gradient, velocity, learning_rate, momentum, nesterov):
        update(self, parameters, gradient, velocity, learning_rate * (1 + 1e-6), momentum, nesterov)

    monkeypatch.setattr(NumpyBackend, "sgd_update", wrong)
    checks = {check.name: check.passed for check in heard(host_epochs.steps, get_backend("numpy"))}
    assert not checks["float64 SGD"]
    assert not checks["float64 momentum"]
    assert checks["float64 Adam"]


def test_memory_that_is_left_behind_is_found(monkeypatch):
    """A MiB of the device by each of 35 fits."""
    backend, left = get_backend("reference"), [3000 * 2**20, 2965 * 2**20]
    monkeypatch.setattr(backend, "room", lambda: left.pop(0))
    of_device, *of_host = heard(memory.flat_memory, backend)
    assert (of_device.name, of_device.found, of_device.unit) == ("device memory left by 35 fits", 35.0, "MiB")
    assert not of_device.passed
    assert all(check.passed for check in of_host)


def test_the_reference_is_examined_by_itself():
    (stage,) = dp.check_backend("reference").stages
    assert (stage.backend, stage.name) == ("reference", "single steps")
    assert stage.status in ("ok", "slow")


def test_without_a_compiler_epochs_are_recorded(monkeypatch):
    monkeypatch.setattr(host_epochs, "find_compiler", lambda: None)
    events = []
    host_epochs.compiled(get_backend("numpy"), Record(events.append))
    assert [what for kind, what in events if kind == "slow"] == [
        f"{host_epochs.NO_COMPILER}; pip install 'deltaprop[native]' brings one"
    ]
    assert len([what for kind, what in events if kind == "check"]) == 10


# -- on the emulated device ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_host():
    """The emulated device, its kernels compiled two files at a time."""
    if compiler_problem():
        missing("g++", compiler_problem())
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(library, *zip(*KERNELS, strict=True)))
    return cuda_on_host()


@pytest.mark.parametrize("trial", EMULATED, ids=lambda trial: trial.name)
def test_every_stage_on_the_emulated_device(on_host, trial):
    checks = heard(trial.run, on_host)
    assert checks
    assert [str(check) for check in checks if not check.passed] == []


def test_the_first_of_two_devices(on_host):
    """Where networks are on the current one by default, what is set for a stage is set for its networks."""
    backend = HostCudaBackend(devices=2).on_device(None)
    assert backend.label == "cupy:0"
    streamed = next(trial for trial in EMULATED if trial.name == "streamed epochs")
    assert all(check.passed for check in heard(streamed.run, backend))


def test_what_is_wrong_on_a_device_is_found(on_host, monkeypatch):
    """A row too far; a velocity that is forgotten."""
    backend = on_host
    gather, update = backend.gather, backend.sgd_update
    wrong = lambda index: backend.asarray(np.roll(backend.to_numpy(index), 1), index.dtype)  # noqa: E731
    monkeypatch.setattr(backend, "gather", lambda X, index, out: gather(X, wrong(index), out))
    assert operations.error(operations.gather, backend, "float32") > 0.1
    monkeypatch.setattr(backend, "sgd_update", lambda p, g, v, rate, mu, looks: update(p, g, v, rate, 0.0, looks))
    assert operations.error(operations.momentum, backend, "float64") > 0.01
    fit = Fit("float32", "momentum")
    with only():  # step by step
        assert fit.error(backend) > 100 * fit.allowed


def test_a_way_that_is_not_taken_is_no_pass(on_host, monkeypatch):
    monkeypatch.setattr(epochs, "CAPTURED_SAMPLES", 8)
    monkeypatch.setattr(epochs, "OPTIMIZERS", {"SGD": None})
    for refused in (False, True):
        if refused:
            monkeypatch.setattr(epochs.GraphEpoch, "find", lambda task: None)
        events = []
        epochs.captured(on_host, Record(events.append))
        assert [what for kind, what in events if kind == "not taken"] == ["captured"] * refused


def test_smaller_clusters_where_large_ones_are_refused(monkeypatch):
    """What is learned is right, and how it was is told."""
    if compiler_problem():
        missing("g++", compiler_problem())
    backend, events = HostCudaBackend(), []
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
    assert all(Check(*what).passed for kind, what in events if kind == "check")


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
    if compiler_problem():
        missing("g++", compiler_problem())
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
    assert "--emulated: goes with backend 'cupy'" in capsys.readouterr().err
    with pytest.raises(ValueError, match="emulated: goes with backend 'cupy', got 'numpy'"):
        dp.check_backend("numpy", emulated=True)


def test_every_small_kernel_has_every_tile_tried(on_host, monkeypatch):
    """Where one of them leaves its result as it was, it is found, and no other is blamed."""
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


# -- the device itself --------------------------------------------------------------------------------------------


def fake_device(products):
    """As CuPy tells of one."""
    runtime = SimpleNamespace(
        getDeviceProperties=lambda number: {"name": b"NVIDIA H200"},
        memGetInfo=lambda: (130 * 2**30, 139 * 2**30),
        driverGetVersion=lambda: 13010,
        runtimeGetVersion=lambda: 12090,
    )
    nvrtc = SimpleNamespace(getVersion=lambda: (13, 0))
    cuda = SimpleNamespace(Device=lambda: SimpleNamespace(id=0, compute_capability="90"), runtime=runtime, nvrtc=nvrtc)
    cp = SimpleNamespace(cuda=cuda, __version__="14.2.0")
    return SimpleNamespace(cp=cp, products=products, shared_memory_limits=lambda: (2**17, 2, 132))


def test_the_device_is_described(monkeypatch):
    compiled = []
    monkeypatch.setattr(device, "compile_kernels", lambda *arguments: compiled.append(arguments))
    lt = SimpleNamespace(get_version=lambda: 130100)
    events = []
    device.device(fake_device(SimpleNamespace(capturable=True, lt=lt)), Record(events.append))
    facts = dict(what for kind, what in events if kind == "fact")
    assert facts["device"] == "0: NVIDIA H200, compute capability 9.0"
    assert facts["memory"] == "139.0 GiB, 130.0 GiB free"
    assert facts["CUDA"] == "driver 13.1, runtime 12.9"
    assert (facts["NVRTC"], facts["cuBLASLt"]) == ("13.0", "130100")
    assert facts["matrix products"] == "by cublasLt"
    assert compiled == [("adam", "float32", "sm_90")]
    assert [what for kind, what in events if kind == "slow"] == []


@pytest.mark.parametrize(("mode", "exclusive"), [(0, False), (2, False), (3, True)])
def test_a_device_for_one_process_at_a_time(monkeypatch, mode, exclusive):
    """Its compute mode, as the runtime's manual numbers them: default, prohibited, exclusive to a process."""
    runtime = SimpleNamespace(
        cudaDevAttrComputeMode=20,
        getDevice=lambda: 1,
        deviceGetAttribute=lambda what, number: {(20, 1): mode}[what, number],
    )
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "cupy.cuda", SimpleNamespace(runtime=runtime))
    assert device.is_exclusive() == exclusive


def test_products_without_cublaslt_are_slow(monkeypatch):
    monkeypatch.setattr(device, "compile_kernels", lambda *arguments: None)
    events = []
    device.device(fake_device(SimpleNamespace(capturable=False)), Record(events.append))
    (why,) = [what for kind, what in events if kind == "slow"]
    assert why.startswith("matrix products are CuPy's and not cublasLt's")


def test_what_a_machine_refuses_is_slow():
    events = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with hearing_warnings(Record(events.append)):
            for _ in range(2):
                warnings.warn("graphs failed; `deltaprop doctor` tells more", RuntimeWarning, stacklevel=1)
            warnings.warn("something else", UserWarning, stacklevel=1)
    assert events == 2 * [("slow", "graphs failed")]
    told = running.Heard(lambda line: None)
    for event in (*events, ("not taken", "captured"), ("done", None)):
        told(event)
    stage = told.stage("cupy", "captured epochs", Ending(1.0, "", ""), 10.0)
    assert (stage.status, stage.why) == ("slow", "graphs failed")
    told.slow.clear()
    stage = told.stage("cupy", "captured epochs", Ending(1.0, "", ""), 10.0)
    assert (stage.status, stage.why) == ("failed", "epochs were not captured, though nothing else was allowed")


def test_kernels_compiled_beforehand(tmp_path, monkeypatch, capsys):
    try:
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        missing("nvrtc", str(error))
    monkeypatch.setenv("DELTAPROP_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cuda_compiler, "kernel_files", lambda: ["gather"])
    for anew in (2, 0):
        assert run(["doctor", "--compile", "sm_90"]) == 0
        *lines, last = capsys.readouterr().out.splitlines()
        assert sorted(line.split()[0] for line in lines) == ["gather-float32", "gather-float64"]
        assert last == f"2 kernel files for sm_90 are in {tmp_path}, {anew} of them compiled anew"
    assert len(list(tmp_path.glob("gather-*-sm_90-*.cubin"))) == 2
    events = []
    on_device, kernels = fake_device(None), []
    on_device.compile_for = lambda step: step()
    on_device.resident_kernel = lambda dtype, residence: kernels.append((dtype.name, residence.blocks))
    device.kernel_files(on_device, Record(events.append))  # the stage, on a device of this kind
    assert sorted(kernels) == sorted(2 * [(dtype, blocks) for dtype in ("float64", "float32") for blocks in (1, 2)])
    assert sorted(what.split()[0] for _, what in events) == ["gather-float32", "gather-float64"]
    assert run(["doctor", "--compile", "sm_20"]) == 2
    assert "kernels for sm_20: kernels/cuda/gather.cu does not compile" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "message"), [
    (["--compile", "sm90"], "--compile: expected the name of an architecture such as sm_90, got 'sm90'"),
    (["--compile", "sm_90", "--only", "device"], "--compile: goes with no other option"),
    (["--backend", "zig"], "backend: expected one of"),
    (["--only", "zig"], "only: expected a part of the name of a stage"),
    (["--json", "/nowhere/at/all"], "cannot write /nowhere/at/all"),
])  # fmt: skip
def test_bad_options(arguments, message, capsys):
    assert run(["doctor", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_compiling_needs_cupy(monkeypatch, capsys):
    monkeypatch.setattr(device, "is_installed", lambda package: False)
    assert run(["doctor", "--compile", "sm_90"]) == 2
    assert "kernels are compiled by CuPy, which is not installed; pip install" in capsys.readouterr().err


# -- where there is no device -------------------------------------------------------------------------------------


def test_without_a_device_the_cpu_is_examined(no_device, capsys, tmp_path):
    path = tmp_path / "found.json"
    assert run(["doctor", "--only", "single", "--json", str(path)]) == 0
    text, found = capsys.readouterr().out, json.loads(path.read_text())
    assert re.search(r"│ cupy    │ single steps │ not tried │", text)
    assert re.search(r"│ numpy   │ single steps │ (ok|slow) ", text)
    assert "cupy, single steps: not tried: backend 'cupy': CuPy is" in text
    assert found["ok"] is True
    assert found["machine"]["deltaprop"] == dp.__version__
    gone, steps = found["stages"]
    assert gone["status"] == "not tried"
    assert gone["checks"] == []
    assert gone["found"] is None
    assert len(steps["checks"]) == 10
    assert max(check["found"] / check["allowed"] for check in steps["checks"]) == steps["found"] / steps["allowed"]
    assert "\x1b" not in text


def test_a_device_that_was_asked_for_and_is_not_there(no_device, capsys):
    report = dp.check_backend("cupy")
    assert not report.ok
    assert [(stage.name, stage.status) for stage in report.stages] == [("device", "not tried")]
    assert report.stages[0].why.startswith("backend 'cupy': CuPy is")
    assert run(["doctor", "--backend", "cupy"]) == 1
    assert "nothing was tried" in capsys.readouterr().out


def test_auto_is_what_there_is(no_device):
    report = dp.check_backend("auto", only="single steps")
    assert report.ok
    assert [(stage.backend, stage.status == "not tried") for stage in report.stages] == [
        ("cupy", True),
        ("numpy", False),
    ]
    assert [stage.backend for stage in dp.check_backend("auto", only="recorded").stages] == ["numpy"]


@pytest.mark.parametrize("name", ["zig", "cupy:", "cupy:x", "", 3, None])
def test_a_bad_name_has_the_error_of_get_backend(name):
    with pytest.raises(ValueError, match="backend: expected one of 'auto', 'numpy', 'cupy', 'cupy:N'") as ours:
        dp.check_backend(name)
    with pytest.raises(ValueError, match="backend: expected") as theirs:
        get_backend(name)
    assert str(ours.value) == str(theirs.value)


# -- where something goes wrong -----------------------------------------------------------------------------------

CRASH = """
import os, signal, sys
print('["check", ["float64 SGD", 1e-15, 1e-12, ""]]')
print('["trying", "float64 Adam"]', flush=True)
print("what it had to say", file=sys.stderr, flush=True)
print('["tryi', end="", flush=True)
os.kill(os.getpid(), signal.SIGSEGV)
"""


#: A stage that waits until so many have begun.
MEETING = """
import os, sys, time
from pathlib import Path
folder, count = Path(sys.argv[1]), int(sys.argv[2])
(folder / str(os.getpid())).touch()
end = time.monotonic() + 20
while len(list(folder.iterdir())) < count and time.monotonic() < end:
    time.sleep(0.01)
print('["check", ["met", %d, 0, ""]]' % (len(list(folder.iterdir())) < count))
print('["done", null]')
"""


def trials(*names, alone=()):
    return tuple(Trial(name, None, alone=name in alone) for name in names)


def test_which_stages_run_side_by_side():
    names = [[trial.name for trial in batch] for batch in running.batches(trials(*"abcdefg", alone="de"))]
    assert names == [["a"], ["b", "c"], ["d"], ["e"], ["f", "g"]]
    for kind in ("cupy", "numpy"):
        for batch in running.batches(trials_of(kind)):
            assert len(batch) == 1 or not any("fits" in trial.name or "memory" in trial.name for trial in batch)
    assert [trial.name for trial in running.batches(trials_of("cupy"))[1]] == ["kernel files"]


@pytest.mark.parametrize("exclusive", [False, True])
def test_side_by_side_and_in_order(monkeypatch, tmp_path, exclusive):
    """Two wait for each other, unless a device lets one process at a time use it; the table is in order."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(running, "trials_of", lambda kind, *, emulated=False: trials("first", "second", "third"))
    told = [["exclusive", None]] if exclusive else []
    first = "\n".join(map(json.dumps, [*told, ["done", None]]))
    programs = {"first": ["print(__import__('sys').argv[1])", first]}
    folders = {name: tmp_path / (name if exclusive else "together") for name in ("second", "third")}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)

    def command(module, backend, name, *options):
        program = programs.get(name) or [MEETING, str(folders[name]), "1" if exclusive else "2"]
        return [sys.executable, "-c", *program]

    most, at_once = [], []
    run = running.run_process

    def counted(command, *rest):
        at_once.append(command)
        most.append(len(at_once))
        try:
            return run(command, *rest)
        finally:
            at_once.remove(command)

    monkeypatch.setattr(running, "module_command", command)
    monkeypatch.setattr(running, "run_process", counted)
    report = dp.check_backend("numpy")
    assert [(stage.name, stage.status) for stage in report.stages] == [
        ("first", "ok"), ("second", "ok"), ("third", "ok")
    ]  # fmt: skip
    assert max(most) == (1 if exclusive else 2)
    assert (report.seconds < sum(stage.seconds for stage in report.stages)) == (not exclusive)


def test_an_interrupt_ends_all_that_run_side_by_side(tmp_path):
    program = (
        "import os, sys; import deltaprop as dp; from deltaprop.doctor import run; "
        "from deltaprop.doctor.stages import Trial; os.cpu_count = lambda: 2; "
        "run.trials_of = lambda kind, *, emulated: tuple(Trial(name, None) for name in 'abcd'); "
        f"run.module_command = lambda module, backend, name: [sys.executable, '-c', {ENDLESS!r} if name != 'a' else '', "
        "sys.argv[1] + name]; dp.check_backend('numpy')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, f"{tmp_path}/"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    for name in "bc":
        wait_for(lambda name=name: (tmp_path / name).exists() and (tmp_path / name).read_text())
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in errors
    assert not (tmp_path / "d").exists()
    for name in "bc":
        assert_gone(tmp_path / name)


def test_a_crash_costs_one_stage(instead, no_device, capsys, tmp_path):
    instead("recorded epochs", CRASH)
    path = tmp_path / "found.json"
    assert run(["doctor", "--backend", "numpy", "--json", str(path)]) == 1
    text = " ".join(capsys.readouterr().out.split())
    why = f"its process was ended by signal {int(signal.SIGSEGV)}, SIGSEGV, during float64 Adam"
    assert f"numpy, recorded epochs: failed: {why}" in text
    stages = json.loads(path.read_text())["stages"]
    assert [stage["status"] == "failed" for stage in stages] == [False, True, False, False]
    assert stages[1]["found"] == 1e-15
    assert stages[1]["log"].startswith("what it had to say")


def test_what_a_stage_raises_is_what_it_found(instead):
    program = 'print(\'["raised", "ValueError: no"]\'); print(\'["done", null]\')'
    instead("single steps", program)
    (stage,) = dp.check_backend("numpy", only="single").stages
    assert (stage.status, stage.why) == ("failed", "ValueError: no")
    instead("single steps", 'print(\'["trying", "float64 Adam"]\')')
    (stage,) = dp.check_backend("numpy", only="single").stages
    assert (stage.status, stage.why) == ("failed", "its process ended before the stage did, during float64 Adam")
    instead("single steps", "raise SystemExit(3)")
    (stage,) = dp.check_backend("numpy", only="single").stages
    assert stage.why == "its process ended with status 3"


@pytest.mark.parametrize("found", [1e-3, math.nan])
def test_a_wrong_number_is_a_failure(instead, found, capsys, tmp_path):
    events = [["check", ["float64 SGD", 1e-13, 1e-12, ""]], ["check", ["float32 SGD", found, 4e-5, ""]], ["done", None]]
    instead("single steps", "import sys; print(sys.argv[1])", "\n".join(map(json.dumps, events)))
    path = tmp_path / "found.json"
    assert run(["doctor", "--backend", "numpy", "--only", "single", "--json", str(path)]) == 1
    assert f"failed: float32 SGD: {found:.1e}, allowed 4.0e-05" in capsys.readouterr().out
    (stage,) = json.loads(path.read_text())["stages"]
    assert stage["found"] == (found if math.isfinite(found) else "nan")


def test_a_crash_of_the_device_ends_what_would_wait_for_it(instead, monkeypatch):
    instead("device", CRASH)
    report = dp.check_backend("cupy")
    assert [(stage.name, stage.status) for stage in report.stages] == [("device", "failed")]
    assert not report.ok


def test_a_stage_that_takes_too_long_is_ended(instead, monkeypatch, tmp_path):
    steps = next(trial for trial in trials_of("numpy") if trial.name == "single steps")
    hurried = dataclasses.replace(steps, limit=2.0)
    monkeypatch.setattr(running, "trials_of", lambda kind, *, emulated=False: (hurried,))
    instead("single steps", ENDLESS, tmp_path / "pid")
    (stage,) = dp.check_backend("numpy").stages
    assert (stage.status, stage.why) == ("failed", "it took more than 2 s and was stopped, during to wait")
    assert "waits_for_ever" in stage.log  # where it was
    assert_gone(tmp_path / "pid")


def test_what_does_not_listen_is_killed(monkeypatch, tmp_path):
    program = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    ending = run_process([sys.executable, "-c", program, str(tmp_path / "pid")], 1.0, lambda event: None)
    assert ending.problem == "it took more than 1 s and was stopped"
    assert ending.seconds < 30
    assert_gone(tmp_path / "pid")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_no_process_outlives_the_one_that_started_it(number, tmp_path):
    """Ctrl-C, and what nobody can handle."""
    program = (
        "import sys; from deltaprop.doctor.process import run_process; "
        f"run_process([sys.executable, '-c', {ENDLESS!r}, sys.argv[1]], 600.0, lambda event: None)"
    )
    pid = tmp_path / "pid"
    process = subprocess.Popen([sys.executable, "-c", program, str(pid)], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: pid.exists() and pid.read_text())
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -number
    assert ("KeyboardInterrupt" in errors) == (number == signal.SIGINT)
    assert_gone(pid)


def test_ctrl_c_at_the_command(tmp_path):
    """The process that runs is ended, no other is started, and the exit status is the usual one."""
    errors = tmp_path / "errors"
    with errors.open("w") as file:
        command = [sys.executable, "-m", "deltaprop", "doctor", "--backend", "numpy"]
        process = subprocess.Popen(command, stderr=file, stdout=subprocess.PIPE, text=True)
        wait_for(lambda: "numpy: compiled epochs" in errors.read_text())
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert errors.read_text().splitlines()[-1] == "deltaprop: error: interrupted"


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def assert_gone(file):
    """The process whose number is in the file ends, if it has not."""

    def gone():
        try:
            os.kill(int(file.read_text()), 0)
        except ProcessLookupError:
            return True
        stat = Path(f"/proc/{file.read_text()}/stat")
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"

    wait_for(gone)


def test_a_script_needs_no_guard(tmp_path):
    """Nor does it have to be a file, and modules beside it are not taken for others."""
    (tmp_path / "numpy.py").write_text("raise RuntimeError('not NumPy')")
    script = "print(dp.check_backend('numpy', only='single').ok)"
    assert run_program(script, cwd=tmp_path, env=os.environ | {"PYTHONSAFEPATH": "1"}) == ["True"]


def test_an_application_that_is_no_python(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/opt/application")
    with pytest.raises(dp.BackendError, match=r"sys\.executable has to be Python; it is '/opt/application'"):
        module_command("deltaprop.doctor")


def test_the_command_as_a_module():
    command = [sys.executable, "-m", "deltaprop", "doctor", "--backend", "zig"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("deltaprop: error: backend: expected one of")


# -- how it is told -----------------------------------------------------------------------------------------------

CHECKS = (Check("float64 sgd", 1e-15, 1e-12), Check("float32 sgd", 2e-7, 4e-6), Check("float64 adam", 3e-16, 1e-12))
TOLD = Report(
    (
        Stage("cupy", "operations", "ok", 2.0, checks=CHECKS),
        Stage("cupy", "resident, 8 blocks", "slow", 31.26, "it took 31.3 s, where less than 10 s is usual", CHECKS[:1]),
        Stage("cupy", "second stream", "failed", 1.0, "float32 SGD, steps: " + 30 * "so wrong ", CHECKS[:1], "log"),
        Stage("numpy", "40 fits", "ok", 1.0, "", (Check("host memory", 0.4, 16.0, "MiB"),)),
        Stage("cupy", "40 fits", "not tried", 1.0, "no device"),
    ),
    {"device": "0: NVIDIA H200", "Python": "3.11"},
    36.4,
)


def test_the_table():
    lines = str(TOLD).splitlines()
    assert lines[0] == "device  0: NVIDIA H200"
    assert [line for line in lines if "│ cupy    │ resident" in line] == [
        "│ cupy    │ resident, 8 blocks │ slow      │    31.3 │ 1.0e-15 │  1.0e-12 │"
    ]
    assert "│ numpy   │ 40 fits            │ ok        │     1.0 │ 0.4 MiB │ 16.0 MiB │" in lines
    assert "│ cupy    │ 40 fits            │ not tried │         │         │          │" in lines
    assert (
        "│ cupy    │ operations         │ ok        │     2.0 │ 2.0e-07 │  4.0e-06 │" in lines
    )  # nearest to its bound
    assert "│ sgd             │ 1.0e-15 │ 1.0e-12 │ 2.0e-07 │ 4.0e-06 │" in lines
    assert "│ adam            │ 3.0e-16 │ 1.0e-12 │         │         │" in lines
    assert "cupy, resident, 8 blocks: slow: it took 31.3 s, where less than 10 s is usual" in lines
    assert lines[-1] == "2 ok, 1 slow, 1 failed; 36 s"
    assert max(map(len, lines)) <= 80
    wide = TOLD.text(120).splitlines()
    assert 100 < max(map(len, wide)) <= 120
    assert not TOLD.ok


def test_the_table_in_colours(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    show(TOLD, written=False)
    captured = capsys.readouterr()
    for status, code in (("failed", "1;31"), ("slow", "33"), ("ok", "32")):
        assert re.search(rf"\x1b\[{code}m{status}", captured.out), status
    assert re.sub(r"\x1b\[[\d;]*m", "", captured.out).rstrip("\n") == TOLD.text(120)
    assert "--json FILE keeps" in captured.err
    assert set(COLOURS) == {"ok", "slow", "failed", "not tried"}


def test_what_is_slow():
    def stage(seconds, usual, *events):
        told = running.Heard(lambda line: None)
        for event in (*events, ("done", None)):
            told(event)
        return told.stage("cupy", "device", Ending(seconds, "", ""), usual)

    assert stage(3.0, 10.0).status == "ok"
    assert stage(11.0, 10.0).why == "it took 11.0 s, where less than 10 s is usual"
    assert stage(11.0, 10.0).status == "slow"
    anew = stage(50.0, 10.0, ("compiled", [["adam", 1.5], ["resident", 45.0]]))
    assert anew.why.startswith("2 files were compiled anew, the longest in 45.0 s")
    assert stage(3.0, 10.0, ("slow", "for a reason")).why == "for a reason"
    assert stage(50.0, 10.0, ("compiled", [])).status == "slow"


def test_a_report_is_ok_where_something_was_tried_and_nothing_failed():
    stages = {status: Stage("cupy", "device", status) for status in ("ok", "slow", "failed", "not tried")}
    assert Report((stages["ok"], stages["slow"], stages["not tried"])).ok
    assert not Report((stages["not tried"],)).ok
    assert not Report((stages["ok"], stages["failed"])).ok
    assert (Report((stages["ok"],), {"a": "1"}) + Report((stages["slow"],), {"b": "2"})).machine == {"a": "1", "b": "2"}
