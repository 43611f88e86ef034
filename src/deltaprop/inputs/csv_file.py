"""CSV files, read in blocks of rows, so that only one block is held as text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from deltaprop.inputs.cells import numbers

#: Cells of a block: enough that a block costs no time by itself, and as few as let its texts stay in a cache.
CELLS = 2**16
#: Characters of the beginning of a file by which its delimiter is found.
BEGINNING = 2**16


class CsvFile:
    """A CSV file; its cells are text. A first row that holds only numbers is data, not names.

    Parameters
    ----------
    path : path
        The file.

    Attributes
    ----------
    names : list of str
        The names of the columns.

    Raises
    ------
    ValueError
        If it is empty, or not CSV in UTF-8.
    OSError
        If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, max(path.stat().st_size, 1)
        with path.open("rb") as raw:
            beginning = raw.read(BEGINNING).split(b"\n")[0]
            self.delimiter = max(",;\t", key=lambda delimiter: beginning.count(delimiter.encode()))
            raw.seek(0)
            first = next((row for row, _ in self._rows(raw)), None)
        if first is None:
            raise ValueError(f"{path}: is empty")
        self.has_header = numbers(first) is None
        self.names = first if self.has_header else [f"column {i + 1}" for i in range(len(first))]

    def blocks(self) -> Iterator[tuple[list[tuple[str, ...]], float]]:
        """Yield the columns of a few rows at a time, and the share of the file that has been read by then.

        Raises
        ------
        ValueError
            If a row has another number of cells, there is no row, or the file is not CSV in UTF-8.
        OSError
            If it cannot be read.
        """
        width = len(self.names)
        at_once, block, any_rows = max(1, CELLS // width), [], False
        with self.path.open("rb") as raw:
            rows = self._rows(raw)
            if self.has_header:
                next(rows)
            for row, line in rows:
                if len(row) != width:
                    raise ValueError(
                        f"{self.path}: line {line}: expected {width} cells as in the first line, got {len(row)}"
                    )
                block.append(row)
                if len(block) == at_once:
                    yield list(zip(*block, strict=True)), raw.tell() / self.size
                    block, any_rows = [], True
        if block:
            yield list(zip(*block, strict=True)), 1.0
        elif not any_rows:
            raise ValueError(f"{self.path}: has a header but no rows")

    def _rows(self, raw: BinaryIO) -> Iterator[tuple[list[str], int]]:
        """Yield the rows that are not empty, each with the number of the line in which it ends."""
        try:
            with io.TextIOWrapper(raw, "utf-8-sig", newline="") as file:
                reader = csv.reader(file, delimiter=self.delimiter, strict=True)
                for row in reader:
                    if row:
                        yield row, reader.line_num
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path}: expected UTF-8 text ({error.reason} at byte {error.start})") from error
        except csv.Error as error:
            raise ValueError(f"{self.path}: not a CSV file: {error}") from error
