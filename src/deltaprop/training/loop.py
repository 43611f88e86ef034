"""The loop over epochs of one network: shuffling, validation, early stopping, callbacks, checkpoints."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.array_types import AnyArray, Indices
from deltaprop.derivation.backprop import Objective
from deltaprop.derivation.remembered import Remembered
from deltaprop.derivation.state import NetworkState
from deltaprop.derivation.update_rule import Optimizer
from deltaprop.epochs.interruption import Interruption, Paused
from deltaprop.epochs.random_numbers import draw_order
from deltaprop.epochs.task import RefusedError
from deltaprop.epochs.trainer import Trainer
from deltaprop.epochs.way_log import log_way
from deltaprop.errors import DivergenceError, callers_level
from deltaprop.ranks.base import ALONE, Ranks
from deltaprop.ranks.choice import summing_on
from deltaprop.ranks.failures import decided, ending_all_on_failure, failing_together, known_to_all
from deltaprop.reports.history import History
from deltaprop.reports.progress import Progress, progress_bar
from deltaprop.training.agreement import SameParameters, require_same, sample_of
from deltaprop.training.callbacks import EpochCallback
from deltaprop.training.checkpoint import Checkpoint, Position, describe_run
from deltaprop.training.divergence import divergence_error, find_fault
from deltaprop.training.early_stopping import EarlyStopping, Watch
from deltaprop.training.evaluation import validate
from deltaprop.training.hold_out import HeldOut
from deltaprop.training.listeners import STOPPED_AT_ONCE, Listeners
from deltaprop.training.metrics import Metric
from deltaprop.training.rank_checkpoint import load_on_all
from deltaprop.training.rank_validation import RankValidation


@dataclass(frozen=True)
class FitPlan:
    """The arguments of `Network.fit` besides the data, checked at the public door."""

    optimizer: Optimizer
    batch_size: int | None
    epochs: int
    objective: Objective
    shuffle: bool
    dropout: Sequence[float]
    metrics: dict[str, Metric]
    early_stopping: EarlyStopping | None
    callbacks: Sequence[EpochCallback]
    progress: bool
    checkpoint: str | os.PathLike[str] | None = None
    checkpoint_every: int = 1
    resume: bool = False
    ranks: Ranks = ALONE

    @property
    def between_epochs(self) -> list[str]:
        """What looks at the network between epochs, or decides what comes next."""
        asked = {
            "callbacks": bool(self.callbacks),
            "early stopping": self.early_stopping is not None,
            "a progress bar": self.progress,
            "checkpoints": self.checkpoint is not None,
            "a learning-rate schedule": callable(self.optimizer.learning_rate),
        }
        return [name for name, is_asked in asked.items() if is_asked]


def train(
    network: NetworkState,
    X: Array,
    Y: Array,
    sample_weight: Array | None,
    validation: HeldOut | None,
    plan: FitPlan,
) -> History:
    """Train `network` in place on trusted arrays of its backend: X (m, s_1), Y (m, s_L), sample_weight (m,).

    The validation data are such arrays too, or `HostData`.

    Raises
    ------
    DivergenceError
        If the cost or a parameter is not finite at the end of an epoch; the network then holds the parameters with
        which that epoch began.
    ScheduleError
        If a schedule returns what is no learning rate; what has been learned is in the network, and in the checkpoint.
    RankError
        If another rank fails.
    """
    _require_same(network, (X, Y, sample_weight, validation), plan)
    # An exception that others do not know of ends all ranks before NCCL is parted from them, which would wait.
    with summing_on(network.backend, plan.ranks) as ranks, ending_all_on_failure(ranks):
        resume = ranks.from_first(plan.resume)
        return _train(network, X, Y, sample_weight, validation, replace(plan, ranks=ranks, resume=resume))


def _train(
    network: NetworkState,
    X: Array,
    Y: Array,
    sample_weight: Array | None,
    validation: HeldOut | None,
    plan: FitPlan,
) -> History:
    samples, ranks = X.shape[0], plan.ranks
    batch_size = min(plan.batch_size or samples, samples)
    with failing_together(ranks):
        trainer = Trainer(
            network,
            X,
            Y,
            plan.optimizer,
            plan.objective,
            batch_size,
            shuffled=plan.shuffle and batch_size < samples,
            sample_weight=sample_weight,
            dropout=plan.dropout,
            ranks=ranks,
        )
    history = History(metrics={name: [] for name in plan.metrics}, message=_all_done(plan))
    between = plan.between_epochs + ([] if validation is None else ["validation"])
    log_way(trainer, between)
    if trainer.epochs_at_once > 1 and not between:
        with suppress(RefusedError):  # what is left is done epoch by epoch
            _train_undisturbed(trainer, plan, history)
            return history
    with failing_together(ranks):
        keeper = _keeper(trainer, (X, Y, sample_weight, validation), plan) if ranks.is_first else None
    fit = Fit(trainer, validation, plan, history, keeper)
    # A cost that overflows is reported by DivergenceError, not by NumPy's warnings.
    quiet = np.errstate(over="ignore", invalid="ignore", under="ignore")
    is_awaited = plan.checkpoint is not None or ranks.size > 1
    held_back = fit.interruption.awaited() if is_awaited else nullcontext()
    with ExitStack() as listening:
        told = fit.listeners.training(lambda: _parameters(network, plan, batch_size), trainer.try_rates)
        if decided(ranks, lambda: listening.enter_context(told)):
            fit.history.message = STOPPED_AT_ONCE
            return fit.history
        with quiet, held_back, progress_bar(plan.progress and ranks.is_first, plan.epochs, samples) as progress:
            fit.run(progress)
        fit.restore_best()
        fit.interruption.obey_on_all(ranks)
        with failing_together(ranks):
            if ranks.is_first and fit.watch is not None and (complaint := fit.watch.complaint()):
                warnings.warn(complaint, RuntimeWarning, stacklevel=callers_level())
            listening.close()
        fit.same_parameters()
    return fit.history


def _require_same(
    network: NetworkState, data: tuple[AnyArray, AnyArray, AnyArray | None, HeldOut | None], plan: FitPlan
) -> None:
    """Refuse arguments or data that differ from rank to rank."""
    if plan.ranks.size == 1:
        return
    X, Y, sample_weight, held_out = data
    arrays = {"X": X, "Y": None if Y is X else Y, "sample_weight": sample_weight}  # a source is both in one
    arrays |= dict(zip(("validation X", "validation Y"), held_out or (None, None), strict=False))
    with failing_together(plan.ranks):
        samples = {name: sample_of(array, network.backend) for name, array in arrays.items()}
    place = {"backend": network.backend.name, "precision": network.backend.precision}
    configuration = network.configuration | place | {"epochs_trained": network.epochs_trained}
    others = {"epochs": plan.epochs, "checkpoint_every": plan.checkpoint_every}
    others |= {"choice of whether there is a checkpoint": plan.checkpoint is not None}
    require_same(plan.ranks, configuration | _described(plan) | others | samples)


def _parameters(network: NetworkState, plan: FitPlan, batch_size: int) -> dict[str, Any]:
    """Name what a training depends on, for callbacks."""
    objective = plan.objective
    return network.configuration | {
        "optimizer": type(plan.optimizer).__name__,
        **{field.name: getattr(plan.optimizer, field.name) for field in fields(plan.optimizer)},
        "batch_size": batch_size,
        "epochs": plan.epochs,
        "l2": objective.l2,
        "l2_scaling": objective.l2_scaling,
        "reduction": objective.reduction,
        "shuffle": plan.shuffle,
        "dropout": list(plan.dropout),
    }


def count_epochs(network: NetworkState, history: History, costs: Sequence[float], learning_rate: float) -> None:
    """Record epochs that ended with finite numbers, and count them in ``network.epochs_trained``."""
    network.epochs_trained += len(costs)
    history.cost += costs
    history.learning_rate += [learning_rate] * len(costs)


def _all_done(plan: FitPlan) -> str:
    return f"all {plan.epochs} epochs done"


def _keeper(
    trainer: Trainer, data: tuple[AnyArray, AnyArray, AnyArray | None, HeldOut | None], plan: FitPlan
) -> Checkpoint | None:
    """Make what writes checkpoints, if they are asked for."""
    if plan.checkpoint is None:
        return None
    what = _described(plan) | {"batch_size": trainer.batch_size}
    if trainer.sharding is not None:
        what["shards"] = trainer.sharding.count
    configuration = describe_run(trainer.network, *data, what)
    return Checkpoint(plan.checkpoint, plan.checkpoint_every, trainer.network, trainer, configuration)


def _described(plan: FitPlan) -> dict[str, Any]:
    """Return what of a plan decides the numbers of a run."""
    return {
        "optimizer": plan.optimizer,
        "batch_size": plan.batch_size,
        "objective": plan.objective,
        "shuffle": plan.shuffle,
        "dropout": plan.dropout,
        "metrics": plan.metrics,
        "early_stopping": plan.early_stopping,
    }


def _train_undisturbed(trainer: Trainer, plan: FitPlan, history: History) -> None:
    """Train epochs between which nobody asks for anything, many in one call: the same as one by one."""
    network = trainer.network
    while history.epochs < plan.epochs:
        began, count = time.perf_counter(), min(trainer.epochs_at_once, plan.epochs - history.epochs)
        learning_rate = plan.optimizer.rate(history.epochs, history)
        orders = [draw_order(network, trainer.samples, ahead) if trainer.shuffled else None for ahead in range(count)]
        costs, good = trainer.epochs(learning_rate, orders)
        count_epochs(network, history, costs[:good], learning_rate)
        history.seconds += [(time.perf_counter() - began) / count] * good
        if good < count:
            last_good, fault = network.backend.copy(network.parameters), None
            if network.backend.on_host:  # where the optimizer is as the epoch found it, too
                fault = find_fault(trainer, learning_rate, orders[good])
                network.parameters = last_good
            raise divergence_error(history.epochs + 1, learning_rate, costs[good], history, fault)


class Fit:
    """Epochs one by one, with all that may happen between them; it goes on from a checkpoint if it is to.

    Parameters
    ----------
    trainer : Trainer
    validation : (array, array, array or None), or None
        X, Y and sample weights.
    plan : FitPlan
    history : History
        The epochs that are done.
    keeper : Checkpoint or None
        Of several ranks, rank 0 alone has one.

    Attributes
    ----------
    history : History
        A resumed run goes on with the checkpoint's.
    position : Position
        The next epoch, and the minibatch of it that comes next.
    best : array or None
        The parameters of the best epoch, under early stopping.
    ended : bool
        Whether training has ended before its last epoch.
    interruption : Interruption
        Signals that are held back.
    watch : Watch or None
        It finds the best epoch.
    listeners : Listeners
        The callbacks.
    """

    position: Position
    trainer: Trainer
    network: NetworkState
    validation: HeldOut | None
    plan: FitPlan
    keeper: Checkpoint | None
    interruption: Interruption
    ranks: Ranks
    history: History
    ended: bool

    def __init__(
        self,
        trainer: Trainer,
        validation: HeldOut | None,
        plan: FitPlan,
        history: History,
        keeper: Checkpoint | None,
    ) -> None:
        self.trainer, self.network, self.validation, self.plan = trainer, trainer.network, validation, plan
        self.history, self.keeper, self.interruption, self.ranks = history, keeper, Interruption(), plan.ranks
        self.same_parameters = SameParameters(plan.ranks, trainer.network, trainer.state)
        self.position, self.ended = Position(history.epochs), False
        self.best: Array | None = None
        self._last_good = self.network.backend.copy(self.network.parameters)
        # The state of the optimizer when the epoch began; it is not known of an epoch that began before a pause.
        self._state, self._state_known = Remembered(self.network.backend, trainer.state), False
        if plan.resume:
            self._load()
        with failing_together(self.ranks):
            self.watch: Watch | None = None if plan.early_stopping is None else plan.early_stopping.watch(self.history)
            callbacks = plan.callbacks if self.ranks.is_first else ()
            self.listeners: Listeners = Listeners(callbacks, self.network, plan.epochs, self.history)
            if self.ranks.size > 1 and validation is not None:
                self._shared_validation = RankValidation(self.network, validation, self.ranks)
        self.listeners.every = self.ranks.from_first(self.listeners.every)
        self._rate_of, self._began_with = plan.optimizer.follow(self.history), self.history.epochs

    def _load(self) -> None:
        """Go on from the checkpoint, if there is one."""
        found = load_on_all(self.ranks, self.keeper, self.network, self.trainer, self.plan.epochs)
        if found is None:
            return
        self.same_parameters()
        self.position, self.history, self.best, self.ended = found.position, found.history, found.best, found.ended
        self._last_good[...] = self.network.parameters if found.epoch_start is None else found.epoch_start
        if not self.ended:
            self.history.message = _all_done(self.plan)

    def run(self, progress: Progress) -> None:
        """Train the epochs that are left, to the last or until somebody ends training."""
        plan, history, ranks = self.plan, self.history, self.ranks
        for epoch in range(plan.epochs if self.ended else self.position.epoch, plan.epochs):
            began = time.perf_counter()
            try:
                learning_rate = decided(ranks, partial(self._rate_of, epoch))
            except Exception:  # of a schedule; nothing is lost by it
                if history.epochs > self._began_with:
                    self._save()
                self.restore_best()
                raise
            decided(ranks, partial(self.listeners.epoch_begins, epoch + 1))
            self.same_parameters()
            try:
                self._train_epoch(epoch, learning_rate, progress)
            except Paused as pause:
                self.position.batch = pause.batch
                self.trainer.bring_cost_to_first()
                self._save(self._last_good if pause.batch else None)
                break
            self._validate()
            history.seconds.append(ranks.from_first(time.perf_counter() - began))
            progress.epoch(history)
            self._judge(epoch)
            self.position = Position(epoch + 1)
            over = self.ended or ranks.any(self.interruption())
            if over or epoch + 1 == plan.epochs or (epoch + 1) % plan.checkpoint_every == 0:
                self._save()
            if over:
                break

    def _validate(self) -> None:
        """Record the cost and the metrics of the validation data, if there are any."""
        if self.validation is None:
            return
        if self.ranks.size > 1:
            self._shared_validation(self.plan.objective, self.plan.metrics, self.history)
        else:
            validate(self.network, self.validation, self.plan.objective, self.plan.metrics, self.history)

    def _train_epoch(self, epoch: int, learning_rate: float, progress: Progress) -> None:
        """Train an epoch, from the middle if it was paused there, and record its cost.

        Raises
        ------
        Paused
            If a signal asks for it.
        DivergenceError
            If the cost or a parameter is not finite; the network then has the parameters with which the epoch began.
        """
        trainer, network, first = self.trainer, self.network, self.position.batch
        self.position = Position(epoch)
        order = draw_order(network, trainer.samples) if trainer.shuffled and trainer.takes_orders else None
        if not first:
            self._state.renew()
            self._state_known = True
        marks = self.listeners.marks(trainer, epoch + 1)
        trainer.epoch(learning_rate, order, progress, first=first, pause=self.interruption, marks=marks)
        cost = trainer.total()
        if self.ranks.any(not (np.isfinite(cost) and network.backend.all_finite(network.parameters))):
            raise self._divergence(epoch, learning_rate, cost, order)
        self._last_good[...] = network.parameters
        count_epochs(network, self.history, [cost], learning_rate)

    def _divergence(self, epoch: int, learning_rate: float, cost: float, order: Indices | None) -> DivergenceError:
        """Go back to the parameters with which the epoch began; return the error that says what went wrong."""
        self.network.parameters, fault = self._last_good, None
        if self._state_known:
            self._state.restore()
            fault = find_fault(self.trainer, learning_rate, order)
        self.network.parameters = self._last_good
        error = divergence_error(epoch + 1, learning_rate, cost, self.history, fault)
        known_to_all(error)
        return error

    def _judge(self, epoch: int) -> None:
        """Keep the parameters if the epoch is the best, and decide whether it ends training; rank 0 decides."""
        history = self.history
        decision = decided(self.ranks, partial(self._decide, epoch))
        if not self.ranks.is_first:
            history.best_epoch, self.ended, history.message = decision
            if history.best_epoch == epoch + 1:
                self.best = self.network.backend.copy(self.network.parameters)

    def _decide(self, epoch: int) -> tuple[int | None, bool, str]:
        history, watch = self.history, self.watch
        # An early stopping of somebody's own may name an earlier epoch, whose parameters are gone.
        if watch is not None and watch.best_epoch() == epoch + 1:
            history.best_epoch, self.best = epoch + 1, self.network.backend.copy(self.network.parameters)
        if self.listeners.epoch_ended(epoch + 1):
            history.message, self.ended = f"stopped by a callback after epoch {epoch + 1}", True
        elif watch is not None and watch.should_stop():
            history.message, self.ended = f"stopped early after epoch {epoch + 1}", True
        return history.best_epoch, self.ended, history.message

    def _save(self, epoch_start: Array | None = None) -> None:
        """Write a checkpoint, if they are asked for; `epoch_start` are the parameters before a paused epoch."""
        if self.plan.checkpoint is not None:
            decided(self.ranks, partial(self._write, epoch_start))

    def _write(self, epoch_start: Array | None) -> None:
        assert self.keeper is not None
        self.keeper.save(self.position, self.history, self.best, epoch_start, ended=self.ended)

    def restore_best(self) -> None:
        """Go back to the parameters of the best epoch, if one is known."""
        if self.best is not None:
            self.network.parameters = self.best
