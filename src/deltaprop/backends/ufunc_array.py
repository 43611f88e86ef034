"""Lets formulas that are written in NumPy's ufuncs run on arrays of any library.

The formulas of ``deltaprop.backends.numpy`` call ``np.exp(z, out=out)`` and the like. Where an array is not NumPy's,
NumPy asks it what that means, by ``__array_ufunc__`` and ``__array_function__``. So one formula serves every library.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import DTypeLike

from deltaprop.backends.array_types import ArrayLike, DType, HostArray
from deltaprop.backends.base import Array

COMPARISONS: set[np.ufunc] = {np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal}
#: Functions of NumPy that reduce an axis, with their ufuncs.
REDUCTIONS: dict[Callable[..., Any], np.ufunc] = {np.sum: np.add, np.max: np.maximum}
#: Signed whole numbers in place of unsigned ones, with which not every library computes.
SIGNED: dict[DType, DType] = {
    np.dtype(np.uint32): np.dtype(np.int32),
    np.dtype(np.uint64): np.dtype(np.int64),
}


class Library(Protocol):
    """The primitives of `deltaprop.backends.composed.ComposedBackend` that a formula needs."""

    def asarray(self, array: ArrayLike, dtype: DTypeLike) -> Array:
        """Return `array` as an array of the library."""

    def to_numpy(self, array: Array) -> HostArray:
        """Return `array` in host memory."""

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Make a new array."""

    def dtype_of(self, array: Array) -> DType:
        """Return the dtype of an array, as one of NumPy's."""

    def view(self, array: Array, dtype: DTypeLike) -> Array:
        """Return the same memory as entries of another dtype."""

    def elementwise(self, function: np.ufunc, inputs: tuple[Array | float, ...], out: Array) -> None:
        """Write a function of the inputs into `out`, entry by entry."""

    def reduce(self, function: np.ufunc, array: Array, axis: int, out: Array) -> None:
        """Write the sum or maximum along an axis into `out`."""


class UfuncArray(NDArrayOperatorsMixin):
    """An array of a library that answers NumPy's ufuncs by the library's functions.

    Parameters
    ----------
    array : array
        Of the library. What is written into the `UfuncArray` is written there.
    library : Library
    """

    array: Array
    library: Library

    def __init__(self, array: Array, library: Library) -> None:
        self.array, self.library = array, library
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.size: int = math.prod(self.shape)
        self.dtype: DType = library.dtype_of(array)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        out, where = options.pop("out", (None,))[0], options.pop("where", True)
        if method != "__call__" or options:
            return NotImplemented
        if out is None:
            out = self._like(ufunc, inputs)
        operands = tuple(self._operand(x) for x in inputs)
        if where is True:
            self.library.elementwise(ufunc, operands, out.array)
        else:
            everywhere = self._like(ufunc, inputs)
            self.library.elementwise(ufunc, operands, everywhere.array)
            out.array[where.array] = everywhere.array[where.array]
        return out

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        if function is np.copyto:
            target, source = arguments
            place = options["where"].array if "where" in options else ...
            target.array[place] = self._operand(source)
            return None
        if function in REDUCTIONS and options.get("keepdims"):
            self.library.reduce(REDUCTIONS[function], arguments[0].array, options["axis"], options["out"].array)
            return options["out"]
        if function is np.clip:
            array, lowest, highest = arguments
            np.maximum(array, lowest, out=options["out"])
            return np.minimum(options["out"], highest, out=options["out"])
        return NotImplemented

    def _like(self, ufunc: np.ufunc, inputs: tuple[Any, ...]) -> UfuncArray:
        """Make a new array for a result."""
        shape = np.broadcast_shapes(*(x.shape for x in inputs if isinstance(x, UfuncArray)))
        dtype = np.dtype(bool) if ufunc in COMPARISONS else self.dtype
        return UfuncArray(self.library.empty(shape, dtype), self.library)

    def _operand(self, x: ArrayLike) -> Any:
        """Return an input as the library takes it: an array of its own, or a number."""
        if isinstance(x, UfuncArray):
            return x.array
        if isinstance(x, np.ndarray | np.generic):
            signed = _signed(x.dtype)
            return self.library.asarray(np.asarray(x).view(signed), signed)
        return x

    def __getitem__(self, key: Any) -> UfuncArray:
        return UfuncArray(self.array[key], self.library)

    def view(self, dtype: DTypeLike) -> UfuncArray:
        """Return the same memory as entries of another dtype; whole numbers get a sign."""
        return UfuncArray(self.library.view(self.array, _signed(np.dtype(dtype))), self.library)

    def fill(self, value: float) -> None:
        """Let every entry be `value`."""
        self.array[...] = value

    def argmin(self) -> int:
        """Return the place of the smallest entry, or of the first nan."""
        return int(self.library.to_numpy(self.array).argmin())

    def item(self, place: int) -> float:
        """Return one entry, by its place."""
        return float(self.array.reshape(-1)[place])


def _signed(dtype: DType) -> DType:
    return SIGNED.get(dtype, dtype)
