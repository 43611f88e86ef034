"""Networks as ONNX models: a Gemm and its activation a layer; the metadata hold what is needed to read them back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from deltaprop.backends.array_types import DType, Indices
from deltaprop.derivation.state import Configuration, NetworkState, StackState
from deltaprop.files.atomic_file import write_atomically
from deltaprop.files.file_schema import NetworkContent, network_content
from deltaprop.files.model_file import Tensors, in_one_line, parse_configuration, read_regular_file

#: Since this version the operators used here have not changed; runtimes of 2022 read it.
OPSET, IR_VERSION = 17, 8
KEY = "deltaprop"
#: Under this key a tabular estimator says what each column was taken for.
COLUMNS_KEY = "deltaprop.columns"
#: Activations that are one operator, and its attributes.
OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "identity": ("Identity", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    "exp": ("Exp", {}),
    "softmax": ("Softmax", {"axis": -1}),
}


def write_onnx(path: str | os.PathLike[str], network: NetworkState, configuration: Configuration) -> None:
    """Write a model with input ``X``, (m, s_1), and output ``h``, (m, s_L), in the dtype of `network`.

    Raises
    ------
    ImportError
        If onnx is not installed.
    OSError
        If it cannot be written; a file that was there stays whole.
    """
    graph = Graph(network.dtype)
    add_layers(graph, network, "X", "h")
    graph.add_input("X", network.dtype, network.layer_sizes[0])
    graph.add_output("h", network.dtype, network.layer_sizes[-1])
    graph.write(path, {KEY: json.dumps(configuration, sort_keys=True)})


def load_onnx(path: str | os.PathLike[str]) -> tuple[Any, dict[str, str]]:
    """Read a model, and what it says of itself, and check its form.

    Returns
    -------
    (model, properties)
        An ``onnx.ModelProto``, and the texts by key.

    Raises
    ------
    ImportError
        If onnx is not installed.
    OSError
        If there is no such file or it cannot be read.
    ValueError
        If it is damaged, refers to another file than ``PATH.data``, or holds a tabular estimator.
    """
    onnx = load_library()
    content = read_regular_file(path)
    if content[8:9] == b"{" and int.from_bytes(content[:8], "little") <= len(content) - 8:  # JSON and its length
        raise ValueError(f"{path}: a safetensors file, not an ONNX model; deltaprop.load reads what save wrote")
    try:
        model = onnx.load_model_from_string(content)
        own = [attribute.t for node in model.graph.node for attribute in node.attribute]
        tensors = (*model.graph.initializer, *own)
        outside = [tensor for tensor in tensors if onnx.external_data_helper.uses_external_data(tensor)]
    except Exception as error:
        raise ValueError(f"{path}: not an ONNX model, or a damaged one ({in_one_line(error)})") from error
    if outside:
        _bring_in(Path(path), outside)
    try:
        onnx.checker.check_model(model)
        properties = {entry.key: entry.value for entry in model.metadata_props}
    except Exception as error:
        raise ValueError(f"{path}: not an ONNX model, or a damaged one ({in_one_line(error)})") from error
    if COLUMNS_KEY in properties:
        raise ValueError(
            f"{path}: holds a tabular estimator, not a network, for ONNX runtimes alone; deltaprop.load reads what its "
            "save wrote"
        )
    return model, properties


def _bring_in(path: Path, tensors: Sequence[Any]) -> None:
    """Give tensors whose numbers are in ``PATH.data``, where PyTorch puts them, their numbers.

    No name in the model is used as a path. The parts of the file do not overlap, so that memory does not grow beyond
    its size.

    Raises
    ------
    OSError
        If ``PATH.data`` is needed, and is not there or cannot be read.
    ValueError
        If the numbers are in a file of another name, or not in the file.
    """
    expected = f"{path.name}.data"
    found = [{entry.key: entry.value for entry in tensor.external_data} for tensor in tensors]
    for there in found:
        if there.get("location") != expected:
            raise ValueError(
                f"{path}: its tensors are in another file, {in_one_line(repr(there.get('location', '')))}; expected "
                f"{expected!r} beside it, or one file, as torch.onnx.export(..., external_data=False) writes"
            )
    content = read_regular_file(path.with_name(expected))
    left = len(content)
    for tensor, there in zip(tensors, found, strict=True):
        try:
            begin = int(there.get("offset", "0"))
            length = int(there.get("length", str(len(content) - begin)))
        except ValueError:
            begin = length = -1
        if begin < 0 or not 0 <= length <= min(left, len(content) - begin):
            raise ValueError(
                f"{path}: tensor {in_one_line(repr(tensor.name))} lies outside of the {len(content)} bytes of "
                f"{expected}"
            )
        left -= length
        tensor.raw_data = content[begin : begin + length]
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")


def read_own(path: str | os.PathLike[str], model: Any, properties: dict[str, str]) -> tuple[NetworkContent, Tensors]:
    """Return the configuration and the tensors in a model that `write_onnx` wrote, and check them.

    Raises
    ------
    ValueError
        If they do not describe a network; the message begins with `path`.
    """
    to_array = load_library().numpy_helper.to_array
    try:
        layers = {tensor.name: to_array(tensor) for tensor in model.graph.initializer if "." in tensor.name}
    except Exception as error:
        raise ValueError(f"{path}: not an ONNX model, or a damaged one ({in_one_line(error)})") from error
    return network_content(path, parse_configuration(path, properties[KEY]), layers), layers


class Graph:
    """Collects nodes, constants, inputs and outputs as they are added, and writes them.

    Parameters
    ----------
    dtype : dtype
        Of the networks, and of constants for which no other is said.
    taken : iterable of str
        Names that no value of the graph may have, apart from inputs.

    Raises
    ------
    ImportError
        If onnx is not installed.
    """

    onnx: Any
    dtype: DType
    taken: frozenset[str]

    def __init__(self, dtype: DType, taken: Iterable[str] = ()) -> None:
        self.onnx, self.dtype, self.taken = load_library(), dtype, frozenset(taken)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def node(self, operator: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        """Add an operator on `inputs` and return the name of its output; ``domain`` may be among the attributes."""
        name = output or self.free_name(f"value{len(self.nodes)}")
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, name: str, value: Any, dtype: DTypeLike | None = None) -> str:
        """Add a constant and return its name."""
        array = np.asarray(value, dtype or self.dtype, order="C")
        name = self.free_name(name)
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def number(self, value: Any, dtype: DTypeLike | None = None) -> str:
        """Add a number, or an array of numbers, and return its name."""
        return self.constant(f"number{len(self.constants)}", value, dtype)

    def cast(self, value: str, dtype: DTypeLike) -> str:
        """Add a conversion to another dtype and return its name."""
        return self.node("Cast", [value], to=self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def free_name(self, name: str) -> str:
        """Return a name that is not taken: `name` itself, or with underscores after it."""
        while name in self.taken:
            name += "_"
        return name

    def add_input(self, name: str, dtype: DTypeLike, *columns: int, said: str = "") -> None:
        """Declare an input, (m, *columns), with a line that says what it is."""
        self.inputs.append(self._end(name, dtype, columns, said))

    def add_output(self, name: str, dtype: DTypeLike, *columns: int, said: str = "") -> None:
        """Declare an output, (m, *columns), with a line that says what it is."""
        self.outputs.append(self._end(name, dtype, columns, said))

    def _end(self, name: str, dtype: DTypeLike, columns: Sequence[int], said: str) -> Any:
        # NumPy has text of several dtypes, ONNX has one.
        kind, helper = np.dtype(dtype), self.onnx.helper
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(object) if kind.kind == "U" else kind)
        return helper.make_tensor_value_info(name, kind, ["m", *columns], said)

    def write(self, path: str | os.PathLike[str], properties: dict[str, str], **opsets: int) -> None:
        """Write the model to a file, all or nothing.

        Parameters
        ----------
        path : path
            The file.
        properties : dict of str to str
            What the model says of itself.
        **opsets : int
            Versions of further sets of operators.

        Raises
        ------
        OSError
            If it cannot be written; a file that was there stays whole.
        """
        helper, domains = self.onnx.helper, {"": OPSET} | {name.replace("_", "."): opsets[name] for name in opsets}
        model = helper.make_model(
            helper.make_graph(self.nodes, "deltaprop", self.inputs, self.outputs, self.constants),
            opset_imports=[helper.make_opsetid(*domain) for domain in domains.items()],
            ir_version=IR_VERSION,
            producer_name="deltaprop",
        )
        helper.set_model_props(model, properties)
        self.onnx.checker.check_model(model)
        write_atomically(path, model.SerializeToString())

    def activation(self, activation: str, z: str, output: str | None = None) -> str:
        """Add g(z) and return its name."""
        if activation in COMPOSED:
            return COMPOSED[activation](self, z, output)
        if activation not in OPERATORS:
            raise ValueError(f"activation: no ONNX operator is known for {activation!r}")
        operator, attributes = OPERATORS[activation]
        return self.node(operator, [z], output, **attributes)


def add_layers(graph: Graph, network: NetworkState, value: str, output: str | None = None) -> str:
    """Add all layers on a value, (m, s_1), and return the name of a^(L), (m, s_L)."""
    layers, last = zip(network.weights, network.biases, network.activations, strict=True), len(network.activations) - 1
    for l, (W, b, activation) in enumerate(layers):
        names = [
            graph.constant(f"{kind}.{l}", network.backend.to_numpy(x)) for kind, x in (("weights", W), ("biases", b))
        ]
        z = graph.node("Gemm", [value, *names], transB=1)
        value = graph.activation(activation, z, output if l == last else None)
    return value


def add_member_layers(graph: Graph, stack: StackState, value: str, order: Indices | None = None) -> str:
    """Add all layers of all members on a value, (m, s_1), and return the name of their a^(L), (K, m, s_L).

    Column i of the value is input ``order[i]`` of the networks; by default, input i.
    """
    for l, activation in enumerate(stack.activations):
        W, b = (stack.backend.to_numpy(x[l]) for x in (stack.weights, stack.biases))
        W = W[:, :, order] if l == 0 and order is not None else W
        z = graph.node("MatMul", [value, graph.constant(f"weights.{l}", W.transpose(0, 2, 1))])
        value = graph.activation(activation, graph.node("Add", [z, graph.constant(f"biases.{l}", b[:, np.newaxis])]))
    return value


def _softplus(graph: Graph, z: str, output: str | None) -> str:
    """Add max(z, 0) + log(1 + e^−|z|); the usual runtime has no operator Softplus for float64."""
    tail = graph.node("Exp", [graph.node("Neg", [graph.node("Abs", [z])])])
    tail = graph.node("Log", [graph.node("Add", [tail, graph.number(1.0)])])
    return graph.node("Add", [graph.node("Relu", [z]), tail], output)


def _silu(graph: Graph, z: str, output: str | None) -> str:
    """Add z σ(z)."""
    return graph.node("Mul", [z, graph.node("Sigmoid", [z])], output)


def _gelu(graph: Graph, z: str, output: str | None) -> str:
    """Add z (1 + erf(z/√2))/2, with erf in float32, since the usual runtime has no other."""
    scaled = graph.node("Mul", [z, graph.number(float(np.sqrt(0.5)))])
    narrow = graph.node("Cast", [scaled], to=graph.onnx.TensorProto.FLOAT)
    erf = graph.node("Cast", [graph.node("Erf", [narrow])], to=graph.onnx.helper.np_dtype_to_tensor_dtype(graph.dtype))
    share = graph.node("Mul", [graph.node("Add", [erf, graph.number(1.0)]), graph.number(0.5)])
    return graph.node("Mul", [z, share], output)


#: Activations that take several operators.
COMPOSED: dict[str, Callable[[Graph, str, str | None], str]] = {"softplus": _softplus, "silu": _silu, "gelu": _gelu}


def load_library() -> Any:
    """Import onnx and the parts of it that are needed here.

    Raises
    ------
    ImportError
        If it is not installed; the message names the extra that brings it.
    """
    try:
        import onnx
        import onnx.checker
        import onnx.external_data_helper
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise ImportError(f"ONNX files need onnx ({error}); pip install 'deltaprop[onnx]'") from error
    return onnx
