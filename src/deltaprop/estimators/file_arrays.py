"""Arrays in files: a process that sees the same file maps it, and is sent a path instead of the entries."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from deltaprop.backends.array_types import DType, HostArray

#: Smaller arrays are sent as they are.
LEAST_BYTES = 2**20
#: How many blocks of an array are compared, and the bytes of each.
BLOCKS, BLOCK = 16, 2**16


class UnseenFileError(OSError):
    """A worker does not see the file that an array is in, or sees another one."""


@dataclass(frozen=True)
class FileArray:
    """An array in a file.

    Attributes
    ----------
    path : str
        The absolute path.
    size, modified : int
        The bytes of the file, and when it was written, in nanoseconds.
    start, span : int
        Which bytes of the file the array lies in.
    digest : bytes
        Of some blocks of these bytes.
    dtype : dtype
    shape, strides : tuple of int
    offset : int
        Where the first entry is, in bytes from `start`.
    """

    path: str
    size: int
    modified: int
    start: int
    span: int
    digest: bytes
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    @classmethod
    def of(cls, array: HostArray) -> FileArray | None:
        """Describe a large array that is in a file, or return None."""
        root = _mapped(array) if array.nbytes >= LEAST_BYTES else None
        filename = getattr(root, "filename", None)
        if root is None or filename is None or root.mode == "c":  # whose changes are in memory only
            return None
        if root.mode != "r":
            root.flush()
        path = Path(filename).absolute()
        low, high = byte_bounds(array)
        start = root.offset + low - root.ctypes.data
        content: Any = np.ndarray(high - low, np.uint8, root.base, low - root.ctypes.data + _lead(root))
        try:
            status = path.stat()
        except OSError:
            return None
        found = cls(
            str(path),
            status.st_size,
            status.st_mtime_ns,
            start,
            high - low,
            _digest(lambda first, count: content[first : first + count].tobytes(), high - low),
            array.dtype,
            array.shape,
            array.strides,
            array.ctypes.data - low,
        )
        return found if found.is_here() else None

    def is_here(self) -> bool:
        """Return whether this process sees the same file: of the same size, time and content."""
        try:
            status = Path(self.path).stat()
            if (status.st_size, status.st_mtime_ns) != (self.size, self.modified):
                return False
            with Path(self.path).open("rb") as file:

                def read(first: int, count: int) -> bytes:
                    file.seek(self.start + first)
                    return file.read(count)

                return _digest(read, self.span) == self.digest
        except OSError:
            return False

    def load(self) -> HostArray:
        """Map the file.

        Raises
        ------
        UnseenFileError
            If it is not the same file here.
        """
        if not self.is_here():
            raise UnseenFileError(f"{self.path}: expected the file that the search began with, which is not seen here")
        mapped = np.memmap(self.path, np.uint8, "r", self.start, (self.span,))
        return np.ndarray(self.shape, self.dtype, mapped, self.offset, self.strides)


def _mapped(array: Any) -> Any:
    """Return the memory map that an array is a view of, or None."""
    while array is not None and not isinstance(array, np.memmap):
        array = getattr(array, "base", None)
    while isinstance(array, np.memmap) and not isinstance(array.base, mmap.mmap):
        array = array.base
    return array if isinstance(array, np.memmap) else None


def _lead(root: Any) -> int:
    """Return how many bytes of the mapping come before the first entry: it begins at a page."""
    return int(root.offset % mmap.ALLOCATIONGRANULARITY)


def _digest(read: Callable[[int, int], bytes], span: int) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    for first in sorted({int(at) for at in np.linspace(0, max(0, span - BLOCK), BLOCKS)}):
        found.update(read(first, min(BLOCK, span - first)))
    return found.digest()
