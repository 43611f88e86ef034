"""Targets from whatever holds them: labels keep their dtype, gaps are named, quantities are scaled; values by hand."""

import datetime
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from deltaprop.tabular.frames import as_column
from deltaprop.tabular.targets import (
    ClassTargets,
    QuantityTargets,
    given_labels,
    given_quantities,
    label_texts,
    labels_of,
    quantities_of,
    refuse_quantities,
)

pytest.importorskip("pandas", reason="columns of this library are targets")
pytest.importorskip("polars", reason="columns of this library are targets")
pytest.importorskip("pyarrow", reason="columns of this library are targets")

import pandas as pd
import polars as pl
import pyarrow as pa

TEXTS = ["b", "a", "b"]


@pytest.mark.parametrize(
    ("y", "labels", "dtype"),
    [
        (TEXTS, TEXTS, "<U1"),
        (np.array(TEXTS), TEXTS, "<U1"),
        (np.array(TEXTS, object), TEXTS, "O"),
        (pd.Series(TEXTS, dtype="category"), TEXTS, "O"),
        (pd.Series(TEXTS, dtype="string"), TEXTS, "O"),
        (pl.Series(TEXTS), TEXTS, "O"),
        (pl.Series(TEXTS, dtype=pl.Categorical), TEXTS, "O"),
        (pa.chunked_array([TEXTS]), TEXTS, "O"),
        ([True, False, True], [True, False, True], "?"),
        (pd.Series([True, False, True], dtype="boolean"), [True, False, True], "?"),
        (np.array([True, False, True], object), [True, False, True], "?"),
        (pl.Series([True, False, True]), [True, False, True], "?"),
        ([3, 1, 3], [3, 1, 3], "<i8"),
        (pd.Series([3, 1, 3], dtype="Int64"), [3, 1, 3], "<i8"),
        (pd.Series([3, 1, 3], dtype="category"), [3, 1, 3], "<i8"),
        (pl.Series([3, 1, 3]), [3, 1, 3], "<i8"),
        (np.array([3.0, 1.0, 3.0]), [3.0, 1.0, 3.0], "<f8"),
        (np.array([3, 1, 3], np.int16), [3, 1, 3], "<i2"),
    ],
)
def test_labels_keep_their_dtype(y: Any, labels: list[Any], dtype: str) -> None:
    given = given_labels(y, 3)
    assert given.tolist() == labels
    assert given.dtype == np.dtype(dtype)


@pytest.mark.parametrize(
    "y",
    [
        ["a", "b", None],
        np.array([0.0, 1.0, np.nan]),
        np.array([0.0, 1.0, -np.inf]),
        np.array(["2020-01-01", "2020-01-02", "NaT"], "M8[D]"),
        pd.Series(["a", "b", None], dtype="string"),
        pd.Series([1, 2, None], dtype="Int64"),
        pd.Series(["a", "b", None], dtype="category"),
        pl.Series(["a", "b", None]),
        pa.array([True, False, None]),
    ],
)
def test_a_missing_label_is_named_by_its_row(y: Any) -> None:
    with pytest.raises(ValueError, match=r"^y: expected a label in every row, got \S+ in row 2$"):
        given_labels(y, 3)


@pytest.mark.parametrize(
    ("y", "row"),
    [
        ([1.0, np.nan, 2.0], 1),
        (np.array([1, 2, np.inf]), 2),
        (pl.Series([None, 1, 2]), 0),
        (pd.Series([1, 2, None], dtype="Int64"), 2),
        (["1", "two", "3"], 1),
        (np.array([1, 2, datetime], object), 2),
    ],
)
def test_what_is_no_quantity_is_named_by_its_row(y: Any, row: int) -> None:
    with pytest.raises(ValueError, match=f"^y: expected a .*number in every row, got .* in row {row}$"):
        given_quantities(y, 3)


def test_quantities_become_float64() -> None:
    for y in ([1, 2], pd.Series([1, 2], dtype="Int64"), pl.Series([1.0, 2.0]), np.array([1, 2], np.uint8)):
        given = given_quantities(y, 2)
        assert given.tolist() == [1.0, 2.0]
        assert given.dtype == np.dtype(np.float64)
    for dtype in ("datetime64[D]", "timedelta64[s]"):
        with pytest.raises(ValueError, match=f"^y: expected numbers, got dates or spans of time .{dtype[:-3]}"):
            given_quantities(np.array([1, "NaT"], dtype), 2)
    with pytest.raises(ValueError, match="Complex data not supported"):
        given_quantities(np.array([1j, 2]), 2)


def test_there_are_as_many_targets_as_rows() -> None:
    for given in (given_labels, given_quantities):
        with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[3, 2\]"):
            given([1, 2], 3)
        with pytest.raises(ValueError, match="requires y to be passed"):
            given(None, 3)


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        (["007", "01", "1"], ["007", "01", "1"]),
        (["7", "1", "-2"], [7, 1, -2]),
        (["0.5", "1.5", "0.5"], [0.5, 1.5, 0.5]),
        ([True, False, True], [True, False, True]),
        ([2.0, 1.0, 2.0], [2, 1, 2]),
        (["x", "y", "x"], ["x", "y", "x"]),
    ],
)
def test_labels_of_a_column_are_as_they_are_written(cells: list[Any], labels: list[Any]) -> None:
    found = labels_of(as_column(cells, "y")).tolist()
    assert found == labels
    assert list(map(type, found)) == list(map(type, labels))


@pytest.mark.parametrize(
    "cells", [["007", "1"], ["7", "0.5", "-2"], ["7", "1"], ["1e30", "x"], ["True", "False"], [str(2**53 - 1), "1"]]
)
def test_labels_are_written_as_they_were(cells: list[str]) -> None:
    assert label_texts(labels_of(as_column(cells, "y"))) == cells


@pytest.mark.parametrize("cells", [[3.0, 0.5, 0.5], ["3", ".50", "0.5"], ["007", "0.5", "1"]])
def test_numbers_that_are_not_whole_are_no_labels(cells: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"'price' holds numbers .*, such as 0.5, and . different ones; TabularReg"):
        refuse_quantities(as_column(cells, "price"))
    categories = as_column(pd.Series([str(cell) for cell in cells], dtype="category"), "price")
    refuse_quantities(categories)
    assert labels_of(categories).tolist() == [str(cell) for cell in cells]
    refuse_quantities(as_column([*cells[:2], "x"], "price"))


def test_gaps_in_a_column_of_targets() -> None:
    with pytest.raises(ValueError, match="y: expected a label in every row of 'y', got a gap in row 1"):
        labels_of(as_column(["a", None, "b"], "y"))
    with pytest.raises(ValueError, match="y: expected a number in every row of 'y', got a gap in row 0"):
        quantities_of(as_column([None, 1.0], "y"))
    with pytest.raises(ValueError, match="y: expected a number in every row of 'y', got 'many' in row 1"):
        quantities_of(as_column(["1", "many"], "y"))


def test_classes_as_probabilities() -> None:
    targets = ClassTargets(np.array(["a", "b", "c", "d"]))
    numbers = targets.numbers(np.array(["c", "a"]))
    assert numbers.tolist() == [2, 0]
    probabilities = targets.probabilities(numbers, 0.2, np.dtype(np.float64))
    # 0.2 is shared among the four; the rest is the row's own.
    np.testing.assert_allclose(probabilities, [[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]])
    with pytest.raises(ValueError, match="y: expected one of the 4 classes, got 'e'"):
        targets.numbers(np.array(["e"]))


def test_indicators_have_mean_0_and_spread_1_by_the_weights() -> None:
    targets = ClassTargets(np.array([10, 20]))
    scaled = targets.scaled(np.array([0, 1, 1]), np.array([2.0, 1.0, 1.0]))
    np.testing.assert_allclose(scaled, [[1.0], [-1.0], [-1.0]])  # mean ½, spread ½
    scaled = ClassTargets(np.array([1, 2, 3])).scaled(np.array([0, 0, 2, 2]), np.ones(4))
    np.testing.assert_allclose(scaled, [[1, 0], [1, 0], [-1, 0], [-1, 0]])  # nobody is of class 2


def test_quantities_have_mean_0_and_spread_1_by_the_weights() -> None:
    y, weights = np.array([1.0, 5.0, 9.0]), np.array([1.0, 2.0, 1.0])
    targets = QuantityTargets.fit(y, weights)
    assert targets.mean == pytest.approx(5.0)
    assert targets.spread == pytest.approx(8.0**0.5)
    np.testing.assert_allclose(targets.scaled(y), np.array([[-4], [0], [4]]) / 8.0**0.5)
    # Predictions stay in the range of the targets.
    np.testing.assert_allclose(targets.values(np.array([-100.0, 0.5, 100.0])), [1.0, 5 + 0.5 * 8.0**0.5, 9.0])


def test_a_constant_quantity_stays_what_it_is() -> None:
    targets = QuantityTargets.fit(np.full(7, 0.1), np.ones(7))
    np.testing.assert_array_equal(targets.values(np.array([-3.0, 0.0, 3.0])), [0.1] * 3)


@pytest.mark.parametrize("y", [[1.5e308] * 3 + [1.7e308], [-1e308, 7e307, 5.0, -7.5e307]])
def test_quantities_whose_sum_is_no_float64(y: list[float]) -> None:
    targets = QuantityTargets.fit(np.array(y), np.ones(4))
    mean = sum(map(Fraction, y)) / 4
    variance = sum((Fraction(value) - mean) ** 2 for value in y) / 4
    assert float(Fraction(targets.mean) / mean) == pytest.approx(1.0, abs=1e-14)
    assert float(Fraction(targets.spread) ** 2 / variance) == pytest.approx(1.0, abs=1e-12)


def test_a_range_that_is_no_float64() -> None:
    with pytest.raises(
        ValueError, match=r"^y: expected a range that float64 can hold, got quantities from -1\.7e\+308 to"
    ):
        QuantityTargets.fit(np.array([1.7e308, -1.7e308, 0.0]), np.ones(3))


def test_a_row_of_next_to_no_weight_stays_in_the_range_of_float32() -> None:
    targets = QuantityTargets.fit(np.array([0.0, 1.0]), np.array([1.0, 1e-300]))
    assert (targets.scaled(np.array([0.0, 1.0])) ** 2).max() < np.finfo(np.float32).max
