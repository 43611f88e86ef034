"""The public door: what users pass becomes an array of the network's backend and dtype, or a clear error."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from deltaprop.arguments import refuse_masked
from deltaprop.backends import Array, Backend, backend_of, get_backend
from deltaprop.backends.array_types import AnyArray, ArrayLike, DType, HostArray
from deltaprop.errors import BackendError, RowValueError
from deltaprop.inputs.refusals import after_row, not_numbers, not_rectangular, objects_to_float, refuse_sparse

#: DLPack's numbers of device memory and of memory managed for both sides.
CUDA_DEVICE_TYPES = (2, 13)


#: How much of a device's free memory data may take; larger data go there in chunks.
SHARE_OF_ROOM = 0.7


#: How many elements are searched at a time for the first one that is not finite.
BLOCK = 2**20
#: Bytes above which host data are converted chunk by chunk, if they have to be converted.
CONVERTED_LIMIT = 2**29


class HostData:
    """An array, (m, s), that stays on the host as it is, while a network works on it chunk by chunk.

    Parameters
    ----------
    array : array, (m, …)
        The array, or an object with a shape that returns some rows as an array, by their numbers or by a slice.
    columns : int, optional
        The width s, if the array holds something else, such as class labels.
    convert : callable, optional
        Converts some rows of the array to an array of the network.
    """

    array: AnyArray
    convert: Callable[[HostArray], Array] | None

    def __init__(
        self,
        array: AnyArray,
        columns: int | None = None,
        convert: Callable[[HostArray], Array] | None = None,
    ) -> None:
        self.array, self.convert = array, convert
        self.shape: tuple[AnyArray, AnyArray | int] = (array.shape[0], array.shape[1] if columns is None else columns)

    def rows(self, rows: slice, backend: Backend, dtype: DTypeLike) -> Array:
        """Return some rows as an array of the network's backend."""
        return self.converted(self.array[rows], backend, dtype)

    def converted(self, part: AnyArray, backend: Backend, dtype: DTypeLike) -> Array:
        """Convert `part`, some rows as they are, to an array of the network's backend."""
        return backend.asarray(part if self.convert is None else self.convert(part), dtype)


def takes_much_memory(X: ArrayLike, backend: Backend, dtype: DTypeLike) -> bool:
    """Whether `X` is a matrix on the host that would take much memory in the network's dtype and order."""
    if not (backend.on_host and isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "iubf"):
        return False
    is_used_where_it_is = X.dtype == dtype and X.flags.c_contiguous
    return not is_used_where_it_is and is_above_limit(X.shape[0], X.shape[1], dtype)


def is_above_limit(rows: int, columns: int, dtype: DTypeLike) -> bool:
    """Whether this many numbers are converted chunk by chunk."""
    return rows * columns * np.dtype(dtype).itemsize > CONVERTED_LIMIT


def stays_on_host(X: ArrayLike, backend: Backend, columns: int, dtype: DTypeLike) -> bool:
    """Whether `X` is host data, and the device has no room for that many rows of `columns` columns."""
    room = backend.room()
    if room is None or backend.owns(X) or is_on_cuda(X):
        return False
    try:
        shape = np.shape(X)
    except ValueError:  # a ragged list, which is refused by its name
        return False
    return len(shape) == 2 and shape[0] * columns * np.dtype(dtype).itemsize > SHARE_OF_ROOM * room


def as_inputs(
    X: ArrayLike,
    name: str,
    *,
    columns: int,
    backend: Backend,
    dtype: DTypeLike,
    rows: int | None = None,
) -> AnyArray:
    """Convert `X` to a C-contiguous (m, columns) array of finite numbers.

    Parameters
    ----------
    X : array_like
        NumPy or CuPy array, DataFrame, list of rows, or anything that NumPy converts. Host arrays are copied to the
        device if the network is there. Device arrays are never copied to the host unasked.
    name : str
        The argument's name in errors.
    columns : int
        How many features are expected.
    rows : int, optional
        How many rows are expected, if there is another array to match.

    Raises
    ------
    TypeError
        If the content is not numeric, or is on another device than the network.
    ValueError
        If the shape is wrong, there is no row, or an entry is nan or infinite in `dtype`.
    """
    array = as_numbers(X, name, backend)
    if rows is not None and array.shape != (rows, columns):
        raise ValueError(f"{name}: expected shape ({rows}, {columns}), one row for each of X, got shape {array.shape}")
    if array.ndim != 2:
        hint = f"; one sample is {name}[None, :]" if array.ndim == 1 and array.shape[0] == columns else ""
        raise ValueError(f"{name}: expected a 2-D array of shape (m, {columns}), got shape {array.shape}{hint}")
    if array.shape[1] != columns:
        raise ValueError(f"{name}: expected {columns} features (shape (m, {columns})), got shape {array.shape}")
    return _as_finite(array, name, backend, dtype)


def as_targets(
    Y: ArrayLike,
    name: str,
    *,
    rows: int,
    columns: int,
    lowest: float,
    highest: float,
    rows_sum_to_one: bool,
    backend: Backend,
    dtype: DTypeLike,
) -> AnyArray:
    """Convert `Y` to a C-contiguous (rows, columns) array of finite targets in range.

    If there are several outputs, a 1-D array of whole numbers, of any dtype, holds class labels 0 … columns − 1. If
    there is one output, a 1-D array is one column.

    Raises
    ------
    TypeError
        If the content is not numeric, or is on another device than the network.
    ValueError
        If the shape is wrong, a label is out of range, a target is outside [lowest, highest] or is not finite, or the
        targets of a sample should sum to 1 and do not.
    """
    array = as_numbers(Y, name, backend)
    if array.ndim == 1 and columns == 1:
        array = array[:, None]
    if array.ndim == 1:
        _check_rows(array, name, rows, f"({rows}, {columns}) or ({rows},) of class labels")
        _check_whole(array, name, f"({rows}, {columns})", backend)
        return _one_hot(array, name, columns, backend, dtype)
    if array.ndim != 2 or array.shape[1] != columns:
        labels = f", or ({rows},) of whole-number class labels" if columns > 1 else f" or ({rows},)"
        raise ValueError(f"{name}: expected shape ({rows}, {columns}){labels}, got shape {array.shape}")
    _check_rows(array, name, rows, f"({rows}, {columns})")
    array = _as_finite(array, name, backend, dtype)
    if float(array.min()) < lowest or float(array.max()) > highest:
        bad = (array < lowest) | (array > highest)
        raise _first(array, bad, name, f"{name}: expected targets in [{lowest:g}, {highest:g}]")
    if rows_sum_to_one:
        sums = array.sum(axis=1)
        if float(abs(sums - 1.0).max()) > 1e-3:
            row = int(((abs(sums - 1.0) > 1e-3) * 1).argmax())
            raise RowValueError(
                f"{name}: expected the targets of each sample to sum to 1 (class probabilities or one-hot rows), "
                f"got a sum of {float(sums[row]):g} in row ",
                row,
                "",
            )
    return array


def as_weights(weights: ArrayLike, name: str, *, rows: int, backend: Backend, dtype: DTypeLike) -> AnyArray:
    """Convert `weights` to a contiguous (rows,) array of finite numbers ≥ 0, not all 0; errors as `as_inputs`.

    It is possible to divide by them and by their sum, see `divisible`.
    """
    given = as_numbers(weights, name, backend)
    if given.shape != (rows,):
        raise ValueError(f"{name}: expected shape ({rows},), one weight for each row of X, got shape {given.shape}")
    array = _as_finite(given, name, backend, dtype)
    if float(array.min()) < 0.0:
        raise _first(array, array < 0.0, name, f"{name}: expected weights of at least 0")
    if float(given.max()) == 0.0:
        raise ValueError(f"{name}: expected a weight above 0, got none")
    return divisible(array, name, given, backend)


def divisible(weights: AnyArray, name: str, given: AnyArray | None = None, backend: Backend | None = None) -> AnyArray:
    """Return `weights` with 0 in place of subnormal numbers, so that one can divide by their sum over any minibatch.

    `given` holds the weights before they were converted to their dtype. `backend` is theirs; by default, the registered
    one that owns them.

    Raises
    ------
    ValueError
        If no weight is a normal number, or the reciprocal of their sum is not one.
    """
    backend = backend or backend_of(weights) or get_backend("numpy")
    dtype = backend.dtype_of(weights)
    least = float(np.finfo(dtype).tiny)
    largest = float(abs(weights if given is None else given).max())
    if 0.0 < largest < least:
        raise ValueError(
            f"{name}: expected some weights of at least {least:g}, the least normal number of {dtype.name}, "
            f"got {largest:g} at most; only their ratios matter to a mean"
        )
    with np.errstate(over="ignore"):
        total = float(backend.sum(abs(weights)))
    if not total <= 1.0 / least:
        raise ValueError(
            f"{name}: expected weights whose sum is at most {1.0 / least:g}, in {dtype.name}, got a sum of {total:g}; "
            "only their ratios matter to a mean"
        )
    small = (abs(weights) < least) & (weights != 0.0)
    return weights * ~small if bool(small.any()) else weights


def as_vector(v: ArrayLike, name: str, *, size: int, backend: Backend, dtype: DTypeLike) -> AnyArray:
    """Convert `v` to a contiguous (size,) array of finite numbers; errors as `as_inputs`."""
    array = as_numbers(v, name, backend)
    if array.shape != (size,):
        raise ValueError(f"{name}: expected shape ({size},), one entry a parameter, got shape {array.shape}")
    return _as_finite(array, name, backend, dtype)


def _check_rows(array: AnyArray, name: str, rows: int, expected: str) -> None:
    if array.shape[0] != rows:
        raise ValueError(f"{name}: expected shape {expected}, one row for each of X, got shape {array.shape}")


def as_numbers(value: ArrayLike, name: str, backend: Backend) -> AnyArray:
    """Convert `value` to a numeric array, and keep its dtype.

    Raises
    ------
    TypeError
        If the content is not numeric, or is on another device than the backend: nothing is copied unasked.
    ValueError
        If entries are masked, beyond float64, or in rows of different lengths.
    """
    refuse_masked(value, name)
    value = adopt(value, name)
    kind = backend if backend.owns(value) else backend_of(value)
    if kind is None and "cupy" in sys.modules and type(value).__module__.partition(".")[0] == "cupy":
        raise TypeError(f"{name}: got a {type(value).__qualname__} of CuPy, but no CUDA device answers")
    if kind is None:
        if value is None:
            raise TypeError(f"{name}: expected an array, got None")
        refuse_sparse(value, name)
        try:
            value = np.asarray(value)
        except ValueError as error:
            raise not_rectangular(value, name, error) from error
    elif not kind.on_host and kind.name != backend.name:
        raise TypeError(
            f"{name}: got a {kind.name} array, but the network lives on the {backend.name} backend; pass "
            f"cupy.asnumpy({name}) or make the network with backend={kind.name!r}"
        )
    if _dtype(value, backend).kind == "O":
        value = objects_to_float(value, name)
    if _dtype(value, backend).kind not in "iubf":
        raise not_numbers(value, name)
    return value


def _dtype(array: AnyArray, backend: Backend) -> DType:
    """What the entries of an array are, which is NumPy's or of the backend."""
    dtype: DType = array.dtype if isinstance(array, np.ndarray) else backend.dtype_of(array)
    return dtype


def adopt(value: ArrayLike, name: str) -> ArrayLike:
    """Return `value`, or its memory as a CuPy array if it is an array of another library on a CUDA device.

    Raises
    ------
    TypeError
        If the array is on a CUDA device, and CuPy finds none.
    """
    if backend_of(value) is not None or not is_on_cuda(value):
        return value
    try:
        device: Any = get_backend("cupy")
    except BackendError as error:
        raise TypeError(f"{name}: got a {type(value).__name__} on a CUDA device, but {error}") from error
    return device.adopt(value)


def is_on_cuda(value: object) -> bool:
    """Whether an array of any library says that it is on a CUDA device."""
    if hasattr(value, "__cuda_array_interface__"):
        return True
    device = getattr(value, "__dlpack_device__", None)
    return device is not None and int(device()[0]) in CUDA_DEVICE_TYPES


def _as_finite(array: AnyArray, name: str, backend: Backend, dtype: DTypeLike) -> AnyArray:
    """Convert `array` to `backend` and `dtype`; refuse an empty one, and entries that are not finite there."""
    if array.shape[0] == 0:
        raise ValueError(f"{name}: expected at least one sample, got shape {array.shape}")
    with np.errstate(over="ignore", invalid="ignore"):  # float64 beyond float32 is reported below, by place
        result = backend.asarray(array, dtype)
    if not backend.all_finite(result):
        place = first_not_finite(result, backend)
        assert place is not None
        raise _refused(array, place, name, f"{name}: expected finite numbers in {np.dtype(dtype).name}")
    return result


def first_not_finite(array: AnyArray, backend: Backend) -> tuple[int, ...] | None:
    """Find the place of the first entry that is nan or infinite, a few rows at a time.

    Parameters
    ----------
    array : array, (m, …)
        Of `backend`.

    Returns
    -------
    tuple of int, or None
        The indices of the entry; None if all are finite.
    """
    rows = max(1, BLOCK * array.shape[0] // max(1, math.prod(array.shape)))
    for start in range(0, array.shape[0], rows):
        part = array[start : start + rows]
        if not backend.all_finite(part):
            row, *rest = _first_place(~(abs(part) < float("inf")))  # true for nan and ±inf
            return start + row, *rest
    return None


def _first(array: AnyArray, bad: AnyArray, name: str, expected: str, more: str = "") -> RowValueError:
    """Make the error that names the first entry marked in `bad`."""
    return _refused(array, _first_place(bad), name, expected, more)


def _first_place(marked: AnyArray) -> tuple[int, ...]:
    """Find the indices of the first entry that is true."""
    flat = int((marked.reshape(-1) * 1).argmax())  # of whole numbers: not every library has it of truth values
    place = np.unravel_index(flat, marked.shape)
    return tuple(int(i) for i in place)


def _refused(array: AnyArray, place: tuple[int, ...], name: str, expected: str, more: str = "") -> RowValueError:
    """Make the error that names the entry at `place` as what was got; `more` is added after it."""
    return RowValueError(f"{expected}, got {float(array[place]):g} at {name}[", int(place[0]), after_row(place) + more)


def _check_whole(labels: AnyArray, name: str, shape: str, backend: Backend) -> None:
    """Refuse labels that are not whole numbers."""
    if _dtype(labels, backend).kind in "iub":
        return
    with np.errstate(invalid="ignore"):
        broken = labels % 1 != 0  # true for nan and infinities, too
    if bool(broken.any()):
        expected = f"{name}: expected shape {shape}, or ({labels.shape[0]},) of whole-number class labels"
        raise _first(labels, broken, name, expected, f" of dtype {labels.dtype}")


def _one_hot(labels: AnyArray, name: str, columns: int, backend: Backend, dtype: DTypeLike) -> AnyArray:
    """Make rows in which row i has a 1 in column labels[i]."""
    if labels.shape[0] == 0:
        raise ValueError(f"{name}: expected at least one sample, got shape {labels.shape}")
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= columns:
        wrong = lowest if lowest < 0 else highest
        row = int(((labels == wrong) * 1).argmax())
        shown = wrong if _dtype(labels, backend).kind in "iub" else f"{float(wrong):g}"
        raise RowValueError(
            f"{name}: expected class labels 0 … {columns - 1} (the network has {columns} outputs), got {shown} at "
            f"{name}[",
            row,
            "]",
        )
    labels = backend.asarray(labels, np.int64)
    classes = backend.asarray(np.arange(columns), np.int64)
    return backend.asarray(labels[:, None] == classes, dtype)
