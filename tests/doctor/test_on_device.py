"""A device is described, prepared and chosen by name; without one, the report says so."""

import json
import re
import sys
import warnings
from types import SimpleNamespace
from typing import Any

import examined
import pytest
from conftest import missing

import deltaprop as dp
from deltaprop.backends import get_backend
from deltaprop.backends.cuda import compiler as cuda_compiler
from deltaprop.cli import run
from deltaprop.doctor import device
from deltaprop.doctor import run as running
from deltaprop.doctor.process import Ending
from deltaprop.doctor.record import Record, hearing_warnings

no_device = examined.no_device


# -- the device itself --------------------------------------------------------------------------------------------


def fake_device(products):
    """Stands for a device as CuPy describes it."""
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
    events: list[Any] = []
    device.device(fake_device(SimpleNamespace(capturable=True, lt=lt)), Record(events.append))
    facts = dict(what for kind, what in events if kind == "fact")
    assert facts["device"] == "0: NVIDIA H200, compute capability 9.0"
    assert facts["memory"] == "139.0 GiB, 130.0 GiB free"
    assert facts["CUDA"] == "driver 13.1, runtime 12.9"
    assert (facts["NVRTC"], facts["cuBLASLt"]) == ("13.0", "130100")
    assert facts["matrix products"] == "by cublasLt"
    assert compiled == [("optimizer", "float32", "sm_90")]
    assert [what for kind, what in events if kind == "slow"] == []


@pytest.mark.parametrize(("mode", "exclusive"), [(0, False), (2, False), (3, True)])
def test_a_device_for_one_process_at_a_time(monkeypatch, mode, exclusive):
    """The compute modes have the numbers of the runtime's manual: default, prohibited, exclusive to a process."""
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
    events: list[Any] = []
    device.device(fake_device(SimpleNamespace(capturable=False)), Record(events.append))
    (why,) = [what for kind, what in events if kind == "slow"]
    assert why.startswith("matrix products are CuPy's and not cublasLt's")


def test_what_a_machine_refuses_is_slow():
    events: list[Any] = []
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
    events: list[Any] = []
    on_device, kernels = fake_device(None), []
    on_device.compile_for = lambda step: step()
    on_device.resident_kernel = lambda dtype, residence: kernels.append((dtype.name, residence.blocks))
    device.kernel_files(on_device, Record(events.append))  # the stage, on a device of this architecture
    assert sorted(kernels) == sorted(2 * [(dtype, blocks) for dtype in ("float64", "float32") for blocks in (1, 2)])
    assert sorted(what.split()[0] for _, what in events) == ["gather-float32", "gather-float64"]
    assert run(["doctor", "--compile", "sm_20"]) == 2
    assert "kernels for sm_20: kernels/cuda/gather.cu does not compile" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "message"), [
    (["--compile", "sm90"], "--compile: expected the name of an architecture such as sm_90, got 'sm90'"),
    (["--compile", "sm_90", "--only", "device"], "--compile: expected no other option beside it"),
    (["--backend", "zig"], "--backend: expected one of"),
    (["--only", "zig"], "--only: expected part of a stage's name"),
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
