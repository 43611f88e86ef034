"""The loop over epochs: shuffling, validation, early stopping, callbacks."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from deltaprop.backends import Array
from deltaprop.derivation.backprop import Objective
from deltaprop.derivation.optimizers import Optimizer, Remembered
from deltaprop.derivation.state import SHUFFLE_STREAM, NetworkState
from deltaprop.epochs.interruption import Interruption, Paused
from deltaprop.epochs.task import RefusedError
from deltaprop.epochs.trainer import Trainer
from deltaprop.errors import DivergenceError, callers_level
from deltaprop.reports.history import History
from deltaprop.reports.progress import progress_bar
from deltaprop.training.callbacks import Callback, EpochEnd, tell
from deltaprop.training.checkpoint import Checkpoint, Position, describe_run
from deltaprop.training.divergence import Fault, find_fault
from deltaprop.training.early_stopping import EarlyStopping
from deltaprop.training.evaluation import validate
from deltaprop.training.metrics import Metric


@dataclass(frozen=True)
class Plan:
    """Everything `train` has been told besides the data, checked at the public door."""

    optimizer: Optimizer
    batch_size: int | None
    epochs: int
    objective: Objective
    shuffle: bool
    dropout: Sequence[float]
    metrics: dict[str, Metric]
    early_stopping: EarlyStopping | None
    callbacks: Sequence[Callback]
    progress: bool
    checkpoint: str | os.PathLike[str] | None = None
    checkpoint_every: int = 1
    resume: bool = False

    @property
    def undisturbed(self) -> bool:
        """Whether nothing between epochs looks at the network or decides what comes next."""
        watched = self.early_stopping or self.callbacks or self.progress or self.checkpoint is not None
        return not (watched or callable(self.optimizer.learning_rate))


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
    ScheduleError
        If a schedule returns what is no learning rate; what has been learned is in the network, and in the checkpoint.
    """
    backend = network.backend
    samples, history = X.shape[0], History()
    batch_size = min(plan.batch_size or samples, samples)
    shuffled = plan.shuffle and batch_size < samples
    trainer = Trainer(
        network,
        X,
        Y,
        plan.optimizer,
        plan.objective,
        batch_size,
        shuffled=shuffled,
        sample_weight=sample_weight,
        dropout=plan.dropout,
    )
    history.metrics = {name: [] for name in plan.metrics}
    history.message = f"all {plan.epochs} epochs done"
    if trainer.epochs_at_once > 1 and validation is None and plan.undisturbed:
        with suppress(RefusedError):  # what is left is done epoch by epoch
            _train_undisturbed(network, trainer, plan, history, shuffled)
            return history
    keeper = _keeper(network, trainer, (X, Y, sample_weight, validation), plan)
    interruption, position = Interruption(), Position(history.epochs)
    last_good, best, ended, paused = network.parameters.copy(), None, False, False
    state, state_known = Remembered(trainer.state), False  # that of an epoch that began before a pause is not
    found = keeper.load(plan.epochs) if keeper is not None and plan.resume else None
    if found is not None:
        position, history, best, epoch_start, ended = found
        last_good[...] = network.parameters if epoch_start is None else epoch_start
        if not ended:
            history.message = f"all {plan.epochs} epochs done"
    watch = None if plan.early_stopping is None else plan.early_stopping.watch(history)
    rate_of, began_with = plan.optimizer.follow(history), history.epochs
    # A cost that overflows is reported by DivergenceError, not by NumPy's warnings.
    quiet = np.errstate(over="ignore", invalid="ignore", under="ignore")
    held_back = interruption.awaited() if keeper is not None else nullcontext()
    with quiet, held_back, progress_bar(plan.progress, plan.epochs, samples) as progress:
        for epoch in range(plan.epochs if ended else position.epoch, plan.epochs):
            began = time.perf_counter()
            try:
                learning_rate = rate_of(epoch)
            except Exception:  # of a schedule; nothing is lost by it
                if keeper is not None and history.epochs > began_with:
                    keeper.save(position, history, best, None, ended=False)
                if best is not None:
                    network.parameters = best
                raise
            trainer.first, trainer.pause, position = position.batch, interruption, Position(epoch)
            order = shuffle(network, samples) if shuffled and trainer.takes_orders else None
            if not trainer.first:
                state.renew()
                state_known = True
            try:
                trainer.epoch(learning_rate, order, progress)
            except Paused as pause:
                position.batch, paused = pause.batch, True
                break
            cost = trainer.total()
            if not (np.isfinite(cost) and backend.all_finite(network.parameters)):
                network.parameters = last_good
                network.epochs_trained -= 1
                fault = None
                if state_known:
                    state.restore()
                    fault = find_fault(trainer, learning_rate, order)
                network.parameters = last_good
                raise _divergence(epoch + 1, learning_rate, cost, history, fault)
            last_good[...] = network.parameters
            history.cost.append(cost)
            history.learning_rate.append(learning_rate)
            if validation is not None:
                validate(network, *validation, plan.objective, plan.metrics, history)
            history.seconds.append(time.perf_counter() - began)
            progress.epoch(history)
            # An early stopping of somebody's own may name an earlier epoch, whose parameters are gone.
            if watch is not None and watch.best_epoch() == epoch + 1:
                history.best_epoch, best = epoch + 1, network.parameters.copy()
            if tell(plan.callbacks, EpochEnd(network, epoch + 1, plan.epochs, history)):
                history.message, ended = f"stopped by a callback after epoch {epoch + 1}", True
            elif watch is not None and watch.should_stop():
                history.message, ended = f"stopped early after epoch {epoch + 1}", True
            position = Position(epoch + 1)
            done = ended or interruption() or epoch + 1 == plan.epochs
            if keeper is not None and (done or keeper.due(epoch + 1)):
                keeper.save(position, history, best, None, ended=ended)
            if ended or interruption():
                break
        if keeper is not None and paused:
            keeper.save(position, history, best, last_good if position.batch else None, ended=False)
    if best is not None:
        network.parameters = best
    interruption.obey()
    if watch is not None and (complaint := watch.complaint()):
        warnings.warn(complaint, RuntimeWarning, stacklevel=callers_level())
    return history


def _keeper(network: NetworkState, trainer: Trainer, data: tuple[Any, Any, Any, Any], plan: Plan) -> Checkpoint | None:
    """What writes checkpoints, where they are asked for."""
    if plan.checkpoint is None:
        return None
    what = {
        "optimizer": plan.optimizer,
        "batch_size": trainer.batch_size,
        "objective": plan.objective,
        "shuffle": plan.shuffle,
        "dropout": plan.dropout,
        "metrics": plan.metrics,
        "early_stopping": plan.early_stopping,
    }
    configuration = describe_run(network, *data, what)
    return Checkpoint(plan.checkpoint, plan.checkpoint_every, network, trainer, configuration)


def _train_undisturbed(network: NetworkState, trainer: Trainer, plan: Plan, history: History, shuffled: bool) -> None:
    """Epochs between which nobody asks for anything, many in one call: the same as one by one."""
    while history.epochs < plan.epochs:
        began, count = time.perf_counter(), min(trainer.epochs_at_once, plan.epochs - history.epochs)
        learning_rate = plan.optimizer.rate(history.epochs, history)
        orders = [shuffle(network, trainer.samples, ahead) if shuffled else None for ahead in range(count)]
        costs, good = trainer.epochs(learning_rate, orders)
        history.cost += costs[:good]
        history.learning_rate += [learning_rate] * good
        history.seconds += [(time.perf_counter() - began) / count] * good
        if good < count:
            last_good, fault = network.parameters.copy(), None
            if network.backend.on_host:  # where the optimizer is as the epoch found it, too
                fault = find_fault(trainer, learning_rate, orders[good])
                network.parameters = last_good
            raise _divergence(history.epochs + 1, learning_rate, costs[good], history, fault)


def shuffle(network: NetworkState, samples: int, ahead: int = 0) -> np.ndarray[Any, Any]:
    """A permutation of 0 … samples−1, drawn on the host so that every backend visits the samples in one order.

    That of the next epoch, or of one so many `ahead`.
    """
    return np.random.default_rng((network.seed, SHUFFLE_STREAM, network.epochs_trained + ahead)).permutation(samples)


def _divergence(
    epoch: int, learning_rate: float, cost: float, history: History, fault: Fault | None = None
) -> DivergenceError:
    message = divergence_message(epoch, learning_rate, cost, fault)
    step, layer = (None, None) if fault is None else fault[:2]
    return DivergenceError(message, epoch=epoch, learning_rate=learning_rate, history=history, step=step, layer=layer)


def divergence_message(epoch: int, learning_rate: float, cost: float, fault: Fault | None = None) -> str:
    """What is to be said of training that ended in numbers that are not finite."""
    what = f"the cost is {cost}" if not np.isfinite(cost) else "a parameter is not finite"
    where = f"epoch {epoch}"
    if fault is not None:
        where += f", step {fault.step}, first in the {fault.what} of layer {fault.layer},"
    return (
        f"training diverged: {what} in {where} at learning rate {learning_rate:g}; the network keeps the "
        "parameters it had before that epoch. A smaller learning rate or scaled inputs usually help"
    )
