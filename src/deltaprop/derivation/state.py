"""What a network is: widths, activations, loss, parameters. What it does stands above, in `backprop` and `model`."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Self, TypeAlias, TypedDict

import numpy as np
from numpy.typing import DTypeLike

from deltaprop.arguments import check_choice, check_whole_number
from deltaprop.backends import Array, Backend, describe_backend, described_backend, get_backend
from deltaprop.backends.array_types import ArrayLike, DType, Floats
from deltaprop.backends.base import Precision
from deltaprop.backends.choices import (
    BackendName,
    FloatDType,
    HiddenActivation,
    Initialization,
    LossName,
    OutputActivation,
)
from deltaprop.backends.device_scope import methods_on_its_device, on_its_device
from deltaprop.derivation.activations import HIDDEN_ACTIVATIONS, check_activation
from deltaprop.derivation.initialization import check_initialization, draw_layers
from deltaprop.derivation.losses import (
    OutputError,
    PairOfFunctions,
    check_loss,
    check_output_activation,
    check_output_error,
)
from deltaprop.derivation.parameters import Parameters
from deltaprop.inputs.arrays import as_numbers

#: The arguments that make a network, by their names.
Configuration: TypeAlias = dict[str, Any]
#: Streams of the seed: numbers drawn for one purpose never move those drawn for another.
INITIAL_STREAM, SHUFFLE_STREAM, DROPOUT_STREAM, HOLD_OUT_STREAM = 0, 1, 2, 3


class NetworkOptions(TypedDict, total=False):
    """The arguments of `NetworkState` that a stack has as well, for type checkers."""

    hidden_activation: HiddenActivation | Sequence[HiddenActivation]
    output_activation: OutputActivation | None
    loss: LossName | PairOfFunctions
    init: Initialization
    dtype: FloatDType | type[float]
    backend: BackendName | Backend
    output_error: OutputError
    precision: Precision | None
    device: int | None


@methods_on_its_device
class NetworkState:
    """The configuration and the parameters of a multi-layer perceptron.

    Attributes
    ----------
    layer_sizes : tuple of int
        s_1 … s_L.
    activations : tuple of str
        The activation of layers 2 … L; ``activations[l]`` follows ``weights[l]``.
    hidden_activation : str or list of str
        As given to the constructor.
    output_activation : str
        As given to the constructor, or the one that belongs to the loss.
    loss : str or CustomLoss
        As given to the constructor; a pair of functions becomes a `CustomLoss`.
    output_error : str
        As given to the constructor.
    init : str
        As given to the constructor.
    dtype : numpy.dtype
        float32 or float64.
    seed : int
        What initialisation and shuffling depend on.
    epochs_trained : int
        Epochs of `fit` behind these parameters; the next epoch's shuffle depends on it.
    backend : Backend
        Where the arrays live; with several devices, on which of them.
    """

    dtype: DType
    backend: Backend

    def __init__(
        self,
        layer_sizes: Sequence[int],
        *,
        hidden_activation: HiddenActivation | Sequence[HiddenActivation] = "sigmoid",
        output_activation: OutputActivation | None = None,
        loss: LossName | PairOfFunctions = "binary_cross_entropy",
        init: Initialization = "glorot_uniform",
        dtype: FloatDType | type[float] = "float64",
        backend: BackendName | Backend = "auto",
        seed: int = 0,
        output_error: OutputError = "exact",
        precision: Precision | None = None,
        device: int | None = None,
    ) -> None:
        self.layer_sizes: tuple[int, ...] = _check_layer_sizes(layer_sizes)
        hidden = _check_hidden_activations(hidden_activation, len(self.layer_sizes) - 2)
        self.hidden_activation: str | list[str] = (
            hidden_activation if isinstance(hidden_activation, str) else list(hidden)
        )
        self.loss: Any = check_loss(loss)
        self.output_activation: str = check_output_activation(self.loss, output_activation)
        self.output_error = check_output_error(output_error, self.loss)
        self.init: str = check_initialization(init)
        self.dtype = check_dtype(dtype)
        self.seed: int = check_whole_number("seed", seed, least=0)
        self.epochs_trained = 0
        if device is not None:
            device = check_whole_number("device", device, least=0)
        self.backend = _backend_in_precision(get_backend(backend).on_device(device), precision, self.dtype)
        self.activations: tuple[str, ...] = (*hidden, self.output_activation)
        with self._device_scope():
            self._make_parameters()

    def _device_scope(self) -> AbstractContextManager[object]:
        return self.backend.scope()

    def _make_parameters(self) -> None:
        """The flat vector, initialised."""
        self._parameters = Parameters(self.backend, self.layer_sizes, self.dtype)
        if self.init != "zeros":
            self._initialize(self._parameters, self.seed)

    def _initialize(self, parameters: Parameters, seed: int) -> None:
        """Draw the parameters on the host, so that a seed means the same numbers on every backend."""
        rng = np.random.default_rng((seed, INITIAL_STREAM))
        drawn = draw_layers(self.init, rng, self.layer_sizes, self.activations)
        for W, b, (drawn_W, drawn_b) in zip(parameters.weights, parameters.biases, drawn, strict=True):
            W[...] = self.backend.asarray(drawn_W, self.dtype)
            b[...] = self.backend.asarray(drawn_b, self.dtype)

    @property
    def configuration(self) -> Configuration:
        """Everything but the parameters and the backend: arguments that make an equal network."""
        return {
            "layer_sizes": list(self.layer_sizes),
            "hidden_activation": self.hidden_activation,
            "output_activation": self.output_activation,
            "loss": self.loss,
            "output_error": self.output_error,
            "init": self.init,
            "dtype": self.dtype.name,
            "seed": self.seed,
        }

    def copy(self, dtype: FloatDType | type[float] | None = None) -> Self:
        """Make an independent network with these parameters, on the same backend.

        Parameters
        ----------
        dtype : {"float64", "float32"}, optional
            The dtype of the copy; by default the same as this network has.

        Returns
        -------
        Network
            It has been trained for as many epochs.

        Raises
        ------
        ValueError
            If `dtype` is another one.

        Examples
        --------
        >>> import deltaprop as dp
        >>> net = dp.Network([2, 3, 1])
        >>> half = net.copy(dtype="float32")
        >>> half.parameters[:] = 0.0
        >>> half.dtype, bool(net.parameters.any())
        (dtype('float32'), True)
        """
        configuration = self.configuration | {"init": "zeros"} | ({} if dtype is None else {"dtype": dtype})
        copy = type(self)(**configuration, backend=self.backend)
        copy.init = self.init
        copy.epochs_trained = self.epochs_trained
        copy.parameters = self.parameters
        return copy

    def __getstate__(self) -> dict[str, Any]:
        """Return plain values: the parameters as one array of the host, and the backend by its name."""
        parameters, backend = self.backend.to_numpy(self.parameters), describe_backend(self.backend)
        return self.__dict__ | {"_parameters": parameters, "backend": backend, "dtype": self.dtype.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.backend, self.dtype = described_backend(state["backend"]), np.dtype(state["dtype"])
        with self._device_scope():
            flat = self.backend.asarray(state["_parameters"], self.dtype)
            if self.backend.on_host:
                # Memory of our own: what is restored may be somebody's, or mapped from a file and read-only.
                flat = np.array(flat, order="C", subok=False)
            self._parameters = Parameters(self.backend, self.layer_sizes, self.dtype, flat=flat)

    def over(self, flat: Array) -> Self:
        """Make a network of this configuration over other memory, without copying it.

        Parameters
        ----------
        flat : array, (…, n)
            All parameters, in the order of `parameters`. The new network shares this memory.

        Returns
        -------
        Network or NetworkStack
            Of the same class as this one.
        """
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._parameters = Parameters(self.backend, self.layer_sizes, self.dtype, flat=flat)
        return other

    # -- parameters ---------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> Array:
        """The flat vector of all parameters, (n,): the network's own memory. Assigning copies into it."""
        return self._parameters.flat

    @parameters.setter
    def parameters(self, value: ArrayLike) -> None:
        self._assign([self._parameters.flat], [value], "parameters")

    @property
    def lead(self) -> tuple[int, ...]:
        """What comes before the other axes of every array: () of one network, (K,) of a stack of them."""
        lead: tuple[int, ...] = self._parameters.flat.shape[:-1]
        return lead

    @property
    def own(self) -> Parameters:
        """`parameters` with their views: the network's own memory, for what writes into it."""
        return self._parameters

    @property
    def n_weights(self) -> int:
        """How many of the first entries of `parameters` are weights; the rest are biases."""
        return self._parameters.n_weights

    @property
    def flat_weights(self) -> Array:
        """The view of all weights, (n_weights,), without the biases."""
        return self._parameters.flat_weights

    @property
    def weights(self) -> list[Array]:
        """The weights W^(l), (s_{l+1}, s_l), one a layer: views of `parameters`. Assigning a list copies into them."""
        return self._parameters.weights

    @weights.setter
    def weights(self, values: list[ArrayLike]) -> None:
        self._assign(self._parameters.weights, values, "weights")

    @property
    def biases(self) -> list[Array]:
        """The biases b^(l), (s_{l+1},), one a layer: views of `parameters`. Assigning a list copies into them."""
        return self._parameters.biases

    @biases.setter
    def biases(self, values: list[ArrayLike]) -> None:
        self._assign(self._parameters.biases, values, "biases")

    @property
    @on_its_device
    def thetas(self) -> list[Array]:
        """The Θ^(l) = [b^(l), W^(l)], (s_{l+1}, 1 + s_l), one a layer: copies. Assigning a list copies back."""
        return self._parameters.thetas

    @thetas.setter
    def thetas(self, values: list[ArrayLike]) -> None:
        thetas = self._parameters.thetas
        self._assign(thetas, values, "thetas")
        for theta, W, b in zip(thetas, self.weights, self.biases, strict=True):
            b[...] = theta[..., 0]
            W[...] = theta[..., 1:]

    def by_layer(self) -> dict[str, Floats]:
        """Return the parameters as files hold them, layer by layer.

        Returns
        -------
        dict of str to array
            The arrays ``weights.0``, ``biases.0`` and so on, on the host.

        Examples
        --------
        >>> import deltaprop as dp
        >>> {name: array.shape for name, array in dp.Network([2, 3, 1]).by_layer().items()}
        {'weights.0': (3, 2), 'weights.1': (1, 3), 'biases.0': (3,), 'biases.1': (1,)}
        """
        pairs = (("weights", self.weights), ("biases", self.biases))
        return {f"{kind}.{l}": self.backend.to_numpy(array) for kind, arrays in pairs for l, array in enumerate(arrays)}

    def _assign(self, targets: list[Array], values: Sequence[ArrayLike], name: str) -> None:
        """Copy all `values` into `targets`, or nothing if a shape is wrong or memory is read-only."""
        self._parameters.require_writeable()
        if len(values) != len(targets):
            raise ValueError(f"{name}: expected {len(targets)} arrays, one a layer, got {len(values)}")
        arrays = []
        for l, (target, value) in enumerate(zip(targets, values, strict=True)):
            which = name if len(targets) == 1 else f"{name}[{l}]"
            if type(value) is not np.ndarray or value.dtype != self.dtype:
                value = as_numbers(value, which, self.backend)
            array = self.backend.asarray(value, self.dtype)
            if array.shape != target.shape:
                raise ValueError(f"{which}: expected shape {target.shape}, got {array.shape}")
            arrays.append(array)
        for target, array in zip(targets, arrays, strict=True):
            target[...] = array


class StackState(NetworkState):
    """Several networks of one configuration, with a member axis before the others of every array.

    Parameters
    ----------
    seeds : sequence of int
        One a member; there are as many members.
    layer_sizes : sequence of int
        As of `NetworkState`.
    **options
        The other arguments of `NetworkState`, which all members share.
    """

    def __init__(self, seeds: Sequence[int], layer_sizes: Sequence[int], **options: Any) -> None:
        self.seeds: list[int] = list(seeds)
        super().__init__(layer_sizes, **options)

    def _make_parameters(self) -> None:
        self._parameters = Parameters(self.backend, self.layer_sizes, self.dtype, len(self.seeds))
        if self.init == "zeros":
            return
        for flat, seed in zip(self._parameters.flat, self.seeds, strict=True):
            self._initialize(Parameters(self.backend, self.layer_sizes, self.dtype, flat=flat), seed)


def _check_layer_sizes(layer_sizes: Sequence[int]) -> tuple[int, ...]:
    try:
        given = tuple(layer_sizes)
        sizes = tuple(map(operator.index, given))
    except TypeError:
        raise TypeError(f"layer_sizes: expected a sequence of whole numbers, got {layer_sizes!r}") from None
    if any(isinstance(size, bool) for size in given):
        raise TypeError(f"layer_sizes: expected a sequence of whole numbers, got {layer_sizes!r}")
    if len(sizes) < 2:
        raise ValueError(f"layer_sizes: expected at least an input and an output layer, got {list(sizes)}")
    for position, size in enumerate(sizes):
        if size < 1:
            raise ValueError(f"layer_sizes: expected widths of at least 1, got {size} at position {position}")
    return sizes


def _check_hidden_activations(given: str | Sequence[str], layers: int) -> tuple[str, ...]:
    """The activation of each of so many hidden layers, from one name for all or one for each."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        return (check_activation(given, HIDDEN_ACTIVATIONS, "hidden_activation"),) * layers
    if len(given) != layers:
        raise ValueError(f"hidden_activation: expected one name, or {layers}, one a hidden layer, got {list(given)}")
    return tuple(check_activation(name, HIDDEN_ACTIVATIONS, f"hidden_activation[{l}]") for l, name in enumerate(given))


def _backend_in_precision(backend: Backend, precision: Precision | None, dtype: DType) -> Backend:
    """`backend` with products in `precision`, or in its own where that is None."""
    if precision is None:
        return backend
    check_choice("precision", precision, Precision)
    if precision != "fp32" and dtype != np.float32:
        raise ValueError(f"precision: expected 'fp32' (the dtype's own) with dtype={dtype.name!r}, got {precision!r}")
    return backend.in_precision(precision)


def check_dtype(dtype: DTypeLike) -> DType:
    """Return the dtype of a network's parameters.

    Raises
    ------
    ValueError
        If it is neither float32 nor float64.
    """
    try:
        result = np.dtype(dtype)
    except TypeError:
        result = np.dtype(np.void)  # refused below, like every other dtype that we do not know
    if result.name not in ("float32", "float64"):
        raise ValueError(f"dtype: expected 'float32' or 'float64', got {dtype!r}")
    return result
