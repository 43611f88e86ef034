"""The vocabulary of backpropagation: what an array library has to be able to do, and nothing more.

Each operation of a `Backend` is one line of the derivation, and all write into buffers that the caller made.
Rows are samples. Every array may carry one leading member axis (several networks of the same widths), written ``…``
below; without it, it is one network. For several members a scalar is an array, (K,), or a list of K numbers that the
host knows; the constants of a `Rule` are such lists.
Arrays are not checked: they are of this backend, of one dtype, and C-contiguous, or each member's part is.
No operation allocates device or array memory after its first call with a shape.

To add a backend, write one file with a subclass and name it in ``deltaprop.backends``. A subclass of
`deltaprop.backends.composed.ComposedBackend` has all operations from a few primitives.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from deltaprop.backends.array_types import AnyArray, ArrayLike, DType, HostArray, Indices
from deltaprop.backends.array_types import Array as Array  # every user of the vocabulary needs it as well
from deltaprop.backends.kernel_names import Rule
from deltaprop.errors import BackendError

#: In which precision matrix products of float32 networks are formed.
Precision: TypeAlias = Literal["fp32", "tf32", "bf16", "fp16"]
#: A number, or a () array of the backend that holds it, read when the operation runs.
Scalar: TypeAlias = float | Array | list[float]

#: Random numbers that `Backend.dropout_mask` draws from; each backend has its own kind.
RandomStream: TypeAlias = Any


def philox_key(key: tuple[int, ...]) -> Indices:
    """The key, (2,) of uint64, of the Philox generator for a tuple of whole numbers."""
    return np.random.SeedSequence(key).generate_state(2, np.uint64)


class Backend(ABC):
    """An array library and the device on which it computes, as `get_backend` returns it.

    ``network.backend`` is the one that a network uses, and an optimizer of your own makes its arrays by it. It has the
    operations of backpropagation as methods too; its source describes them.

    Attributes
    ----------
    name : str
        The name that users give: ``backend="numpy"``.
    on_host : bool
        Whether its arrays are NumPy's.
    precision : {"fp32", "tf32", "bf16", "fp16"}
        In which precision it forms matrix products of float32 arrays.
    device : int or None
        The number of the device its arrays are on; None where there is no choice, or where the current one is meant.

    Examples
    --------
    >>> import deltaprop as dp
    >>> backend = dp.get_backend("numpy")
    >>> rows = backend.asarray([[1, 2], [3, 4]], "float32")
    >>> backend.label, rows.dtype
    ('numpy', dtype('float32'))
    >>> backend.to_numpy(rows).tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    >>> backend.zeros((2, 3), "float64").shape
    (2, 3)
    """

    name: str
    on_host: bool
    precision: Precision = "fp32"
    device: int | None = None

    def in_precision(self, precision: Precision) -> Self:
        """The same backend, forming matrix products of float32 arrays in `precision`.

        Raises
        ------
        BackendError
            If it cannot.
        """
        if precision != "fp32":
            raise BackendError(
                f"precision: backend {self.name!r} multiplies in the dtype of the arrays (precision='fp32'), got "
                f"{precision!r}; 'tf32', 'bf16' and 'fp16' need backend='cupy'"
            )
        return self

    @property
    def label(self) -> str:
        """The name by which `get_backend` finds it, with its device: "numpy", "cupy" or "cupy:1"."""
        return self.name if self.device is None else f"{self.name}:{self.device}"

    def on_device(self, device: int | None) -> Self:
        """The same backend on the device of this number; by default on the one it is on.

        Raises
        ------
        BackendError
            If it has no such device.
        """
        if device is not None:
            raise BackendError(
                f"device: backend {self.name!r} has no devices to choose from, got {device}; device= needs "
                "backend='cupy'"
            )
        return self

    def scope(self) -> AbstractContextManager[object]:
        """A context in which its device is the current one."""
        return nullcontext()

    def __copy__(self) -> Self:
        """Return the backend itself: networks share it, with its handles and buffers, and so do their copies."""
        return self

    def __deepcopy__(self, memo: object) -> Self:
        """As `__copy__`."""
        return self

    # -- arrays -------------------------------------------------------------------------------------------------

    @abstractmethod
    def owns(self, array: object) -> bool:
        """Whether `array` is of this backend's kind."""

    @abstractmethod
    def asarray(self, array: ArrayLike, dtype: DTypeLike) -> Array:
        """Return `array` as a C-contiguous array of this backend.

        Parameters
        ----------
        array : array_like
            Numbers, of any shape.
        dtype : dtype_like
            The dtype of the result.

        Returns
        -------
        array
            `array` itself where it is one already.
        """

    @abstractmethod
    def to_numpy(self, array: Array) -> HostArray:
        """Return `array` in host memory.

        Parameters
        ----------
        array : array
            An array of this backend.

        Returns
        -------
        numpy.ndarray
            `array` itself where it is there already.
        """

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """A buffer whose content is undefined."""

    @abstractmethod
    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Make an array of zeros.

        Parameters
        ----------
        shape : tuple of int
            Its shape.
        dtype : dtype_like
            Its dtype.

        Returns
        -------
        array
            A C-contiguous array of this backend.
        """

    def fill(self, array: Array, value: float) -> None:
        """Let every entry be `value`."""
        array[...] = value

    def copy(self, array: Array) -> Array:
        """A new array with the same entries."""
        result = self.empty(tuple(array.shape), array.dtype)
        result[...] = array
        return result

    @abstractmethod
    def sum(self, array: Array) -> Array:
        """The sum of all entries, () of float64, without the host asking for it."""

    def dtype_of(self, array: Array) -> DType:
        """The dtype of `array`, as one of NumPy's."""
        dtype: DType = np.dtype(array.dtype)
        return dtype

    def is_beside(self, array: Array, out: Array) -> bool:
        """Whether `out` is C-contiguous, and writing it cannot change `array`; False where that is not known."""
        return False

    def room(self) -> int | None:
        """The bytes that arrays may still take; None where their memory is the host's."""
        return None

    @abstractmethod
    def all_finite(self, array: Array) -> bool:
        """Whether `array` holds neither nan nor infinity."""

    # -- functions of one array ---------------------------------------------------------------------------------

    @abstractmethod
    def activation(self, activation: str, z: Array, out: Array) -> None:
        """a = g(z)."""

    @abstractmethod
    def activation_gradient(self, activation: str, z: Array, out: Array) -> None:
        """g′(z), for every activation but softmax."""

    # -- forward ------------------------------------------------------------------------------------------------

    @abstractmethod
    def affine_activation(
        self, A: Array, W: Array, b: Array, activation: str, Z: Array, out: Array, mask: Array | None = None
    ) -> None:
        """z^(l+1) = W^(l) a^(l) + b^(l) into `Z` and a^(l+1) = g(z^(l+1)) into `out`.

        A : (…, m, s_in), W : (…, s_out, s_in), b : (…, s_out), Z, out and mask : (…, m, s_out). With the `mask`
        of dropout, a^(l+1) = g(z^(l+1)) ⊙ mask; there is none after softmax.
        """

    # -- cost and backward --------------------------------------------------------------------------------------

    @abstractmethod
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
        """δ^(L) = scale · ∂cost/∂z^(L) into `out`; the cost summed over samples, unscaled, is added to `cost`.

        Z, A, Y and out : (…, m, s_L), cost : (…) of float64, sample_weight : (…, m), with which δ and cost
        of each sample count. The sum over samples of δ^(L) goes into `bias_gradient` : (…, s_L), as in `hidden_delta`.
        """

    @abstractmethod
    def add_cost(
        self, loss: str, activation: str, Z: Array, A: Array, Y: Array, cost: Array, sample_weight: Array | None = None
    ) -> None:
        """The cost summed over samples (times `sample_weight`) is added to `cost`, with no δ: what validation needs."""

    def custom_output_delta(
        self,
        loss: Any,
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
        """`output_delta` for a loss given as a pair of functions, ``loss.cost(a, y)`` and ``loss.gradient(a, y)``.

        What these return is allocated by them. From ∂cost/∂a to ∂cost/∂z it is ∂a/∂z, of every activation.
        """
        slope = self._own_numbers(loss.gradient, "a gradient", loss.gradient(A, Y))
        if slope.shape != A.shape:
            raise ValueError(f"loss: expected a gradient of the shape of the outputs, {A.shape}, got {slope.shape}")
        out[...] = slope
        self.activation_tangent(activation, Z, A, out, out)
        out *= scale
        if sample_weight is not None:
            out *= sample_weight[:, None]
        self.add_custom_cost(loss, A, Y, cost, sample_weight)
        if bias_gradient is not None:
            self.bias_gradient(out, bias_gradient, keep)

    def add_custom_cost(self, loss: Any, A: Array, Y: Array, cost: Array, sample_weight: Array | None = None) -> None:
        """`add_cost` for a loss given as a pair of functions."""
        costs = self._own_numbers(loss.cost, "costs", loss.cost(A, Y))
        if costs.shape not in (A.shape, A.shape[:1]):
            raise ValueError(f"loss: expected costs of shape {A.shape[:1]} or {A.shape}, got {costs.shape}")
        if costs.ndim == 2:
            costs = costs.sum(1)
        cost += self.sum(costs if sample_weight is None else costs * sample_weight)

    def _own_numbers(self, function: object, what: str, value: AnyArray) -> AnyArray:
        """Return what a function of a loss has returned, if that is an array of this backend, of real numbers."""
        if not self.owns(value) or isinstance(value, np.ma.MaskedArray):
            got = f"a {type(value).__name__}"
        elif self.dtype_of(value).kind not in "iubf":
            got = f"dtype {self.dtype_of(value)}"
        else:
            return value
        name = getattr(function, "__qualname__", None) or repr(function)
        raise TypeError(f"loss: expected {what} as a {self.name} array of real numbers from {name}, got {got}")

    @abstractmethod
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
        """δ^(l) = (W^(l))ᵀ δ^(l+1) ⊙ g′(z^(l)) into `out`, its sum over samples into `bias_gradient`.

        delta : (…, m, s_out), W : (…, s_out, s_in), Z, out and mask : (…, m, s_in), bias_gradient : (…, s_in).
        The sum over samples of δ^(l) is the gradient of b^(l−1), so it comes out of the same pass. With the `mask` by
        which a^(l) was multiplied, δ^(l) is too. What `bias_gradient` held before is kept `keep` times.
        """

    @abstractmethod
    def weight_gradient(self, delta: Array, A: Array, out: Array, keep: Scalar | None = None) -> None:
        """Δ^(l) = Σ δ^(l+1) (a^(l))ᵀ, the sum over samples, into `out` : (…, s_out, s_in).

        With `keep`, keep · out + Δ^(l): if out is W^(l), δ scaled by −η/m and keep = 1 − ηλ/m, gradient descent.
        """

    @abstractmethod
    def bias_gradient(self, delta: Array, out: Array, keep: float = 0.0) -> None:
        """Σ δ^(l+1), the sum over samples, into `out` : (…, s_out); `keep` times what `out` held is added."""

    @abstractmethod
    def add_l2_gradient(self, weights: Array, l2: Scalar, gradient: Array) -> None:
        """∂/∂W of λ/2 Σ W², which is λ W, added to `gradient`; both flat, (…, n), biases not among them."""

    @abstractmethod
    def squared_norm(self, weights: Array) -> float:
        """Σ W² over a flat vector."""

    @abstractmethod
    def add_squared_norm(self, weights: Array, factor: Scalar, cost: Array) -> None:
        """Factor · Σ W² over flat vectors, (…, n), added to `cost`, (…) of float64, without the host asking for it."""

    # -- derivatives along a direction --------------------------------------------------------------------------
    # A tangent dx is the derivative of x along the direction in which inputs or parameters are moved.

    @abstractmethod
    def affine_tangent(
        self, A: Array, dA: Array | None, W: Array, dW: Array | None, db: Array | None, out: Array
    ) -> None:
        """dz^(l+1) = W da^(l) + dW a^(l) + db into `out`; what is None does not move, `dW` and `db` together.

        A and dA : (…, m, s_in), W and dW : (…, s_out, s_in), db : (…, s_out), out : (…, m, s_out).
        """

    @abstractmethod
    def activation_tangent(self, activation: str, Z: Array, A: Array, tangent: Array, out: Array) -> None:
        """∂a/∂z applied to `tangent`: g′(z) ⊙ t, for softmax a ⊙ (t − Σ a t); all (…, m, s), `out` may be `tangent`.

        The Jacobian of every activation is symmetric, so this carries dz to da in forward mode, and the derivative
        with respect to a to that with respect to z in reverse mode.
        """

    @abstractmethod
    def input_gradient(self, delta: Array, W: Array, out: Array) -> None:
        """(W^(l))ᵀ δ^(l+1), the derivative with respect to a^(l), into `out` : (…, m, s_in)."""

    @abstractmethod
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
        """dδ^(L), the derivative of scale · ∂cost/∂z^(L) as z and a move by `dZ` and `dA`, into `out`; all (m, s_L).

        `sample_weight`, (m,), is the one of `output_delta`.
        """

    @abstractmethod
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
        """dδ^(l) = (Wᵀ dδ^(l+1) + dWᵀ δ^(l+1)) ⊙ g′(z^(l)) + Wᵀ δ^(l+1) ⊙ g″(z^(l)) ⊙ dz^(l) into `out`.

        delta and d_delta : (…, m, s_out), W and dW : (…, s_out, s_in), Z, dZ and out : (…, m, s_in).
        """

    @abstractmethod
    def weight_gradient_tangent(self, delta: Array, d_delta: Array, A: Array, dA: Array | None, out: Array) -> None:
        """Σ dδ^(l+1) (a^(l))ᵀ + δ^(l+1) (da^(l))ᵀ into `out` : (…, s_out, s_in); None is an a that does not move."""

    # -- learning -----------------------------------------------------------------------------------------------

    @abstractmethod
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
        """Take a step: `rule` moves θ, (…, n), by ∂J/∂θ with the learning rate `rate`, in one pass.

        `moments` are the vectors that the rule carries from step to step, as many as it has; they are moved, too.
        If the rule knows weight decay, the first `n_decayed` entries of θ (the weights) are multiplied by 1 − `decay`
        before the step.
        """

    # -- minibatches --------------------------------------------------------------------------------------------

    def gather_buffer(self, X: Array, rows: int) -> Array:
        """Make the buffer into which `gather` writes so many rows of `X`."""
        return self.empty((rows, *X.shape[1:]), X.dtype)

    @abstractmethod
    def gather(self, X: Array, index: Array, out: Array) -> Array:
        """The rows of a minibatch: out[i] = X[index[i]]; returns them."""

    # -- dropout ------------------------------------------------------------------------------------------------

    @abstractmethod
    def random_stream(self, key: tuple[int, ...]) -> RandomStream:
        """A stream of random numbers that depends on `key` alone: Philox 4x64-10, the same on every backend."""

    @abstractmethod
    def dropout_mask(self, stream: RandomStream, keep: float, out: Array) -> None:
        """Each entry of `out` is 1/keep with probability `keep`, else 0: the next numbers of `stream` decide."""
