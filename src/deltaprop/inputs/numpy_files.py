"""Arrays in NumPy's files, ``.npy`` and ``.npz``: read without running code; damaged ones are refused."""

from __future__ import annotations

import math
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np

from deltaprop.backends.array_types import DType, HostArray

#: Bytes that a compressed file may unpack to: far above any such data set, far below a machine's memory.
UNPACKED_LIMIT = 4 * 2**30
#: Bytes of a piece of arrays that are read some rows at a time.
PIECE_BYTES = 2**20
#: Bytes of a header in NumPy's format that NumPy itself reads at most.
HEADER_LIMIT = 10_000
#: Errors from a damaged archive or header: NumPy parses headers as Python, zipfile refuses what it does not know.
DAMAGED = (
    *(ValueError, TypeError, KeyError, OverflowError, RecursionError, SyntaxError, TokenError),
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError),
)


def load_numpy(path: Path, file: BinaryIO) -> Any:
    """Call `numpy.load` on an open file, without pickles.

    Raises
    ------
    ValueError
        If the file is damaged, holds objects, or declares more than it holds.
    """
    try:
        if file.read(6) == np.lib.format.MAGIC_PREFIX:
            file.seek(0)
            check_declared_size(file, path.stat().st_size)
        file.seek(0)
        return np.load(file, allow_pickle=False)
    except DAMAGED as error:
        raise ValueError(f"{path}: not a NumPy file of plain numbers ({error})") from error


def members(path: Path, archive: Any, names: Sequence[str], room: int = UNPACKED_LIMIT) -> list[HostArray]:
    """Read the arrays with these names in an open ``.npz`` file; together they may take `room` bytes.

    Raises
    ------
    ValueError
        As `load_numpy`.
    """
    arrays: list[HostArray] = []
    for name in names:
        try:
            info, size = _member(archive, name)
            with archive.zip.open(info) as file:
                shape, dtype = check_declared_size(file, size)
            room -= math.prod(shape) * dtype.itemsize
            if room < 0:
                raise ValueError(f"its arrays take more than the limit of {UNPACKED_LIMIT} bytes together")
            arrays.append(np.atleast_1d(archive[name]))
        except DAMAGED as error:
            raise ValueError(f"{path}: {name!r} cannot be read ({error})") from error
    return arrays


def members_in_pieces(path: Path, archive: Any, names: Sequence[str], rows: int) -> Iterator[list[HostArray]]:
    """Read the arrays with these names in an open ``.npz`` file, some rows at a time.

    They are read whole, as by `members`, if that is not possible: if they do not lie row by row, or one has not so many
    rows as asked for.

    Raises
    ------
    ValueError
        As `load_numpy`.
    """
    with ExitStack() as opened:
        try:
            columns = []
            for name in names:
                info, size = _member(archive, name)
                columns.append(RowsOfArray(opened.enter_context(archive.zip.open(info)), size))
        except DAMAGED:
            columns = []  # `members` says what is wrong
        if not columns or not all(column.can_be_read(rows) for column in columns):
            yield members(path, archive, names)
            return
        at_once = max(1, PIECE_BYTES // sum(column.row_bytes for column in columns))
        for start in range(0, rows, at_once):
            try:
                piece = [column.take(min(at_once, rows - start)) for column in columns]
            except DAMAGED as error:
                raise ValueError(f"{path}: rows from {start} on cannot be read ({error})") from error
            yield piece


class RowsOfArray:
    """An array in NumPy's format, whose rows are read one after the other.

    Parameters
    ----------
    file : binary file
    size : int
        Bytes that it may declare.

    Attributes
    ----------
    row_bytes : int
    """

    def __init__(self, file: Any, size: int) -> None:
        self._file = file
        self._shape, self._by_columns, self._dtype = _header(file, size)
        self.row_bytes: int = max(1, self._dtype.itemsize * math.prod(self._shape[1:]))

    def can_be_read(self, rows: int) -> bool:
        """Tell whether it has so many rows, and they lie one after the other."""
        if self._dtype.hasobject or self._shape[:1] != (rows,):
            return False
        return len(self._shape) == 1 or not self._by_columns

    def take(self, rows: int) -> HostArray:
        """Read the next rows.

        Raises
        ------
        ValueError
            If there are fewer; other errors as of `zipfile`.
        """
        content = self._file.read(rows * self._dtype.itemsize * math.prod(self._shape[1:]))
        return np.frombuffer(content, self._dtype).reshape(rows, *self._shape[1:])


def _member(archive: Any, name: str) -> tuple[zipfile.ZipInfo, int]:
    """Find an array in an open ``.npz`` file; return how many bytes it may have, too."""
    info = archive.zip.getinfo(f"{name}.npy" if f"{name}.npy" in archive.zip.namelist() else name)
    # What is compressed is at least a thousandth of what it becomes.
    return info, min(info.file_size, 1100 * info.compress_size + 1100, UNPACKED_LIMIT)


def check_declared_size(file: Any, size: int) -> tuple[tuple[int, ...], DType]:
    """Read shape and dtype from the header of an array in NumPy's format, which may declare `size` bytes at most.

    Raises
    ------
    ValueError
        If it declares more, or the header is damaged.
    """
    shape, _, dtype = _header(file, size)
    return shape, dtype


def _header(file: Any, size: int) -> tuple[tuple[int, ...], bool, DType]:
    """Read shape and dtype, and whether the array lies column by column; see `check_declared_size`."""
    major, _ = np.lib.format.read_magic(file)
    width = 2 if major == 1 else 4
    if int.from_bytes(file.read(width), "little") > HEADER_LIMIT:
        raise ValueError("declares a header longer than any")
    file.seek(-width, 1)
    header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a header looks as Python 2 wrote it
        shape, by_columns, dtype = header(file)
    if any(length < 0 for length in shape) or math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"declares {dtype} of shape {shape}, which is more than it holds")
    return tuple(shape), by_columns, dtype
