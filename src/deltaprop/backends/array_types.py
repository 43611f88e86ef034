"""What an array is, whichever library it comes from: all that code outside the backends may ask of one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, Self, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

#: An array with all that its own library gives it: inside a backend, and where users pass arrays and get them. No type
#: covers every library, and some libraries have no types, so the type checker lets everything pass.
AnyArray: TypeAlias = Any
#: What a user may pass for an array: numbers in lists, a DataFrame, an array of any library.
ArrayLike: TypeAlias = Any
#: What may stand beside an array in a calculation, or in its brackets.
Operand: TypeAlias = Any
#: A dtype of NumPy.
DType: TypeAlias = np.dtype[Any]
#: An array of NumPy, whatever its entries are.
HostArray: TypeAlias = NDArray[Any]
#: An array of NumPy, of float32 or float64.
Floats: TypeAlias = NDArray[np.floating[Any]]
#: An array of NumPy, of whole numbers, such as the numbers of samples or members.
Indices: TypeAlias = NDArray[np.integer[Any]]


class Array(Protocol):
    """An array of a backend's own kind: numpy.ndarray, cupy.ndarray, or a tensor of another library.

    Only what every library has in the same way stands here. So the type checker refuses everything else outside the
    backends, such as ``.fill``, ``.copy()`` and ``.sum(dtype=…)``: `Backend` has operations for these.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""

    @property
    def ndim(self) -> int:
        """How many axes it has."""

    @property
    def dtype(self) -> Any:
        """What an entry is, as the library says it; `Backend.dtype_of` says it as NumPy does."""

    def __len__(self) -> int: ...
    def __float__(self) -> float: ...
    def __iter__(self) -> Iterator[Array]: ...
    def __getitem__(self, key: Operand, /) -> Array: ...
    def __setitem__(self, key: Operand, value: Operand, /) -> None: ...

    @overload
    def reshape(self, shape: tuple[int, ...], /) -> Array: ...
    @overload
    def reshape(self, first: int, /, *others: int) -> Array: ...

    def swapaxes(self, axis: int, other: int, /) -> Array:
        """The same entries with two axes exchanged."""

    def sum(self, axis: int, /) -> Array:
        """The sum along an axis; `Backend.sum` is the sum of all entries."""

    def __neg__(self) -> Array: ...
    def __add__(self, other: Operand, /) -> Array: ...
    def __radd__(self, other: Operand, /) -> Array: ...
    def __sub__(self, other: Operand, /) -> Array: ...
    def __rsub__(self, other: Operand, /) -> Array: ...
    def __mul__(self, other: Operand, /) -> Array: ...
    def __rmul__(self, other: Operand, /) -> Array: ...
    def __truediv__(self, other: Operand, /) -> Array: ...
    def __iadd__(self, other: Operand, /) -> Self: ...
    def __isub__(self, other: Operand, /) -> Self: ...
    def __imul__(self, other: Operand, /) -> Self: ...
