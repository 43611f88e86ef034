"""Arrays that begin where a cache line does, and who makes them."""

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.backends.cache_lines import LINE, on_cache_lines
from deltaprop.derivation.optimizers import Adam


@pytest.mark.parametrize("shape", [(), 0, 7, (0, 3), (3, 5), 100_003], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_they_begin_there(shape, dtype):
    made = on_cache_lines(shape, dtype, zeros=True)
    assert made.shape == np.empty(shape).shape
    assert made.dtype == dtype
    assert made.ctypes.data % LINE == 0 or made.size == 0
    assert made.flags.c_contiguous
    assert made.flags.writeable
    assert not made.any()


def test_entries_are_its_own():
    made = on_cache_lines((4, 6), "float64")
    made[...] = np.arange(24.0).reshape(4, 6)
    np.testing.assert_array_equal(made.ravel(), np.arange(24.0))


def test_it_is_the_base_of_its_views():
    made = on_cache_lines((4, 6), "float64")
    assert made[1:].reshape(-1)[3:].base is made


@pytest.mark.parametrize("sizes", [[3, 5, 2], [300, 200, 10]], ids=str)
def test_parameters_and_moments(sizes):
    net = dp.Network(sizes, backend="numpy")
    moments = Adam().init(net)
    assert [
        array.ctypes.data % LINE for array in (net.parameters, moments["first_moment"], moments["second_moment"])
    ] == [0, 0, 0]
