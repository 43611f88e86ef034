"""Networks as ONNX models: a Gemm and its activation a layer; the metadata hold what is needed to read them back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from deltaprop.backends.array_types import DType
from deltaprop.derivation.state import Configuration, NetworkState
from deltaprop.files.atomic_file import write_atomically
from deltaprop.files.file_schema import NetworkContent, network_content
from deltaprop.files.model_file import Tensors, in_one_line, parse_configuration, read_regular_file

#: Since this version the operators used here have not changed; runtimes of 2022 read it.
OPSET, IR_VERSION = 17, 8
KEY = "deltaprop"
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
    onnx = _onnx()
    graph = Graph(onnx, network.dtype)
    layers = zip(network.weights, network.biases, network.activations, strict=True)
    value, last = "X", len(network.activations) - 1
    for l, (W, b, activation) in enumerate(layers):
        names = [
            graph.constant(f"{kind}.{l}", network.backend.to_numpy(x)) for kind, x in (("weights", W), ("biases", b))
        ]
        z = graph.node("Gemm", [value, *names], transB=1)
        value = graph.activation(activation, z, "h" if l == last else None)
    kind = onnx.helper.np_dtype_to_tensor_dtype(network.dtype)
    ends = [
        onnx.helper.make_tensor_value_info(name, kind, ["m", size])
        for name, size in (("X", network.layer_sizes[0]), ("h", network.layer_sizes[-1]))
    ]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, "deltaprop", ends[:1], ends[1:], graph.constants),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="deltaprop",
    )
    onnx.helper.set_model_props(model, {KEY: json.dumps(configuration, sort_keys=True)})
    onnx.checker.check_model(model)
    write_atomically(path, model.SerializeToString())


def read_onnx(path: str | os.PathLike[str]) -> tuple[NetworkContent, Tensors]:
    """Read the configuration and the tensors from a file that `write_onnx` wrote, and check them.

    Raises
    ------
    ImportError
        If onnx is not installed.
    OSError
        If there is no such file or it cannot be read.
    ValueError
        If it is damaged, or not a model of this package.
    """
    onnx = _onnx()
    content = read_regular_file(path)
    try:
        model = onnx.load_model_from_string(content)
        if any(onnx.external_data_helper.uses_external_data(tensor) for tensor in model.graph.initializer):
            raise ValueError("its tensors are in another file")
        onnx.checker.check_model(model)
        properties = {entry.key: entry.value for entry in model.metadata_props}
        tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    except Exception as error:
        raise ValueError(f"{path}: not an ONNX model, or a damaged one ({in_one_line(error)})") from error
    if KEY not in properties:
        raise ValueError(f"{path}: an ONNX model of another program: it does not say which network it is")
    layers = {name: tensor for name, tensor in tensors.items() if "." in name}
    return network_content(path, parse_configuration(path, properties[KEY]), layers), layers


class Graph:
    """Collects nodes and constants as they are added."""

    def __init__(self, onnx: Any, dtype: DType) -> None:
        self.onnx, self.dtype = onnx, dtype
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, operator: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        """Add an operator on `inputs` and return the name of its output."""
        name = output or f"value{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, name: str, value: Any) -> str:
        """Add a constant in the network's dtype and return its name."""
        array = np.ascontiguousarray(value, self.dtype)
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def number(self, value: float) -> str:
        """Add a number and return its name."""
        return self.constant(f"number{len(self.constants)}", value)

    def activation(self, activation: str, z: str, output: str | None) -> str:
        """Add g(z) and return its name."""
        if activation in COMPOSED:
            return COMPOSED[activation](self, z, output)
        operator, attributes = OPERATORS[activation]
        return self.node(operator, [z], output, **attributes)


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


def _onnx() -> Any:
    try:
        import onnx
        import onnx.checker
        import onnx.external_data_helper
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise ImportError(f"ONNX files need onnx ({error}); pip install 'deltaprop[onnx]'") from error
    return onnx
