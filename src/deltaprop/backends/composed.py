"""Composes every operation of the vocabulary from a few primitives of an array library.

A backend for another library defines the primitives, see `ComposedBackend`, and has all operations. They are right, but
not the fastest; a backend overrides those that matter to it. The formulas are those of ``deltaprop.backends.numpy``,
written in NumPy's ufuncs; arrays of other libraries answer them by `deltaprop.backends.ufunc_array.UfuncArray`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from deltaprop.backends.array_types import ArrayLike
from deltaprop.backends.base import Array, Backend, RandomStream, Scalar
from deltaprop.backends.kernel_names import Rule
from deltaprop.backends.numpy import dropout
from deltaprop.backends.numpy.activation import ACTIVATION_FORMULAS
from deltaprop.backends.numpy.loss import LOSS_FORMULAS
from deltaprop.backends.numpy.optimizer import UPDATES
from deltaprop.backends.numpy.softmax import softmax, softmax_tangent
from deltaprop.backends.scratch import Scratch
from deltaprop.backends.ufunc_array import UfuncArray

ALL = [slice(None)]
BOOL, FLOAT32, FLOAT64 = np.dtype(bool), np.dtype(np.float32), np.dtype(np.float64)
#: A formula in NumPy's ufuncs.
Formula = Callable[..., object]


class ComposedBackend(Backend):
    """A backend over an array library; a subclass defines the primitives.

    They are `owns`, `asarray`, `to_numpy`, `empty`, `view`, `elementwise`, `reduce` and `product`, and `dtype_of` where
    the library's dtypes are not NumPy's. Arrays have ``shape``, ``dtype``,
    ``ndim``, ``reshape`` and ``swapaxes``, are indexed, assigned to and computed with in place as NumPy's are.
    """

    def __init__(self) -> None:
        self._scratch: Scratch[Array] = Scratch(self.empty)

    # -- primitives ---------------------------------------------------------------------------------------------

    @abstractmethod
    def view(self, array: Array, dtype: DTypeLike) -> Array:
        """Return the same memory as entries of another dtype: bool, or whole numbers with a sign."""

    @abstractmethod
    def elementwise(self, function: np.ufunc, inputs: tuple[Array | float, ...], out: Array) -> None:
        """Write `function` of arrays and numbers, entry by entry, into `out`, which may be one of the arrays.

        It is a ufunc of NumPy or of ``scipy.special``, by whose ``__name__`` the library's own function is found.
        """

    @abstractmethod
    def reduce(self, function: np.ufunc, array: Array, axis: int, out: Array) -> None:
        """Write the sum (`np.add`) or the maximum (`np.maximum`) along an axis into `out`, whose axis has length 1."""

    @abstractmethod
    def product(self, A: Array, B: Array, out: Array) -> None:
        """Write A B into `out` : (…, m, n); A : (…, m, k), B : (…, k, n), and one of them may have no member axis."""

    def _input_product(self, A: Array, B: Array, out: Array) -> None:
        """Compute `product` where an operand may be the input of the network; a backend may take it in other forms."""
        self.product(A, B, out)

    # -- formulas -----------------------------------------------------------------------------------------------

    def _apply(self, formula: Formula, *arguments: Any, **named: Any) -> None:
        """Call a formula on arrays of this library, tuples of them, and numbers."""
        of_names = {name: self._as_ufunc_array(value) for name, value in named.items()}
        formula(*map(self._as_ufunc_array, arguments), **of_names)

    def _as_ufunc_array(self, x: ArrayLike) -> Any:
        if isinstance(x, tuple):
            return tuple(map(self._as_ufunc_array, x))
        return UfuncArray(x, self) if self.owns(x) else x

    def _blockwise(self, formula: Formula, z: Array, out: Array) -> None:
        """Write formula(z) into `out`."""
        z, out = z.reshape(-1), out.reshape(-1)
        self._apply(formula, z, out, self._scratch(0, z.shape, z.dtype))

    def _times(self, formula: Formula, z: Array, out: Array) -> None:
        """Write out ⊙ formula(z) into `out`."""
        z, out = z.reshape(-1), out.reshape(-1)
        slope = self._scratch(0, z.shape, z.dtype)
        self._apply(formula, z, slope, self._scratch(1, z.shape, z.dtype))
        out *= slope

    def _blocks(self, vector: Array) -> list[slice]:
        """Return parts of the last axis of flat vectors, to be taken one after the other."""
        return ALL

    def _second(self, out: Array) -> Array:
        """Return a buffer like `out` for the second term of a sum; `_times` uses others."""
        return self._scratch(3, out.shape, out.dtype)

    def _of_members(self, number: Scalar, axes: int, dtype: Any) -> Scalar:
        """Return a number unchanged; for one number a member, an array (K, 1, …) with so many axes after the first."""
        if getattr(number, "ndim", 0) == 0 and not isinstance(number, list):
            return number
        return self.asarray(number, dtype).reshape(-1, *(1,) * axes)

    # -- arrays -------------------------------------------------------------------------------------------------

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        array = self.empty(shape, dtype)
        self.fill(array, 0.0)
        return array

    def sum(self, array: Array) -> Array:
        wide = self._scratch(4, tuple(array.shape), FLOAT64)
        wide[...] = array
        result = self.empty((1,), FLOAT64)
        self.reduce(np.add, wide.reshape(-1), 0, result)
        return result.reshape(())

    def all_finite(self, array: Array) -> bool:
        return bool(np.isfinite(self.to_numpy(array)).all())

    # -- functions of one array ---------------------------------------------------------------------------------

    def activation(self, activation: str, z: Array, out: Array) -> None:
        if activation == "softmax":
            spread, row = self._scratch(0, z.shape, z.dtype), self._scratch(2, (*z.shape[:-1], 1), z.dtype)
            self._apply(softmax, z, out, spread, row)
        else:
            self._blockwise(ACTIVATION_FORMULAS[activation].value, z, out)

    def activation_gradient(self, activation: str, z: Array, out: Array) -> None:
        self._blockwise(ACTIVATION_FORMULAS[activation].gradient, z, out)

    # -- forward ------------------------------------------------------------------------------------------------

    def affine_activation(
        self, A: Array, W: Array, b: Array, activation: str, Z: Array, out: Array, mask: Array | None = None
    ) -> None:
        self._input_product(A, W.swapaxes(-1, -2), Z)
        # b is spread out over the buffer that a will take: a broadcasting addition would allocate and be no faster.
        out[...] = b[..., None, :]
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
        self._apply(LOSS_FORMULAS[loss].slope, A, Y, out)
        if LOSS_FORMULAS[loss].slope_is_of_a and activation != "identity":
            self._times(ACTIVATION_FORMULAS[activation].gradient, Z, out)
        self._scale(out, scale, sample_weight)
        if bias_gradient is not None:
            self.bias_gradient(out, bias_gradient, keep)

    def _scale(self, out: Array, scale: Scalar, sample_weight: Array | None) -> None:
        """Multiply `out` by `scale`, and each of its rows by its `sample_weight`."""
        if out.ndim > 2:
            out *= self._of_members(scale, 2, out.dtype)
        elif hasattr(scale, "ndim") or scale != 1.0:
            out *= scale
        if sample_weight is not None:
            spread = self._scratch(0, out.shape, out.dtype)
            spread[...] = sample_weight[..., None]
            out *= spread

    def _costs(self, loss: str, Z: Array, A: Array, Y: Array) -> Array:
        """Return the cost of each sample and output, in scratch."""
        shape, dtype = Z.shape, Z.dtype
        costs, spare = self._scratch(0, shape, dtype), self._scratch(1, shape, dtype)
        row, other = (self._scratch(slot, (*shape[:-1], 1), dtype) for slot in (2, 3))
        mask = self._scratch(0, shape, BOOL)
        self._apply(LOSS_FORMULAS[loss].cost, Z, A, Y, costs, spare, mask, (row, other))
        return costs

    def add_cost(
        self, loss: str, activation: str, Z: Array, A: Array, Y: Array, cost: Array, sample_weight: Array | None = None
    ) -> None:
        costs = self._costs(loss, Z, A, Y)
        if sample_weight is not None:
            costs *= sample_weight[..., None]
        if cost.ndim == 0:
            cost += self.sum(costs)
        else:
            of_members = self._scratch(2, (*cost.shape, 1), costs.dtype)
            self.reduce(np.add, costs.reshape(*cost.shape, -1), -1, of_members)
            cost += of_members[..., 0]

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
        self.product(delta, W, out)
        if mask is not None:
            out *= mask
        self._times(ACTIVATION_FORMULAS[activation].gradient, Z, out)
        self.bias_gradient(out, bias_gradient, keep)

    def weight_gradient(self, delta: Array, A: Array, out: Array, keep: Scalar | None = None) -> None:
        product = out if keep is None else self._second(out)
        self._input_product(delta.swapaxes(-1, -2), A, product)
        if keep is not None:
            out *= keep
            out += product

    def bias_gradient(self, delta: Array, out: Array, keep: float = 0.0) -> None:
        sums = out if keep == 0.0 else self._second(out)
        self._add_rows(delta, sums)
        if keep != 0.0:
            out *= keep
            out += sums

    def _add_rows(self, delta: Array, sums: Array) -> None:
        """Write the sum over the rows of `delta` : (…, m, s) into `sums` : (…, s)."""
        self.reduce(np.add, delta, -2, sums[..., None, :])

    def add_l2_gradient(self, weights: Array, l2: Scalar, gradient: Array) -> None:
        l2 = self._of_members(l2, weights.ndim - 1, weights.dtype)
        for block in self._blocks(weights):
            W = weights[..., block]
            penalty = self._scratch(0, W.shape, weights.dtype)
            self._apply(np.multiply, W, l2, penalty)
            of_W = gradient[..., block]
            of_W += penalty

    def squared_norm(self, weights: Array) -> float:
        squares = self._second(weights)
        self._apply(np.square, weights, squares)
        return float(self.sum(squares))

    def add_squared_norm(self, weights: Array, factor: Scalar, cost: Array) -> None:
        squares, sums = self._second(weights), self._scratch(2, (*weights.shape[:-1], 1), weights.dtype)
        self._apply(np.square, weights, squares)
        self.reduce(np.add, squares, -1, sums)
        own = sums[..., 0]
        own *= factor
        cost += own

    # -- derivatives along a direction --------------------------------------------------------------------------

    def affine_tangent(
        self, A: Array, dA: Array | None, W: Array, dW: Array | None, db: Array | None, out: Array
    ) -> None:
        second = self._second(out)
        if dA is None:
            self.fill(out, 0.0)
        else:
            self.product(dA, W.swapaxes(-1, -2), out)
        if dW is not None and db is not None:
            self._input_product(A, dW.swapaxes(-1, -2), second)
            out += second
            second[...] = db[..., None, :]
            out += second

    def activation_tangent(self, activation: str, Z: Array, A: Array, tangent: Array, out: Array) -> None:
        if activation == "softmax":
            row = self._scratch(2, (*A.shape[:-1], 1), A.dtype)
            self._apply(softmax_tangent, A, tangent, out, self._second(out), row)
            return
        if out is not tangent:
            out[...] = tangent
        self._times(ACTIVATION_FORMULAS[activation].gradient, Z, out)

    def input_gradient(self, delta: Array, W: Array, out: Array) -> None:
        self.product(delta, W, out)

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
        self._apply(LOSS_FORMULAS[loss].slope_tangent, A, Y, dA, out)
        if LOSS_FORMULAS[loss].slope_is_of_a:
            # d(slope ⊙ g′(z)) = dslope ⊙ g′(z) + slope ⊙ g″(z) ⊙ dz
            self._times(ACTIVATION_FORMULAS[activation].gradient, Z, out)
            second = self._second(out)
            self._apply(LOSS_FORMULAS[loss].slope, A, Y, second)
            second *= dZ
            self._times(ACTIVATION_FORMULAS[activation].curvature, Z, second)
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
        self.product(d_delta, W, out)
        self.product(delta, dW, second)
        out += second
        self._times(ACTIVATION_FORMULAS[activation].gradient, Z, out)
        self.product(delta, W, second)
        second *= dZ
        self._times(ACTIVATION_FORMULAS[activation].curvature, Z, second)
        out += second

    def weight_gradient_tangent(self, delta: Array, d_delta: Array, A: Array, dA: Array | None, out: Array) -> None:
        self._input_product(d_delta.swapaxes(-1, -2), A, out)
        if dA is not None:
            second = self._second(out)
            self.product(delta.swapaxes(-1, -2), dA, second)
            out += second

    # -- learning -----------------------------------------------------------------------------------------------

    def update(
        self,
        rule: Rule,
        parameters: Array,
        gradient: Array,
        moments: tuple[Array, ...],
        rate: Scalar,
        decay: Scalar,
        n_decayed: int,
    ) -> None:
        formula, slots, decays = UPDATES[rule.name]
        axes, dtype, constants = parameters.ndim - 1, parameters.dtype, rule.constants
        if axes:
            rate, decay = self._of_members(rate, axes, dtype), self._of_members(decay, axes, dtype)
            constants = {name: self._of_members(value, axes, dtype) for name, value in constants.items()}
        if decays and (hasattr(decay, "ndim") or decay):
            kept = self._scratch(3, getattr(decay, "shape", ()), dtype)
            self._apply(np.subtract, 1.0, decay, kept)
            weights = parameters[..., :n_decayed]
            weights *= kept
        for block in self._blocks(parameters):
            parts = [array[..., block] for array in (parameters, gradient, *moments)]
            scratch = [self._scratch(slot, parts[0].shape, dtype) for slot in range(slots)]
            self._apply(formula, *parts, rate, *scratch, **constants)

    # -- minibatches --------------------------------------------------------------------------------------------

    def gather(self, X: Array, index: Array, out: Array) -> Array:
        out[...] = X[index]
        return out

    # -- dropout ------------------------------------------------------------------------------------------------

    def random_stream(self, key: tuple[int, ...]) -> RandomStream:
        return dropout.random_stream(key)

    def dropout_mask(self, stream: RandomStream, keep: float, out: Array) -> None:
        kept = np.empty(tuple(out.shape), np.float32)
        dropout.draw_kept(stream, keep, kept.reshape(-1))
        out[...] = self.asarray(kept, FLOAT32)
        out *= 1.0 / keep
