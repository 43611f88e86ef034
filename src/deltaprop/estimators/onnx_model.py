"""Fitted estimators in ONNX operators: features in, labels and probabilities or quantities out."""

from __future__ import annotations

import os
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike
from sklearn.base import is_classifier

from deltaprop.arguments import check_choice
from deltaprop.backends.array_types import HostArray
from deltaprop.files.onnx_file import Graph, add_layers, add_member_layers


class Output(NamedTuple):
    """An output of the model: its name, its dtype, its columns, and what it is."""

    name: str
    dtype: DTypeLike
    columns: tuple[int, ...]
    said: str


def write_estimator(path: str | os.PathLike[str], estimator: Any, dtype: DTypeLike | None) -> None:
    """Write a model with input ``X``, (m, n_features); see `OnnxExport.to_onnx`."""
    network = network_of(estimator)
    name = network.dtype.name if dtype is None else dtype if isinstance(dtype, str) else np.dtype(dtype).name
    kind = np.dtype(check_choice("dtype", name, Literal["float32", "float64"]))
    graph = Graph(kind)
    graph.add_input("X", kind, network.layer_sizes[0])
    for output in add_outputs(graph, estimator, "X"):
        graph.add_output(output.name, output.dtype, *output.columns, said=output.said)
    graph.write(path, {})


def network_of(estimator: Any) -> Any:
    """Return the network of a fitted estimator, or the stack of an ensemble."""
    return estimator.stack_ if is_ensemble(estimator) else estimator.network_


def is_ensemble(estimator: Any) -> bool:
    """Return whether a fitted estimator is an ensemble, whose networks are a stack."""
    return hasattr(estimator, "stack_")


def one_of(estimator: Any) -> Any:
    """Return a fitted estimator, or of an ensemble one that knows the same labels."""
    return estimator._template if is_ensemble(estimator) else estimator


def add_outputs(graph: Graph, estimator: Any, value: str, classes: HostArray | None = None) -> list[Output]:
    """Add what an estimator predicts from a value, (m, n_features) in the dtype of the graph.

    Parameters
    ----------
    graph : Graph
        Where to add it.
    estimator : MLPClassifier, MLPRegressor, EnsembleClassifier or EnsembleRegressor
        A fitted estimator.
    value : str
        The name of the value.
    classes : array, (n_classes,), optional
        Labels in place of those that the estimator has.

    Returns
    -------
    list of Output
        ``label`` and ``probabilities``, or ``variable``.

    Raises
    ------
    ValueError
        If a parameter is too large for the dtype of the graph, or ONNX has no such labels.
    """
    network = network_of(estimator)
    with network.backend.scope():
        with np.errstate(over="ignore"):
            fits = np.isfinite(network.backend.to_numpy(network.parameters).astype(graph.dtype)).all()
        if not fits:
            raise ValueError(f"dtype: expected 'float64' for parameters that are too large for {graph.dtype.name}")
        if is_classifier(estimator):
            return _add_classes(graph, estimator, network, value, classes)
        if is_ensemble(estimator):
            _add_mean(graph, network, add_member_layers(graph, network, value), "variable")
        else:
            add_layers(graph, network, value, "variable")
    return [Output("variable", graph.dtype, (network.layer_sizes[-1],), "the predicted value of each output")]


def _add_mean(graph: Graph, stack: Any, outputs: str, name: str | None = None) -> str:
    """Add the mean over the members, (m, s_L), of their outputs, (K, m, s_L)."""
    total = graph.node("ReduceSum", [outputs, graph.number([0], np.int64)], keepdims=0)
    return graph.node("Div", [total, graph.number(len(stack.seeds))], name)


def _add_scores(graph: Graph, estimator: Any, network: Any, value: str) -> tuple[str, str]:
    """Add what the labels go by, and the probabilities, (m, s_L) both; one output is the second class's."""
    divides = one_of(estimator)._divides()

    def shares(outputs: str) -> str:
        if not divides:
            return outputs
        return graph.node("Div", [outputs, graph.node("ReduceSum", [outputs, graph.number([-1], np.int64)])])

    if is_ensemble(estimator):
        mean = _add_mean(graph, network, shares(add_member_layers(graph, network, value)))
        return mean, mean
    outputs = add_layers(graph, network, value)
    return outputs, shares(outputs)


def _add_classes(graph: Graph, estimator: Any, network: Any, value: str, classes: HostArray | None) -> list[Output]:
    """Add ``label`` and ``probabilities``."""
    outputs, int64 = network.layer_sizes[-1], graph.onnx.TensorProto.INT64
    scores, shares = _add_scores(graph, estimator, network, value)
    described = Output("probabilities", graph.dtype, (max(outputs, 2),), "of the classes in the order of classes_")
    if outputs == 1:
        first = graph.node("Sub", [graph.number(1.0), shares])
        graph.node("Concat", [first, shares], described.name, axis=1)
    else:
        graph.node("Identity", [shares], described.name)
    kind = one_of(estimator)._label_binarizer.y_type_
    if kind.startswith("multilabel"):
        graph.node("Cast", [_add_greater(graph, scores)], "label", to=int64)
        return [Output("label", np.int64, (outputs,), "1 for each label that is more probable than not"), described]
    labels = labels_in_onnx(estimator.classes_ if classes is None else classes)
    if outputs == 1:
        numbers = graph.node("Cast", [_add_greater(graph, scores)], to=int64)
        numbers = graph.node("Reshape", [numbers, graph.number([-1], np.int64)])
        labels = labels.repeat(2) if len(labels) == 1 else labels
    else:
        numbers = graph.node("ArgMax", [scores], axis=1, keepdims=0)
    graph.node("Gather", [graph.constant("classes", labels, labels.dtype), numbers], "label")
    return [Output("label", labels.dtype, (), "the most probable class"), described]


def _add_greater(graph: Graph, scores: str) -> str:
    """Add whether each is above one half."""
    return graph.node("Greater", [scores, graph.number(0.5)])


def labels_in_onnx(classes: HostArray) -> HostArray:
    """Return labels in a dtype that ONNX has for them: text or int64.

    Raises
    ------
    ValueError
        If they are of another kind, or there is no int64 for one.
    """
    plain = np.asarray(classes.tolist()) if classes.dtype == object else classes
    if plain.dtype.kind == "U" and all(isinstance(label, str) for label in classes.tolist()):
        return plain.astype(object)
    if plain.dtype.kind not in "iufb":
        raise ValueError(f"classes_: ONNX has labels that are text or whole numbers, got {classes.tolist()!r:.100}")
    numbers = [int(label) for label in plain.tolist()]
    if numbers != plain.tolist() or not all(-(2**63) <= number < 2**63 for number in numbers):
        raise ValueError(f"classes_: expected whole numbers of 64 bits for ONNX, got {classes.tolist()!r:.100}")
    return np.asarray(numbers, np.int64)
