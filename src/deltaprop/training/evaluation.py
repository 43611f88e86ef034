"""Predictions, costs and metrics over any number of rows, a block of them at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.array_types import AnyArray, ArrayLike, HostArray, Indices
from deltaprop.derivation.backprop import Objective, Workspace, add_cost, forward, total_weight
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.compiled_answers import CompiledAnswers
from deltaprop.epochs.compiled_evaluation import BLOCK, CompiledEvaluation
from deltaprop.inputs.arrays import HostData
from deltaprop.inputs.encoded_rows import EncodedRows
from deltaprop.inputs.sources import CHUNK_BYTES
from deltaprop.reports.history import History
from deltaprop.training.metrics import MeanOfParts, Metric, R2OfParts, of_parts

#: Rows of a block: enough for efficient matrix products, and few enough that a layer with this number of entries,
#: its z and its a, stays in a second-level cache.
LEAST_ROWS, MOST_ROWS, LAYER_ENTRIES = 5 * BLOCK, 40 * BLOCK, 50_000


@dataclass(frozen=True)
class ForwardPass:
    """The quantities of a forward pass; rows are samples.

    Parameters
    ----------
    z : list of array
        The inputs z^(2) … z^(L) of the activations, (m, s_l).
    a : list of array
        The outputs a^(1) … a^(L) of the layers, (m, s_l); ``a[0]`` is X and ``a[l + 1]`` is g(``z[l]``).

    See Also
    --------
    deltaprop.Network.forward : Makes it.

    Examples
    --------
    >>> import deltaprop as dp
    >>> seen = dp.Network([2, 3, 1]).forward([[0.0, 1.0]])
    >>> len(seen.z), len(seen.a), seen.a[0].tolist()
    (2, 3, [[0.0, 1.0]])
    """

    z: list[AnyArray]
    a: list[AnyArray]


def predict(network: NetworkState, X: ArrayLike) -> Array:
    """Compute a^(L), (…, m, s_L), for X : (…, m, s_1), or (m, s_1) for all members, a block of rows at a time.

    For `HostData`, the result is on the host. It is computed by the compiled library, where that can be had; this forms
    no inputs of `EncodedRows`.
    """
    compiled = CompiledEvaluation.of(network)
    if compiled is not None and isinstance(X, np.ndarray):
        return compiled.predict(X)
    if isinstance(X, HostData) and isinstance(X.array, EncodedRows):
        members = math.prod(network.lead)
        answers = CompiledAnswers.find(network, [X.array] * members)
        if answers is not None:
            outputs = np.empty((members, X.shape[0], network.layer_sizes[-1]), network.dtype)
            answers(np.arange(members), list(outputs))
            return outputs.reshape(*network.lead, *outputs.shape[1:])
    if compiled is not None and isinstance(X, HostData):
        of_rows = np.empty((*network.lead, X.shape[0], network.layer_sizes[-1]), network.dtype)
        for rows, inputs in _chunks(network, X):
            of_rows[..., rows, :] = compiled.predict(inputs, X.shape[0])
        return of_rows
    return layers(network, X, lambda work: [work.A[-1]])[0]


def predict_as_is(network: NetworkState, X: ArrayLike) -> HostArray | None:
    """Check X and compute a^(L) in one call; None if X is no array that can be read where it is, or not finite."""
    compiled = CompiledEvaluation.of(network)
    return compiled.checked_outputs(X) if compiled is not None and compiled.takes(X) else None


def layers(network: NetworkState, X: ArrayLike, chosen: Callable[[Workspace], list[Array]]) -> list[Array]:
    """Collect the arrays that `chosen` takes from the workspace of a forward pass, a block of rows at a time.

    Each is (…, m, s_l); for `HostData`, they are on the host.
    """
    if isinstance(X, HostData):
        return _layers_on_host(network, X, chosen)
    results: list[Array] = []
    m, empty = X.shape[-2], network.backend.empty
    for start, stop, work in _blocks(network, m):
        rows = slice(start, stop) if X.ndim == 2 else (slice(None), slice(start, stop))
        forward(network, X[rows], work)
        parts = chosen(work)
        if stop - start == m:
            return list(parts)  # the workspace belongs to this call
        results = results or [empty((*part.shape[:-2], m, part.shape[-1]), network.dtype) for part in parts]
        for result, part in zip(results, parts, strict=True):
            result[..., start:stop, :] = part
    return results


def _layers_on_host(network: NetworkState, X: HostData, chosen: Callable[[Workspace], list[Array]]) -> list[Array]:
    results: list[Array] = []
    for rows, inputs in _chunks(network, X):
        parts = [network.backend.to_numpy(part) for part in layers(network, inputs, chosen)]
        results = results or [np.empty((*part.shape[:-2], X.shape[0], part.shape[-1]), network.dtype) for part in parts]
        for result, part in zip(results, parts, strict=True):
            result[..., rows, :] = part
    return results


def largest(network: NetworkState, X: ArrayLike, of_rows: int = 0) -> Indices:
    """Find which output is the largest, (m,), for X : (m, s_1) on the host; only a block of a^(L) is held.

    X may be a part of so many rows.
    """
    if isinstance(X, HostData):
        return np.concatenate([largest(network, inputs, X.shape[0]) for _, inputs in _chunks(network, X)])
    compiled = CompiledEvaluation.of(network)
    if compiled is not None and isinstance(X, np.ndarray):
        return compiled.largest(X, of_rows)
    to_numpy = network.backend.to_numpy
    blocks = _blocks(network, X.shape[0])
    outputs = (to_numpy(forward(network, X[start:stop], work)) for start, stop, work in blocks)
    return np.concatenate([h.argmax(axis=1) for h in outputs])


def data_cost(
    network: NetworkState,
    X: ArrayLike,
    Y: ArrayLike,
    prediction: Array | None = None,
    sample_weight: Array | None = None,
) -> Array:
    """Compute Σ cost, () of float64, a block of rows at a time; write a^(L) into `prediction`, (m, s_L), if given.

    For `HostData`, `prediction` is an array on the host.
    """
    total = network.backend.zeros((), np.float64)
    if not isinstance(X, HostData):
        _add_cost(network, X, Y, total, prediction, sample_weight)
        return total
    for rows, h, _ in _predicted(network, X, Y, total, sample_weight, kept=prediction is not None):
        if prediction is not None:
            prediction[rows] = network.backend.to_numpy(h)
    return total


def validate(
    network: NetworkState,
    held_out: tuple[ArrayLike, ArrayLike, Array | None],
    objective: Objective,
    metrics: dict[str, Metric],
    history: History,
) -> None:
    """Append cost and metrics over validation data, from one forward pass, to `history`.

    The data are X, Y and sample weights, which count in the cost alone.
    """
    X, Y, sample_weight = held_out
    if isinstance(X, HostData):
        total, values = _validate_in_parts(network, X, Y, metrics, sample_weight)
    else:
        prediction = prediction_for(network, Y)
        total = data_cost(network, X, Y, prediction, sample_weight)
        values = {name: metric(prediction, Y) for name, metric in metrics.items()}
    record(history, objective.scale(total_weight(network, X, sample_weight)) * float(total), values)


def add_metrics(
    network: NetworkState,
    samples: tuple[ArrayLike, ArrayLike, Array | None],
    in_parts: Mapping[str, MeanOfParts | R2OfParts],
    predictions: list[HostArray] | None,
) -> float:
    """Return Σ cost over some samples, and add them to metrics; append a^(L) to `predictions`, if there is a list."""
    X, Y, sample_weight = samples
    backend, total = network.backend, network.backend.zeros((), np.float64)
    if isinstance(X, HostData):
        parts: Iterable[tuple[AnyArray, Array]] = (
            (h, targets) for _, h, targets in _predicted(network, X, Y, total, sample_weight)
        )
    else:
        prediction = prediction_for(network, Y)
        _add_cost(network, X, Y, total, prediction, sample_weight)
        parts = [(prediction, Y)]
    for h, targets in parts:
        for metric in in_parts.values():
            metric.add(h, targets)
        if predictions is not None:
            predictions.append(backend.to_numpy(h))
    return float(total)


def record(history: History, cost: float, values: Mapping[str, object]) -> None:
    """Append the validation cost and the values of metrics to `history`.

    Raises
    ------
    TypeError
        If a value is no number.
    """
    history.validation_cost.append(cost)
    for name, value in values.items():
        history.metrics[name].append(number_of(name, value))


def number_of(metric: str, value: object) -> float:
    """Return the value of a metric as a number.

    Raises
    ------
    TypeError
        If it is none.
    """
    try:
        return float(cast(Any, value))
    except (TypeError, ValueError):
        raise TypeError(f"metrics: expected a number from {metric}, got {value!r}") from None


def _validate_in_parts(
    network: NetworkState, X: HostData, Y: HostData, metrics: dict[str, Metric], sample_weight: Array | None
) -> tuple[Array, dict[str, float]]:
    """Compute Σ cost and the metrics chunk by chunk; only a metric of the user's own needs all predictions at once."""
    backend, total = network.backend, network.backend.zeros((), np.float64)
    in_parts = {name: parts for name, metric in metrics.items() if (parts := of_parts(metric)) is not None}
    others = {name: metric for name, metric in metrics.items() if name not in in_parts}
    whole = [np.empty(Y.shape, network.dtype) for _ in range(2)] if others else []
    for rows, h, targets in _predicted(network, X, Y, total, sample_weight):
        for parts in in_parts.values():
            parts.add(h, targets)
        for array, part in zip(whole, (h, targets), strict=False):
            array[rows] = backend.to_numpy(part)
    values = {name: metric(*whole) for name, metric in others.items()}
    values |= {name: parts.value() for name, parts in in_parts.items()}
    return total, {name: values[name] for name in metrics}


def prediction_for(network: NetworkState, Y: ArrayLike) -> Array:
    """Make a buffer for a^(L) of as many samples as Y has, for `data_cost`."""
    empty = np.empty if isinstance(Y, HostData) else network.backend.empty
    return empty(Y.shape, network.dtype)


def _add_cost(
    network: NetworkState,
    X: Array,
    Y: Array,
    total: Array,
    prediction: Array | None,
    sample_weight: Array | None,
    of_rows: int = 0,
) -> None:
    """Add Σ cost to `total`, and write a^(L) into `prediction`, where there is one; X may be a part of so many rows."""
    compiled = CompiledEvaluation.of(network)
    if compiled is not None and compiled.knows_loss and isinstance(X, np.ndarray):
        compiled.add_cost(X, Y, total, prediction, sample_weight, of_rows)
        return
    for start, stop, work in _blocks(network, X.shape[0]):
        h = forward(network, X[start:stop], work)
        add_cost(network, Y[start:stop], work, total, None if sample_weight is None else sample_weight[start:stop])
        if prediction is not None:
            prediction[start:stop] = h


def _predicted(
    network: NetworkState,
    X: HostData,
    Y: HostData,
    total: Array,
    sample_weight: Array | None = None,
    *,
    kept: bool = True,
) -> Iterator[tuple[slice, AnyArray, Array]]:
    """Yield chunk by chunk its rows, a^(L) (None unless `kept`), and its targets; add Σ cost to `total`."""
    backend = network.backend
    for rows, inputs in _chunks(network, X):
        targets = Y.rows(rows, backend, network.dtype)
        h = backend.empty(targets.shape, network.dtype) if kept else None
        own = None if sample_weight is None else sample_weight[rows]
        _add_cost(network, inputs, targets, total, h, own, X.shape[0])
        yield rows, h, targets


def _chunks(network: NetworkState, X: HostData) -> Iterator[tuple[slice, Array]]:
    """Yield slices of the rows of host data, and these rows as an array of the network's backend."""
    columns = network.layer_sizes[0] + max(network.layer_sizes[1:])
    at_once = max(1, CHUNK_BYTES // (columns * network.dtype.itemsize))
    # So that blocks have the same rows as for an array, and give the same numbers.
    block = next((rows for rows in (_rows_of_a_block(network), BLOCK) if at_once > rows), 1)
    at_once -= at_once % block
    for start in range(0, X.shape[0], at_once):
        rows = slice(start, min(start + at_once, X.shape[0]))
        yield rows, X.rows(rows, network.backend, network.dtype)


def _rows_of_a_block(network: NetworkState) -> int:
    entries = math.prod(network.lead) * max(network.layer_sizes[1:])
    return min(MOST_ROWS, max(LEAST_ROWS, LAYER_ENTRIES // entries // BLOCK * BLOCK))


def _blocks(network: NetworkState, m: int) -> Iterator[tuple[int, int, Workspace]]:
    """Yield (start, stop, workspace) over m rows; each call has its own workspace, so threads may share the network."""
    rows = min(m, _rows_of_a_block(network))
    work = Workspace(network, rows, backward=False)
    for start in range(0, m, rows):
        stop = min(start + rows, m)
        yield start, stop, work if stop - start == rows else Workspace(network, stop - start, backward=False)
