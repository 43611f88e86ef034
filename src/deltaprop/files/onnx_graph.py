"""What an ONNX model of another program holds: its nodes, its constants, and which node reads which value."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from deltaprop.backends.array_types import HostArray
from deltaprop.files.model_file import in_one_line

#: So many nodes at most: thousands of layers, and no file keeps the reader busy for long.
MOST_NODES = 10_000
#: Operators that make a constant of a constant, by what they do to an array, given a function that reads attributes
#: and the other inputs.
OF_CONSTANTS: dict[str, Callable[[HostArray, Callable[..., Any], list[HostArray]], HostArray]] = {
    "Identity": lambda array, attribute, others: array,
    "Cast": lambda array, attribute, others: array,  # the result is converted to the dtype of the network
    "Transpose": lambda array, attribute, others: array.transpose(attribute("perm", []) or None),
    "Reshape": lambda array, attribute, others: array.reshape(others[0].tolist()),
    "Unsqueeze": lambda array, attribute, others: np.expand_dims(
        array, tuple(others[0].tolist() if others else attribute("axes", []))
    ),
    "Squeeze": lambda array, attribute, others: np.squeeze(
        array, tuple(others[0].tolist() if others else attribute("axes", [])) or None
    ),
}
#: The sets of operators that are known here; no name is in two of them.
DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
#: What follows the outputs of a network without changing them: labels, tables of probabilities, other shapes.
AFTER_OUTPUTS = {
    *("ArgMax", "ArrayFeatureExtractor", "Binarizer", "Gather", "Greater", "LabelEncoder"),
    *("Cast", "Concat", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze", "ZipMap"),
}


class OnnxGraph:
    """A model that the checker of onnx has passed, so that nodes stand in the order in which they are computed.

    Parameters
    ----------
    path : path
        The file, for messages.
    onnx : module
        The package.
    model : onnx.ModelProto
        The model; nothing in it is trusted.

    Raises
    ------
    ValueError
        If it has more than one input or holds what no chain of layers has; the message begins with `path`.

    Attributes
    ----------
    input : str
        The name of the one input.
    shape : list of int
        Its shape, with 0 for what is not said; empty where nothing is said.
    nodes : list of onnx.NodeProto
        Those that are computed from the input.
    readers : dict of str to list of onnx.NodeProto
        For each value, the nodes that read it.
    outputs : set of str
        Names of the model's outputs.
    """

    def __init__(self, path: str | os.PathLike[str], onnx: Any, model: Any) -> None:
        self.path, self.onnx = path, onnx
        graph = model.graph
        if len(graph.node) > MOST_NODES:
            raise ValueError(f"{path}: expected at most {MOST_NODES} nodes, got {len(graph.node)}")
        if graph.sparse_initializer:
            raise ValueError(f"{path}: expected dense tensors, got sparse ones")
        if any(function.domain in DOMAINS for function in model.functions):
            raise ValueError(f"{path}: expected the usual operators, got a model that defines others of their names")
        self.opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._makers: dict[str, Any] = {}
        self.input, self.shape = self._find_input(graph)
        self.outputs = {output.name for output in graph.output}
        self.readers: dict[str, list[Any]] = defaultdict(list)
        self.nodes = self._sort(graph)
        self._after_outputs: set[str] = set()
        for node in reversed(self.nodes):
            if self._leaves_outputs(node):
                self._after_outputs.add(node.output[0])

    def _find_input(self, graph: Any) -> tuple[str, list[int]]:
        inputs = [given for given in graph.input if given.name not in self._tensors]
        if len(inputs) != 1:
            names = in_one_line([given.name for given in inputs])
            raise ValueError(f"{self.path}: expected a model with one input, got {len(inputs)}: {names}")
        kind = inputs[0].type
        if kind.WhichOneof("value") != "tensor_type":
            raise ValueError(f"{self.path}: expected an input that is a tensor, got {in_one_line(kind)}")
        return inputs[0].name, [dim.dim_value for dim in kind.tensor_type.shape.dim]

    def _sort(self, graph: Any) -> list[Any]:
        """Sort the nodes into those that make constants and those that are computed from the input; return these."""
        computed, kinds = {self.input}, self.onnx.AttributeProto
        found = []
        for node in graph.node:
            if any(attribute.type in (kinds.GRAPH, kinds.GRAPHS) for attribute in node.attribute):
                raise self.error(node, "expected a chain of layers, without loops and branches")
            if not computed.isdisjoint(node.input):
                computed.update(node.output)
                found.append(node)
                for name in dict.fromkeys(node.input):
                    self.readers[name].append(node)
            else:
                self._makers.update(dict.fromkeys(node.output, node))
        wrong = next((node for node in found if not (node.output and node.output[0])), None)
        if wrong is not None:
            raise self.error(wrong, "expected an output")
        others = self.outputs - computed - self._tensors.keys() - self._makers.keys()
        if others or self.outputs.isdisjoint(computed):
            raise ValueError(f"{self.path}: expected outputs that are computed from the input {self.input[:100]!r}")
        return found

    def _leaves_outputs(self, node: Any) -> bool:
        """Return whether a node and all that follow it leave the numbers that it reads as they are, or make labels."""
        operator = self.operator(node)
        known = operator in AFTER_OUTPUTS or self._is_complement(node)
        if operator == "Gather":  # of labels, not of some outputs
            known = self.is_constant(node.input[0])
        return known and len(node.output) == 1 and self.ends_at(node.output[0])

    def _is_complement(self, node: Any) -> bool:
        """Return whether a node makes 1 − h, the probability of the first of two classes, to stand beside h."""
        if self.operator(node) != "Sub" or [reader.op_type for reader in self.readers[node.output[0]]] != ["Concat"]:
            return False
        one = self.origin(node.input[0])
        if one in self._tensors and math.prod(self._tensors[one].dims) != 1:
            return False
        return self.is_constant(one) and bool((self._stored(one) == 1.0).all())

    def ends_at(self, value: str) -> bool:
        """Return whether nothing that is computed from a value belongs to the network."""
        return all(reader.output[0] in self._after_outputs for reader in self.readers[value])

    def error(self, node: Any, said: str) -> ValueError:
        """Make an error that names a node."""
        name = in_one_line(repr(node.name or node.output[0] if node.output else node.name))
        return ValueError(f"{self.path}: node {name} ({in_one_line(node.op_type)}): {in_one_line(said)}")

    @staticmethod
    def operator(node: Any) -> str:
        """Return the name of a node's operator; one of another set has the name of the set before it."""
        return node.op_type if node.domain in DOMAINS else f"{node.domain}.{node.op_type}"

    def attribute(self, node: Any, name: str, default: Any) -> Any:
        """Return an attribute of a node, or the default.

        Raises
        ------
        ValueError
            If it is of another type than the default, or not finite.
        """
        for attribute in node.attribute:
            if attribute.name != name:
                continue
            try:
                value = self.onnx.helper.get_attribute_value(attribute)
            except ValueError as error:
                raise self.error(node, f"damaged ({error})") from error
            value = value.decode(errors="replace") if isinstance(value, bytes) else value
            if isinstance(value, int | float) and isinstance(default, int | float):
                if not math.isfinite(value):
                    raise self.error(node, f"{name}: expected a finite number, got {value}")
            elif not isinstance(value, type(default)):
                raise self.error(node, f"{name}: expected {type(default).__name__}, got {type(value).__name__}")
            return value
        return default

    # -- constants ----------------------------------------------------------------------------------------------

    def is_constant(self, name: str) -> bool:
        """Return whether a value does not depend on the input."""
        return name in self._tensors or name in self._makers

    def origin(self, name: str) -> str:
        """Return the name of the tensor that a constant is made of."""
        while name not in self._tensors and name in self._makers and self._makers[name].op_type in OF_CONSTANTS:
            name = self._makers[name].input[0]
        return name

    def constant(self, name: str) -> HostArray | None:
        """Return a constant, or None where a value is computed from the input.

        Raises
        ------
        ValueError
            If it is damaged, not finite, of no number, or made by an operator that is not known here.
        """
        if not self.is_constant(name):
            return None
        origin, steps = self.origin(name), []
        while name != origin:
            steps.append(self._makers[name])
            name = steps[-1].input[0]
        array = self._stored(origin)
        for node in reversed(steps):
            others = [self._stored(other) for other in node.input[1:] if other]
            try:
                array = OF_CONSTANTS[node.op_type](array, partial(self.attribute, node), others)
            except (ValueError, TypeError, OverflowError, IndexError) as error:
                raise self.error(node, f"damaged ({error})") from error
        return array

    def _stored(self, name: str) -> HostArray:
        """Return the numbers of an initializer, or of a node Constant."""
        if name in self._tensors:
            return self._array(self._tensors[name], f"tensor {in_one_line(repr(name))}")
        node = self._makers.get(name)
        if node is None:
            raise ValueError(f"{self.path}: value {in_one_line(repr(name))}: expected a constant")
        if node.op_type != "Constant" or len(node.attribute) != 1:
            raise self.error(node, "expected an operator that is known here to make a constant")
        attribute = node.attribute[0]
        if attribute.name == "value":
            return self._array(attribute.t, f"the constant {in_one_line(repr(name))}")
        if attribute.name not in ("value_float", "value_floats", "value_int", "value_ints"):
            raise self.error(node, "expected numbers")
        return self._finite(
            np.asarray(self.onnx.helper.get_attribute_value(attribute)), f"the constant {in_one_line(repr(name))}"
        )

    def _array(self, tensor: Any, said: str) -> HostArray:
        kinds = self.onnx.TensorProto
        if tensor.data_type not in (kinds.FLOAT, kinds.DOUBLE, kinds.INT32, kinds.INT64, kinds.BOOL):
            known = tensor.data_type in kinds.DataType.values()
            kind = kinds.DataType.Name(tensor.data_type) if known else tensor.data_type
            raise ValueError(f"{self.path}: {said}: expected float32, float64 or whole numbers, got {kind}")
        try:
            array = self.onnx.numpy_helper.to_array(tensor)
        except Exception as error:
            raise ValueError(f"{self.path}: {said} is damaged ({in_one_line(error)})") from error
        if array.size != math.prod(tensor.dims) or array.size == 0:
            raise ValueError(f"{self.path}: {said}: expected numbers, got the shape {in_one_line(list(tensor.dims))}")
        return self._finite(array, said)

    def _finite(self, array: HostArray, said: str) -> HostArray:
        # Two numbers of the whole: no array is made.
        if not (math.isfinite(array.min()) and math.isfinite(array.max())):
            raise ValueError(f"{self.path}: {said} holds numbers that are not finite")
        return array
