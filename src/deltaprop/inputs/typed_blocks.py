"""Large CSV files of plain numbers, read by pyarrow or, without it, by NumPy: several times as fast as cell by cell."""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Collection, Iterator, Sequence
from importlib.util import find_spec
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from deltaprop.backends.array_types import HostArray
from deltaprop.inputs.csv_file import CsvFile

#: Bytes of a file, as it is stored, from which on this way is worth its start, and from which on pyarrow's import is.
LEAST, LEAST_FOR_PYARROW = 2**20, 2**23
#: Bytes that pyarrow reads together, and rows that NumPy does: more are no faster, and leave more memory behind.
BLOCK_BYTES, BLOCK_ROWS = 2**18, 2**12
#: The encodings of `CsvFile` whose bytes both libraries read.
PLAIN_ENCODINGS = ("utf-8-sig", "ascii")
MARK = b"\xef\xbb\xbf"

#: A block of a column: float64, or the cells as they are written.
TypedColumn: TypeAlias = HostArray | Sequence[str]


class NotPlainError(Exception):
    """A file is small, or holds something that the two libraries do not read as `CsvFile` does: read it by that."""


def is_worthwhile(file: CsvFile) -> bool:
    """Return whether a file is large enough, and in an encoding that both libraries read."""
    return file.source.stored_bytes >= LEAST and file.encoding in PLAIN_ENCODINGS


def typed_blocks(
    file: CsvFile, numbers: Collection[str], gaps: Collection[str] = ()
) -> Iterator[tuple[list[TypedColumn], float]]:
    """Yield the columns of many rows at a time, and the share of the file that has been read by then.

    Parameters
    ----------
    file : CsvFile
        A file of numbers with a decimal point; its cells may not be quoted.
    numbers : collection of str
        The names of the columns that are read as float64. The others are read as text.
    gaps : collection of str
        Cells that become NaN in columns of numbers.

    Raises
    ------
    NotPlainError
        If `CsvFile` has to read the file, from its beginning: all blocks that were yielded count for nothing. Every
        file that is wrong is among these, so that `CsvFile` says what is wrong, and where.
    ValueError
        If it is a damaged gzip file, or unpacks to too much.
    OSError
        If it cannot be read.
    """
    if not is_worthwhile(file) or not numbers:
        raise NotPlainError
    has_pyarrow = "pyarrow" in sys.modules or (
        file.source.stored_bytes >= LEAST_FOR_PYARROW and find_spec("pyarrow") is not None
    )
    read = _by_pyarrow if has_pyarrow else _by_numpy
    rows = 0
    with file.source.open() as raw:
        _skip_names(raw, file)
        for columns in read(io.BufferedReader(_Unquoted(raw)), file, numbers, gaps):
            for name, column in zip(file.names, columns, strict=True):
                # Infinity is an error, which `CsvFile` names; so is NaN where there are no gaps.
                if name in numbers and not (np.isfinite(column) | (np.isnan(column) & bool(gaps))).all():
                    raise NotPlainError
            rows += len(columns[0])
            yield columns, file.source.share
    if not rows:
        raise NotPlainError


def _by_pyarrow(
    raw: io.BufferedReader, file: CsvFile, numbers: Collection[str], gaps: Collection[str]
) -> Iterator[list[TypedColumn]]:
    import pyarrow
    from pyarrow import csv

    # One thread: another would still read the file when this one has given it up.
    read = csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=file.names)
    parse = csv.ParseOptions(delimiter=file.separator, quote_char=False)
    types = {name: pyarrow.float64() if name in numbers else pyarrow.string() for name in file.names}
    convert = csv.ConvertOptions(column_types=types, null_values=list(gaps), strings_can_be_null=False)
    try:
        for batch in csv.open_csv(
            pyarrow.PythonFile(raw, mode="r"), read, parse, convert, pyarrow.system_memory_pool()
        ):
            yield [
                column.to_numpy(zero_copy_only=False) if name in numbers else column.to_pylist()
                for name, column in zip(file.names, batch.columns, strict=True)
            ]
    except pyarrow.ArrowInvalid as error:  # a cell that is no number, or too many cells in a row
        raise NotPlainError from error


def _by_numpy(
    raw: io.BufferedReader, file: CsvFile, numbers: Collection[str], gaps: Collection[str]
) -> Iterator[list[TypedColumn]]:
    fields = [(f"column {place}", np.float64 if name in numbers else object) for place, name in enumerate(file.names)]
    lines = (line for line in io.TextIOWrapper(raw, "utf-8") if line != "\n")
    while True:
        try:
            first = next(lines, None)
            if first is None:
                return
            some = itertools.chain([first], lines)
            block = np.loadtxt(some, np.dtype(fields), None, file.separator, ndmin=1, max_rows=BLOCK_ROWS)
        except ValueError as error:  # the same; and a gap, for which it has no rule
            raise NotPlainError from error
        yield [block[name] if kind is np.float64 else block[name].tolist() for name, kind in fields]


def _skip_names(raw: BinaryIO, file: CsvFile) -> None:
    """Read the byte order mark, and the lines to the end of the line of names."""
    lines = file.names_end if file.has_header else 0
    head = b"".join(raw.readline() for _ in range(lines))
    if head.count(b"\r") != head.count(b"\r\n"):
        raise NotPlainError  # lines end in another way
    if not lines and isinstance(raw, io.BufferedReader) and raw.peek(len(MARK)).startswith(MARK):
        raw.read(len(MARK))


class _Unquoted(io.RawIOBase):
    """Reads a file, and refuses quotation marks, within which separators and ends of lines are text."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._file.read(len(buffer))
        if b'"' in part or b"\0" in part:
            raise NotPlainError
        buffer[: len(part)] = part
        return len(part)
