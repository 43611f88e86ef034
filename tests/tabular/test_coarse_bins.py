"""Coarse bins: the edges that remain, and networks over few bins that answer the same over all of them."""

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.inputs.encoded_rows import Binned, Copied, EncodedRows, InputEncoding, OneHot, Squashed
from deltaprop.tabular.coarse_bins import coarser, weights_of_all_bins

EDGES = np.cumsum(np.array([-3.0, 0.5, 0.25, 1.0, 0.125, 2.0, 0.75, 0.375, 1.5, 0.0625, 0.5]))


def encoding() -> InputEncoding:
    return InputEncoding(3, [Squashed(0), Binned(0, EDGES), OneHot(1, 3), Copied(2), Binned(2, EDGES[:4] + 1)])


def test_the_edges_that_remain() -> None:
    coarse = coarser(encoding(), 4)
    assert [type(piece).__name__ for piece in coarse.pieces] == ["Squashed", "Binned", "OneHot", "Copied", "Binned"]
    ten, three = (piece for piece in coarse.pieces if isinstance(piece, Binned))
    np.testing.assert_array_equal(ten.edges, EDGES[[0, 2, 5, 8, 10]])
    np.testing.assert_array_equal(three.edges, EDGES[:4] + 1)
    assert (ten.source, three.source, coarse.columns) == (0, 2, 3)
    assert coarse.width == 1 + 4 + 3 + 1 + 3


@pytest.mark.parametrize("bins", [1, 2, 3, 4, 7, 10, 32])
def test_networks_answer_the_same_over_all_bins(bins: int) -> None:
    rng = np.random.default_rng(bins)
    stored = np.column_stack([rng.uniform(-5, 6, 500), rng.integers(0, 3, 500), rng.uniform(-3, 3, 500)])
    stored[: len(EDGES), 0] = EDGES
    fine, coarse = encoding(), coarser(encoding(), bins)
    few = dp.NetworkStack(3, [coarse.width, 5, 2], backend="numpy", dtype="float64")
    every = dp.NetworkStack(3, [fine.width, 5, 2], backend="numpy", dtype="float64")
    for of_few, of_all in zip(few, every, strict=True):
        W, b = of_few.weights, of_few.biases
        wide = weights_of_all_bins(W[0], fine, bins)
        of_all.thetas = [np.column_stack([b[0], wide]), np.column_stack([b[1], W[1]])]
    np.testing.assert_allclose(
        every.predict(EncodedRows(stored, fine)), few.predict(EncodedRows(stored, coarse)), rtol=0, atol=1e-13
    )


def test_the_weight_of_a_coarse_bin_by_hand() -> None:
    """From 0 to 4, with fine bins of widths 1 and 3: a weight of 8 is 2 and 6."""
    fine = InputEncoding(1, [Binned(0, np.array([0.0, 1.0, 4.0]))])
    np.testing.assert_allclose(weights_of_all_bins(np.array([[8.0]]), fine, 1), [[2.0, 6.0]])
