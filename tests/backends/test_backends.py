"""A backend is chosen, or the error says why it is not available. Subprocesses play the three states of CuPy."""

import subprocess
import sys

import numpy as np
import pytest

import deltaprop as dp
from deltaprop import backends
from deltaprop.backends.cuda import installation
from deltaprop.backends.cuda.backend import CupyBackend


def python(code, **environment):
    import os

    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment, check=False
    )


def test_import_loads_no_array_library_and_no_scikit_learn():
    heavy = ("cupy", "sklearn", "scipy", "rich", "typer", "safetensors", "msgspec", "pyarrow", "pandas", "torch", "jax")
    code = f"import deltaprop, sys; print([m for m in {heavy} if m in sys.modules])"
    assert python(code).stdout == "[]\n"
    code = f"import deltaprop as dp, sys; dp.Network([2, 2], backend='numpy').predict([[1, 2]]); print([m for m in {heavy} if m in sys.modules])"
    assert python(code).stdout == "[]\n"


def test_every_public_name_is_there():
    assert dir(dp) == sorted(dp.__all__)
    assert set(dp.__all__) == {"__version__", *dp._HOME_OF}
    for name in dp.__all__:
        assert getattr(dp, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = dp.nonsense  # type: ignore[attr-defined]


def test_numpy_is_always_there():
    assert dp.available_backends()[-1] == "numpy"
    assert dp.get_backend("numpy").name == "numpy"
    assert dp.get_backend(dp.get_backend("numpy")) is dp.get_backend("numpy")
    assert dp.get_backend("auto").name == dp.available_backends()[0]
    assert backends.backend_problem("numpy") is None
    assert backends.backend_problem("reference") is None


def test_auto_asks_no_further_than_it_must(monkeypatch):
    def broken():
        raise ImportError("it is not installed well")

    monkeypatch.setattr(backends, "BACKENDS", {"numpy": backends.BACKENDS["numpy"], "broken": broken})
    assert dp.get_backend("auto") is dp.get_backend("numpy")


def test_cupy_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(installation, "is_installed", lambda name: False)
    with pytest.raises(dp.BackendError, match=r"CuPy is not installed; pip install 'deltaprop\[cuda13\]'"):
        CupyBackend()


def test_cupy_that_is_broken(tmp_path):
    (tmp_path / "cupy.py").write_text("raise ImportError('libcuda is a potato')")
    code = "import deltaprop as dp; print(dp.available_backends()); dp.get_backend('cupy')"
    result = python(code, PYTHONPATH=str(tmp_path))
    assert result.stdout == "['numpy']\n"
    assert "does not import (libcuda is a potato); pip install" in result.stderr


def test_cupy_without_a_device(tmp_path):
    (tmp_path / "cupy.py").write_text(
        "class E(RuntimeError): pass\n"
        "class cuda:\n  class runtime:\n    CUDARuntimeError = E\n    def getDeviceCount(): raise E('no driver')\n"
    )
    code = "import deltaprop as dp; print(dp.available_backends(), dp.get_backend().name); dp.Network([2,2], backend='cupy')"
    result = python(code, PYTHONPATH=str(tmp_path))
    assert result.stdout == "['numpy'] numpy\n"
    assert "no CUDA device answers (no driver)" in result.stderr
    assert "pip install 'deltaprop[cuda13]'" in result.stderr


def test_a_backend_is_found_by_the_array():
    owner = backends.backend_of(np.zeros(2))
    assert owner is not None
    assert owner.name == "numpy"
    assert backends.backend_of([1.0, 2.0]) is None


def test_device_arrays_are_not_copied_to_the_host_unasked(device):
    X = device.zeros((3, 2), np.float64)
    with pytest.raises(TypeError, match=r"X: got a cupy array, but the network lives on the numpy backend"):
        dp.Network([2, 2], backend="numpy").predict(X)
    assert device.owns(dp.Network([2, 2], backend="cupy").predict(X))
    assert isinstance(dp.Network([2, 2], backend="cupy").predict(np.zeros((3, 2))), np.ndarray)


def test_the_kernels_are_in_the_package():
    from deltaprop.backends.kernel_sources import kernel_files

    expected = {
        "shared/activation.cuh",
        "cuda/bias_activation.cu",
        "cuda/output_delta.cu",
        "cpu/library.cpp",
        "cpu/panels.h",
    }
    assert expected <= set(kernel_files())
