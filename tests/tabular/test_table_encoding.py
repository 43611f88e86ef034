"""A whole table as stored rows and inputs; values by hand."""

import datetime
from typing import Any

import numpy as np

from deltaprop.tabular.category_encoding import MOST_LEVELS, PRIOR_ROWS
from deltaprop.tabular.column_roles import choose_roles
from deltaprop.tabular.frames import as_table
from deltaprop.tabular.table import Table
from deltaprop.tabular.table_encoding import TableEncoding

FLOAT = np.dtype(np.float64)


def fitted(table: Table, targets: np.ndarray | None = None, weights: np.ndarray | None = None) -> TableEncoding:
    y = np.zeros((table.rows, 1)) if targets is None else targets
    return TableEncoding.fit(table, choose_roles(table), y, np.ones(table.rows) if weights is None else weights, 32)


def mixed(**changes: Any) -> Table:
    days = [datetime.date(2024, 1, day) for day in (1, 2, 3, 4, 5)]
    columns = {"n": [1.0, 2, 3, 4, 5], "c": ["x", "y", "x", "y", "x"], "same": [7] * 5, "d": days}
    return as_table(columns | changes)


def test_columns_lie_in_the_order_of_the_table() -> None:
    encoding = fitted(mixed())
    # Of the dates, year and month are the same in every row, and so is the hour.
    assert [(column.name, column.part) for column in encoding.columns] == [
        ("n", ""),
        ("c", ""),
        ("d", "day"),
        ("d", "weekday"),
        ("d", "time"),
    ]
    places = {name: columns.tolist() for name, columns in encoding.stored_columns().items()}
    assert places == {"n": [0], "c": [1], "d": [2, 3, 4]}
    assert encoding.width == 5


def test_stored_rows_and_inputs_by_hand() -> None:
    encoding = fitted(mixed())
    rows = encoding.encode(mixed(), FLOAT)
    scaled = np.array([-4, -2, 0, 2, 4])  # (x − 3) / (4 − 2) · 4
    np.testing.assert_array_equal(rows.stored[:, 0], scaled)
    np.testing.assert_array_equal(rows.stored[:, 1], [0, 1, 0, 1, 0])
    for place in (2, 3, 4):  # days one after the other are scaled alike, whatever is counted; 2024 begins on a Monday
        np.testing.assert_array_equal(rows.stored[:, place], scaled)
    number = np.concatenate([[scaled[3] / np.sqrt(1 + (scaled[3] / 12) ** 2)], [0.5, 0.5, 0.5, -0.5]])
    np.testing.assert_allclose(rows[3:4][0], np.concatenate([number, [0, 1], number, number, number]))


def test_new_rows_may_have_gaps_levels_and_dates_that_are_new() -> None:
    encoding = fitted(mixed())
    new = mixed(n=[None] * 5, c=["z", None, "x", "y", "x"], d=[None] * 4 + [datetime.date(2031, 5, 5)])
    stored = encoding.encode(new, FLOAT).stored
    np.testing.assert_array_equal(stored[:, 0], 0)  # the median
    np.testing.assert_array_equal(stored[:, 1], [-1, -1, 0, 1, 0])
    np.testing.assert_array_equal(stored[:4, 2:], 0)
    assert np.isfinite(stored).all()
    # A column may come as text, too.
    as_text = encoding.encode(mixed(n=["1", "2", "3", "4", "5"], d=["2024-01-01"] * 5), FLOAT).stored
    np.testing.assert_array_equal(as_text[:, 0], encoding.encode(mixed(), FLOAT).stored[:, 0])
    np.testing.assert_array_equal(as_text[:, 2], -4)


def test_dates_in_text_are_read_as_in_training_and_by_themselves_where_training_had_no_text() -> None:
    no_text = fitted(mixed())
    assert {column.day_first for column in no_text.columns if column.part} == {None}
    days = ["01.01.2024", "02.01.2024", "03.01.2024", "04.01.2024", "05.01.2024"]
    np.testing.assert_array_equal(no_text.encode(mixed(d=days), FLOAT).stored, no_text.encode(mixed(), FLOAT).stored)
    in_text = fitted(mixed(d=[f"1/{day}/2024" for day in (1, 2, 3, 4, 15)]))  # the month is first
    assert {column.day_first for column in in_text.columns if column.part} == {False}
    stored = in_text.encode(mixed(d=["1/2/2024"] * 5), FLOAT).stored
    np.testing.assert_array_equal(stored, in_text.encode(mixed(d=[datetime.date(2024, 1, 2)] * 5), FLOAT).stored)


def test_only_the_means_of_training_rows_are_of_other_folds() -> None:
    """Against a loop over the rows: the mean over the rows of the same level in other folds, and ten of 0."""
    rng = np.random.default_rng(0)
    levels = rng.integers(0, MOST_LEVELS + 40, 500)
    table = as_table({"c": [f"level {k}" for k in levels], "n": rng.normal(size=500)})
    y, weights, folds = rng.normal(size=(500, 2)), rng.uniform(0.5, 2, 500), rng.integers(0, 4, 500)
    encoding = fitted(table, y, weights)
    stored = encoding.encode_for_training(table, FLOAT, folds, y, weights).stored
    for row in range(500):
        others = (levels == levels[row]) & (folds != folds[row])
        mean = (weights[others, None] * y[others]).sum(axis=0) / (weights[others].sum() + PRIOR_ROWS)
        np.testing.assert_allclose(stored[row, 1:3], mean, atol=1e-12)
    alike = encoding.encode(table, FLOAT).stored
    np.testing.assert_array_equal(stored[:, [0, 3]], alike[:, [0, 3]])
    assert (stored[:, 1] != alike[:, 1]).all()
