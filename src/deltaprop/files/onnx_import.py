"""Networks in ONNX models of other programs: a chain of matrix products, activations, and what can be folded in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np

from deltaprop.backends import Backend
from deltaprop.backends.array_types import Floats, HostArray
from deltaprop.backends.choices import BackendName, LossName
from deltaprop.derivation.activations import HIDDEN_ACTIVATIONS
from deltaprop.derivation.losses import PairOfFunctions, loss_of
from deltaprop.files import onnx_file
from deltaprop.files.model_file import in_one_line
from deltaprop.files.onnx_activations import find_activation, is_harmless
from deltaprop.files.onnx_graph import OnnxGraph
from deltaprop.files.saved_network import SavedNetwork

N = TypeVar("N", bound=SavedNetwork)
#: Arguments of `Network`, weights and biases.
Description: TypeAlias = tuple[dict[str, Any], list[HostArray], list[HostArray]]
#: What a reader of an error can do something about.
EXPECTED = (
    "expected a chain of Gemm, or MatMul and Add, each with an activation that networks here have (identity, sigmoid, "
    "tanh, relu, leaky_relu with slope 0.01, softplus, silu, gelu by erf), and exp or softmax at the end"
)

#: Attributes of Scaler and their defaults.
OF_SCALER = (("offset", 0.0), ("scale", 1.0))


def load_network(
    cls: type[N],
    path: str | os.PathLike[str],
    backend: BackendName | Backend,
    loss: LossName | PairOfFunctions | None,
    output_activation: str | None,
) -> N:
    """Load a network from a model that `write_onnx` or another program wrote; see `Network.from_onnx`."""
    model, properties = onnx_file.load_onnx(path)
    if onnx_file.KEY in properties:
        content, tensors = onnx_file.read_own(path, model, properties)
        described: Any = content.network
        there = described.output_activation
        if _asked(path, there, output_activation) != there:
            described.output_activation, described.loss = output_activation, loss_of(str(output_activation))
        described.loss = loss or described.loss
        return cls.from_file_content(path, content, tensors, backend)
    configuration, weights, biases = read_chain(path, onnx_file.load_library(), model)
    activation = _asked(path, configuration["output_activation"], output_activation)
    configuration["output_activation"] = activation
    network = cls(**configuration, loss=loss or loss_of(activation), init="zeros", backend=backend)
    network.weights, network.biases = list(weights), list(biases)
    return network


def _asked(path: str | os.PathLike[str], there: str, asked: str | None) -> str:
    """Return the output activation that is asked for, by default the one that is there.

    Raises
    ------
    ValueError
        If another one is there already.
    """
    if asked is not None and there not in ("identity", asked):
        raise ValueError(f"output_activation: expected {there!r}, which the network in {path} has, got {asked!r}")
    return asked or there


def read_chain(path: str | os.PathLike[str], onnx: Any, model: Any) -> Description:
    """Read the network in a model that the checker of onnx has passed.

    Parameters
    ----------
    path : path
        The file, for messages.
    onnx : module
        The package.
    model : onnx.ModelProto
        The model; nothing in it is trusted.

    Returns
    -------
    (configuration, weights, biases)
        Arguments of `Network`, and its parameters on the host.

    Raises
    ------
    ValueError
        If there is anything that such a network does not have; the message begins with `path` and names the node.
    """
    chain = Chain(OnnxGraph(path, onnx, model))
    while not chain.ended:
        chain.go_on()
    return chain.described()


@dataclass
class Layer:
    """A layer that is being read: W, (n_out, n_in), b, (n_out,), and the activation once it is known."""

    W: HostArray
    b: HostArray
    activation: str | None = None


class Chain:
    """The layers that have been read, and the value that they make.

    Between two layers, or between a matrix product and its activation, a value may have been scaled and shifted, column
    by column: s ⊙ x + t. This becomes part of the weights and biases of a layer.
    """

    def __init__(self, graph: OnnxGraph) -> None:
        self.graph, self.value = graph, graph.input
        self.layers: list[Layer] = []
        self.s, self.t = np.ones(1), np.zeros(1)
        #: The dtype of the weights in the file, and the names of their tensors.
        self.dtype: Any = None
        self.origins: set[str] = set()
        #: The last node that was read.
        self.last: Any = None
        #: Whether a row of the value is a row of a matrix; an image is not, before it is flattened.
        self.is_matrix = len(graph.shape) in (0, 2)
        self.ended = False
        if len(graph.shape) == 1:
            raise ValueError(f"{graph.path}: expected an input with rows, got one of shape {graph.shape}")

    @property
    def after_product(self) -> bool:
        """Whether the activation of the last layer is not known yet."""
        return bool(self.layers) and self.layers[-1].activation is None

    @property
    def is_scaled(self) -> bool:
        """Whether s ⊙ x + t is anything but x."""
        return bool((self.s != 1.0).any() or self.t.any())

    def go_on(self) -> None:
        """Read one node, or all nodes of one activation."""
        graph = self.graph
        readers = graph.readers[self.value]
        if self.layers and graph.ends_at(self.value):
            self._end()
            return
        if self.value in graph.outputs:
            raise ValueError(
                f"{graph.path}: expected outputs of the last layer only, got {self.value[:100]!r} of a layer before it"
            )
        if len(readers) == 1 and self._read(readers[0]):
            return
        found = find_activation(graph, self.value) if self.after_product else None
        if found is None:
            names = [f"{node.op_type} {node.name!r}" if node.name else node.op_type for node in readers]
            raise ValueError(f"{graph.path}: {EXPECTED}; got {in_one_line(names or 'nothing')} after {self._place()}")
        self._fold_back()
        self.layers[-1].activation, self.value = found

    def _read(self, node: Any) -> bool:
        """Read a node that is the only one to read the value, and return whether it is known."""
        operator, known = self.graph.operator(node), True
        if operator in ("Cast", "Dropout", "Identity"):
            known = node.input[0] == self.value and is_harmless(self.graph, node)
        elif operator in ("Flatten", "Reshape"):
            self._flatten(node)
        elif operator in ("Gemm", "MatMul"):
            self._multiply(node)
        elif operator in ("Add", "BatchNormalization", "Div", "Mul", "Scaler", "Sub"):
            known = self._scale(node)
        elif operator == "Softmax" and self.after_product:
            if self.graph.attribute(node, "axis", -1) not in (-1, 1):
                raise self.graph.error(node, "expected softmax over the columns")
            self._fold_back()
            self.layers[-1].activation = "softmax"
        else:
            known = False
        if known:
            self.value, self.last = node.output[0], node
        return known

    def _place(self) -> str:
        """Say how far the chain has been read."""
        if not self.layers:
            return "the input"
        return f"the matrix product of layer {len(self.layers)}" if self.after_product else f"layer {len(self.layers)}"

    # -- shapes -------------------------------------------------------------------------------------------------

    def _flatten(self, node: Any) -> None:
        """Read Flatten or Reshape, which leave a matrix as it is and make one of anything else."""
        graph = self.graph
        if graph.operator(node) == "Flatten":
            if graph.attribute(node, "axis", 1) != 1:
                raise graph.error(node, "expected axis=1")
        else:
            asked = graph.constant(node.input[1]) if len(node.input) > 1 else None
            shape = [] if asked is None else asked.ravel().tolist()
            rows = (0, graph.shape[0]) if graph.shape and graph.shape[0] else (0,)
            columns = self._columns()
            whole = len(shape) == 2 and (
                (shape[0] in rows and shape[1] in (-1, columns)) or (shape[0] == -1 and shape[1] == columns > 0)
            )
            if not whole:
                raise graph.error(node, f"expected the shape (rows, {columns or 'columns'}), got {shape}")
        if not self.is_matrix and (self.s.size > 1 or self.t.size > 1):
            raise graph.error(node, "expected numbers by column after this node, not before it")
        self.is_matrix = True

    def _columns(self) -> int:
        """Return how many columns the value has, or 0 where nothing says it."""
        if self.layers:
            return len(self.layers[-1].b)
        sizes = self.graph.shape[1:]
        return int(np.prod(sizes, dtype=object)) if sizes and min(sizes) > 0 else 0

    # -- matrix products ----------------------------------------------------------------------------------------

    def _multiply(self, node: Any) -> None:
        """Read Gemm or MatMul as the beginning of a layer."""
        graph = self.graph
        if not self.is_matrix:
            raise graph.error(node, f"expected rows, got an input of shape {graph.shape}: Flatten has to be before it")
        if node.input[0] != self.value:
            raise graph.error(node, "expected the value before the weights, x W, with a row a sample")
        W, gemm = self._weights(node), graph.operator(node) == "Gemm"
        if gemm and graph.attribute(node, "transA", 0):
            raise graph.error(node, "expected transA=0")
        W = W if gemm and graph.attribute(node, "transB", 0) else W.T
        before = len(self.layers[-1].b) if self.layers else W.shape[1]
        if W.shape[1] != before or (self._columns() and W.shape[1] != self._columns()):
            raise graph.error(node, f"expected weights for {self._columns()} columns, got {W.shape[1]}")
        b = np.zeros(len(W), W.dtype)
        if gemm:
            alpha, beta = (graph.attribute(node, name, 1.0) for name in ("alpha", "beta"))
            if len(node.input) > 2 and node.input[2]:
                b = self._by_column(node, node.input[2], len(W))
                b = b if beta == 1.0 else b.astype(np.float64) * beta
            W = W if alpha == 1.0 else W.astype(np.float64) * alpha
        if self.after_product:
            self._fold_back()
            self.layers[-1].activation = "identity"
        self.layers.append(self._fold_forward(node, W, b))

    def _weights(self, node: Any) -> HostArray:
        """Return the weights of a node; no two layers may share them, so that a file is as large as its network."""
        graph, name = self.graph, node.input[1]
        W = graph.constant(name)
        if W is None or W.ndim != 2:
            shape = "a value that is computed" if W is None else f"an array of shape {W.shape}"
            raise graph.error(node, f"expected weights that are a matrix, got {shape}")
        origin = graph.origin(name)
        if origin in self.origins:
            raise graph.error(node, "expected weights of its own, got those of another layer")
        self.origins.add(origin)
        if W.dtype not in (np.float32, np.float64):
            raise graph.error(node, f"expected weights of dtype float32 or float64, got {W.dtype}")
        self.dtype = self.dtype or W.dtype
        if W.dtype != self.dtype:
            raise graph.error(node, f"expected weights of one dtype, got {W.dtype} after {self.dtype}")
        return W

    def _by_column(self, node: Any, name: str, columns: int) -> HostArray:
        """Return a constant as one number for each of so many columns; 0 columns are an unknown number of them."""
        array = self.graph.constant(name)
        if array is None:
            raise self.graph.error(node, "expected a constant beside the value")
        if array.ndim > 2 or array.shape[:-1] not in ((), (1,)) or (columns and array.size not in (1, columns)):
            raise self.graph.error(node, f"expected a number, or one a column ({columns}), got shape {array.shape}")
        return np.broadcast_to(array.ravel(), columns) if columns else array.ravel()

    # -- what is folded into weights and biases -----------------------------------------------------------------

    def _scale(self, node: Any) -> bool:
        """Read what scales and shifts each column; return False for a node that takes a constant by the value."""
        graph, operator = self.graph, self.graph.operator(node)
        width = len(self.layers[-1].b) if self.layers else 0
        if operator == "BatchNormalization":
            self._normalize(node, width)
            return True
        if operator == "Scaler":
            offset, scale = (np.asarray(graph.attribute(node, name, [default])) for name, default in OF_SCALER)
            if not all(
                array.dtype.kind in "if" and array.size in (1, width or array.size) for array in (offset, scale)
            ):
                raise graph.error(node, f"expected a number, or one a column ({width}), as offset and scale")
            self._then(node, scale.astype(np.float64), -offset.astype(np.float64) * scale)
            return True
        if graph.attribute(node, "axis", -1) != -1:
            raise graph.error(node, "expected arrays that are aligned at their last axis (opset 7 and later)")
        first = node.input[0] == self.value
        if (operator == "Div" and not first) or node.input[0] == node.input[1]:
            return False
        c = self._by_column(node, node.input[1 if first else 0], width).astype(np.float64)
        with np.errstate(all="ignore"):
            s, t = {
                "Add": (np.ones(1), c),
                "Sub": (np.full(1, 1.0 if first else -1.0), -c if first else c),
                "Mul": (c, np.zeros(1)),
                "Div": (1.0 / c, np.zeros(1)),
            }[operator]
        self._then(node, s, t)
        return True

    def _normalize(self, node: Any, width: int) -> None:
        """Read a normalization by the mean and the variance of the training data."""
        if len(node.input) != 5 or self.graph.attribute(node, "training_mode", 0):
            raise self.graph.error(node, "expected a node for prediction, with five inputs")
        gamma, beta, mean, variance = (self._by_column(node, name, width).astype(np.float64) for name in node.input[1:])
        with np.errstate(all="ignore"):
            s = gamma / np.sqrt(variance + self.graph.attribute(node, "epsilon", 1e-5))
        self._then(node, s, beta - mean * s)

    def _then(self, node: Any, s: Floats, t: Floats) -> None:
        """Note that the value is scaled by s and shifted by t once more."""
        try:
            with np.errstate(all="ignore"):
                self.s, self.t = s * self.s, s * self.t + t
        except ValueError as error:
            raise self.graph.error(node, f"expected one number a column ({error})") from error
        if not (np.isfinite(self.s).all() and np.isfinite(self.t).all()):
            raise self.graph.error(node, "makes numbers that are not finite")

    def _fold_back(self) -> None:
        """Make s and t part of the last layer."""
        if self.is_scaled:
            layer = self.layers[-1]
            with np.errstate(all="ignore"):
                layer.W, layer.b = self.s[:, np.newaxis] * layer.W, self.s * layer.b + self.t
        self.s, self.t = np.ones(1), np.zeros(1)

    def _fold_forward(self, node: Any, W: HostArray, b: HostArray) -> Layer:
        """Make s and t part of a new layer with these weights."""
        s, t = self.s, self.t
        if not all(array.size in (1, W.shape[1]) for array in (s, t)):
            raise self.graph.error(node, f"expected weights for {max(s.size, t.size)} columns, got {W.shape[1]}")
        if self.is_scaled:
            with np.errstate(all="ignore"):
                b = b + W.astype(np.float64) @ np.broadcast_to(t, W.shape[1])
                W = W * s
        self.s, self.t = np.ones(1), np.zeros(1)
        return Layer(W, b)

    # -- the end ------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Check that nothing is left over."""
        graph = self.graph
        if self.after_product:
            self._fold_back()
            self.layers[-1].activation = "identity"
        elif self.is_scaled:
            raise graph.error(self.last, "expected a matrix product after it: outputs of a network are not scaled")
        made = {self.value}
        for node in graph.nodes:
            if not made.isdisjoint(node.input):
                made.update(node.output)
        left = sorted(name for name in graph.outputs - made if not graph.is_constant(name))
        if left:
            raise ValueError(f"{graph.path}: expected outputs of the last layer only, got also {left[0][:100]!r}")
        self.ended = True

    def described(self) -> Description:
        """Return the arguments of `Network`, weights and biases."""
        path, layers = self.graph.path, self.layers
        activations = [str(layer.activation) for layer in layers]
        for l, name in enumerate(activations[:-1]):
            if name not in HIDDEN_ACTIVATIONS:
                raise ValueError(
                    f"{path}: expected {name} at the end only, got it after layer {l + 1} of {len(layers)}"
                )
        configuration = {
            "layer_sizes": [layers[0].W.shape[1], *(len(layer.b) for layer in layers)],
            "hidden_activation": activations[:-1],
            "output_activation": activations[-1],
            "dtype": self.dtype.name,
        }
        with np.errstate(over="ignore"):
            weights: list[Any] = [layer.W.astype(self.dtype, copy=False) for layer in layers]
            biases: list[Any] = [layer.b.astype(self.dtype, copy=False) for layer in layers]
        if not all(np.isfinite(array).all() for array in (*weights, *biases)):
            raise ValueError(f"{path}: its scales and weights make numbers that are too large for {self.dtype.name}")
        return configuration, weights, biases
