"""Activations in ONNX models: however many operators one is made of, it is known by its values."""

from __future__ import annotations

from typing import Any

import numpy as np

from deltaprop.backends.array_types import HostArray
from deltaprop.backends.numpy import ACTIVATION_FORMULAS
from deltaprop.files.onnx_graph import OnnxGraph

#: Operators that work element by element.
ARITHMETIC = {"Abs", "Add", "Div", "Exp", "Log", "Max", "Min", "Mul", "Neg", "Pow", "Reciprocal", "Sqrt", "Sub", "Sum"}
CHOICES = {"Clip", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Where"}
FUNCTIONS = {"Elu", "Erf", "Gelu", "LeakyRelu", "Relu", "Sigmoid", "Softplus", "Swish", "Tanh"}
ELEMENTWISE = ARITHMETIC | CHOICES | FUNCTIONS | {"Cast", "Dropout", "Identity"}
#: So many of them at most make an activation.
MOST_OPERATORS = 20
#: Where activations are compared: densely near 0, and far from it, where a limit would show.
NEAR = np.concatenate([np.linspace(-20.0, 20.0, 161), np.linspace(-0.1, 0.1, 20)])
FAR = np.concatenate([sign * np.geomspace(25.0, 1e9, 40) for sign in (-1.0, 1.0)])
POINTS = np.concatenate([NEAR, FAR])
#: How near the values have to be: constants are often kept as float32.
TOLERANCE = 1e-6


def find_activation(graph: OnnxGraph, z: str) -> tuple[str, str] | None:
    """Find the activation that is computed from a value, and the value that it makes.

    Nodes are taken in the order of the file, as long as they work element by element on what is known. Where all that
    is read later is one value, its numbers at some points are compared with those of our activations. The longest match
    counts: softplus begins with exp.

    Parameters
    ----------
    graph : OnnxGraph
        The model.
    z : str
        The name of the value.

    Returns
    -------
    (activation, value) or None
        Its name here and the name of g(z); None where there is no such activation.
    """
    values: dict[str, HostArray] = {z: POINTS}
    taken = 0
    waiting = {z: len(graph.readers[z])}  # how many nodes have yet to read each value
    found = None
    for node in graph.nodes:
        if taken == MOST_OPERATORS:
            break
        if values.keys().isdisjoint(node.input):
            continue
        made = _value(graph, node, values)
        if made is None:
            continue
        taken += 1
        output = node.output[0]
        for name in dict.fromkeys(node.input):
            if name in waiting:
                waiting[name] -= 1
        values[output], waiting[output] = made, len(graph.readers[output])
        unread = [name for name, count in waiting.items() if count or name in graph.outputs]
        if set(unread) <= {output}:
            activation = _known(made)
            found = found if activation is None else (activation, output)
    return found


def _value(graph: OnnxGraph, node: Any, values: dict[str, HostArray]) -> HostArray | None:
    """Compute what a node makes at the points; None where it is not known."""
    from onnx.reference import ReferenceEvaluator

    operator = graph.operator(node)
    if operator not in ELEMENTWISE:
        return None
    if operator in ("Cast", "Dropout", "Identity"):
        return values.get(node.input[0]) if is_harmless(graph, node) else None
    if operator == "Gelu":  # onnx cannot compute it by itself
        exact = graph.attribute(node, "approximate", "none") == "none"
        return _ours("gelu", values[node.input[0]]) if exact else None
    given = {}
    for name in node.input:
        number = values.get(name)
        if number is None and name:
            constant = graph.constant(name) if graph.is_constant(name) else None
            if constant is None or constant.size != 1 or constant.ndim > 2:
                return None
            number = np.asarray(constant.item(), np.float64)
        if number is not None:
            given[name] = number
    try:
        with np.errstate(all="ignore"):
            (made,) = ReferenceEvaluator(node, opsets={"": graph.opset}).run(None, given)
    except Exception as error:
        raise graph.error(node, f"cannot be computed ({error})") from error
    made = np.asarray(made)
    return made if made.shape == POINTS.shape else None


def _known(values: HostArray) -> str | None:
    """Return the name of the activation that has these values at the points."""
    if values.dtype != np.float64:
        return None
    # Far from 0, exp may be too large for float64 where ours, written otherwise, is not.
    compared = np.isfinite(values)
    if not compared[: len(NEAR)].all():
        return None
    values = values[compared]
    for name in ACTIVATION_FORMULAS:
        expected = _ours(name, POINTS)[compared]
        if np.isfinite(expected).all() and np.all(
            np.abs(values - expected) <= TOLERANCE * np.maximum(1.0, np.abs(expected))
        ):
            return name
    return None


def _ours(name: str, z: HostArray) -> HostArray:
    """Compute one of our activations."""
    g = np.empty_like(z)
    with np.errstate(all="ignore"):
        ACTIVATION_FORMULAS[name].value(z.copy(), g, np.empty_like(z))
    return g


def is_harmless(graph: OnnxGraph, node: Any) -> bool:
    """Return whether a node passes its first input on as it is: Identity, Dropout, Cast to floating-point numbers."""
    operator = graph.operator(node)
    if operator == "Dropout":
        training = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
        return training is not None and not training.any()
    kinds = graph.onnx.TensorProto
    return operator == "Identity" or (
        operator == "Cast" and graph.attribute(node, "to", 0) in (kinds.FLOAT, kinds.DOUBLE)
    )
