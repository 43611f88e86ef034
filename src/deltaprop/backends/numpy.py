"""The reference backend: NumPy on the host."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from deltaprop.backends.base import Array, Backend, Scalar, philox_key
from deltaprop.backends.numpy_activation import ACTIVATIONS, Function
from deltaprop.backends.numpy_loss import LOSSES

#: Elements taken at a time by a chain of ufuncs: three such blocks of float64 fit a 1 MiB second-level cache.
BLOCK = 16384


def _blocks(vector: Array) -> list[slice]:
    """Parts of the last axis of a flat vector, (n,), or of several, (K, n), that are cache-sized together."""
    n = vector.shape[-1]
    size = max(1, BLOCK * n // vector.size)
    return [slice(start, start + size) for start in range(0, n, size)]


def _of_members(number: Scalar, axes: int, dtype: np.dtype[Any]) -> Scalar:
    """A number as it is; one for each member, (K,), in the dtype of the arrays and with so many axes behind it."""
    if getattr(number, "ndim", 0) == 0 and not isinstance(number, list):
        return number
    return np.asarray(number, dtype).reshape(-1, *(1,) * axes)


class Scratch(threading.local):
    """Buffers for the intermediate results of an operation; each thread has its own, and they only ever grow."""

    def __init__(self) -> None:
        self.buffers: dict[tuple[int, Any], np.ndarray[Any, Any]] = {}

    def __call__(self, slot: int, size: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """Buffer number `slot` as a vector of `size` entries, content undefined."""
        buffer = self.buffers.get((slot, dtype))
        if buffer is None or buffer.size < size:
            buffer = self.buffers[slot, dtype] = np.empty(max(size, BLOCK), dtype)
        return buffer[:size]


class NumpyBackend(Backend):
    """Matrix products by the BLAS that NumPy brings, everything else by ufuncs writing into buffers.

    The inputs of a network may be a CSR matrix of scipy's: `gather`, `affine_activation` and `weight_gradient` take one
    as a^(1), and then allocate, for scipy's products do.
    """

    name = "numpy"
    on_host = True

    def __init__(self, *, compiles: bool = True) -> None:
        self._scratch = Scratch()
        #: Whether epochs may go to a library compiled for this processor, see `deltaprop.native_epoch`.
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
        spare = self._scratch(0, min(z.size, BLOCK), z.dtype)
        for start in range(0, z.size, BLOCK):
            block = out[start : start + BLOCK]
            function(z[start : start + BLOCK], block, spare[: block.size])

    def _times(self, function: Function, z: Array, out: Array) -> None:
        """Out ⊙ function(z) into `out`, a cache-sized block at a time."""
        z, out = z.reshape(-1), out.reshape(-1)
        slope = self._scratch(0, min(z.size, BLOCK), z.dtype)
        spare = self._scratch(1, min(z.size, BLOCK), z.dtype)
        for start in range(0, z.size, BLOCK):
            block = out[start : start + BLOCK]
            n = block.size
            function(z[start : start + n], slope[:n], spare[:n])
            block *= slope[:n]

    def _softmax(self, z: Array, out: Array) -> None:
        """Softmax(z) = e^(z − max z)/Σ e^(z − max z) over the last axis."""
        row = self._scratch(2, z.size // z.shape[-1], z.dtype).reshape(*z.shape[:-1], 1)
        spread = self._scratch(0, z.size, z.dtype).reshape(z.shape)
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
            np.matmul(A, W.swapaxes(-1, -2), out=Z)
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
        elif scale != 1.0:
            out *= scale
        if sample_weight is not None:
            spread = self._scratch(0, out.size, out.dtype).reshape(out.shape)
            np.copyto(spread, sample_weight[..., np.newaxis])
            out *= spread

    def add_cost(
        self, loss: str, activation: str, Z: Array, A: Array, Y: Array, cost: Array, sample_weight: Array | None = None
    ) -> None:
        one = self._scratch(0, Z.size, Z.dtype).reshape(Z.shape)
        two = self._scratch(1, Z.size, Z.dtype).reshape(Z.shape)
        row = self._scratch(2, Z.size // Z.shape[-1], Z.dtype).reshape(*Z.shape[:-1], 1)
        LOSSES[loss].cost(Z, A, Y, one, two, row)
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
        np.matmul(delta, W, out=out)
        if mask is not None:
            out *= mask
        self._times(ACTIVATIONS[activation].gradient, Z, out)
        self.bias_gradient(out, bias_gradient, keep)

    def weight_gradient(self, delta: Array, A: Array, out: Array, keep: Scalar | None = None) -> None:
        product = out if keep is None else self._second(out)
        if isinstance(A, np.ndarray):
            np.matmul(delta.swapaxes(-1, -2), A, out=product)
        else:
            np.copyto(product, (A.T @ delta).T)
        if keep is not None:
            out *= keep
            out += product

    def bias_gradient(self, delta: Array, out: Array, keep: float = 0.0) -> None:
        if keep == 0.0:
            np.add.reduce(delta, axis=-2, out=out)
            return
        sums = self._second(out)
        np.add.reduce(delta, axis=-2, out=sums)
        out *= keep
        out += sums

    def add_l2_gradient(self, weights: Array, l2: Scalar, gradient: Array) -> None:
        l2 = _of_members(l2, weights.ndim - 1, weights.dtype)
        for block in _blocks(weights):
            W = weights[..., block]
            penalty = self._scratch(0, W.size, weights.dtype).reshape(W.shape)
            np.multiply(W, l2, out=penalty)
            gradient[..., block] += penalty

    def squared_norm(self, weights: Array) -> float:
        return float(np.vdot(weights, weights))

    def add_squared_norm(self, weights: Array, factor: Scalar, cost: Array) -> None:
        cost += factor * np.vecdot(weights, weights)

    # -- derivatives along a direction --------------------------------------------------------------------------

    def _second(self, out: Array) -> Array:
        """A buffer like `out` for the second term of a sum; `_times` uses others."""
        return self._scratch(3, out.size, out.dtype).reshape(out.shape)

    def affine_tangent(
        self, A: Array, dA: Array | None, W: Array, dW: Array | None, db: Array | None, out: Array
    ) -> None:
        second = self._second(out)
        if dA is None:
            out.fill(0)
        else:
            np.matmul(dA, W.swapaxes(-1, -2), out=out)
        if dW is not None and db is not None:
            np.matmul(A, dW.swapaxes(-1, -2), out=second)
            out += second
            np.copyto(second, db[..., np.newaxis, :])
            out += second

    def activation_tangent(self, activation: str, Z: Array, A: Array, tangent: Array, out: Array) -> None:
        if activation == "softmax":
            row = self._scratch(2, A.size // A.shape[-1], A.dtype).reshape(*A.shape[:-1], 1)
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
        np.matmul(delta, W, out=out)

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
        np.matmul(d_delta, W, out=out)
        np.matmul(delta, dW, out=second)
        out += second
        self._times(ACTIVATIONS[activation].gradient, Z, out)
        np.matmul(delta, W, out=second)
        second *= dZ
        self._times(ACTIVATIONS[activation].curvature, Z, second)
        out += second

    def weight_gradient_tangent(self, delta: Array, d_delta: Array, A: Array, dA: Array | None, out: Array) -> None:
        np.matmul(d_delta.swapaxes(-1, -2), A, out=out)
        if dA is not None:
            second = self._second(out)
            np.matmul(delta.swapaxes(-1, -2), dA, out=second)
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
            step = self._scratch(0, theta.size, theta.dtype).reshape(theta.shape)
            np.multiply(gradient[..., block], learning_rate, out=step)
            if velocity is not None:
                v = velocity[..., block]
                v *= momentum
                v -= step
                if not nesterov:
                    theta += v
                    continue
                look_ahead = self._scratch(1, theta.size, theta.dtype).reshape(theta.shape)
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
        if np.any(decay):
            parameters[..., :n_decayed] *= 1.0 - decay
        for block in _blocks(parameters):
            g, m, v = gradient[..., block], first_moment[..., block], second_moment[..., block]
            one = self._scratch(0, g.size, g.dtype).reshape(g.shape)
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
            parameters[..., block] -= one

    # -- minibatches --------------------------------------------------------------------------------------------

    def gather_buffer(self, X: Array, rows: int) -> Array:
        return super().gather_buffer(X, rows) if isinstance(X, np.ndarray) else None

    def gather(self, X: Array, index: Array, out: Array) -> Array:
        if out is None:
            return X[index]
        # mode="clip" writes straight into `out`; the default would buffer. Indices are in range by construction.
        return np.take(X, index, axis=0, out=out, mode="clip")

    # -- dropout ------------------------------------------------------------------------------------------------

    def random_stream(self, key: tuple[int, ...]) -> Any:
        return np.random.Generator(np.random.Philox(key=philox_key(key)))

    def dropout_mask(self, stream: Any, keep: float, out: Array) -> None:
        # floor(u + keep) is 1 where u ≥ 1 − keep: no comparison, whose result would be another array.
        flat = out.reshape(-1)
        u = self._scratch(0, flat.size, np.dtype(np.float32))
        stream.random(out=u, dtype=np.float32)
        u += np.float32(keep)
        np.floor(u, out=u)
        np.copyto(flat, u)
        flat *= 1.0 / keep
