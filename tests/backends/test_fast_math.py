"""The elementary functions of kernels/cpu/fast_math.h equal those of mpmath and NumPy."""

import ctypes
import subprocess

import numpy as np
import pytest
from conftest import require_compiler

from deltaprop.backends.native import compiler as native_compiler

FUNCTIONS = """
#include "cpu/fast_math.h"
#define DEFINE(T, NAME) \\
    extern "C" void NAME##_##T(const T* x, T* y, long n) { for (long i = 0; i < n; ++i) y[i] = fast_math::NAME(x[i]); }
DEFINE(float, exp) DEFINE(double, exp) DEFINE(float, log1p) DEFINE(double, log1p) DEFINE(float, tanh) DEFINE(double, tanh)
DEFINE(float, exp_of_negative) DEFINE(double, exp_of_negative)
DEFINE(float, log1p_of_any) DEFINE(double, log1p_of_any)
DEFINE(float, normal_cdf) DEFINE(double, normal_cdf) DEFINE(float, normal_density) DEFINE(double, normal_density)
"""


@pytest.fixture(scope="module")
def functions(tmp_path_factory):
    """The functions of fast_math.h, compiled as for the backend, over NumPy arrays."""
    from importlib.resources import files

    compiler = require_compiler()
    folder = tmp_path_factory.mktemp("fast_math")
    source, output = folder / "functions.cpp", folder / "functions.so"
    source.write_text(FUNCTIONS)
    command = [*compiler, *native_compiler.OPTIONS, f"-I{files('deltaprop.kernels')}"]
    subprocess.run([*command, str(source), "-o", str(output)], check=True)
    library = ctypes.CDLL(str(output))

    def call(name, x):
        y = np.empty_like(x)
        function = getattr(library, f"{name}_{'float' if x.dtype == np.float32 else 'double'}")
        function(ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data), ctypes.c_long(x.size))
        return y

    return call


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_elementary_functions_are_accurate(functions, dtype):
    """They are within 4 units in the last place of long double's, where results are normal numbers."""
    exact = np.longdouble
    eps, largest = np.finfo(dtype).eps, 88.0 if dtype == np.float32 else 709.0
    everywhere = np.concatenate([np.linspace(-largest, largest, 200_001), np.geomspace(1e-30, 80, 5001)])
    x = np.concatenate([everywhere, -everywhere]).astype(dtype)
    x = x[x > (-87.3 if dtype == np.float32 else -708.3)]
    fraction = np.concatenate([np.linspace(0, 1, 100_001), np.geomspace(1e-30, 1, 5001)]).astype(dtype)
    for name, of, values in (
        ("exp", np.exp, x),
        ("exp_of_negative", np.exp, x[x <= 0]),
        ("tanh", np.tanh, x),
        ("log1p", np.log1p, fraction),
        ("log1p_of_any", np.log1p, np.concatenate([fraction, np.geomspace(1, 1e6, 50_001).astype(dtype)])),
    ):
        want = of(values.astype(exact))
        error = np.abs(functions(name, values).astype(exact) - want) / np.abs(np.where(want == 0, 1, want)) / eps
        assert error.max() < 4, (name, error.max(), values[error.argmax()])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_elementary_functions_at_the_ends(functions, dtype):
    special = np.array([0.0, np.inf, -np.inf, np.nan, 1e4, -1e4], dtype)
    with np.errstate(over="ignore"):
        assert np.allclose(functions("exp", special), np.exp(special), rtol=1e-6, atol=1e-37, equal_nan=True)
    assert np.allclose(functions("tanh", special), np.tanh(special), rtol=1e-6, equal_nan=True)
    for name in ("log1p", "log1p_of_any"):
        assert np.isnan(functions(name, np.array([np.nan], dtype))[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_normal_distribution_is_accurate(functions, dtype):
    """Φ and its density are within 4 units in the last place of mpmath's, far out in the tails too."""
    mpmath = pytest.importorskip("mpmath")
    farthest = 13.0 if dtype == np.float32 else 37.4
    outward = np.concatenate([np.geomspace(1e-30, farthest, 1500), np.linspace(0, farthest, 1501)])
    z = np.concatenate([outward, -outward]).astype(dtype)
    with mpmath.workdps(40):
        for name, of in (("normal_cdf", mpmath.ncdf), ("normal_density", mpmath.npdf)):
            got, want = functions(name, z), [of(mpmath.mpf(float(x))) for x in z]
            error = np.array([abs(mpmath.mpf(float(a)) / b - 1) for a, b in zip(got, want, strict=True)], float)
            error /= np.finfo(dtype).eps
            assert error.max() < 4, (name, error.max(), z[error.argmax()])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_normal_distribution_at_the_ends(functions, dtype):
    special = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 40.0, -40.0, 0.0, -0.0], dtype)
    assert np.array_equal(functions("normal_cdf", special), [np.nan, 1, 0, 1, 0, 1, 0, 0.5, 0.5], equal_nan=True)
    peak = dtype(1 / np.sqrt(2 * np.pi))
    assert np.array_equal(functions("normal_density", special), [np.nan, 0, 0, 0, 0, 0, 0, peak, peak], equal_nan=True)
