"""The reference backend: NumPy on the host."""

from __future__ import annotations

import math
import threading
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from deltaprop.backends.base import Array, Backend, Scalar, philox_key
from deltaprop.backends.numpy.activation import ACTIVATIONS, Function
from deltaprop.backends.numpy.loss import LOSSES
from deltaprop.forks import no_fork

#: Elements taken at a time by a chain of ufuncs: three such blocks of float64 fit a 1 MiB second-level cache.
BLOCK = 16384
ALL = [slice(None)]
ANY_TIME = nullcontext()
#: Products of two numbers that one call of the BLAS forms at most: some tenths of a second of one core.
MOST_PRODUCTS = 2**32
#: Those, and entries of a vector or of a matrix times a vector, from which the BLAS may use threads of its own.
THREADED_PRODUCTS, THREADED_ENTRIES = 2**17, 2**12
BOOL = np.dtype(bool)
#: Views of scratch that are remembered.
MOST_VIEWS = 512


def _blocks(vector: Array) -> list[slice]:
    """Parts of the last axis of a flat vector, (n,), or of several, (K, n), that are cache-sized together."""
    n = vector.shape[-1]
    if vector.size <= BLOCK:
        return ALL
    size = max(1, BLOCK * n // vector.size)
    return [slice(start, start + size) for start in range(0, n, size)]


def _of_members(number: Scalar, axes: int, dtype: np.dtype[Any]) -> Scalar:
    """A number as it is; one for each member, (K,), in the dtype of the arrays and with so many axes behind it."""
    if getattr(number, "ndim", 0) == 0 and not isinstance(number, list):
        return number
    return np.asarray(number, dtype).reshape(-1, *(1,) * axes)


def _multiply(A: Array, B: Array, out: Array) -> None:
    """A B into `out`, member by member where there are members; signals are heard between the parts of a large one."""
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


class Scratch(threading.local):
    """Buffers for the intermediate results of an operation; each thread has its own, and they only ever grow."""

    def __init__(self) -> None:
        self.buffers: dict[tuple[int, Any], np.ndarray[Any, Any]] = {}
        self.vectors: dict[Any, np.ndarray[Any, Any]] = {}
        self.views: dict[tuple[int, tuple[int, ...], int], np.ndarray[Any, Any]] = {}

    def __call__(self, slot: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """Buffer number `slot` as an array of `shape`, content undefined."""
        # A step asks for the same few shapes again and again: finding a view is cheaper than making one.
        view = self.views.get((slot, shape, dtype.num))
        return self._make(slot, shape, dtype) if view is None else view

    def ones(self, size: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """A vector of ones."""
        ones = self.vectors.get(dtype)
        if ones is None or ones.size < size:
            ones = self.vectors[dtype] = np.ones(size, dtype)
        return ones[:size]

    def _make(self, slot: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        size = math.prod(shape)
        buffer = self.buffers.get((slot, dtype))
        if buffer is None or buffer.size < size:
            buffer = self.buffers[slot, dtype] = np.empty(max(size, BLOCK), dtype)
            self.views.clear()
        elif len(self.views) >= MOST_VIEWS:
            self.views.clear()
        view = self.views[slot, shape, dtype.num] = buffer[:size].reshape(shape)
        return view


class NumpyBackend(Backend):
    """Matrix products by the BLAS that NumPy brings, everything else by ufuncs writing into buffers.

    The inputs of a network may be a CSR matrix of scipy's: `gather`, `affine_activation` and `weight_gradient` take one
    as a^(1), and then allocate, for scipy's products do.
    """

    name = "numpy"
    on_host = True

    def __init__(self, *, compiles: bool = True) -> None:
        self._scratch = Scratch()
        #: Whether epochs may go to a library compiled for this processor, see `deltaprop.epochs.compiled`.
        self.compiles = compiles

    def __reduce__(self) -> tuple[Any, ...]:
        """By name: another process makes its own."""
        from deltaprop.backends import get_backend

        return get_backend, ("numpy" if self.compiles else "reference",)

    # -- arrays -------------------------------------------------------------------------------------------------

    def owns(self, array: object) -> bool:
        return isinstance(array, np.ndarray)

    def asarray(self, array: Any, dtype: DTypeLike) -> Array:
        return np.asarray(array, dtype=dtype, order="C")

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        return np.asarray(array)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        return np.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        return np.zeros(shape, dtype)

    def all_finite(self, array: Array) -> bool:
        # The sum is finite only where every entry is: one pass and no temporary, unless a finite sum overflows.
        with np.errstate(over="ignore", invalid="ignore"):
            return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())

    # -- functions of one array ---------------------------------------------------------------------------------

    def activation(self, activation: str, z: Array, out: Array) -> None:
        if activation == "softmax":
            self._softmax(z, out)
        else:
            self._blockwise(ACTIVATIONS[activation].value, z, out)

    def activation_gradient(self, activation: str, z: Array, out: Array) -> None:
        self._blockwise(ACTIVATIONS[activation].gradient, z, out)

    def _blockwise(self, function: Function, z: Array, out: Array) -> None:
        """function(z) into `out`, a cache-sized block at a time."""
        z, out = z.reshape(-1), out.reshape(-1)
        n = z.size
        spare = self._scratch(0, (min(n, BLOCK),), z.dtype)
        if n <= BLOCK:
            function(z, out, spare)
            return
        for start in range(0, n, BLOCK):
            block = out[start : start + BLOCK]
            function(z[start : start + BLOCK], block, spare[: block.size])

    def _times(self, function: Function, z: Array, out: Array) -> None:
        """Out ⊙ function(z) into `out`, a cache-sized block at a time."""
        z, out = z.reshape(-1), out.reshape(-1)
        size = (min(z.size, BLOCK),)
        slope, spare = self._scratch(0, size, z.dtype), self._scratch(1, size, z.dtype)
        if z.size <= BLOCK:
            function(z, slope, spare)
            np.multiply(out, slope, out=out)
            return
        for start in range(0, z.size, BLOCK):
            block = out[start : start + BLOCK]
            n = block.size
            function(z[start : start + n], slope[:n], spare[:n])
            block *= slope[:n]

    def _softmax(self, z: Array, out: Array) -> None:
        """Softmax(z) = e^(z − max z)/Σ e^(z − max z) over the last axis."""
        row = self._scratch(2, (*z.shape[:-1], 1), z.dtype)
        spread = self._scratch(0, z.shape, z.dtype)
        np.max(z, axis=-1, keepdims=True, out=row)
        np.copyto(spread, row)
        np.subtract(z, spread, out=out)
        np.exp(out, out=out)
        np.sum(out, axis=-1, keepdims=True, out=row)
        np.copyto(spread, row)
        out /= spread

    # -- forward ------------------------------------------------------------------------------------------------

    def affine_activation(
        self, A: Array, W: Array, b: Array, activation: str, Z: Array, out: Array, mask: Array | None = None
    ) -> None:
        if isinstance(A, np.ndarray):
            _multiply(A, W.swapaxes(-1, -2), Z)
        else:
            np.copyto(Z, A @ W.T)
        # b is spread out over the buffer that a will take: a broadcasting addition would allocate and be no faster.
        np.copyto(out, b[..., np.newaxis, :])
        Z += out
        self.activation(activation, Z, out)
        if mask is not None:
            out *= mask

    # -- cost and backward --------------------------------------------------------------------------------------

    def output_delta(
        self,
        loss: str,
        activation: str,
        Z: Array,
        A: Array,
        Y: Array,
        scale: Scalar,
        out: Array,
        cost: Array,
        sample_weight: Array | None = None,
        bias_gradient: Array | None = None,
        keep: float = 0.0,
    ) -> None:
        self.add_cost(loss, activation, Z, A, Y, cost, sample_weight)
        LOSSES[loss].slope(A, Y, out)
        if LOSSES[loss].slope_is_of_a and activation != "identity":
            self._times(ACTIVATIONS[activation].gradient, Z, out)
        self._scale(out, scale, sample_weight)
        if bias_gradient is not None:
            self.bias_gradient(out, bias_gradient, keep)

    def _scale(self, out: Array, scale: Scalar, sample_weight: Array | None) -> None:
        """Out · scale, and row by row times `sample_weight`, into `out`."""
        if out.ndim > 2:
            out *= _of_members(scale, 2, out.dtype)
        elif hasattr(scale, "ndim") or scale != 1.0:
            out *= scale
        if sample_weight is not None:
            spread = self._scratch(0, out.shape, out.dtype)
            np.copyto(spread, sample_weight[..., np.newaxis])
            out *= spread

    def add_cost(
        self, loss: str, activation: str, Z: Array, A: Array, Y: Array, cost: Array, sample_weight: Array | None = None
    ) -> None:
        shape, dtype = Z.shape, Z.dtype
        one, two = self._scratch(0, shape, dtype), self._scratch(1, shape, dtype)
        row, other = (self._scratch(slot, (*shape[:-1], 1), dtype) for slot in (2, 3))
        LOSSES[loss].cost(Z, A, Y, one, two, self._scratch(0, shape, BOOL), (row, other))
        if sample_weight is None:
            cost += one.sum() if cost.ndim == 0 else one.reshape(cost.size, -1).sum(axis=1)
        else:
            np.sum(one, axis=-1, keepdims=True, out=row)
            cost += np.vdot(row, sample_weight) if cost.ndim == 0 else np.vecdot(row[..., 0], sample_weight)

    def hidden_delta(
        self,
        delta: Array,
        W: Array,
        activation: str,
        Z: Array,
        out: Array,
        bias_gradient: Array,
        mask: Array | None = None,
        keep: float = 0.0,
    ) -> None:
        _multiply(delta, W, out)
        if mask is not None:
            out *= mask
        self._times(ACTIVATIONS[activation].gradient, Z, out)
        self.bias_gradient(out, bias_gradient, keep)

    def weight_gradient(self, delta: Array, A: Array, out: Array, keep: Scalar | None = None) -> None:
        product = out if keep is None else self._second(out)
        if isinstance(A, np.ndarray):
            _multiply(delta.swapaxes(-1, -2), A, product)
        else:
            np.copyto(product, (A.T @ delta).T)
        if keep is not None:
            out *= keep
            out += product

    def bias_gradient(self, delta: Array, out: Array, keep: float = 0.0) -> None:
        sums = out if keep == 0.0 else self._second(out)
        if delta.ndim == 2:
            ones = self._scratch.ones(delta.shape[0], delta.dtype)
            if delta.size > THREADED_ENTRIES:
                with no_fork:
                    ones.dot(delta, sums)
            else:
                ones.dot(delta, sums)
        else:
            np.add.reduce(delta, axis=-2, out=sums)
        if keep != 0.0:
            out *= keep
            out += sums

    def add_l2_gradient(self, weights: Array, l2: Scalar, gradient: Array) -> None:
        l2 = _of_members(l2, weights.ndim - 1, weights.dtype)
        for block in _blocks(weights):
            W = weights[..., block]
            penalty = self._scratch(0, W.shape, weights.dtype)
            np.multiply(W, l2, out=penalty)
            of_W = gradient[..., block]
            of_W += penalty

    def squared_norm(self, weights: Array) -> float:
        with no_fork if weights.size > THREADED_ENTRIES else ANY_TIME:
            return float(np.vdot(weights, weights))

    def add_squared_norm(self, weights: Array, factor: Scalar, cost: Array) -> None:
        squares = self._scratch(3, weights.shape[:-1], weights.dtype)
        with no_fork if weights.size > THREADED_ENTRIES else ANY_TIME:
            np.vecdot(weights, weights, out=squares)
        squares *= factor
        cost += squares

    # -- derivatives along a direction --------------------------------------------------------------------------

    def _second(self, out: Array) -> Array:
        """A buffer like `out` for the second term of a sum; `_times` uses others."""
        return self._scratch(3, out.shape, out.dtype)

    def affine_tangent(
        self, A: Array, dA: Array | None, W: Array, dW: Array | None, db: Array | None, out: Array
    ) -> None:
        second = self._second(out)
        if dA is None:
            out.fill(0)
        else:
            _multiply(dA, W.swapaxes(-1, -2), out)
        if dW is not None and db is not None:
            _multiply(A, dW.swapaxes(-1, -2), second)
            out += second
            np.copyto(second, db[..., np.newaxis, :])
            out += second

    def activation_tangent(self, activation: str, Z: Array, A: Array, tangent: Array, out: Array) -> None:
        if activation == "softmax":
            row = self._scratch(2, (*A.shape[:-1], 1), A.dtype)
            second = self._second(out)
            np.multiply(A, tangent, out=second)
            np.sum(second, axis=-1, keepdims=True, out=row)
            np.copyto(second, row)
            np.subtract(tangent, second, out=out)
            out *= A
            return
        if out is not tangent:
            np.copyto(out, tangent)
        self._times(ACTIVATIONS[activation].gradient, Z, out)

    def input_gradient(self, delta: Array, W: Array, out: Array) -> None:
        _multiply(delta, W, out)

    def output_delta_tangent(
        self,
        loss: str,
        activation: str,
        Z: Array,
        A: Array,
        Y: Array,
        dZ: Array,
        dA: Array,
        scale: float,
        out: Array,
        sample_weight: Array | None = None,
    ) -> None:
        LOSSES[loss].slope_tangent(A, Y, dA, out)
        if LOSSES[loss].slope_is_of_a:
            # d(slope ⊙ g′(z)) = dslope ⊙ g′(z) + slope ⊙ g″(z) ⊙ dz
            self._times(ACTIVATIONS[activation].gradient, Z, out)
            second = self._second(out)
            LOSSES[loss].slope(A, Y, second)
            second *= dZ
            self._times(ACTIVATIONS[activation].curvature, Z, second)
            out += second
        self._scale(out, scale, sample_weight)

    def hidden_delta_tangent(
        self,
        delta: Array,
        d_delta: Array,
        W: Array,
        dW: Array,
        activation: str,
        Z: Array,
        dZ: Array,
        out: Array,
    ) -> None:
        second = self._second(out)
        _multiply(d_delta, W, out)
        _multiply(delta, dW, second)
        out += second
        self._times(ACTIVATIONS[activation].gradient, Z, out)
        _multiply(delta, W, second)
        second *= dZ
        self._times(ACTIVATIONS[activation].curvature, Z, second)
        out += second

    def weight_gradient_tangent(self, delta: Array, d_delta: Array, A: Array, dA: Array | None, out: Array) -> None:
        _multiply(d_delta.swapaxes(-1, -2), A, out)
        if dA is not None:
            second = self._second(out)
            _multiply(delta.swapaxes(-1, -2), dA, second)
            out += second

    # -- learning -----------------------------------------------------------------------------------------------

    def sgd_update(
        self,
        parameters: Array,
        gradient: Array,
        velocity: Array | None,
        learning_rate: Scalar,
        momentum: Scalar,
        nesterov: bool,
    ) -> None:
        learning_rate = _of_members(learning_rate, parameters.ndim - 1, parameters.dtype)
        momentum = _of_members(momentum, parameters.ndim - 1, parameters.dtype)
        for block in _blocks(parameters):
            theta = parameters[..., block]
            step = self._scratch(0, theta.shape, theta.dtype)
            np.multiply(gradient[..., block], learning_rate, out=step)
            if velocity is not None:
                v = velocity[..., block]
                v *= momentum
                v -= step
                if not nesterov:
                    theta += v
                    continue
                look_ahead = self._scratch(1, theta.shape, theta.dtype)
                np.multiply(v, momentum, out=look_ahead)
                theta += look_ahead
            theta -= step

    def adam_update(
        self,
        parameters: Array,
        gradient: Array,
        first_moment: Array,
        second_moment: Array,
        step_size: Scalar,
        beta_1: Scalar,
        beta_2: Scalar,
        epsilon: Scalar,
        decay: Scalar,
        n_decayed: int,
    ) -> None:
        numbers = (step_size, beta_1, beta_2, epsilon, decay)
        step_size, beta_1, beta_2, epsilon, decay = (
            _of_members(number, parameters.ndim - 1, parameters.dtype) for number in numbers
        )
        if hasattr(decay, "ndim") or decay:
            kept = self._scratch(3, getattr(decay, "shape", ()), parameters.dtype)
            np.subtract(1.0, decay, out=kept)
            weights = parameters[..., :n_decayed]
            weights *= kept
        for block in _blocks(parameters):
            theta, g = parameters[..., block], gradient[..., block]
            m, v = first_moment[..., block], second_moment[..., block]
            one = self._scratch(0, g.shape, g.dtype)
            np.multiply(g, 1.0 - beta_1, out=one)
            m *= beta_1
            m += one
            np.square(g, out=one)
            one *= 1.0 - beta_2
            v *= beta_2
            v += one
            np.sqrt(v, out=one)
            one += epsilon
            np.divide(m, one, out=one)
            one *= step_size
            theta -= one

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

    def random_stream(self, key: tuple[int, ...]) -> Any:
        return np.random.Generator(np.random.Philox(key=philox_key(key)))

    def dropout_mask(self, stream: Any, keep: float, out: Array) -> None:
        # floor(u + keep) is 1 where u ≥ 1 − keep: no comparison, whose result would be another array.
        flat = out.reshape(-1)
        u = self._scratch(0, flat.shape, np.dtype(np.float32))
        stream.random(out=u, dtype=np.float32)
        u += np.float32(keep)
        np.floor(u, out=u)
        np.copyto(flat, u)
        flat *= 1.0 / keep
