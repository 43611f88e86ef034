"""The columns of a CSV file: numbers where all cells are numbers or gaps, text as it is written elsewhere."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np

from deltaprop.backends.array_types import Floats, HostArray
from deltaprop.inputs import cells
from deltaprop.inputs.csv_file import CsvFile
from deltaprop.inputs.typed_blocks import NotPlainError, TypedColumn, is_worthwhile, typed_blocks
from deltaprop.tabular.cell_values import Places, text_column
from deltaprop.tabular.table import Column, numbers_in_texts

#: Cells that say that there is nothing.
GAPS = frozenset(("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "?", "-"))
#: In a column that is kept as text, such as classes, these may be labels.
LABELS = frozenset(("None", "-"))
#: Numbers in which a comma may stand before thousands rather than before decimals.
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+")


class GrowingColumn:
    """A column that is read a block of cells at a time, as numbers for as long as all cells are numbers or gaps.

    Parameters
    ----------
    name : str
        Its name.
    marks : str
        The marks that may stand before decimals: ".", "," or both.
    commas_separate : bool
        Whether commas stand between the cells of its file: then a comma in a cell may stand before thousands.
    as_text : bool
        Whether it is kept as text, whatever it holds.
    """

    name: str
    marks: str
    commas_separate: bool
    is_text: bool
    rows: int
    skipped: int

    def __init__(self, name: str, marks: str, commas_separate: bool, as_text: bool) -> None:
        self.name, self.marks, self.commas_separate = name, marks, commas_separate
        self.gaps: frozenset[str] = GAPS - LABELS if as_text else GAPS
        self.is_text = as_text
        self.rows = self.skipped = 0
        self._numbers: list[Floats] = []
        self._codes: list[HostArray] = []
        self._skipped_codes: list[HostArray] = []
        self._places = Places()
        self._mark = ""  # the one that stood before decimals so far
        self._surely_decimals = False
        self._infinite: tuple[int, str] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether all its cells so far are numbers with a point before decimals, or gaps."""
        return not self.is_text and self._mark != ","

    def add(self, block: TypedColumn) -> None:
        """Add the next cells; those that have been read as numbers are an array, in which NaN is a gap."""
        if isinstance(block, np.ndarray):
            self._numbers.append(block)
            self.rows += len(block)
            return
        values = None if self.is_text else self._read(block)
        if values is not None:
            self._numbers.append(values)
        else:
            self._become_text()
            self._codes.append(self._coded(block))
        self.rows += len(block)

    def finish(self) -> None:
        """Make it text, if its commas turn out to stand before thousands."""
        if self._mark == "," and self.commas_separate and not self._surely_decimals:
            self._become_text()

    def add_skipped(self, block: Sequence[str]) -> None:
        """Add, as text, the next of the first `skipped` cells, which were read as numbers."""
        self._skipped_codes.append(self._coded(block))

    def _become_text(self) -> None:
        if not self.is_text:
            self.is_text, self.skipped = True, self.rows
            self._numbers.clear()

    def _coded(self, block: Sequence[str]) -> HostArray:
        return np.fromiter(map(self._places.__getitem__, block), np.int32, len(block))

    def column(self, path: object) -> Column:
        """Return the whole column.

        Raises
        ------
        ValueError
            If one of its numbers is infinite; the message names the first.
        """
        if self.is_text:
            texts = [None if text.strip() in self.gaps else text for text in self._places]
            column = text_column(self.name, np.concatenate(self._skipped_codes + self._codes), texts)
            others = [level for level in column.levels if level not in LABELS]
            return replace(column, decimal=decimal_of(others, self.marks, self.commas_separate))
        if self._infinite is not None:
            row, cell = self._infinite
            place = f"row {row + 1}, column {self.name!r}"
            raise ValueError(f"{path}: {place}: expected a finite number, got {cell[:200]!r} (infinity)")
        return Column(self.name, "number", np.concatenate(self._numbers), decimal=self._mark or ".")

    def _read(self, block: Sequence[str]) -> Floats | None:
        """Read cells as numbers; gaps are NaN. None if a cell is no number."""
        together = "".join(block)
        comma, point = "," in together, "." in together
        if comma and (point or self._mark == "." or "," not in self.marks):
            return None
        if point and (self._mark == "," or "." not in self.marks):
            return None
        self._mark = "," if comma else "." if point else self._mark
        values = None if comma else cells.numbers(block)
        if values is None:
            values = self._read_each(block, comma)
        if values is not None and np.isinf(values).any() and self._infinite is None:
            place = int(np.isinf(values).argmax())
            self._infinite = (self.rows + place, block[place])
        return values

    def _read_each(self, block: Sequence[str], comma: bool) -> Floats | None:
        known: dict[str, float] = {}
        for cell in set(block):
            text = cell.strip()
            if text in self.gaps:
                known[cell] = np.nan
                continue
            try:
                known[cell] = cells.number(text.replace(",", ".") if comma else text)
            except ValueError:
                return None
            self._surely_decimals |= comma and "," in text and not THOUSANDS.fullmatch(text)
        return np.fromiter(map(known.__getitem__, block), np.float64, len(block))


def read_columns(file: CsvFile, marks: str, as_text: Collection[str]) -> list[Column]:
    """Read all columns of a CSV file, those named in `as_text` as text.

    Raises
    ------
    ValueError
        If a row has another number of cells, there is no row, or a number is infinite.
    OSError
        If it cannot be read.
    """
    columns = _new_columns(file, marks, as_text)
    try:
        _add_blocks(columns, typed_blocks(file, _plain_columns(file, marks, as_text), GAPS))
    except NotPlainError:
        columns = _new_columns(file, marks, as_text)
        _add_blocks(columns, file.blocks())
    for column in columns:
        column.finish()
    _add_what_was_skipped(file, columns)
    return [column.column(file.path) for column in columns]


def _plain_columns(file: CsvFile, marks: str, as_text: Collection[str]) -> set[str]:
    """Return the columns that are plain numbers in the first block; none of a file that is read cell by cell anyway."""
    if not is_worthwhile(file) or "." not in marks:
        return set()
    columns = _new_columns(file, marks, as_text)
    for column, first_cells in zip(columns, next(file.blocks())[0], strict=True):
        column.add(first_cells)
    return {column.name for column in columns if column.is_plain}


def _new_columns(file: CsvFile, marks: str, as_text: Collection[str]) -> list[GrowingColumn]:
    return [GrowingColumn(name, marks, file.separator == ",", name in as_text) for name in file.names]


def _add_blocks(columns: Sequence[GrowingColumn], blocks: Iterable[tuple[Sequence[TypedColumn], float]]) -> None:
    for block, _ in blocks:
        for column, part in zip(columns, block, strict=True):
            column.add(part)


def _add_what_was_skipped(file: CsvFile, columns: Sequence[GrowingColumn]) -> None:
    """Read once more the first cells of columns that turned out to be text after a few blocks of numbers."""
    late, rows = [(place, column) for place, column in enumerate(columns) if column.skipped], 0
    if not late:
        return
    for block, _ in file.blocks():
        late = [(place, column) for place, column in late if column.skipped > rows]
        if not late:
            break
        for place, column in late:
            column.add_skipped(block[place])
        rows += len(block[0])


def decimal_of(levels: Sequence[str], marks: str, commas_separate: bool) -> str:
    """Find the mark before decimals in texts: a comma if all of them are numbers with it, and not with a point."""
    if marks != ".,":
        return marks
    if "," not in "".join(levels):
        return "."
    if not np.isnan(numbers_in_texts(levels)).any() or np.isnan(numbers_in_texts(levels, ",")).any():
        return "."
    if commas_separate and all(THOUSANDS.fullmatch(level) for level in levels if "," in level):
        return "."
    return ","
