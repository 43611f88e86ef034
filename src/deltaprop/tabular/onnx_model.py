"""A tabular estimator as an ONNX model: raw columns in, labels and probabilities or a quantity out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection

import numpy as np

from deltaprop.backends.array_types import Floats, HostArray, Indices
from deltaprop.files.onnx_file import COLUMNS_KEY, Graph, add_member_layers
from deltaprop.stack import NetworkStack
from deltaprop.tabular.calibration import LEAST
from deltaprop.tabular.column_roles import ColumnRoles
from deltaprop.tabular.onnx_columns import ML_OPSET, add_encoding
from deltaprop.tabular.table_encoding import TableEncoding
from deltaprop.tabular.targets import QuantityTargets

#: For each role, the dtype of the input and what it is.
INPUTS: dict[str, tuple[type, str]] = {
    "number": (np.float64, "a number; NaN is a gap"),
    "category": (object, "text without spaces around it; '' is a gap"),
    "date": (np.int64, "seconds since 1970 in UTC; the least number of int64 is a gap"),
}


def write_estimator(
    path: str | os.PathLike[str],
    stack: NetworkStack,
    member_weights: Floats,
    encoding: TableEncoding,
    roles: ColumnRoles,
    add_outputs: Callable[[Graph, str], None],
) -> None:
    """Write a model with one input for each column of the table that matters, (m, 1).

    Parameters
    ----------
    path : path
        A file that is there is replaced.
    stack : NetworkStack
        The members.
    member_weights : array, (K,)
        How much each counts in the mean.
    encoding : TableEncoding
        How columns become their inputs.
    roles : ColumnRoles
        What each column was taken for.
    add_outputs : callable
        Adds the outputs to the graph, given the name of the members' mean outputs, (m, s_L) of float64.

    Raises
    ------
    ImportError
        If onnx is not installed.
    OSError
        If it cannot be written; a file that was there stays whole.
    """
    matter = {column.name for column in encoding.columns}
    used = [role for role in roles if role.name in matter]
    columns = {role.name: role.name or _name_for_unnamed(matter) for role in used}
    graph = Graph(np.dtype(np.float32), taken=columns.values())
    for role in used:
        dtype, said = INPUTS[role.role]
        graph.add_input(columns[role.name], dtype, 1, said=said)
    value, order = add_encoding(graph, encoding, columns)
    add_outputs(graph, _mean_outputs(graph, stack, member_weights, value, order))
    described = [{"name": role.name, "role": role.role, "reason": role.reason} for role in roles]
    graph.write(path, {COLUMNS_KEY: json.dumps(described)}, ai_onnx_ml=ML_OPSET)


def _name_for_unnamed(names: Collection[str]) -> str:
    """Return a name for a column whose name is empty: ONNX has no such inputs."""
    name = "unnamed"
    while name in names:
        name += "_"
    return name


def _mean_outputs(graph: Graph, stack: NetworkStack, member_weights: Floats, inputs: str, order: Indices) -> str:
    """Add all members at once, with a member axis before the others, and the weighted mean of their outputs."""
    value = add_member_layers(graph, stack, inputs, order)
    weights = graph.constant("member_weights", member_weights[:, np.newaxis, np.newaxis], np.dtype(np.float64))
    weighted = graph.node("Mul", [graph.cast(value, np.float64), weights])
    return graph.node("ReduceSum", [weighted, graph.number([0], np.int64)], keepdims=0)


def add_classes(graph: Graph, mean: str, classes: HostArray, temperature: float) -> None:
    """Add the outputs ``label``, (m,), and ``probabilities``, (m, k) of float64.

    Parameters
    ----------
    graph : Graph
        Where to add them.
    mean : str
        The name of the mean probabilities, (m, k).
    classes : array, (k,)
        The labels.
    temperature : float
        As of `tempered`.
    """
    label, probabilities = graph.free_name("label"), graph.free_name("probabilities")
    dtype = np.dtype(object) if classes.dtype.kind in "UO" else classes.dtype.newbyteorder("=")
    numbers = graph.node("ArgMax", [mean], axis=1, keepdims=0)
    graph.node("Gather", [graph.constant("classes", classes, dtype), numbers], label)
    logs = graph.node("Log", [graph.node("Max", [mean, graph.number(LEAST, np.float64)])])
    logs = graph.node("Div", [logs, graph.number(temperature, np.float64)])
    graph.node("Softmax", [logs], probabilities, axis=1)
    graph.add_output(label, dtype, said="the most probable class")
    graph.add_output(probabilities, np.float64, len(classes), said="of the classes in ascending order")


def add_quantity(graph: Graph, mean: str, targets: QuantityTargets) -> None:
    """Add the output ``value``, (m,) of float64.

    Parameters
    ----------
    graph : Graph
        Where to add it.
    mean : str
        The name of the mean outputs, (m, 1).
    targets : QuantityTargets
        How outputs become quantities.
    """
    value = graph.free_name("value")
    spread, offset, lowest, highest = (
        graph.number(number, np.float64) for number in (targets.spread, targets.mean, targets.lowest, targets.highest)
    )
    scaled = graph.node("Add", [graph.node("Mul", [mean, spread]), offset])
    flat = graph.node("Squeeze", [scaled, graph.number([1], np.int64)])
    graph.node("Clip", [flat, lowest, highest], value)
    graph.add_output(value, np.float64, said="the quantity")
