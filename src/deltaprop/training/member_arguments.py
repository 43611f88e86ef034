"""What `NetworkStack` is handed for its members: one of each for all, or one each."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from deltaprop.arguments import refuse_masked
from deltaprop.backends import Array, backend_of
from deltaprop.derivation.optimizers import Optimizer
from deltaprop.errors import DivergenceError, callers_level
from deltaprop.reports.history import History


def stacked(arrays: list[Array]) -> Array:
    """Arrays of one kind with a new first axis."""
    if isinstance(arrays[0], np.ndarray):
        return np.stack(arrays)
    backend: Any = backend_of(arrays[0])
    result = backend.empty((len(arrays), *arrays[0].shape), arrays[0].dtype)
    for k, array in enumerate(arrays):
        result[k] = array
    return result


def one_each(name: str, value: Any, count: int, check: Any = None) -> list[Any]:
    """`value` for each of so many members: a sequence or vector of one each, or one for all; each as `check` has it.

    Raises
    ------
    ValueError
        If there are not as many as members; and whatever `check`, of the name and a value, raises.
    """
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
    if isinstance(value, range) or (isinstance(value, Sequence) and not isinstance(value, str)):
        if len(value) != count:
            raise ValueError(f"{name}: expected one for all members or {count}, one each, got {len(value)}")
        return [each if check is None else check(f"{name}[{k}]", each) for k, each in enumerate(value)]
    return [value if check is None else check(name, value)] * count


def check_optimizer(name: str, optimizer: Any) -> Optimizer:
    """`optimizer`, if it is one.

    Raises
    ------
    TypeError
        If it is not.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{name}: expected a dp.Optimizer (SGD, Adam, AdamW or your own), got {optimizer!r}")
    return optimizer


def rows_of_members(name: str, samples: Any, count: int, m: int) -> list[np.ndarray[Any, Any]]:
    """For each member whole numbers 0 … m − 1; members may share an array.

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
    known: dict[int, np.ndarray[Any, Any]] = {}
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


def report(histories: list[History]) -> list[History]:
    """Say which members have diverged.

    Raises
    ------
    DivergenceError
        Where all have.
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
