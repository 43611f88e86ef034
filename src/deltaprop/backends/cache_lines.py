"""Arrays on the host that begin where a cache line does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from deltaprop.backends.array_types import HostArray

#: Bytes of a cache line, and of the widest vectors.
LINE = 64


class Memory(np.ndarray[Any, Any]):
    """Where such an array lies, of a type of its own.

    Otherwise NumPy would take it for the base of the array's views in place of the array, which may be read-only.
    """


def on_cache_lines(shape: int | tuple[int, ...], dtype: DTypeLike, *, zeros: bool = False) -> HostArray:
    """Make an array for compiled code: a vector that it reads from there never lies in two cache lines.

    NumPy's own arrays begin 16 bytes behind a multiple of 64 where they are large.

    Parameters
    ----------
    shape : int or tuple of int
    dtype : dtype
    zeros : bool, default False
        Whether it holds zeros; else anything.

    Returns
    -------
    array, of that shape
    """
    kind = np.dtype(dtype)
    size = math.prod(shape) if isinstance(shape, tuple) else shape
    memory = Memory(size * kind.itemsize + LINE, np.uint8)
    made: HostArray = np.ndarray(shape, kind, buffer=memory, offset=-memory.ctypes.data % LINE)
    if zeros:
        made.fill(0)
    return made
