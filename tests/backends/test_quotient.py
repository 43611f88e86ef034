"""The quotient of kernels/shared/quotient.cuh is right for any reciprocal that a device may give."""

import ctypes
import shutil
import subprocess
from importlib.resources import files

import numpy as np
import pytest
from conftest import missing

SOURCE = """
#define __host__
#define __device__
#include "shared/quotient.cuh"
extern "C" void quotients(const float* n, const float* s, const float* reciprocals, float* out, int size) {
    for (int i = 0; i < size; ++i) out[i] = activation::refined_quotient(n[i], s[i], reciprocals[i]);
}
"""


@pytest.fixture(scope="module")
def quotients(tmp_path_factory):
    if not shutil.which("g++"):
        missing("g++", "no g++ to compile kernels/shared/quotient.cuh")
    folder = tmp_path_factory.mktemp("quotient")
    (folder / "source.cpp").write_text(SOURCE)
    options = ["-std=c++17", "-O2", "-ffp-contract=off", "-shared", "-fPIC", f"-I{files('deltaprop.kernels')}"]
    command = ["g++", *options, str(folder / "source.cpp"), "-o", str(folder / "quotient.so")]
    subprocess.run(command, check=True, capture_output=True, text=True)
    library = ctypes.CDLL(str(folder / "quotient.so"))

    def call(n, s, reciprocals):
        out = np.empty_like(n)
        arrays = [np.ascontiguousarray(x, np.float32) for x in (n, s, reciprocals)]
        library.quotients(*(ctypes.c_void_p(x.ctypes.data) for x in (*arrays, out)), len(out))
        return out

    return call


def units_off(got, true):
    """Return the error in units in the last place that the true value has in float32."""
    _, exponent = np.frexp(true)
    return np.abs(got - true) / np.maximum(np.ldexp(1.0, exponent - 24), 2.0**-149)


@pytest.mark.parametrize("off", [-2, -1, 0, 1, 2])
def test_it_is_as_good_as_rounded_from_the_true_value(quotients, off):
    """The manual promises a reciprocal within 1 unit; s is every 7th float32 from 1 to 4."""
    s = np.arange(0x3F800000, 0x40800001, 7, dtype=np.uint32).view(np.float32)
    s = np.append(s, np.float32(4.0))
    nearest = (1.0 / s.astype(np.float64)).astype(np.float32)
    reciprocals = (nearest.view(np.int32) + np.int32(off)).view(np.float32)
    for n in (np.ones_like(s), s / np.float32(7.0), np.float32(4.0) - s, np.float32(2.0**-100) * s):
        true = n.astype(np.float64) / s.astype(np.float64)
        assert units_off(quotients(n, s, reciprocals).astype(np.float64), true).max() <= 0.50001


@pytest.mark.parametrize("off", [-1, 0, 1])
def test_terms_of_a_softmax_over_their_sum(quotients, off, rng):
    """Sums from 1 to 2^24; terms from 1 down to the smallest number, and quotients that are subnormal."""
    s = (2.0 ** rng.uniform(0, 24, 2**18)).astype(np.float32)
    nearest = (1.0 / s.astype(np.float64)).astype(np.float32)
    reciprocals = (nearest.view(np.int32) + np.int32(off)).view(np.float32)
    n = (2.0 ** rng.uniform(-149, 0, s.size)).astype(np.float32)
    true = n.astype(np.float64) / s.astype(np.float64)
    units = units_off(quotients(n, s, reciprocals).astype(np.float64), true)
    assert units[n > 2.0**-100].max() <= 0.5001
    assert units.max() < 2


@pytest.mark.parametrize("off", [-1, 0])
def test_subnormal_numerators_over_one_stay_as_they_are(quotients, off):
    """If e^-|z| is that small, 1 + e^-|z| is 1."""
    n = np.append(np.arange(0, 2**24, 1001, dtype=np.uint32), [1, 2, 3, 0x7FFFFF]).astype(np.uint32).view(np.float32)
    one = np.ones_like(n)
    reciprocals = (one.view(np.int32) + np.int32(off)).view(np.float32)
    assert np.array_equal(quotients(n, one, reciprocals).view(np.uint32), n.view(np.uint32))


def test_what_is_promised_exactly(quotients):
    """sigmoid(0) is 0.5, sigmoid_grad(0) is 0.25, and nan stays nan, for any error of the reciprocal."""
    for off in (-1, 1):
        n, s = np.ones(3, np.float32), np.array([2.0, 4.0, np.nan], np.float32)
        reciprocals = (np.array([0.5, 0.25, 1.0], np.float32).view(np.int32) + np.int32(off)).view(np.float32)
        reciprocals[2] = np.nan
        assert np.array_equal(quotients(n, s, reciprocals), np.array([0.5, 0.25, np.nan]), equal_nan=True)
