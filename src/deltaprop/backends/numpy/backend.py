"""The reference backend: NumPy on the host."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from deltaprop.backends.array_types import AnyArray as Array
from deltaprop.backends.array_types import ArrayLike, DType, Floats, HostArray
from deltaprop.backends.base import RandomStream, Scalar
from deltaprop.backends.cache_lines import on_cache_lines
from deltaprop.backends.composed import ALL, ComposedBackend, Formula
from deltaprop.backends.numpy import dropout
from deltaprop.backends.scratch import LEAST as BLOCK
from deltaprop.backends.scratch import Scratch
from deltaprop.forks import no_fork

ANY_TIME = nullcontext()
#: Products of two numbers that one call of the BLAS forms at most: some tenths of a second of one core.
MOST_PRODUCTS = 2**32
#: Those, and entries of a vector or of a matrix times a vector, from which the BLAS may use threads of its own.
THREADED_PRODUCTS, THREADED_ENTRIES = 2**17, 2**12


def _multiply(A: Array, B: Array, out: Array) -> None:
    """Write A B into `out`, a large one in parts, between which Python hears signals."""
    if out.size * A.shape[-1] > MOST_PRODUCTS and (out.ndim > 2 or len(out) > 1):
        if out.ndim > 2:
            for k, own in enumerate(out):
                _multiply(A[k] if A.ndim > 2 else A, B[k] if B.ndim > 2 else B, own)
        else:
            half = len(out) // 2
            _multiply(A[:half], B, out[:half])
            _multiply(A[half:], B, out[half:])
    elif out.size * A.shape[-1] > THREADED_PRODUCTS:
        with no_fork:
            A.dot(B, out) if out.ndim == 2 else np.matmul(A, B, out=out)
    elif out.ndim == 2:
        A.dot(B, out)  # half of what matmul takes for small matrices
    else:
        np.matmul(A, B, out=out)


class NumpyScratch(Scratch[Array]):
    """Scratch with vectors of ones; a product with ones adds up rows."""

    def __init__(self) -> None:
        super().__init__(np.empty)
        self.vectors: dict[Any, Floats] = {}

    def ones(self, size: int, dtype: DType) -> Floats:
        """Return a vector of ones."""
        ones = self.vectors.get(dtype)
        if ones is None or ones.size < size:
            ones = self.vectors[dtype] = np.ones(size, dtype)
        return ones[:size]


class NumpyBackend(ComposedBackend):
    """Matrix products by the BLAS that NumPy brings, everything else by ufuncs writing into buffers.

    The inputs of a network may be a CSR matrix of scipy's: `gather`, `affine_activation` and `weight_gradient` take one
    as a^(1), and then allocate, for scipy's products do.
    """

    name = "numpy"
    on_host = True

    def __init__(self, *, compiles: bool = True) -> None:
        self._scratch: NumpyScratch = NumpyScratch()
        #: Whether epochs may go to a library compiled for this processor, see `deltaprop.epochs.compiled`.
        self.compiles = compiles

    def __reduce__(self) -> tuple[Any, ...]:
        """By name: another process makes its own."""
        from deltaprop.backends import get_backend

        return get_backend, ("numpy" if self.compiles else "reference",)

    # -- arrays -------------------------------------------------------------------------------------------------

    def owns(self, array: object) -> bool:
        return isinstance(array, np.ndarray)

    def asarray(self, array: ArrayLike, dtype: DTypeLike) -> Array:
        result = np.asarray(array, dtype=dtype, order="C")
        return result if result.flags.aligned else result.copy()  # as compiled code asks

    def to_numpy(self, array: Array) -> HostArray:
        return np.asarray(array)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        return np.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        return on_cache_lines(shape, dtype, zeros=True)  # parameters and moments are such arrays

    def all_finite(self, array: Array) -> bool:
        # The sum is finite only where every entry is: one pass and no temporary, unless a finite sum overflows.
        with np.errstate(over="ignore", invalid="ignore"):
            return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())

    def is_beside(self, array: Array, out: Array) -> bool:
        return bool(out.flags.c_contiguous) and not np.may_share_memory(array, out)

    def copy(self, array: Array) -> Array:
        return array.copy()

    def sum(self, array: Array) -> Array:
        return array.sum(dtype=np.float64)

    # -- primitives ---------------------------------------------------------------------------------------------

    def view(self, array: Array, dtype: DTypeLike) -> Array:
        return array.view(dtype)

    def elementwise(self, function: np.ufunc, inputs: tuple[Array | float, ...], out: Array) -> None:
        function(*inputs, out=out)

    def reduce(self, function: np.ufunc, array: Array, axis: int, out: Array) -> None:
        function.reduce(array, axis=axis, keepdims=True, out=out)

    def product(self, A: Array, B: Array, out: Array) -> None:
        _multiply(A, B, out)

    def _input_product(self, A: Array, B: Array, out: Array) -> None:
        # The input may be sparse.
        if isinstance(A, np.ndarray) and isinstance(B, np.ndarray):
            _multiply(A, B, out)
        elif isinstance(B, np.ndarray):
            np.copyto(out, A @ B)
        else:
            np.copyto(out, (B.T @ A.T).T)

    # -- formulas -----------------------------------------------------------------------------------------------

    def _apply(self, formula: Formula, *arguments: Any, **named: Any) -> None:
        formula(*arguments, **named)

    def _blocks(self, vector: Array) -> list[slice]:
        """Parts of the last axis of a flat vector, (n,), or of several, (K, n), that are cache-sized together."""
        n = vector.shape[-1]
        if vector.size <= BLOCK:
            return ALL
        size = max(1, BLOCK * n // vector.size)
        return [slice(start, start + size) for start in range(0, n, size)]

    def _blockwise(self, formula: Formula, z: Array, out: Array) -> None:
        """formula(z) into `out`, a cache-sized block at a time."""
        z, out = z.reshape(-1), out.reshape(-1)
        n = z.size
        spare = self._scratch(0, (min(n, BLOCK),), z.dtype)
        if n <= BLOCK:
            formula(z, out, spare)
            return
        for start in range(0, n, BLOCK):
            block = out[start : start + BLOCK]
            formula(z[start : start + BLOCK], block, spare[: block.size])

    def _times(self, formula: Formula, z: Array, out: Array) -> None:
        """Out ⊙ formula(z) into `out`, a cache-sized block at a time."""
        z, out = z.reshape(-1), out.reshape(-1)
        size = (min(z.size, BLOCK),)
        slope, spare = self._scratch(0, size, z.dtype), self._scratch(1, size, z.dtype)
        if z.size <= BLOCK:
            formula(z, slope, spare)
            np.multiply(out, slope, out=out)
            return
        for start in range(0, z.size, BLOCK):
            block = out[start : start + BLOCK]
            n = block.size
            formula(z[start : start + n], slope[:n], spare[:n])
            block *= slope[:n]

    # -- cost and backward --------------------------------------------------------------------------------------

    def add_cost(
        self, loss: str, activation: str, Z: Array, A: Array, Y: Array, cost: Array, sample_weight: Array | None = None
    ) -> None:
        costs: Array = self._costs(loss, Z, A, Y)
        if sample_weight is None:
            cost += costs.sum() if cost.ndim == 0 else costs.reshape(cost.size, -1).sum(axis=1)
        else:
            row = self._scratch(2, (*Z.shape[:-1], 1), Z.dtype)
            np.sum(costs, axis=-1, keepdims=True, out=row)
            cost += np.vdot(row, sample_weight) if cost.ndim == 0 else np.vecdot(row[..., 0], sample_weight)

    def _add_rows(self, delta: Array, sums: Array) -> None:
        if delta.ndim == 2:
            ones = self._scratch.ones(delta.shape[0], delta.dtype)
            if delta.size > THREADED_ENTRIES:
                with no_fork:
                    ones.dot(delta, sums)
            else:
                ones.dot(delta, sums)
        else:
            np.add.reduce(delta, axis=-2, out=sums)

    def squared_norm(self, weights: Array) -> float:
        with no_fork if weights.size > THREADED_ENTRIES else ANY_TIME:
            return float(np.vdot(weights, weights))

    def add_squared_norm(self, weights: Array, factor: Scalar, cost: Array) -> None:
        squares = self._scratch(3, weights.shape[:-1], weights.dtype)
        with no_fork if weights.size > THREADED_ENTRIES else ANY_TIME:
            np.vecdot(weights, weights, out=squares)
        squares *= factor
        cost += squares

    # -- minibatches --------------------------------------------------------------------------------------------

    def gather_buffer(self, X: Array, rows: int) -> Array:
        return super().gather_buffer(X, rows) if isinstance(X, np.ndarray) else None

    def gather(self, X: Array, index: Array, out: Array) -> Array:
        if out is None:
            return X[index]
        # mode="clip" writes straight into `out`; the default would buffer. Indices are in range by construction.
        X.take(index, 0, out, "clip")
        return out

    # -- dropout ------------------------------------------------------------------------------------------------

    def dropout_mask(self, stream: RandomStream, keep: float, out: Array) -> None:
        flat = out.reshape(-1)
        u = self._scratch(0, flat.shape, np.dtype(np.float32))
        dropout.draw_kept(stream, keep, u)
        np.copyto(flat, u)
        flat *= 1.0 / keep
