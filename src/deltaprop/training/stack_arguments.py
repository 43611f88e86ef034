"""What `NetworkStack` is told about its members: one value for all of them, or one each."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np

from deltaprop.arguments import check_dropout, check_whole_number, refuse_masked
from deltaprop.backends import Array, Backend, backend_of, get_backend
from deltaprop.backends.array_types import AnyArray, ArrayLike, Floats, Indices
from deltaprop.backends.choices import MetricName
from deltaprop.derivation.backprop import L2Scaling, Objective, Reduction
from deltaprop.derivation.optimizers import SGD
from deltaprop.derivation.state import NetworkState
from deltaprop.derivation.update_rule import Optimizer
from deltaprop.epochs.members import Member
from deltaprop.errors import DivergenceError, callers_level
from deltaprop.inputs.arrays import HostData, as_weights
from deltaprop.inputs.encoded_rows import EncodedRows
from deltaprop.inputs.refusals import not_rectangular
from deltaprop.reports.history import History
from deltaprop.training.fit_arguments import check_pair, recorded_metrics, resolve_validation
from deltaprop.training.hold_out import HeldOut, classes_in, draw_rows
from deltaprop.training.metrics import Metric


def stacked(arrays: Sequence[AnyArray]) -> AnyArray:
    """Stack arrays of one kind along a new first axis."""
    if isinstance(arrays[0], np.ndarray):
        return np.stack(arrays)
    backend: Any = backend_of(arrays[0])
    result = backend.empty((len(arrays), *arrays[0].shape), arrays[0].dtype)
    for k, array in enumerate(arrays):
        result[k] = array
    return result


def one_each(name: str, value: Any, count: int, check: Any = None) -> list[Any]:
    """List the value of each of so many members, from a sequence or vector of one each, or one for all.

    `check`, a function of a name and a value, checks and converts each.

    Raises
    ------
    ValueError
        If there are not as many as members; also what `check` raises.
    """
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
    if isinstance(value, range) or (isinstance(value, Sequence) and not isinstance(value, str)):
        if len(value) != count:
            raise ValueError(f"{name}: expected one for all members or {count}, one each, got {len(value)}")
        return [each if check is None else check(f"{name}[{k}]", each) for k, each in enumerate(value)]
    return [value if check is None else check(name, value)] * count


def check_optimizer(name: str, optimizer: object) -> Optimizer:
    """Return `optimizer`, if it is one.

    Raises
    ------
    TypeError
        If it is not.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{name}: expected a dp.Optimizer (SGD, Adam, AdamW or your own), got {optimizer!r}")
    return optimizer


def each_array(name: str, array: ArrayLike, count: int, axes: int = 2) -> list[Any]:
    """List the array of each member: its own if there is a member axis before `axes` others, else the same for all.

    Raises
    ------
    ValueError
        If the member axis has not one entry a member, or nested lists are no array.
    """
    try:
        own = np.ndim(array) > axes
    except ValueError as error:  # nested lists of many lengths
        raise not_rectangular(array, name, error) from error
    if not own:
        return [array] * count
    if len(array) != count:
        raise ValueError(f"{name}: expected {count} members on the first axis, got {len(array)}")
    return list(array)


def each_targets(Y: ArrayLike, count: int, outputs: int, own_X: bool) -> list[Any]:
    """List the targets of each member: with X its own, one row of labels each is no matrix of outputs."""
    each_array("Y", Y, count, axes=3)  # nested lists of many lengths are refused there
    labels = np.ndim(Y) == 2 and (own_X or np.shape(Y)[1] != outputs) and len(Y) == count
    return each_array("Y", Y, count, axes=1 if labels else 2)


def rows_of_members(name: str, samples: ArrayLike, count: int, m: int) -> list[Indices]:
    """List the row numbers, 0 … m − 1, of each member; members may share an array.

    Raises
    ------
    ValueError, TypeError
        If there are not as many arrays as members, or one holds anything else.
    """
    if not isinstance(samples, Iterable):
        raise TypeError(f"{name}: expected {count} arrays of row numbers, one a member, got {samples!r}")
    samples = list(samples)  # the rows of a matrix are made here, and live as long as their ids are looked up
    if len(samples) != count:
        raise ValueError(f"{name}: expected {count} arrays of row numbers, one a member, got {len(samples)}")
    known: dict[int, Indices] = {}
    for k, given in enumerate(samples):
        if id(given) in known:
            continue
        refuse_masked(given, f"{name}[{k}]")
        rows = np.asarray(given)
        if rows.dtype == bool and rows.shape == (m,):
            rows = np.flatnonzero(rows)
        if rows.ndim != 1 or rows.size == 0 or rows.dtype.kind not in "iu":
            raise ValueError(f"{name}[{k}]: expected row numbers, (m,), got shape {rows.shape} of {rows.dtype}")
        if int(rows.min()) < 0 or int(rows.max()) >= m:
            raise ValueError(f"{name}[{k}]: expected rows 0 … {m - 1}, got {int(rows.min())} … {int(rows.max())}")
        known[id(given)] = np.ascontiguousarray(rows, np.int64)
    return [known[id(given)] for given in samples]


def describe_members(
    stack: NetworkState,
    m: int,
    *,
    optimizer: Any,
    batch_size: Any,
    l2: Any,
    l2_scaling: L2Scaling,
    reduction: Reduction,
    sample_weight: ArrayLike,
    samples: ArrayLike,
    dropout: Any,
) -> list[Member]:
    """Check the arguments of `NetworkStack.fit` that members may have of their own, of `m` samples in all.

    Raises
    ------
    ValueError, TypeError
        If one of them is not what it has to be; the message names it and the member.
    """
    count = len(stack.parameters)
    rows = [None] * count if samples is None else rows_of_members("samples", samples, count, m)
    weights, own_weights = each_array("sample_weight", sample_weight, count, axes=1), np.ndim(sample_weight) > 1
    optimizers = one_each("optimizer", SGD() if optimizer is None else optimizer, count, check_optimizer)
    batch_sizes, penalties = one_each("batch_size", batch_size, count), one_each("l2", l2, count)
    dropouts = [dropout] * count if isinstance(dropout, Real) else one_each("dropout", dropout, count)
    members = []
    for k, own_rows in enumerate(rows):
        own_m, size = m if own_rows is None else len(own_rows), batch_sizes[k]
        members.append(
            Member(
                samples=own_m,
                batch_size=own_m if size is None else min(own_m, check_whole_number("batch_size", size, least=1)),
                optimizer=optimizers[k],
                objective=Objective(penalties[k], l2_scaling, reduction),
                rows=own_rows,
                sample_weight=_weights_of(stack, k, weights[k], m, own_rows, "samples", own=own_weights),
                dropout=check_dropout(dropouts[k], len(stack.layer_sizes) - 2),
            )
        )
    return members


def _weights_of(
    stack: NetworkState, k: int, sample_weight: ArrayLike, m: int, rows: Indices | None, rows_name: str, *, own: bool
) -> Floats | None:
    """Convert the sample weights of member k, on the host, to the dtype of the stack; `own` if others have others.

    `rows` are the rows that it has, by the argument `rows_name`.
    """
    if sample_weight is None:
        return None
    name = f"sample_weight[{k}]" if own else "sample_weight"
    checking = stack.backend if stack.backend.owns(sample_weight) else get_backend("numpy")
    checked = as_weights(sample_weight, name, rows=m, backend=checking, dtype=stack.dtype)
    weights: Floats = checking.to_numpy(checked)
    if rows is None:
        return weights
    weights = weights[rows]
    if not weights.any():
        raise ValueError(f"{name}: expected a weight above 0 in the rows of {rows_name}[{k}], got none")
    return weights


def resolve_held_out(
    networks: Sequence[NetworkState],
    validation: object,
    validation_samples: Sequence[ArrayLike] | None,
    metrics: Sequence[MetricName | Metric] | None,
    inputs: AnyArray,
    targets: Array,
    sample_weight: ArrayLike,
) -> tuple[list[HeldOut] | None, dict[str, Metric]]:
    """Find the data on which each member is validated, and the metrics that are recorded on them.

    Rows of X and Y keep their sample weights; validation data of their own have none.

    Raises
    ------
    ValueError, TypeError
        As `resolve_validation`; also if there are validation data and rows, or not as many of either as members.
    """
    if validation_samples is not None:
        if validation is not None:
            raise ValueError("validation_samples: expected None with validation data, got both")
        rows = rows_of_members("validation_samples", validation_samples, len(networks), inputs.shape[-2])
        weights = _held_out_weights(networks, sample_weight, rows, inputs.shape[-2])
        chosen = _chosen(rows, networks[0].backend, inputs, targets)
        held_out = [(x, y, w) for (x, y), w in zip(chosen, weights, strict=True)]
        return held_out, recorded_metrics(networks[0], metrics, validates=True)
    if validation is None:
        return None, recorded_metrics(networks[0], metrics, validates=False)
    X, Y = check_pair(validation)
    count = len(networks)
    each_X = each_array("validation X", X, count)
    each_Y = each_targets(Y, count, networks[0].layer_sizes[-1], np.ndim(X) == 3)
    known: dict[tuple[int, int], tuple[Any, dict[str, Metric]]] = {}
    for network, x, y in zip(networks, each_X, each_Y, strict=True):
        if (id(x), id(y)) not in known:
            known[id(x), id(y)] = resolve_validation(network, (x, y), metrics)
    given = [known[id(x), id(y)][0] for x, y in zip(each_X, each_Y, strict=True)]
    return given, known[id(each_X[0]), id(each_Y[0])][1]


def check_alone(samples: object, validation_samples: object) -> None:
    """Refuse a fraction of the rows together with rows by number.

    Raises
    ------
    ValueError
        If there are any.
    """
    if samples is not None or validation_samples is not None:
        name = "samples" if validation_samples is None else "validation_samples"
        raise ValueError(
            f"validation: expected no fraction with {name}; the rows that judge each member are validation_samples then"
        )


def rows_held_out(
    networks: Sequence[NetworkState], inputs: AnyArray, targets: AnyArray, fraction: float
) -> tuple[list[Indices], list[Indices]]:
    """Draw the rows that each member is trained on, and those it is validated on, as it would draw them alone.

    Members of one seed and the same targets share them.

    Raises
    ------
    ValueError
        If no row is left to train on.
    """
    own = targets.ndim == 3
    classes: dict[int, Indices | None] = {}
    known: dict[tuple[int, int], tuple[Indices, Indices]] = {}
    keys = [(network.seed, k if own else 0) for k, network in enumerate(networks)]
    for network, (seed, which) in zip(networks, keys, strict=True):
        if which not in classes:
            classes[which] = classes_in(network, iter([targets[which] if own else targets]))
        if (seed, which) not in known:
            known[seed, which] = draw_rows(seed, inputs.shape[-2], fraction, classes[which])
    return [known[key][0] for key in keys], [known[key][1] for key in keys]


def _held_out_weights(
    networks: Sequence[NetworkState], sample_weight: ArrayLike, rows: Sequence[Indices], m: int
) -> list[Array | None]:
    """Take the sample weights of the rows that each member is validated on, as arrays of its backend."""
    each, own = each_array("sample_weight", sample_weight, len(rows), axes=1), np.ndim(sample_weight) > 1
    taken: list[Array | None] = []
    for k, (network, weights, mine) in enumerate(zip(networks, each, rows, strict=True)):
        on_host = _weights_of(network, k, weights, m, mine, "validation_samples", own=own)
        taken.append(None if on_host is None else network.backend.asarray(on_host, network.dtype))
    return taken


def _chosen(
    rows: Sequence[Indices], backend: Backend, inputs: AnyArray, targets: Array
) -> list[tuple[AnyArray, AnyArray]]:
    """Take each member's rows from the samples, which have the member axis or have it not.

    Rows of `EncodedRows` stay as they are stored, in `HostData`.
    """
    if isinstance(inputs, EncodedRows):
        return [(HostData(inputs.take(each)), HostData(targets[each])) for each in rows]
    own = inputs.ndim == 3
    chosen = []
    for k, each in enumerate(rows):
        index = backend.asarray(each, np.int64)
        chosen.append(((inputs[k] if own else inputs)[index], (targets[k] if own else targets)[index]))
    return chosen


def report(histories: list[History]) -> list[History]:
    """Warn of members that have diverged.

    Raises
    ------
    DivergenceError
        If all have.
    """
    diverged = [k for k, history in enumerate(histories) if history.diverged]
    if not diverged:
        return histories
    message = f"members {diverged} of {len(histories)} diverged; the first: {histories[diverged[0]].message}"
    if len(diverged) == len(histories):
        first = histories[0]
        rate = first.learning_rate[-1] if first.learning_rate else float("nan")
        raise DivergenceError(message, epoch=first.epochs + 1, learning_rate=rate, history=first)
    warnings.warn(message, RuntimeWarning, stacklevel=callers_level())
    return histories
