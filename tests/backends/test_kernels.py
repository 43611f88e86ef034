"""The CUDA sources: they compile for three architectures, float kernels hold no double, and they are in the package."""

import re
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cases import PAIRS, known_rule
from conftest import missing

import deltaprop as dp
from deltaprop.backends import kernel_sources
from deltaprop.backends.cuda import compiler as cuda_compiler
from deltaprop.backends.cuda.compiler import (
    NARROW,
    STRUCTURES,
    cached_cubin,
    compile_all,
    compile_kernels,
    dtypes_of,
    kernel_files,
    of_loss,
    variants_of,
    waiting_for_compiler,
)
from deltaprop.backends.cuda.shared_memory import find_residence
from deltaprop.backends.kernel_names import check_names, numbers

FILES = kernel_files()
#: Each file as it is compiled: for a dtype, and where it is split for one loss.
VARIANTS = [(name, dtype, variant) for name in FILES for dtype in dtypes_of(name) for variant in variants_of(name)]
#: The most bytes of machine code that are compiled at a time: training waits for the compiler, some 5 µs a byte.
LONGEST = 800_000
#: These files add up the cost of an epoch in double.
WITH_DOUBLE = {"output_delta", "output_delta_softmax", "resident", "small_gradient", "squared_norm"}
#: Widths, minibatch, loss, activations, optimizer and blocks of networks that stay in shared memory.
RESIDENT = {
    "book": ((784, 30, 10), 10, "categorical_cross_entropy", ("sigmoid", "softmax"), dp.SGD(0.1), 8),
    "one block": ((64, 32, 1), 32, "binary_cross_entropy", ("tanh", "sigmoid"), dp.AdamW(0.1), 1),
    "deep": ((30, 64, 64, 64, 2), 16, "huber", ("gelu", "silu", "relu", "identity"), dp.SGD(0.1, momentum=0.9), 4),
}


@pytest.fixture(scope="module", autouse=True)
def nvrtc():
    """NVRTC, a part of CUDA that pip installs, and that needs neither a GPU nor a driver."""
    try:
        import cupy  # noqa: F401
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        missing("nvrtc", str(error))


def test_there_are_kernels():
    assert len(FILES) >= 10


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize(
    ("name", "dtype", "variant"), VARIANTS, ids=["-".join((*each[:2], *each[2])) for each in VARIANTS]
)
def test_every_kernel_compiles(name, dtype, variant, architecture):
    code = compile_kernels(name, dtype, architecture, variant)
    assert code[:4] == b"\x7fELF"
    assert len(code) < LONGEST


@pytest.mark.parametrize("loss", sorted({loss for loss, output in PAIRS if output != "softmax"}))
def test_the_kernels_of_a_loss(loss):
    """They are compiled alone, for each output activation that the loss goes with."""
    ptx = compile_kernels("output_delta", "float32", "sm_90", of_loss(loss), to_ptx=True).decode()
    found = re.findall(r"\.entry (\w+)", ptx)
    assert len(found) in (1, len(numbers("activations")))
    assert all(name.startswith(f"output_delta_{loss}_") for name in found)
    assert {f"output_delta_{loss}_{output}" for one, output in PAIRS if one == loss} <= set(found)


@pytest.mark.parametrize(
    ("architecture", "limits"), [("sm_80", (166912, 1, 108)), ("sm_90", (232448, 8, 132)), ("sm_100", (232448, 8, 148))]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RESIDENT)
def test_kernels_of_resident_networks_compile(name, dtype, architecture, limits, monkeypatch):
    """Each network has a kernel of its own, and training waits for it."""
    sizes, batch, loss, activations, optimizer, blocks = RESIDENT[name]
    monkeypatch.setattr("deltaprop.backends.cuda.shared_memory.CLUSTERS", (min(blocks, limits[1]),))
    backend: Any = SimpleNamespace(shared_memory_limits=lambda: limits)
    found = find_residence(backend, sizes, activations, loss, np.dtype(dtype), batch, known_rule(optimizer))
    if found is None:
        pytest.skip("a block of this architecture has too little memory")
    code = compile_kernels("resident", dtype, architecture, found.definitions)
    assert f"resident_{found.blocks}".encode() in code
    assert len(code) < LONGEST
    check_names(code, "cuda/resident.cu", STRUCTURES["resident"])


@pytest.mark.parametrize("name", [name for name in FILES if name not in WITH_DOUBLE])
def test_float_kernels_hold_no_double(name):
    ptx = compile_kernels(name, "float32", "sm_90", to_ptx=True).decode()
    assert ".entry" in ptx
    assert not re.findall(r".*\.f64.*", ptx)
    assert "fma.rn.f64" in compile_kernels("optimizer", "float64", "sm_90", to_ptx=True).decode()


def test_subnormals_are_not_flushed():
    """Our arithmetic flushes no subnormals; the compiler's exp does so where none can occur."""
    ptx = compile_kernels("activation", "float32", "sm_90", to_ptx=True).decode()
    assert re.findall(r"(?:mul|add|sub|fma|div)\.[\w.]*f32", ptx)
    assert not re.findall(r"(?:mul|add|sub|fma|div)\.[\w.]*ftz", ptx)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_sigmoid_has_no_general_quotient_of_floats(dtype):
    """Neither do its derivatives: a general quotient has a branch and twice as many instructions."""
    ptx = compile_kernels("activation", dtype, "sm_90", to_ptx=True).decode()
    bodies = dict(re.findall(r"\.entry (activation_\w+)\((.*?)^\}", ptx, re.DOTALL | re.MULTILINE))
    for name in ("sigmoid", "silu", "gradient_sigmoid", "gradient_tanh", "gradient_softplus", "gradient_silu"):
        body = bodies[f"activation_{name}"]
        assert ("rcp.approx.ftz.f32" in body) == (dtype == "float32")
        assert ("div." in body) == (dtype == "float64")


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize(
    ("name", "dtype", "kernels"),
    [("narrow", "float32", ["narrow_bfloat16", "narrow_float16"]), ("minibatch", "bfloat16", ["minibatch"])],
)
def test_rows_in_16_bits_are_stored_16_bytes_at_a_time(name, dtype, kernels, architecture):
    """Stores of single entries or words would take several times as long."""
    ptx = compile_kernels(name, dtype, architecture, to_ptx=True).decode()
    bodies = dict(re.findall(r"\.entry (\w+)\((.*?)^\}", ptx, re.DOTALL | re.MULTILINE))
    for kernel in kernels:
        stores = re.findall(r"st\.global\.([\w.]+)", bodies[kernel])
        assert stores.count("v4.u32") + stores.count("v4.b32") >= 2
        assert not {"u16", "b16"} & set(stores)
        if name == "narrow":  # the other kernel copies targets, too, if need be number by number
            assert not {"u32", "b32"} & set(stores)


def test_an_error_shows_the_log(monkeypatch):
    monkeypatch.setattr(kernel_sources, "read", lambda name: "not C++")
    with pytest.raises(RuntimeError, match=r"kernels/cuda/gather.cu does not compile for sm_90 and float32"):
        compile_kernels("gather", "float32", "sm_90")


def test_compiled_files_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("DELTAPROP_CACHE_DIR", str(tmp_path / "cache"))
    path = cached_cubin("gather", "float32", "sm_90")
    assert path.read_bytes()[:4] == b"\x7fELF"
    modified = path.stat().st_mtime_ns
    assert cached_cubin("gather", "float32", "sm_90") == path
    assert path.stat().st_mtime_ns == modified
    assert cached_cubin("gather", "float64", "sm_90") != path
    assert [p.suffix for p in path.parent.iterdir() if not p.name.startswith(".")] == [".cubin", ".cubin"]


def kept(folder):
    return {path.name.rsplit("-", 3)[0] for path in folder.glob("*.cubin")}


def test_all_files_are_compiled_at_once(tmp_path, monkeypatch):
    """Two files stand for all of them, which take a minute."""
    monkeypatch.setenv("DELTAPROP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cuda_compiler, "kernel_files", lambda: ["gather", "activation"])
    told = []
    compile_all("sm_90", report=lambda name, seconds: told.append((name, seconds)))
    every = {"gather-float32", "gather-float64", "activation-float32", "activation-float64", "activation-float16"}
    assert {name for name, _ in told} == kept(tmp_path / "cache") == every
    assert len(told) == 5
    assert all(0 < seconds < 60 for _, seconds in told)
    monkeypatch.setattr(cuda_compiler, "compile_kernels", None)  # they are cached by now
    compile_all("sm_90")


def test_a_file_that_does_not_compile_ends_it(tmp_path, monkeypatch):
    monkeypatch.setenv("DELTAPROP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cuda_compiler, "kernel_files", lambda: ["gather"])
    with pytest.raises(RuntimeError, match=r"kernels/cuda/gather.cu does not compile for sm_3 and float"):
        compile_all("sm_3")


def test_who_waits_for_the_compiler_is_told_once(monkeypatch, caplog):
    cuda_compiler._say.cache_clear()
    monkeypatch.setattr(cuda_compiler, "PATIENCE", 10.0)
    with waiting_for_compiler("sm_90"):
        pass
    assert not caplog.records
    monkeypatch.setattr(cuda_compiler, "PATIENCE", 0.01)
    for _ in range(2):
        with waiting_for_compiler("sm_90"):
            time.sleep(0.2)
    (record,) = caplog.records
    assert record.name == "deltaprop"
    assert "compiling CUDA kernels for sm_90" in record.getMessage()


def test_narrow_files_are_there():
    assert set(NARROW) <= set(FILES)
