"""CSV files, read in blocks of rows, so that only one block is held as text."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from deltaprop.inputs.byte_source import ByteSource
from deltaprop.inputs.cells import numbers, with_point
from deltaprop.inputs.text_encoding import decoded_name, encoding_of, refusal

#: Cells of a block: enough that a block costs no time by itself, and as few as let its texts stay in a cache.
CELLS = 2**16
#: Bytes of the beginning of a file, and rows of it, by which its separator is found.
BEGINNING, FIRST_ROWS = 2**16, 100
#: Separators, and the order in which they are tried: a comma may also stand in numbers and text.
SEPARATORS = "\t;|,"
#: The name of a first column that has none, as pandas calls it: it often counts the rows.
UNNAMED_FIRST = "Unnamed: 0"


class CsvFile:
    """A CSV file; its cells are text. A first row that holds only numbers is data, not names.

    Parameters
    ----------
    source : path or ByteSource
        The file.
    sep : str, optional
        What stands between cells; by default what splits all first rows into the same number of cells.
    decimal : {".", ","} or None
        The mark before decimals in the first row; either if None.
    encoding : str, optional
        The encoding of its text; by default UTF-8, or UTF-16 and UTF-32 where the file begins with their marks.

    Attributes
    ----------
    names : list of str
        The names of the columns.
    separator : str
        What stands between cells.
    names_end : int
        The number of the line in which the first row ends, counted from 1.

    Raises
    ------
    ValueError
        If it is empty, not CSV, not in this encoding, or if two columns have one name.
    OSError
        If it cannot be read.
    """

    names_end: int

    def __init__(
        self,
        source: Path | ByteSource,
        *,
        sep: str | None = None,
        decimal: str | None = ".",
        encoding: str | None = None,
    ) -> None:
        self.source: ByteSource = source if isinstance(source, ByteSource) else ByteSource(source)
        self.path: str = self.source.name
        with self.source.open() as raw:
            beginning = raw.read(BEGINNING + 1)
        self.encoding: str = encoding_of(self.path, beginning) if encoding is None else decoded_name(encoding)
        self.separator: str = self._separator(beginning) if sep is None else _checked_separator(sep)
        first, self.names_end = next(self._rows(), (None, 0))
        if first is None:
            raise ValueError(f"{self.path}: is empty")
        self.has_header: bool = not _says_numbers(first, decimal)
        self.names: list[str] = (
            self._named(first) if self.has_header else [f"column {i + 1}" for i in range(len(first))]
        )

    def blocks(self) -> Iterator[tuple[list[tuple[str, ...]], float]]:
        """Yield the columns of a few rows at a time, and the share of the file that has been read by then.

        Raises
        ------
        ValueError
            If a row has another number of cells, there is no row, or the file is not CSV in its encoding.
        OSError
            If it cannot be read.
        """
        width = len(self.names)
        at_once, block, any_rows = max(1, CELLS // width), [], False
        rows = self._rows()
        if self.has_header:
            next(rows)
        for row, line in rows:
            if len(row) != width:
                raise ValueError(
                    f"{self.path}: line {line}: expected {width} cells as in the first line, got {len(row)}"
                )
            block.append(row)
            if len(block) == at_once:
                yield list(zip(*block, strict=True)), self.source.share
                block, any_rows = [], True
        if block:
            yield list(zip(*block, strict=True)), 1.0
        elif not any_rows:
            raise ValueError(f"{self.path}: has a header but no rows")

    def _rows(self) -> Iterator[tuple[list[str], int]]:
        """Yield the rows that are not empty, each with the number of the line in which it ends."""
        with self.source.open() as raw:
            try:
                file = io.TextIOWrapper(raw, self.encoding, newline="")
                reader = csv.reader(file, delimiter=self.separator, strict=True)
                for row in reader:
                    if row:
                        yield row, reader.line_num
            except UnicodeError as error:
                raise ValueError(refusal(self.source, self.encoding, error)) from error
            except csv.Error as error:
                raise ValueError(f"{self.path}: not a CSV file: {error}") from error

    def _separator(self, beginning: bytes) -> str:
        """Find the separator that splits all of the first rows into the same number of cells, two or more."""
        text = beginning[:BEGINNING].decode(self.encoding, "replace")
        candidates = {}
        for separator in SEPARATORS:
            rows = _first_rows(text, separator)
            if len(beginning) > BEGINNING and len(rows) > 1:
                rows.pop()  # it may go on
            candidates[separator] = [len(row) for row in rows]
        for separator, widths in candidates.items():
            if widths and widths[0] > 1 and len(set(widths)) == 1:
                return separator
        return max(",;\t|", key=lambda separator: candidates[separator][0] if candidates[separator] else 0)

    def _named(self, first: Sequence[str]) -> list[str]:
        names = [name.strip(" \t") or f"column {place + 1}" for place, name in enumerate(first)]
        if not first[0].strip(" \t"):
            names[0] = UNNAMED_FIRST
        if len(set(names)) < len(names):
            twice = next(name for name, count in Counter(names).items() if count > 1)
            raise ValueError(f"{self.path}: two columns are called {twice!r}")
        return names


def _first_rows(text: str, separator: str) -> list[list[str]]:
    """Split the first lines that are not empty, as far as they can be split."""
    rows: list[list[str]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        for row in reader:
            if row:
                rows.append(row)
            if len(rows) == FIRST_ROWS:
                break
    except csv.Error:
        return []
    return rows


def _checked_separator(sep: str) -> str:
    """Return the separator that the user names; a tab may be written as backslash and t.

    Raises
    ------
    ValueError
        If it is not one character, or one that CSV needs itself.
    """
    sep = "\t" if sep in ("\\t", "tab") else sep
    if len(sep) != 1 or sep in '"\r\n\0':
        raise ValueError(f"sep: expected one character between cells, such as ';' or '\\t', got {sep!r}")
    return sep


def _says_numbers(row: Sequence[str], decimal: str | None) -> bool:
    """Return whether every cell is a number, with the decimal mark given, or with either."""
    if decimal != "," and numbers(row) is not None:
        return True
    return decimal != "." and numbers([with_point(cell, ",") for cell in row]) is not None
