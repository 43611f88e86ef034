"""Folds: every fold has rows of all kinds, and no two rows of a class are held out by the same member."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaprop.tabular.folds import FOLDS, deal, deal_to_members


def test_each_class_is_spread_evenly() -> None:
    classes = np.array([0] * 80 + [1] * 16 + [2] * 8)
    folds = deal(classes, np.random.RandomState(0))
    for number, rows in ((0, 10), (1, 2), (2, 1)):
        assert np.bincount(folds[classes == number]).tolist() == [rows] * FOLDS


def test_each_fold_has_low_and_high_quantities() -> None:
    y = np.random.RandomState(1).permutation(800).astype(float)
    folds = deal(y, np.random.RandomState(0))
    for fold in range(FOLDS):
        own = np.sort(y[folds == fold])
        # One of every eight neighbours.
        assert (own // FOLDS).tolist() == list(range(100))


def test_equal_rows_are_dealt_by_chance() -> None:
    y = np.zeros(64)
    first, second = (deal(y, np.random.RandomState(seed)) for seed in (0, 1))
    assert (first != second).any()
    assert np.bincount(first).tolist() == [8] * FOLDS
    np.testing.assert_array_equal(first, deal(y, np.random.RandomState(0)))


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(0, 1000))
def test_every_fold_has_a_row_and_leaves_one(rows: int, seed: int) -> None:
    folds = deal(np.arange(rows) % 3, np.random.RandomState(seed))
    counts = np.bincount(folds)
    assert len(counts) == min(FOLDS, rows)
    assert counts.min() >= 1
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(("members", "first"), [(1, 1), (3, 3), (8, 8), (15, 15), (16, 8), (17, 9), (24, 12), (40, 20)])
def test_members_beyond_the_folds_have_the_same_again_or_new_ones(members: int, first: int) -> None:
    dealt, others = deal_to_members(np.arange(100) % 2, members, np.random.RandomState(0))
    assert (len(dealt), len(others)) == (first, members - first)
    assert [own for _, own in dealt] == [k % FOLDS for k in range(first)]
    assert len({folds.tobytes() for folds, _ in dealt}) == -(-first // FOLDS)
    for (folds, own), (their_folds, theirs) in zip(dealt, others, strict=False):
        np.testing.assert_array_equal(folds, their_folds)
        assert own == theirs


def test_three_rows_make_three_folds() -> None:
    dealt, others = deal_to_members(np.array([0, 1, 1]), 16, np.random.RandomState(0))
    assert (len(dealt), len(others)) == (8, 8)
    assert all(0 <= own < 3 and sorted(folds) == [0, 1, 2] for folds, own in dealt)
