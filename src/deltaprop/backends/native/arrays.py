"""Where arrays become addresses for compiled code: the one place that checks what such code takes on trust."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from deltaprop.backends.array_types import AnyArray, DType


def address(
    name: str, array: AnyArray, dtype: DTypeLike, shape: tuple[int, ...] | None = None, *, written: bool = False
) -> int:
    """The address of an array's first entry.

    Parameters
    ----------
    name : str
        What the array is called in errors.
    array : numpy.ndarray
        C-contiguous and aligned. The caller keeps it alive for as long as the address is used.
    dtype : dtype
        What its entries have to be.
    shape : tuple of int, optional
        What its shape has to be; by default any.
    written : bool, default False
        Whether compiled code writes into it.

    Returns
    -------
    int

    Raises
    ------
    TypeError
        If it is no NumPy array, or one of another dtype.
    ValueError
        If its shape is another one, its entries are not contiguous, or it is read-only and would be written.
    """
    expected = np.dtype(dtype)
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: expected a NumPy array, got {type(array).__name__}")
    if array.dtype != expected:
        raise TypeError(f"{name}: expected an array of {expected}, got one of {array.dtype}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name}: expected an array of shape {shape}, got {array.shape}")
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        raise ValueError(f"{name}: expected contiguous entries, got strides {array.strides}")
    if written and not flags.writeable:
        raise ValueError(f"{name}: expected a writeable array, got a read-only one")
    if flags.writeable and array.size:
        buffer: Any = array
        return ctypes.addressof(ctypes.c_char.from_buffer(buffer))  # takes a quarter of the time of what follows
    return int(array.ctypes.data)


def is_as_checked(array: AnyArray, dtype: DType, shape: tuple[int, ...]) -> bool:
    """Whether an array whose address is known still is what `address` takes, so that it need not be asked for again.

    A read-only array is not, whether it is to be written or not. An array's memory stays where it is while somebody
    else, who knows its address, holds it.
    """
    return bool(array.flags.carray and array.shape == shape and array.dtype == dtype)


def check_rows(name: str, starts: AnyArray, columns: AnyArray, values: int, width: int) -> None:
    """Check that the rows of a sparse matrix stay within its entries, and its entries within its columns.

    Parameters
    ----------
    name : str
        What the matrix is called in errors.
    starts : array of int, (m + 1,)
        Where the entries of each row begin, ``indptr`` of CSR.
    columns : array of int, (n,)
        The column of each entry, ``indices`` of CSR.
    values : int
        How many values there are.
    width : int
        How many columns the matrix has.

    Raises
    ------
    ValueError
        If compiled code would read outside of the matrix.
    """
    if starts.ndim != 1 or not len(starts) or starts[0] != 0 or (starts[1:] < starts[:-1]).any():
        raise ValueError(f"{name}: expected an indptr that begins with 0 and never falls, got {starts!r}")
    if starts[-1] > min(len(columns), values):
        raise ValueError(
            f"{name}: its indptr ends at {starts[-1]}, expected at most the {len(columns)} indices and {values} values"
        )
    used = columns[: int(starts[-1])]
    if len(used) and (used.min() < 0 or used.max() >= width):
        wrong = used[(used < 0) | (used >= width)][0]
        raise ValueError(f"{name}: expected indices from 0 to {width - 1}, got {wrong}")
