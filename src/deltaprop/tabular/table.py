"""A table in memory: named columns of numbers, booleans, dates or text, with gaps, all of one length."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from deltaprop.backends.array_types import HostArray, Indices

Kind = Literal["number", "boolean", "date", "text"]


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Parameters
    ----------
    name : str
        Its name.
    kind : {"number", "boolean", "date", "text"}
        What its cells are.
    values : array, (m,)
        Of numbers and booleans, float64, with NaN for a gap. Of dates, datetime64[us], with NaT for a gap. Of text,
        int32: the place of each cell's text in `levels`, −1 for a gap.
    levels : list of str
        The distinct texts, sorted.
    """

    name: str
    kind: Kind
    values: HostArray
    levels: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Indices) -> Column:
        """Return some rows; `levels` stay as they are."""
        return Column(self.name, self.kind, self.values[rows], self.levels)


@dataclass(frozen=True)
class Table:
    """Columns by their names, in order, and how many rows they have."""

    columns: dict[str, Column]
    rows: int

    def __len__(self) -> int:
        return self.rows

    def take(self, rows: Indices) -> Table:
        """Return some rows."""
        return Table({name: column.take(rows) for name, column in self.columns.items()}, len(rows))
