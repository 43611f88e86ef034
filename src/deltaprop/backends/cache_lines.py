"""Arrays on the host that begin where a cache line does."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import DTypeLike

from deltaprop.backends.array_types import HostArray

#: Bytes of a cache line, and of the widest vectors.
LINE = 64


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
    memory = (np.zeros if zeros else np.empty)(size * kind.itemsize + LINE, np.uint8)
    first = -memory.ctypes.data % LINE
    return memory[first : first + size * kind.itemsize].view(kind).reshape(shape)
