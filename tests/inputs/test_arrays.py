"""The first entry that is not finite is found by its place, wherever it stands, on every backend."""

import numpy as np
import pytest

from deltaprop.inputs.arrays import BLOCK, first_not_finite


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(5,), (7, 3), (BLOCK // 4 + 9, 6), (4, 2, 3)])
def test_the_first_entry_that_is_not_finite(backend, rng, shape, bad):
    array = rng.standard_normal(shape)
    assert first_not_finite(backend.asarray(array, np.float64), backend) is None
    marked = np.zeros(shape, bool)
    for flat in rng.integers(array.size // 2, array.size, 2):
        array.flat[flat], marked.flat[flat] = bad, True
    expected = tuple(np.argwhere(marked)[0].tolist())
    assert first_not_finite(backend.asarray(array, np.float64), backend) == expected


def test_finite_entries_whose_sum_is_not(backend):
    large = backend.asarray(np.full((8, 2), 1e308), np.float64)
    assert first_not_finite(large, backend) is None
