"""What a table of the pages is: columns, rows of cells with their values, and where the figures come from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .figures import MissingFigureError, Node

#: What stands where nothing was measured.
NOTHING = "–"


class Cell(NamedTuple):
    """A text, and the number that it shows."""

    text: str
    value: float | None = None


def significant(x: float, digits: int = 3) -> str:
    """Write a number with so many digits, without an exponent, thousands apart: 25640 as ``25 640``."""
    if x == 0:
        return "0"
    decimals = max(digits - 1 - math.floor(math.log10(abs(x))), 0)
    rounded = round(x, digits - 1 - math.floor(math.log10(abs(x))))
    return f"{rounded:,.{decimals}f}".replace(",", "\N{NO-BREAK SPACE}")


def duration(seconds: float) -> str:
    """Write a time in the unit that suits it."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1 or unit == "µs":
            return f"{significant(seconds * factor)}\N{NO-BREAK SPACE}{unit}"
    raise AssertionError


def ratio(x: float) -> str:
    """Write a ratio of two times."""
    return f"{x:.2f}" if x < 10 else f"{x:.1f}" if x < 100 else f"{x:.0f}"


def percent(share: float) -> str:
    """Write a share as a percentage."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def thousandths(x: float) -> str:
    """Write a number near 0 or 1 with three decimals."""
    return f"{x:.3f}"


def whole(x: float) -> str:
    """Write a count."""
    return f"{x:,.0f}".replace(",", "\N{NO-BREAK SPACE}")


def cell(node: Node, show: Callable[[float], str], factor: float = 1.0) -> Cell:
    """Show the number at a place of a file."""
    return Cell(show(node.number * factor), node.number * factor)


def label(text: str) -> Cell:
    """Show a text."""
    return Cell(text)


@dataclass(frozen=True)
class Table:
    """A table of figures.

    Parameters
    ----------
    columns : sequence of str
        Headings.
    rows : sequence of sequences of Cell
        As many cells as columns.
    sources : sequence of str
        The names of the files that the figures come from, without ``.json``.
    labels : int
        How many columns, from the left, name the row.
    best : {"least", "most"}, optional
        Whether the least or the most of a column is printed in bold, from the first column of figures on.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    sources: Sequence[str]
    labels: int = 1
    best: str | None = None

    def __post_init__(self) -> None:
        if not self.rows:
            raise MissingFigureError(
                f"{', '.join(self.sources)}: expected rows for the table {self.columns[0]!r}, got none"
            )
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"expected {len(self.columns)} cells, got {[each.text for each in row]}")

    def markdown(self) -> str:
        """Return the table in Markdown, figures to the right."""
        rule = ["---"] * self.labels + ["---:"] * (len(self.columns) - self.labels)
        lines = [_line(self.columns), _line(rule)]
        best = [self._best(index) for index in range(len(self.columns))]
        for row in self.rows:
            texts = [
                f"**{each.text}**" if each.value is not None and each.value == b else each.text
                for each, b in zip(row, best, strict=True)
            ]
            lines.append(_line(texts))
        return "\n".join(lines) + "\n"

    def _best(self, index: int) -> float | None:
        values = [row[index].value for row in self.rows]
        numbers = [value for value in values if value is not None]
        if self.best is None or index < self.labels or not numbers:
            return None
        return min(numbers) if self.best == "least" else max(numbers)

    def find(self, row: str, column: str) -> Cell:
        """Return a cell by the labels of its row, joined by commas, and its heading.

        Raises
        ------
        MissingFigureError
            If no row or column has this name, or several have.
        """
        names = [", ".join(each.text for each in cells[: self.labels]) for cells in self.rows]
        names = [name.replace("\N{NO-BREAK SPACE}", " ") for name in names]
        if names.count(row) != 1:
            raise MissingFigureError(f"{', '.join(self.sources)}: expected one row {row!r}, got the rows {names}")
        return self.rows[names.index(row)][self._column(column)]

    def over_rows(self, column: str, choose: str) -> Cell:
        """Return the least or the greatest figure of a column; `choose` is ``"min"`` or ``"max"``."""
        index = self._column(column)
        cells = [row[index] for row in self.rows if row[index].value is not None]
        if choose not in ("min", "max") or not cells:
            raise MissingFigureError(f"{column!r}: expected 'min' or 'max' of figures, got {choose!r} of {len(cells)}")
        return (min if choose == "min" else max)(cells, key=lambda each: each.value or 0.0)

    def _column(self, name: str) -> int:
        if name not in self.columns:
            raise MissingFigureError(f"{', '.join(self.sources)}: expected a column {name!r}, got {list(self.columns)}")
        return list(self.columns).index(name)


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"
