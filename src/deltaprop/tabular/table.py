"""A table in memory: named columns of numbers, booleans, dates or text, with gaps, all of one length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from deltaprop.backends.array_types import Floats, HostArray, Indices
from deltaprop.errors import listing
from deltaprop.inputs import cells
from deltaprop.tabular.dates import date_texts, day_first, read_dates

Kind = Literal["number", "boolean", "date", "text"]

#: Microseconds of a second: dates are counted in these.
MICROSECONDS = 1_000_000
#: Levels that are looked at before all are.
FIRST_LEVELS = 100


@dataclass(frozen=True)
class Column:
    """One column of a table.

    What was a number in training may be text in prediction, and the other way round: `numbers`, `texts` and `dates`
    read the cells of any kind.

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
        The distinct texts, sorted; some may stand in no cell.
    is_category : bool
        Whether its own library calls it categorical: then it is no number even if all its texts are numbers.
    decimal : str
        The mark before the decimals of numbers in its texts, "." or ",".
    """

    name: str
    kind: Kind
    values: HostArray
    levels: list[str] = field(default_factory=list)
    is_category: bool = False
    decimal: str = "."

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Indices) -> Column:
        """Return some rows; `levels` stay as they are."""
        return replace(self, values=self.values[rows])

    def gaps(self) -> HostArray:
        """Return which cells are gaps, (m,) of bool."""
        if self.kind == "text":
            return self.values < 0
        return np.isnat(self.values) if self.kind == "date" else np.isnan(self.values)

    def counts(self) -> dict[str, int]:
        """Count the cells of each text that stands in some, in the order of `texts`."""
        codes, levels = self.texts()
        counts = np.bincount(codes[codes >= 0], minlength=len(levels))
        return {level: int(count) for level, count in zip(levels, counts, strict=True) if count}

    def used_levels(self) -> list[str]:
        """Return the texts that stand in some cell, of a column of text."""
        used = np.bincount(self.values[self.values >= 0], minlength=len(self.levels)) > 0
        return (
            self.levels if used.all() else [level for level, is_used in zip(self.levels, used, strict=True) if is_used]
        )

    def is_constant(self) -> bool:
        """Return whether all cells are the same, or gaps."""
        known = self.values[~self.gaps()]
        return not len(known) or bool((known == known[0]).all())

    def distinct(self) -> int:
        """Count the different cells; a gap is none."""
        known = self.values[~self.gaps()]
        if self.kind == "text":
            return int(np.count_nonzero(np.bincount(known, minlength=1)))
        return len(np.unique(known))

    def numbers(self) -> Floats:
        """Read the cells as numbers, (m,) of float64; NaN where a cell says none.

        Booleans are 0 and 1; dates are seconds since 1970.
        """
        if self.kind == "text":
            return np.append(self.level_numbers(), np.nan)[self.values]
        if self.kind == "date":
            seconds: Floats = self.values.astype("datetime64[us]").astype(np.int64) / MICROSECONDS
            seconds[np.isnat(self.values)] = np.nan
            return seconds
        return self.values

    def level_numbers(self) -> Floats:
        """Read each text in `levels` as a finite number; NaN where it is none."""
        return numbers_in_texts(self.levels, self.decimal)

    def texts(self) -> tuple[HostArray, list[str]]:
        """Read the cells as text: the place of each cell's text, (m,) of int32, −1 for a gap, and the sorted texts.

        A whole number is written without a point ("3"), another in the digits that tell it apart; booleans are "True"
        and "False"; dates are in ISO 8601, days without a time ("2020-12-31").
        """
        if self.kind == "text":
            return self.values, self.levels
        known = ~self.gaps()
        distinct, places = np.unique(self.values[known], return_inverse=True)
        if self.kind == "date":
            texts = date_texts(distinct)
        elif self.kind == "boolean":
            texts = [str(bool(value)) for value in distinct.tolist()]
        else:
            texts = [cells.written(value) for value in distinct.tolist()]
        codes = np.full(len(self), -1, np.int32)
        codes[known] = places
        return _sorted(codes, texts)

    def categories(self) -> tuple[HostArray, list[str]]:
        """Read the cells as text, like `texts`, in a way that does not depend on their kind.

        One category may be 1, 1.0, "1.0" or "01", by the kind of its column, and True or "true": these are one text
        here, as `texts` would write the number or the boolean.
        """
        if self.kind != "text":
            return self.texts()
        known = zip(self.levels, self.level_numbers().tolist(), strict=True)
        texts = [_usual(level) if math.isnan(number) else cells.written(number) for level, number in known]
        return (self.values, self.levels) if texts == self.levels else _sorted(self.values, texts)

    def day_first(self) -> bool:
        """Return whether its dates such as 03/04/2020 begin with the day: to be kept from training for `dates`."""
        return self.kind == "text" and day_first(self.used_levels())

    def dates(self, day_first: bool | None = None) -> HostArray:
        """Read the cells as moments in UTC, (m,) of datetime64[us]; NaT where a cell says none.

        Numbers are seconds since 1970. Of text, ISO 8601 and the usual forms are read.

        Parameters
        ----------
        day_first : bool, optional
            Whether 03/04/2020 is in April; by default what `day_first()` finds in this column.
        """
        nothing = np.datetime64("NaT", "us")
        if self.kind == "date":
            return self.values
        if self.kind == "text":
            moments = read_dates(self.levels, self.day_first() if day_first is None else day_first)
            return np.append(moments, nothing)[self.values]
        moments = np.full(len(self), nothing)
        if self.kind == "number":
            limit = np.iinfo(np.int64).max // MICROSECONDS
            valid = np.abs(self.values) < limit  # false for NaN
            counts = np.round(self.values[valid] * MICROSECONDS).astype(np.int64)
            moments[valid] = counts.astype("datetime64[us]")
        return moments

    def says_numbers(self) -> bool:
        """Return whether every cell is a number or a gap, and not every cell is a gap."""
        if self.kind == "text":
            used = self.used_levels()
            few = numbers_in_texts(used[:FIRST_LEVELS], self.decimal)
            return bool(used) and not np.isnan(few).any() and not np.isnan(numbers_in_texts(used, self.decimal)).any()
        return self.kind == "number" and not bool(self.gaps().all())

    def is_written_as_numbers(self) -> bool:
        """Return whether every cell is a number just as it would be written: "7" and "0.5" are, "007" and ".5" not."""
        if self.kind != "text":
            return self.says_numbers()
        used = np.unique(self.values[self.values >= 0])
        numbers = self.level_numbers()[used]
        if not len(used) or np.isnan(numbers).any():
            return False
        return all(
            cells.written(number) == self.levels[place]
            for place, number in zip(used.tolist(), numbers.tolist(), strict=True)
        )


@dataclass(frozen=True)
class Table:
    """Columns by their names, in order, and how many rows they have.

    Parameters
    ----------
    columns : dict of str to Column
        In order.
    rows : int
        How many rows.
    written : str
        How its file is written, where that is unusual: "cells separated by ';', cp1252".
    """

    columns: dict[str, Column]
    rows: int
    written: str = ""

    def __len__(self) -> int:
        return self.rows

    def only(self, names: Sequence[str], remedy: str = "") -> Table:
        """Return the columns that a model predicts from; `remedy` is the end of the message about missing ones.

        Raises
        ------
        ValueError
            If some are missing.
        """
        missing = [name for name in names if name not in self.columns]
        if missing:
            verb = "is" if len(missing) == 1 else "are"
            raise ValueError(
                f"X: expected the columns that the model predicts from, but {listing(missing)} {verb} missing{remedy}"
            )
        return Table({name: self.columns[name] for name in names}, self.rows)

    def take(self, rows: Indices) -> Table:
        """Return some rows."""
        return Table({name: column.take(rows) for name, column in self.columns.items()}, len(rows))


def numbers_in_texts(texts: Sequence[str], decimal: str = ".") -> Floats:
    """Read each text as a finite number, (m,) of float64; NaN where it is none."""
    if decimal != ".":
        texts = [cells.with_point(text, decimal) for text in texts]
    values = cells.numbers(texts)
    if values is None:
        values = np.array([_number(text) for text in texts], np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _sorted(codes: HostArray, texts: Sequence[str]) -> tuple[HostArray, list[str]]:
    """Sort the different texts; return the place of each cell's text among them, −1 for a gap, and the sorted texts."""
    levels = sorted(set(texts))
    rank = {level: place for place, level in enumerate(levels)}
    return np.array([*map(rank.__getitem__, texts), -1], np.int32)[codes], levels


def _usual(text: str) -> str:
    return text.capitalize() if text.lower() in ("true", "false") else text


def _number(text: str) -> float:
    try:
        return cells.number(text)
    except ValueError:
        return np.nan
