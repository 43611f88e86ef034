"""Numbers as inputs: scaled by median and quartiles, squashed, and in bins; values by hand."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaprop.inputs.encoded_rows import EncodedRows, InputEncoding
from deltaprop.tabular.number_encoding import NumberEncoding, edges_of


def inputs_of(encoding: NumberEncoding, numbers: list[float]) -> np.ndarray:
    stored = np.empty((len(numbers), encoding.columns), np.float64)
    encoding.store(np.array(numbers), stored)
    return EncodedRows(stored, InputEncoding(encoding.columns, encoding.pieces(0)))[:]


def fitted(numbers: Sequence[float], bins: int = 32) -> NumberEncoding:
    encoding = NumberEncoding.fit(np.array(numbers, float), bins)
    assert encoding is not None
    return encoding


def test_median_and_quartiles_scale_the_number() -> None:
    encoding = fitted([1, 2, 3, 4, 5])  # quartiles 2 and 4
    assert (encoding.centre, encoding.scale, encoding.has_gaps) == (3.0, 0.5, False)
    x = (7.0 - 3.0) / 0.5
    row = inputs_of(encoding, [7.0])[0]
    assert row[0] == pytest.approx(x / np.sqrt(1 + (x / 12) ** 2))
    np.testing.assert_array_equal(encoding.edges, [-4, -2, 0, 2, 4])
    np.testing.assert_array_equal(row[1:], [0.5] * 4)  # above the last edge
    np.testing.assert_allclose(inputs_of(encoding, [2.25])[0, 1:], [0.5, 0.25 - 0.5, -0.5, -0.5])


def test_a_gap_counts_as_the_median_and_says_so() -> None:
    encoding = fitted([1, 2, 3, 4, 5, np.nan])
    gap, median = inputs_of(encoding, [np.nan, 3.0])
    assert (gap[1], median[1]) == (1.0, 0.0)
    np.testing.assert_array_equal(np.delete(gap, 1), np.delete(median, 1))
    # Where training had none, a gap is the median and nothing else.
    np.testing.assert_array_equal(*inputs_of(fitted([1, 2, 3, 4, 5]), [np.nan, 3.0]))


def test_half_the_range_scales_where_most_numbers_are_equal() -> None:
    encoding = fitted([0] * 20 + [10])
    assert (encoding.centre, encoding.scale) == (0.0, 1.25)
    assert len(encoding.edges) == 0  # two edges would say what the number says


@pytest.mark.parametrize(
    "numbers",
    [[], [np.nan, np.nan], [5.0], [5.0, np.nan, 5.0], [0.1] * 3 + [0.1 + 1.4e-17, 0.1 + 1.4e-17], [0.0, 0.0]],
)
def test_numbers_that_differ_by_rounding_at_most_say_nothing(numbers: list[float]) -> None:
    assert NumberEncoding.fit(np.array(numbers, float), 32) is None


def test_no_bin_is_made_by_rounding() -> None:
    """0.1 + 0.2 and 0.3 are one number as float32, and so one edge."""
    assert len(fitted([0.3, 0.1 + 0.2, 1.0, 2.0]).edges) == 3


def test_edges_are_quantiles_where_numbers_are_many() -> None:
    numbers = np.arange(1001.0)
    np.testing.assert_allclose(edges_of(numbers, numbers, 4), [0, 250, 500, 750, 1000])


def test_ties_do_not_use_up_the_edges() -> None:
    numbers = np.sort(np.concatenate([np.zeros(900), np.arange(1.0, 101.0)]))
    distinct = np.unique(numbers)
    edges = edges_of(numbers, distinct, 32)
    assert 24 < len(edges) <= 33
    assert (np.diff(edges) > 0).all()
    assert edges[0] == 0
    assert edges[-1] == 100


def test_numbers_of_any_size_stay_finite() -> None:
    encoding = fitted([-1e308, -1e307, 0.0, 1e307, 1e308])
    assert np.isfinite(inputs_of(encoding, [-1e308, 1e308, 3.0])).all()
    encoding = fitted([0.0, 1e-300, 2e-300, 1e300])
    assert np.isfinite(inputs_of(encoding, [1e300, -1e300, 1e-300])).all()


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), min_size=2, max_size=60),
    st.integers(2, 32),
    st.floats(-1e7, 1e7),
)
def test_inputs_are_finite_and_bins_ascend(numbers: list[float], bins: int, new: float) -> None:
    encoding = NumberEncoding.fit(np.array(numbers), bins)
    if encoding is None:
        return
    edges = encoding.edges
    assert len(edges) <= bins + 1
    assert (np.diff(edges.astype(np.float32)) > 0).all()
    row = inputs_of(encoding, [new])[0]
    assert np.isfinite(row).all()
    shares = row[1 + encoding.has_gaps :]
    # Bins fill up from the left.
    assert (np.diff(shares) <= 0).all()
    assert (abs(shares) <= 0.5).all()
