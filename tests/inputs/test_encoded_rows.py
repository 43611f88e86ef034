"""Inputs formed of stored rows equal explicit formulas, cell by cell; rows that cannot stand for inputs are refused."""

import math

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.inputs.encoded_rows import LARGEST, Binned, Copied, EncodedRows, InputEncoding, OneHot, Squashed

EDGES = np.array([-1.0, 0.5, 0.75, 4.0])
ENCODING = InputEncoding(3, [Squashed(1), Binned(0, EDGES), OneHot(2, 3), Copied(0), Binned(1, np.array([0.0, 2.0]))])
STORED = [
    [-3.0, 0.0, 0.0],
    [-1.0, 2.0, 1.0],
    [0.25, -2.0, 2.0],
    [0.5, 30.0, 3.0],  # an unknown level
    [0.6, -1e15, -1.0],  # no level
    [4.0, 1e15, 1.5],
    [9.0, 1.0, 2.0],
]


def by_formula(row):
    """The inputs of one stored row, one after the other, in Python's own arithmetic."""
    x, y, level = row
    bins = [min(max((x - low) / (high - low), 0.0), 1.0) - 0.5 for low, high in ((-1, 0.5), (0.5, 0.75), (0.75, 4))]
    levels = [1.0 if level == number else 0.0 for number in (0, 1, 2)]
    return [y / math.sqrt(1 + (y / 12) ** 2), *bins, *levels, x, min(max(y / 2, 0.0), 1.0) - 0.5]


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-15), (np.float32, 2e-7)])
def test_inputs_are_those_of_the_formulas(dtype, rtol):
    X = EncodedRows(np.array(STORED, dtype), ENCODING)
    assert (X.shape, X.ndim, len(X)) == ((7, 9), 2, 7)
    assert ENCODING.starts == [0, 1, 4, 7, 8]
    expected = [by_formula(np.array(row, dtype).tolist()) for row in STORED]
    inputs = X[:]
    assert inputs.dtype == dtype
    np.testing.assert_allclose(inputs, expected, rtol=rtol, atol=rtol)
    np.testing.assert_array_equal(X[np.array([5, 0, 5])], inputs[[5, 0, 5]])
    np.testing.assert_array_equal(X.take(np.array([6, 1]))[:], inputs[[6, 1]])


def fitted(stored=STORED, encoding=ENCODING, dtype="float64", width=9):
    stack = dp.NetworkStack(
        2, [width, 3, 2], output_activation="identity", loss="squared_error", dtype=dtype, backend="numpy"
    )
    rows = stored if isinstance(stored, np.ndarray) else np.array(stored, dtype)
    return stack.fit(EncodedRows(rows, encoding), np.zeros((len(rows), 2)), epochs=1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -2 * LARGEST])
def test_numbers_that_cannot_stand_for_inputs_are_refused(bad):
    stored = np.array(STORED)
    stored[4, 1] = bad
    with pytest.raises(
        ValueError, match=rf"X: expected stored numbers from -1e\+15 to 1e\+15, got {bad}.*row 4, column 1"
    ):
        fitted(stored)


@pytest.mark.parametrize(
    ("piece", "message"),
    [
        (Copied(3), r"X: piece 1: expected a source from 0 to 2, got 3"),
        (Squashed(-1), r"X: piece 1: expected a source from 0 to 2, got -1"),
        (OneHot(0, 0), r"X: piece 1: expected at least 1 level, got 0"),
        (Binned(0, np.array([1.0])), r"X: piece 1: expected at least 2 edges .* which increase"),
        (Binned(0, np.array([1.0, 1.0, 2.0])), r"X: piece 1: expected at least 2 edges .* which increase"),
        (Binned(0, np.array([1.0, np.nan, 2.0])), r"X: piece 1: expected at least 2 edges .* which increase"),
        (Binned(0, np.array([1.0, 1e16])), r"X: piece 1: expected at least 2 edges .* which increase"),
    ],
)
def test_pieces_that_make_no_inputs_are_refused(piece, message):
    encoding = InputEncoding(3, [Copied(0), piece])
    with pytest.raises(ValueError, match=message):
        fitted(encoding=encoding, width=encoding.width)


def test_edges_have_to_increase_in_the_dtype_of_the_network():
    edges = np.array([1.0, 1.0 + 1e-12, 2.0])
    encoding = InputEncoding(3, [Binned(0, edges)])
    fitted(encoding=encoding, width=2)
    with pytest.raises(ValueError, match=r"which increase in float32"):
        fitted(encoding=encoding, width=2, dtype="float32")


def test_rows_of_another_kind_are_refused():
    stored = np.array(STORED)
    with pytest.raises(TypeError, match=r"X: expected stored rows in a NumPy array of float64, got float32"):
        fitted(stored.astype(np.float32))
    with pytest.raises(
        ValueError, match=r"X: expected C-contiguous stored rows of shape \(m, 3\), got \(7, 3\), not C"
    ):
        fitted(np.asfortranarray(stored))
    with pytest.raises(ValueError, match=r"X: expected C-contiguous stored rows of shape \(m, 3\), got \(7, 2\)"):
        fitted(np.ascontiguousarray(stored[:, :2]))
    with pytest.raises(ValueError, match=r"X: expected C-contiguous stored rows of shape \(m, 3\), got \(0, 3\)"):
        fitted(stored[:0])
    with pytest.raises(ValueError, match=r"X: expected 8 inputs, got an encoding of 9"):
        fitted(width=8)
