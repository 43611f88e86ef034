"""A learning-rate range test: a copy of the network is trained by one minibatch at each of several learning rates."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from deltaprop.backends.array_types import Floats, Indices
from deltaprop.derivation.backprop import Objective
from deltaprop.derivation.remembered import OptimizerState
from deltaprop.epochs.steps import Minibatch, Steps
from deltaprop.epochs.task import Task, weigh_samples
from deltaprop.ranks.base import ALONE

#: The orders of samples in a range test are drawn by a generator of its own.
RANGE_TEST_STREAM = 1729


def try_rates(
    task: Task, objective: Objective, host_weight: Floats | None, learning_rates: Sequence[float]
) -> list[float]:
    """Take a step of `task` at each learning rate in turn; return the mean cost of each minibatch before its step.

    Nothing of `task` changes: the steps are those of a copy of the network and of the optimizer's state. Only whole
    minibatches are used, in an order that depends on the network's seed. Units are not dropped out. It ends early
    where a cost is not finite, which is then the last.
    """
    network = task.network.copy()
    state = _copied(task)
    cost = network.backend.zeros((), np.float64)
    decay = network.backend.zeros((), np.float64)
    ours = replace(
        task, network=network, state=state, cost=cost, decay=decay, dropout=(), shuffled=True, ranks=ALONE, shares=None
    )
    steps = Steps(ours)
    steps.make_buffers(shuffled=True)
    costs: list[float] = []
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for rate, rows in zip(learning_rates, _minibatches(task), strict=False):
            weights, sums = None, [float(len(rows))]
            if host_weight is not None:
                weights, sums = weigh_samples(objective, host_weight, rows, [len(rows)])
            network.backend.fill(cost, 0.0)
            steps.take(
                _gathered(steps, rows, weights), objective.terms(len(rows), sums[0], _total(task, host_weight)), rate
            )
            counted = len(rows) if weights is None else float(weights.sum())
            costs.append(float(network.backend.to_numpy(cost)) / counted if counted else float("nan"))
            if not np.isfinite(costs[-1]):
                break
    return costs


def _total(task: Task, host_weight: Floats | None) -> float:
    return float(task.samples) if host_weight is None else float(host_weight.sum())


def _copied(task: Task) -> OptimizerState:
    """Copy the optimizer's state."""
    backend = task.network.backend
    return {name: backend.copy(v) if backend.owns(v) else copy.copy(v) for name, v in task.state.items()}


def _minibatches(task: Task) -> Iterator[Indices]:
    """Yield the rows of one minibatch after another, pass after pass, without end."""
    size = task.batch_size
    for number in itertools.count():
        rng = np.random.default_rng((task.network.seed, RANGE_TEST_STREAM, number))
        order = rng.permutation(task.samples)
        for start in range(0, task.samples - size + 1, size):
            yield order[start : start + size]


def _gathered(steps: Steps, rows: Indices, weights: Floats | None) -> Minibatch:
    """Gather a minibatch into the buffers of its size."""
    task, backend = steps.task, steps.network.backend
    of_X, of_Y = steps.batches[len(rows)]
    on_backend = backend.asarray(rows, np.int64)
    X, Y = backend.gather(task.X, on_backend, out=of_X), backend.gather(task.Y, on_backend, out=of_Y)
    own = None if weights is None else backend.asarray(weights, task.network.dtype)
    return Minibatch(0, X, Y, own)
