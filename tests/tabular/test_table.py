"""Columns read as numbers, as text and as dates, whatever they were."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaprop.tabular.frames import as_column
from deltaprop.tabular.table import Column, Table


def texts(column):
    codes, levels = column.texts()
    assert levels == sorted(levels)
    return [None if code < 0 else levels[code] for code in codes]


def dates(*moments):
    return np.array(moments, "datetime64[us]")


NUMBERS = Column("n", "number", np.array([3.0, np.nan, -0.5, 1e22, 0.1]))
BOOLEANS = Column("b", "boolean", np.array([1.0, 0.0, np.nan]))
DATES = Column("d", "date", dates("2020-01-02", "NaT", "1969-12-31T23:59:59.5"))
TEXTS = Column("t", "text", np.array([0, 2, -1, 1, 0], np.int32), ["007", "1e3", "x", "y, unused"])


def test_numbers():
    np.testing.assert_array_equal(NUMBERS.numbers(), [3.0, np.nan, -0.5, 1e22, 0.1])
    np.testing.assert_array_equal(BOOLEANS.numbers(), [1.0, 0.0, np.nan])
    np.testing.assert_array_equal(DATES.numbers(), [18263 * 86400.0, np.nan, -0.5])  # days from 1970 to 2020-01-02
    np.testing.assert_array_equal(TEXTS.numbers(), [7, np.nan, np.nan, 1000, 7])
    odd = as_column(["1_0", "inf", "1e999", "nan", "٣", " 4 "], "x")
    np.testing.assert_array_equal(odd.numbers(), [np.nan, np.nan, np.nan, np.nan, np.nan, 4.0])
    comma = Column("c", "text", np.array([0, 1, 2], np.int32), ["1,5", "1.5", "2"], decimal=",")
    np.testing.assert_array_equal(comma.numbers(), [1.5, np.nan, 2.0])


def test_texts():
    assert texts(NUMBERS) == ["3", None, "-0.5", "10000000000000000000000", "0.1"]
    assert texts(BOOLEANS) == ["True", "False", None]
    assert texts(DATES) == ["2020-01-02", None, "1969-12-31T23:59:59.500000"]
    assert TEXTS.texts() == (TEXTS.values, TEXTS.levels)


def test_categories_do_not_depend_on_the_kind():
    def categories(values):
        codes, levels = as_column(values, "x").categories()
        return [None if code < 0 else levels[code] for code in codes]

    assert categories(["007", "A1", "1.0", None, "1e2"]) == ["7", "A1", "1", None, "100"]
    assert categories(["7", "1"]) == categories([7, 1]) == categories([7.0, 1.0]) == ["7", "1"]
    assert categories(["b", "true", "FALSE"]) == ["b", "True", "False"]
    assert categories([True, False]) == categories(["true", "false"]) == ["True", "False"]
    assert categories(["1.5", "01.50"]) == ["1.5", "1.5"]
    assert as_column(["01", "1", "A"], "x").categories()[1] == ["1", "A"]


def test_dates():
    np.testing.assert_array_equal(DATES.dates(), DATES.values)
    numbers = Column("n", "number", np.array([86400.5, np.nan, 1e300]))
    np.testing.assert_array_equal(numbers.dates(), dates("1970-01-02T00:00:00.5", "NaT", "NaT"))
    assert np.isnat(BOOLEANS.dates()).all()
    text = as_column(["03/04/2020", None, "x", "13/04/2020"], "d")
    assert text.day_first()
    np.testing.assert_array_equal(text.dates(), dates("2020-04-03", "NaT", "NaT", "2020-04-13"))
    assert not text.take(np.arange(3)).day_first()  # by the cells that are there
    np.testing.assert_array_equal(text.dates(False), dates("2020-03-04", "NaT", "NaT", "NaT"))


def test_gaps_and_counts():
    assert NUMBERS.gaps().tolist() == [False, True, False, False, False]
    assert DATES.gaps().tolist() == [False, True, False]
    assert TEXTS.gaps().tolist() == [False, False, True, False, False]
    assert (NUMBERS.distinct(), BOOLEANS.distinct(), DATES.distinct(), TEXTS.distinct()) == (4, 2, 2, 3)
    assert TEXTS.counts() == {"007": 2, "1e3": 1, "x": 1}
    assert TEXTS.used_levels() == ["007", "1e3", "x"]
    assert not TEXTS.is_constant()
    assert TEXTS.take(np.array([0, 2, 4])).is_constant()
    assert NUMBERS.take(np.array([1])).is_constant()


def test_says_numbers():
    assert NUMBERS.says_numbers()
    assert not BOOLEANS.says_numbers()
    assert not DATES.says_numbers()
    assert not TEXTS.says_numbers()
    some = TEXTS.take(np.array([0, 2, 3]))  # the levels that stand in no cell do not count
    assert some.says_numbers()
    assert not some.is_written_as_numbers()
    assert as_column(["7", None, "0.5", "-3"], "x").is_written_as_numbers()
    for cell in ("007", "1.0", ".5", "1e3", "+1", "-0"):
        column = as_column([cell], "x")
        assert column.says_numbers()
        assert not column.is_written_as_numbers()
    assert not as_column([None, None], "x").says_numbers()
    assert NUMBERS.is_written_as_numbers()


def test_rows_of_a_table():
    table = Table({"n": NUMBERS, "t": TEXTS}, 5).take(np.array([4, 0]))
    assert len(table) == 2
    np.testing.assert_array_equal(table.columns["n"].values, [0.1, 3.0])
    assert texts(table.columns["t"]) == ["007", "007"]


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))))
def test_numbers_survive_as_text(values):
    """A column that was numbers in training may be text in prediction."""
    column = as_column(np.array(values, np.float64), "x")
    written = as_column(texts(column), "x")
    np.testing.assert_array_equal(written.numbers(), column.numbers())
    assert written.is_written_as_numbers() == any(value is not None for value in values)


@given(st.lists(st.one_of(st.none(), st.datetimes())))
def test_dates_survive_as_text(values):
    column = as_column(np.array(values, "datetime64[us]"), "x")
    np.testing.assert_array_equal(as_column(texts(column), "x").dates(), column.dates())


@pytest.mark.parametrize("column", [NUMBERS, BOOLEANS, DATES, TEXTS])
def test_nothing_is_no_rows(column):
    none = column.take(np.arange(0))
    assert len(none) == len(none.numbers()) == len(none.dates()) == len(none.texts()[0]) == none.distinct() == 0
