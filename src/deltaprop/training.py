"""The epoch loop: minibatches, validation, early stopping, callbacks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deltaprop.backends import Array
from deltaprop.backprop import Objective, Workspace, backward, forward, total_weight
from deltaprop.callbacks import Callback, EpochEnd
from deltaprop.early_stopping import EarlyStopping
from deltaprop.errors import DivergenceError
from deltaprop.evaluation import validate
from deltaprop.history import History
from deltaprop.metrics import Metric
from deltaprop.network import SHUFFLE_STREAM, NetworkState
from deltaprop.optimizers import Optimizer
from deltaprop.parameters import Parameters
from deltaprop.progress import Progress, progress_bar


@dataclass(frozen=True)
class Plan:
    """Everything `train` has been told besides the data, checked at the public door."""

    optimizer: Optimizer
    batch_size: int | None
    epochs: int
    objective: Objective
    shuffle: bool
    metrics: dict[str, Metric]
    early_stopping: EarlyStopping | None
    callbacks: Sequence[Callback]
    progress: bool


class Trainer:
    """The buffers of training and one method a piece of it; nothing is allocated in `step`."""

    def __init__(
        self, network: NetworkState, X: Array, Y: Array, plan: Plan, sample_weight: Array | None = None
    ) -> None:
        self.network, self.X, self.Y, self.plan, self.sample_weight = network, X, Y, plan, sample_weight
        self.samples = X.shape[0]
        self.m = total_weight(X, sample_weight)
        self.batch_size = min(plan.batch_size or self.samples, self.samples)
        # What the weights of a minibatch sum to has to be known on the host, and without asking the device for it.
        self.host_weight = None if sample_weight is None else network.backend.to_numpy(sample_weight)
        self.gradient = Parameters(network.backend, network.layer_sizes, network.dtype)
        self.state = plan.optimizer.init(network)
        self.cost = network.backend.zeros((), np.float64)
        self.penalty = plan.objective.penalty(self.m)
        # Two sizes at most occur: the full minibatch and the short one that ends an epoch.
        sizes = {self.batch_size, self.samples % self.batch_size} - {0}
        self.work = {size: Workspace(network, size) for size in sizes}
        self.gathers = plan.shuffle and self.batch_size < self.samples
        empty, dtype = network.backend.empty, network.dtype
        self.batches = {
            size: (
                empty((size, X.shape[1]), dtype),
                empty((size, Y.shape[1]), dtype),
                None if sample_weight is None else empty((size,), dtype),
            )
            for size in sizes
            if self.gathers
        }

    def step(self, X: Array, Y: Array, m: float, learning_rate: float, sample_weight: Array | None = None) -> None:
        """Forward, backward, update: θ := θ − η ∂J/∂θ over one minibatch, X : (n, s_1), Y : (n, s_L).

        `m` is n, or what the sample weights, (n,), sum to; where that is 0, none of the samples counts.
        """
        work = self.work[X.shape[0]]
        scale = self.plan.objective.scale(m or 1.0)
        forward(self.network, X, work)
        backward(
            self.network,
            Y,
            work,
            self.gradient,
            self.cost,
            scale=scale,
            penalty=self.penalty,
            sample_weight=sample_weight,
        )
        self.plan.optimizer.update(self.network, self.gradient, self.state, learning_rate)

    def epoch(self, learning_rate: float, progress: Progress) -> float:
        """Every sample once, in minibatches; returns J over the epoch."""
        network, backend = self.network, self.network.backend
        order = None
        if self.gathers:
            order = backend.permutation(self.samples, (network.seed, SHUFFLE_STREAM, network.epochs_trained))
        self.cost.fill(0)
        starts = range(0, self.samples, self.batch_size)
        for start, m in zip(starts, self._weight_by_minibatch(order), strict=True):
            stop = min(start + self.batch_size, self.samples)
            if order is None:
                X, Y = self.X[start:stop], self.Y[start:stop]
                weight = None if self.sample_weight is None else self.sample_weight[start:stop]
            else:
                X, Y, weight = self.batches[stop - start]
                rows = order[start:stop]
                backend.gather(self.X, rows, out=X)
                backend.gather(self.Y, rows, out=Y)
                if weight is not None:
                    backend.gather(self.sample_weight, rows, out=weight)
            self.step(X, Y, m, learning_rate, weight)
            progress.samples(stop - start)
        network.epochs_trained += 1
        return self.plan.objective.total(network, self.cost, self.m)

    def _weight_by_minibatch(self, order: Array | None) -> list[float]:
        """How many samples there are in each minibatch, or what their weights sum to."""
        if self.host_weight is None:
            return [float(min(self.batch_size, self.samples - k)) for k in range(0, self.samples, self.batch_size)]
        weight = self.host_weight
        if order is not None:
            weight = weight[self.network.backend.to_numpy(order)]
        sums = np.add.reduceat(weight, np.arange(0, self.samples, self.batch_size), dtype=np.float64)
        return [float(x) for x in sums]


def train(
    network: NetworkState,
    X: Array,
    Y: Array,
    sample_weight: Array | None,
    validation: tuple[Array, Array] | None,
    plan: Plan,
) -> History:
    """Train `network` in place on trusted arrays of its backend: X (m, s_1), Y (m, s_L), sample_weight (m,).

    Raises
    ------
    DivergenceError
        If the cost or a parameter is not finite at the end of an epoch; the network then holds the parameters with
        which that epoch began.
    """
    backend = network.backend
    trainer, history = Trainer(network, X, Y, plan, sample_weight), History()
    history.metrics = {name: [] for name in plan.metrics}
    last_good, best = network.parameters.copy(), None
    history.message = f"all {plan.epochs} epochs done"
    # A cost that overflows is reported by DivergenceError, not by NumPy's warnings.
    quiet = np.errstate(over="ignore", invalid="ignore", under="ignore")
    with quiet, progress_bar(plan.progress, plan.epochs, X.shape[0]) as progress:
        for epoch in range(plan.epochs):
            began = time.perf_counter()
            learning_rate = plan.optimizer.rate(epoch, history)
            cost = trainer.epoch(learning_rate, progress)
            if not (np.isfinite(cost) and backend.all_finite(network.parameters)):
                network.parameters = last_good
                network.epochs_trained -= 1
                raise _divergence(epoch + 1, learning_rate, cost, history)
            last_good[...] = network.parameters
            history.cost.append(cost)
            history.learning_rate.append(learning_rate)
            if validation is not None:
                validate(network, *validation, plan.objective, plan.metrics, history)
            history.seconds.append(time.perf_counter() - began)
            progress.epoch(history)
            stopping = plan.early_stopping
            if stopping is not None:
                history.best_epoch = stopping.best_epoch(history)
                if history.best_epoch == epoch + 1:
                    best = network.parameters.copy()
            ended = EpochEnd(network, epoch + 1, plan.epochs, history)
            # Every callback is told of every epoch, also when one before it has ended training.
            answers = [callback(ended) for callback in plan.callbacks]
            if True in answers:
                history.message = f"stopped by a callback after epoch {epoch + 1}"
                break
            if stopping is not None and stopping.should_stop(history):
                history.message = f"stopped early after epoch {epoch + 1}"
                break
    if best is not None:
        network.parameters = best
    return history


def _divergence(epoch: int, learning_rate: float, cost: float, history: History) -> DivergenceError:
    what = f"the cost is {cost}" if not np.isfinite(cost) else "a parameter is not finite"
    return DivergenceError(
        f"training diverged: {what} in epoch {epoch} at learning rate {learning_rate:g}; the network keeps the "
        f"parameters it had before that epoch. A smaller learning rate or scaled inputs usually help",
        epoch=epoch,
        learning_rate=learning_rate,
        history=history,
    )
