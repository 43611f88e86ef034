"""Cells of a table, a block of rows at a time: which cells are numbers, and which labels there are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from deltaprop.backends.array_types import Floats, HostArray

#: A block of a column: numbers, or cells of any kind; None is an empty cell.
Cells = HostArray | Sequence[Any]
#: Numbers that differ by no more than this share of the largest are one number, but for rounding.
ROUNDING = 8 * np.finfo(np.float64).eps
#: A column with more distinct texts than this is not a column of classes.
MOST_LABELS = 2**20
#: A column with more distinct numbers than this is one of quantities, however they are written.
MOST_WRITTEN = 2**16


def rounding_of(low: Any, high: Any) -> Any:
    """Return a difference that numbers from `low` to `high` may owe to rounding alone; elementwise for arrays."""
    return ROUNDING * np.maximum(np.abs(low), np.abs(high))


def is_constant(low: Any, high: Any) -> Any:
    """Tell whether numbers from `low` to `high` differ by no more than their rounding; elementwise for arrays."""
    with np.errstate(over="ignore"):
        return high - low <= rounding_of(low, high)


def written(value: float) -> str:
    """Write a number as usual: a whole number without a point, another one in the fewest digits that tell it apart."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def with_point(text: str, decimal: str) -> str:
    """Rewrite a number whose decimals follow `decimal` with a point; a text with a point of its own is no number."""
    return text.replace(".", "?").replace(decimal, ".")


def number(cell: Any) -> float:
    """Read a cell as a number that other readers of tables accept too: in ASCII and without underscores.

    Raises
    ------
    ValueError, TypeError, OverflowError
        If it is not a number.
    """
    value = float(cell)
    if isinstance(cell, (str, bytes)) and not _is_plain(cell if isinstance(cell, str) else cell.decode("latin-1")):
        raise ValueError(f"{cell!r} is no number")
    return value


def numbers(cells: Cells) -> Floats | None:
    """Read a block of a column as float64; None if a cell is not a number."""
    if isinstance(cells, np.ndarray):
        with np.errstate(invalid="ignore"):  # a signalling nan, which is found as any other
            return cells.astype(np.float64, copy=False)
    try:
        values = np.fromiter(map(float, cells), np.float64, len(cells))
        if set(map(type, cells)) <= {str}:
            return values if _is_plain("".join(cells)) else None
        return np.fromiter(map(number, cells), np.float64, len(cells))
    except (TypeError, ValueError, OverflowError):
        return None


def finite_numbers(path: object, name: str, cells: Cells, start: int) -> Floats:
    """Read a block of a column, which begins with row `start`, as finite numbers.

    Raises
    ------
    ValueError
        If a cell is not a finite number; the message names the first.
    """
    values = numbers(cells)
    if values is not None and np.isfinite(values).all():
        return values
    row = next(row for row, cell in enumerate(cells) if not _is_finite(cell))
    cell = cells[row].item() if isinstance(cells, np.ndarray) else cells[row]
    seen = "nothing" if cell is None or cell == "" else _shown(cell)
    raise ValueError(f"{path}: row {start + row + 1}, column {name!r}: expected a finite number, got {seen}")


class Labels:
    """A column of text that holds each distinct text once."""

    path: object
    name: str
    rows: int

    def __init__(self, path: object, name: str) -> None:
        self.path, self.name = path, name
        self.codes: dict[str, int] = {}
        self.blocks: list[HostArray] = []
        self.rows = 0

    def add(self, cells: Cells) -> None:
        """Add the next block.

        Raises
        ------
        ValueError
            If a cell is empty, or there are more texts than classes can be.
        """
        codes = self.codes
        check_no_gap(self.path, self.name, cells, self.rows)
        texts = map(str, cells.tolist() if isinstance(cells, np.ndarray) else cells)
        self.blocks.append(np.fromiter((codes.setdefault(text, len(codes)) for text in texts), np.int32, len(cells)))
        self.rows += len(cells)
        if len(codes) > MOST_LABELS:
            raise ValueError(
                f"{self.path}: column {self.name!r}: expected numbers or labels of classes, got more than "
                f"{MOST_LABELS} different texts"
            )

    def array(self, texts: Sequence[str] | None = None) -> HostArray:
        """Return the whole column, (m,), as an array of objects; `texts` may stand for the distinct ones."""
        distinct: HostArray = np.empty(len(self.codes), object)
        distinct[:] = list(self.codes if texts is None else texts)
        return np.take(distinct, np.concatenate(self.blocks))


class WrittenNumbers:
    """How the numbers of a column of text are written, as long as no more are different than classes would be."""

    def __init__(self, path: object, name: str) -> None:
        self._labels: Labels | None = Labels(path, name)

    def add(self, cells: Cells) -> None:
        """Add the next block."""
        if self._labels is None:
            return
        if isinstance(cells, np.ndarray) or not set(map(type, cells)) <= {str}:
            self._labels = None
            return
        self._labels.add(cells)
        if len(self._labels.codes) > MOST_WRITTEN:
            self._labels = None

    def labels(self) -> HostArray | None:
        """Return the column as it is written, (m,), if a number is not written as usual: "007", "1.50".

        Spaces around a number are no part of it.
        """
        if self._labels is None:
            return None
        texts = [text.strip() for text in self._labels.codes]
        return self._labels.array(texts) if any(written(number(text)) != text for text in texts) else None


def check_no_gap(path: object, name: str, cells: Cells, start: int) -> None:
    """Refuse an empty cell of a target column.

    Raises
    ------
    ValueError
        If there is one; the message names the first.
    """
    if isinstance(cells, np.ndarray):
        return
    for gap in (None, ""):
        if gap in cells:
            row = next(row for row, cell in enumerate(cells) if cell is None or cell == "")
            raise ValueError(f"{path}: row {start + row + 1}, column {name!r}: expected a target, got nothing")


def _is_plain(text: str) -> bool:
    return text.isascii() and "_" not in text


def _is_finite(cell: object) -> bool:
    try:
        return math.isfinite(number(cell))
    except (TypeError, ValueError, OverflowError):
        return False


def _shown(cell: object) -> str:
    text = repr(cell)
    return text if len(text) <= 200 else f"{text[:200]}…"
