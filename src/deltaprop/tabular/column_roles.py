"""What each column of a table is taken for, and why: a number, a category, a date, or nothing that helps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from deltaprop.backends.array_types import Floats, HostArray
from deltaprop.errors import listing
from deltaprop.inputs import cells
from deltaprop.reports.text_table import Table as TextTable
from deltaprop.tabular.dates import day_first, read_dates
from deltaprop.tabular.table import Column, Table, numbers_in_texts

Role = Literal["number", "category", "date", "left out"]

#: The share of the texts that have to be dates, or numbers, for a column to be taken for one.
NEARLY_ALL = 0.95
#: A column of text with this share of distinct cells, and at least so many cells, is free text or an identifier.
DISTINCT_SHARE, DISTINCT_CELLS = 0.9, 50
#: Text that is nearly always a number is taken for a number if there are more distinct numbers than this.
CODES = 20
#: So many cells of text are looked at before all are; fewer numbers, or dates, among them than this share are too few.
SAMPLE, LIKELY = 1000, 0.8
#: Numbers with a sign such as "$" or "%", or with marks before thousands: "$1,234.50", "45 %", "-3.2 EUR".
AMOUNT = re.compile(
    r"[(+-]?(?:[$€£¥₹<>~]\s*|[A-Z]{3}\s)?[+-]?(?:\d{1,3}([,.' ])\d{3}(?:\1\d{3})*|\d+)(?:[.,]\d+)?"
    r"(?:\s*[%‰$€£¥₹]|\s[A-Z]{3})?\)?"
)
#: The share of texts that have to be amounts and no plain numbers, where nearly all are one or the other.
WITH_SIGNS = 0.1


@dataclass(frozen=True)
class ColumnRole:
    """What a column is taken for, and the reason in a few words.

    Parameters
    ----------
    name : str
        The name of the column.
    role : {"number", "category", "date", "left out"}
        What it is taken for.
    reason : str
        Why, with figures: "text with 3 levels", "numbers from 0 to 512.33, 177 gaps".

    Examples
    --------
    >>> from deltaprop.tabular.column_roles import ColumnRole
    >>> ColumnRole("side", "category", "text with 2 levels").role
    'category'
    """

    name: str
    role: Role
    reason: str


class ColumnRoles(list[ColumnRole]):
    """The roles of all columns, in the order of the table; printed, it is a table of text."""

    def __str__(self) -> str:
        lines = TextTable(["column", "taken for", "why"], left=3)
        for role in self:
            lines.add(role.name, role.role, role.reason)
        return lines.render()


def choose_roles(
    table: Table,
    *,
    categorical: Sequence[str | int] = (),
    numerical: Sequence[str | int] = (),
    drop: Sequence[str | int] = (),
) -> ColumnRoles:
    """Decide what each column of a table is.

    Numbers are numbers, also those with two values, and so is text that says numbers. Text of dates is a date. Other
    text, and booleans, are categories. A column is left out if it says the same in every row, if all its cells are
    gaps, or if it is text that hardly ever says the same twice.

    Parameters
    ----------
    table : Table
        The table.
    categorical, numerical, drop : sequence of str or int
        Columns, by name or by position, that are taken for categories or for numbers, or left out, whatever they hold.

    Returns
    -------
    roles : ColumnRoles
        One a column, in the order of the table.

    Raises
    ------
    ValueError
        If there is no such column, a column is in two lists, or a column in `numerical` holds no number.
    """
    wanted: dict[str, str] = {}
    for argument, columns in (("categorical", categorical), ("numerical", numerical), ("drop", drop)):
        for name in _named(table, argument, columns):
            if wanted.setdefault(name, argument) != argument:
                raise ValueError(
                    f"{argument}: column {name!r} is in {wanted[name]} as well; expected it in one of them"
                )
    return ColumnRoles(_role(column, wanted.get(name, "")) for name, column in table.columns.items())


def is_constant(values: Floats) -> bool:
    """Return whether numbers, none of them NaN, differ by no more than their rounding."""
    return bool(cells.is_constant(values.min(), values.max()))


def _named(table: Table, argument: str, columns: Sequence[str | int]) -> list[str]:
    """Return the names of columns that are given by name or by position."""
    names = list(table.columns)
    if isinstance(columns, str):
        columns = [columns]
    chosen = []
    for column in columns:
        if isinstance(column, str) and column in table.columns:
            chosen.append(column)
        elif isinstance(column, (int, np.integer)) and str(column) in table.columns:  # names are text in a table
            chosen.append(str(column))
        elif isinstance(column, (int, np.integer)) and -len(names) <= column < len(names):
            chosen.append(names[column])
        else:
            raise ValueError(
                f"{argument}: expected names of columns, or their positions, got {column!r}; there are {listing(names)}"
            )
    return chosen


def _role(column: Column, wanted: str) -> ColumnRole:
    """Decide what a column is; `wanted` is the argument that names it."""
    name, count = column.name, int(np.count_nonzero(column.gaps()))
    gaps = f", {_counted(count, 'gap')}" if count else ""
    if wanted == "drop":
        return ColumnRole(name, "left out", "it is named in drop")
    if count == len(column):
        return ColumnRole(name, "left out", "every cell is a gap")
    if wanted == "numerical":
        return _as_number(column)
    if column.kind == "number" or (column.kind == "text" and not column.is_category and column.says_numbers()):
        return _of_numbers(column, count, gaps, wanted)
    if not count and column.is_constant():
        return ColumnRole(name, "left out", f"the same {_noun(column)} in every row")
    if column.kind == "date":
        if wanted == "categorical":
            return ColumnRole(name, "category", f"dates, {column.distinct()} different{gaps}, named in categorical")
        return ColumnRole(name, "date", f"dates from {_span(column)}{gaps}")
    levels = _counted(column.distinct(), "level")
    if column.kind == "boolean":
        return ColumnRole(name, "category", f"true or false{gaps}")
    if wanted == "categorical" or column.is_category:
        how = ", named in categorical" if wanted else ", categorical in its table"
        return ColumnRole(name, "category", f"text with {levels}{gaps}{how}")
    return _of_text(column, count, f"text with {levels}{gaps}")


def _of_numbers(column: Column, count: int, gaps: str, wanted: str) -> ColumnRole:
    """Decide about a column of numbers, which text may say."""
    name, values = column.name, column.numbers()
    values = values[~np.isnan(values)]
    if is_constant(values):
        if not count or values.min() < values.max():
            return ColumnRole(name, "left out", f"the same number in every row{gaps}")
        return ColumnRole(name, "category", f"the number {cells.written(values[0])} or a gap{gaps}")
    if wanted == "categorical":
        return ColumnRole(name, "category", f"numbers, {len(np.unique(values))} different{gaps}, named in categorical")
    return ColumnRole(name, "number", f"numbers from {_figure(values.min())} to {_figure(values.max())}{gaps}")


def _as_number(column: Column) -> ColumnRole:
    """Take a column for a number, since the user says so.

    Raises
    ------
    ValueError
        If none of its cells is a number.
    """
    values = column.numbers()
    known = values[~np.isnan(values)]
    if not len(known):
        some = next(iter(column.counts()))
        raise ValueError(f"numerical: expected numbers in column {column.name!r}, got text such as {some[:80]!r}")
    count = len(values) - len(known)
    others = f", {_counted(count, 'cell')} without a number" if count else ""
    if is_constant(known):
        return ColumnRole(column.name, "left out", f"the same number in every row{others}")
    span = f"numbers from {_figure(known.min())} to {_figure(known.max())}"
    return ColumnRole(column.name, "number", f"{span}{others}, named in numerical")


def _of_text(column: Column, count: int, levels: str) -> ColumnRole:
    """Decide about text that does not only say numbers."""
    name, known = column.name, len(column) - count
    cells_with_text = np.flatnonzero(column.values >= 0)[:: max(1, known // SAMPLE)]
    some = [column.levels[code] for code in column.values[cells_with_text]]
    numbers: Floats = np.zeros(0)
    if _share(~np.isnan(numbers_in_texts(some, column.decimal))) > LIKELY:
        numbers = column.numbers()
    numbers = numbers[~np.isnan(numbers)]
    if len(numbers) >= NEARLY_ALL * known and len(np.unique(numbers)) > CODES and not is_constant(numbers):
        other = _first_other(column)
        span = f"numbers from {_figure(numbers.min())} to {_figure(numbers.max())}"
        text = f"{_counted(known - len(numbers), 'cell')} of text such as {other!r}"
        return ColumnRole(name, "number", f"{span}, {text}")
    if _share(~np.isnat(read_dates(some, day_first(some)))) > LIKELY:
        moments = column.dates()
        dates = int(np.count_nonzero(~np.isnat(moments)))
        if dates >= NEARLY_ALL * known:
            others = f", {_counted(len(column) - dates, 'cell')} without a date" if dates < len(column) else ""
            return ColumnRole(name, "date", f"text of dates from {_span(Column(name, 'date', moments))}{others}")
    distinct, hint = column.distinct(), amounts_in(some)
    if known >= DISTINCT_CELLS and distinct >= DISTINCT_SHARE * known:
        return ColumnRole(
            name, "left out", f"free text or an identifier: {distinct} different texts in {known} cells{hint}"
        )
    return ColumnRole(name, "category", f"{levels}{hint}")


def amounts_in(texts: Sequence[str]) -> str:
    """Say that texts are nearly all numbers with a sign, which would tell more as numbers; nothing if they are not."""
    texts = texts[:SAMPLE]
    amounts = np.array([bool(AMOUNT.fullmatch(text)) for text in texts], bool)
    signed = amounts & np.isnan(numbers_in_texts(texts))
    if _share(amounts) < NEARLY_ALL or _share(signed) < WITH_SIGNS:
        return ""
    return f"; {texts[int(signed.argmax())][:40]!r} would be a number without its signs"


def _first_other(column: Column) -> str:
    """Return the first text that says no number."""
    code = int(column.values[(column.values >= 0) & np.isnan(column.numbers())][0])
    return column.levels[code][:40]


def _share(found: HostArray) -> float:
    return float(np.count_nonzero(found)) / max(1, len(found))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _noun(column: Column) -> str:
    return {"date": "date", "boolean": "truth value", "text": "text", "number": "number"}[column.kind]


def _figure(value: float) -> str:
    return f"{value:.6g}"


def _span(column: Column) -> str:
    """Name the first and the last day."""
    known = column.values[~np.isnat(column.values)]
    return f"{known.min().astype('datetime64[D]')} to {known.max().astype('datetime64[D]')}"
