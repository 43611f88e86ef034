"""Bytes that can be read from the beginning more than once: a file, a gzip file, or standard input."""

from __future__ import annotations

import gzip
import io
import os
import sys
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from deltaprop.inputs.numpy_files import UNPACKED_LIMIT

#: The first bytes of a gzip file.
GZIP = b"\x1f\x8b"
#: Bytes that are read together.
PART = 2**20


class ByteSource:
    """The bytes of a file, unpacked if they are gzip's; "-" is standard input, which is kept in a temporary file.

    Parameters
    ----------
    source : str or path
        The file, or "-".

    Attributes
    ----------
    name : str
        What errors call it.
    is_packed : bool
        Whether its first bytes are gzip's.
    stored_bytes : int
        How many bytes it has as it is stored.

    Raises
    ------
    ValueError
        If standard input holds more than `UNPACKED_LIMIT` bytes.
    OSError
        If it cannot be read.
    """

    def __init__(self, source: str | os.PathLike[str]) -> None:
        self._kept: Any = None
        self._path = Path(source)
        self.name: str = str(source)
        if source == "-":
            self.name = "standard input"
            self._kept = _keep(sys.stdin.buffer)
            weakref.finalize(self, self._kept.close)
        with self._packed() as file:
            self.is_packed: bool = file.read(2) == GZIP
            self.stored_bytes: int = file.seek(0, io.SEEK_END)
        self._place = 0

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the bytes for one reading.

        Raises
        ------
        ValueError
            While it is read: if it is a damaged gzip file, or unpacks to more than `UNPACKED_LIMIT` bytes.
        OSError
            If it cannot be read.
        """
        with self._packed() as file:
            counted = _Counted(file, self)
            if not self.is_packed:
                yield io.BufferedReader(counted, PART)
                return
            with gzip.GzipFile(fileobj=io.BufferedReader(counted, PART)) as unpacked:
                yield io.BufferedReader(_Unpacked(unpacked, self.name), PART)

    @property
    def share(self) -> float:
        """The share of the bytes, as they are stored, that has been read."""
        return self._place / max(self.stored_bytes, 1)

    @contextmanager
    def _packed(self) -> Iterator[BinaryIO]:
        """Open the bytes as they are stored."""
        if self._kept is None:
            with self._path.open("rb", buffering=0) as file:
                yield file
        else:
            self._kept.seek(0)
            yield self._kept


class _Counted(io.RawIOBase):
    """Reads a file and notes how much of it has been read."""

    def __init__(self, file: BinaryIO, source: ByteSource) -> None:
        self._file, self._source, source._place = file, source, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._file.read(len(buffer))
        buffer[: len(part)] = part
        self._source._place += len(part)
        return len(part)


class _Unpacked(io.RawIOBase):
    """Reads a gzip file, and refuses it when it is damaged or unpacks to too much."""

    def __init__(self, file: Any, name: str) -> None:
        self._file, self._name, self._room = file, name, UNPACKED_LIMIT

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            part = self._file.read1(len(buffer))
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{self._name}: a damaged gzip file ({error})") from error
        self._room -= len(part)
        if self._room < 0:
            raise ValueError(f"{self._name}: unpacks to more than the limit of {UNPACKED_LIMIT} bytes")
        buffer[: len(part)] = part
        return len(part)


def _keep(stream: BinaryIO) -> Any:
    """Copy a stream to a temporary file, which goes when it is closed."""
    kept = tempfile.TemporaryFile()  # noqa: SIM115 (its owner closes it)
    room = UNPACKED_LIMIT
    while part := stream.read(PART):
        room -= len(part)
        if room < 0:
            kept.close()
            raise ValueError(f"standard input: holds more than the limit of {UNPACKED_LIMIT} bytes")
        kept.write(part)
    return kept
