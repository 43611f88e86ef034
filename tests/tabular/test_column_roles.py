"""What columns are taken for: the rules, one by one, on tables written by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaprop.tabular.column_roles import ColumnRole, ColumnRoles, choose_roles
from deltaprop.tabular.frames import as_table


def role(values, **options):
    (found,) = choose_roles(as_table({"x": values}), **options)
    assert found.name == "x"
    return found.role, found.reason


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 512.3292, None, 3.5], ("number", "numbers from 0 to 512.329, 1 gap")),
        ([0, 1, 0, 1], ("number", "numbers from 0 to 1")),
        (["1", "2.5", None, " 3 "], ("number", "numbers from 1 to 3, 1 gap")),
        (["a", "b", None, None, "c"], ("category", "text with 3 levels, 2 gaps")),
        (["a", None, "a"], ("category", "text with 1 level, 1 gap")),
        ([True, False, None], ("category", "true or false, 1 gap")),
        (["yes", "no"], ("category", "text with 2 levels")),
        (["2020-01-31", "2021-02-01", None], ("date", "text of dates from 2020-01-31 to 2021-02-01, 1 cell without a date")),
        (np.array(["2020-01-31", "NaT"], "datetime64[D]"), ("date", "dates from 2020-01-31 to 2020-01-31, 1 gap")),
        (np.array(["2020-01-31", "2020-02-01"], "datetime64[ns]"), ("date", "dates from 2020-01-31 to 2020-02-01")),
        ([7, 7, 7], ("left out", "the same number in every row")),
        (["u", "u"], ("left out", "the same text in every row")),
        ([True, True], ("left out", "the same truth value in every row")),
        ([None, float("nan"), None], ("left out", "every cell is a gap")),
        ([1, None, 1], ("category", "the number 1 or a gap, 1 gap")),
        # 0.3 and 0.1 + 0.2 differ by one unit of rounding.
        ([0.3, 0.1 + 0.2, 0.3], ("left out", "the same number in every row")),
    ],
)  # fmt: skip
def test_a_column_by_itself(values, expected):
    assert role(values) == expected


def test_nearly_all_cells_decide():
    numbers = [*(str(n) for n in range(96)), *["unknown"] * 4]
    assert role(numbers) == ("number", "numbers from 0 to 95, 4 cells of text such as 'unknown'")
    assert role([*numbers, *["unknown"] * 4])[0] == "left out"  # 92 of 100 are distinct: text that hardly recurs
    codes = [*["1", "2"] * 50, "x"]  # few numbers are codes, and x is one more
    assert role(codes) == ("category", "text with 3 levels")
    dates = [*(f"{day}.3.2020" for day in range(1, 31)), "soon"]
    assert role(dates) == ("date", "text of dates from 2020-03-01 to 2020-03-30, 1 cell without a date")


def test_free_text_and_identifiers_are_left_out():
    names = [f"person {n}" for n in range(60)]
    assert role(names) == ("left out", "free text or an identifier: 60 different texts in 60 cells")
    assert role(names[:49]) == ("category", "text with 49 levels")
    assert role(names, categorical=["x"]) == ("category", "text with 60 levels, named in categorical")
    assert role(names + names) == ("category", "text with 60 levels")


def test_numbers_with_signs_are_told_of():
    dollars = [f"${1000 + n:,}.50" for n in range(60)]
    assert role(dollars) == (
        "left out",
        "free text or an identifier: 60 different texts in 60 cells; '$1,000.50' would be a number without its signs",
    )
    shares = [f"{n % 30} %" for n in range(60)]
    assert role(shares) == ("category", "text with 30 levels; '0 %' would be a number without its signs")
    # Names, codes, ranges, versions and telephone numbers are none.
    for texts in (
        ["ABC123", "XYZ9"],
        ["18-25", "26-40"],
        ["1.2.3", "1.2.4"],
        ["+49 30 1234", "+1 555 12"],
        ["1", "2", "x"],
    ):
        assert role(texts * 20) == ("category", f"text with {len(texts)} levels")


def test_what_the_user_says():
    table = as_table(
        {"a": [1, 2, 3], "b": ["u", "v", "7"], "c": ["2020-01-01", "2020-01-02", "2020-01-03"], "d": [1, 1, 1]}
    )
    found = choose_roles(table, categorical=["a", 2], numerical=["b"], drop=[-1])
    assert found == [
        ColumnRole("a", "category", "numbers, 3 different, named in categorical"),
        ColumnRole("b", "left out", "the same number in every row, 2 cells without a number"),
        ColumnRole("c", "category", "text with 3 levels, named in categorical"),
        ColumnRole("d", "left out", "it is named in drop"),
    ]
    with pytest.raises(
        ValueError, match=r"^categorical: expected names of columns, or their positions, got 'e'; there are 'a', "
    ):
        choose_roles(table, categorical=["e"])
    with pytest.raises(ValueError, match=r"^drop: expected .*, got 4; there are"):
        choose_roles(table, drop=[4])
    with pytest.raises(ValueError, match=r"^drop: column 'a' is in categorical as well"):
        choose_roles(table, categorical=["a"], drop=[0])
    with pytest.raises(ValueError, match=r"^numerical: expected numbers in column 'c', got text such as '2020-01-01'"):
        choose_roles(table, numerical=["c"])


def test_a_categorical_column_is_one_even_if_it_says_numbers():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": pandas.Categorical([3.0, 1.0, None, 3.0])})
    (found,) = choose_roles(as_table(frame))
    assert found == ColumnRole("x", "category", "text with 2 levels, 1 gap, categorical in its table")


@given(
    st.lists(st.one_of(st.none(), st.floats(), st.integers(), st.booleans(), st.text(), st.datetimes(), st.binary()))
)
def test_no_cells_raise_anything_but_a_refusal(values):
    refusal = ""
    try:
        roles = choose_roles(as_table({"x": values}))
    except ValueError as error:
        refusal, roles = str(error), ColumnRoles()
    assert (not values and "0 sample(s)" in refusal) or "infinity" in refusal or not refusal
    assert all(found.role in ("number", "category", "date", "left out") and found.reason for found in roles)
