"""The loop over epochs of a stack: every member is shuffled, validated, stopped, and may diverge, by itself."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.array_types import AnyArray, Floats, Indices
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.members import Member, finite_members, squared_norms
from deltaprop.epochs.random_numbers import draw_order
from deltaprop.epochs.stack_trainer import StackTrainer
from deltaprop.epochs.way_log import log_members_way
from deltaprop.errors import callers_level
from deltaprop.reports.history import History
from deltaprop.reports.progress import Progress, progress_bar
from deltaprop.training.callbacks import EpochCallback
from deltaprop.training.divergence import divergence_message
from deltaprop.training.early_stopping import EarlyStopping, Watch
from deltaprop.training.hold_out import HeldOut
from deltaprop.training.listeners import STOPPED_AT_ONCE, Listeners
from deltaprop.training.loop import count_epochs
from deltaprop.training.metrics import Metric
from deltaprop.training.stack_validation import StackValidation


@dataclass(frozen=True)
class StackFitPlan:
    """The arguments of `NetworkStack.fit` besides the data, checked at the public door."""

    members: Sequence[Member]
    epochs: int
    shuffle: Sequence[bool]
    metrics: dict[str, Metric]
    early_stopping: Sequence[EarlyStopping | None]
    callbacks: Sequence[EpochCallback]
    progress: bool


def train(
    stack: NetworkState,
    networks: Sequence[NetworkState],
    X: AnyArray,
    Y: Array,
    held_out: Sequence[HeldOut] | None,
    plan: StackFitPlan,
) -> list[History]:
    """Train the members of `stack` in place.

    A member that diverges keeps the parameters it had before that epoch, and its history says so.

    Parameters
    ----------
    stack : NetworkState
        With the member axis.
    networks : sequence of NetworkState
        Its members, in the same memory.
    X, Y : array, (m, s_1) and (m, s_L), or with the member axis
        Trusted arrays of the stack's backend; X may be `EncodedRows`.
    held_out : sequence of HeldOut, or None
        For each member such arrays, or `HostData`, without the member axis, on which it is validated.
    plan : StackFitPlan

    Returns
    -------
    list of History
        One a member.
    """
    fit = StackFit(stack, networks, X, Y, held_out, plan)
    quiet = np.errstate(over="ignore", invalid="ignore", under="ignore")
    samples = sum(member.samples for member in plan.members)
    with fit.listeners.training(lambda: _parameters(stack, plan)) as over:
        if over:
            for history in fit.histories:
                history.message = STOPPED_AT_ONCE
            return fit.histories
        with quiet, progress_bar(plan.progress, plan.epochs, samples) as progress:
            fit.run(progress)
        fit.restore_best()
    for k, watch in enumerate(fit.watches):
        if watch is not None and not fit.histories[k].diverged and (complaint := watch.complaint()):
            warnings.warn(f"member {k}: {complaint}", RuntimeWarning, stacklevel=callers_level())
    _report(fit.broken, fit.histories)
    return fit.histories


def _parameters(stack: NetworkState, plan: StackFitPlan) -> dict[str, Any]:
    """Name what a training depends on, for callbacks; what members differ in is a list."""
    members = plan.members
    of_each: dict[str, list[Any]] = {
        "optimizer": [type(member.optimizer).__name__ for member in members],
        "learning_rate": [member.optimizer.learning_rate for member in members],
        "batch_size": [member.batch_size for member in members],
        "l2": [member.objective.l2 for member in members],
    }
    same = {
        name: values[0] if all(value == values[0] for value in values) else values for name, values in of_each.items()
    }
    return stack.configuration | {"members": len(members), "epochs": plan.epochs} | same


class StackFit:
    """Epochs of all members that still train. Its parameters are described in `train`.

    Attributes
    ----------
    histories : list of History
    watches : list of (Watch or None)
        They find the best epoch of each member.
    active : array of int64
        The numbers of the members that still train.
    broken : dict of int to Exception
        By the number of a member, what its schedule raised.
    """

    stack: NetworkState
    networks: Sequence[NetworkState]
    plan: StackFitPlan

    def __init__(
        self,
        stack: NetworkState,
        networks: Sequence[NetworkState],
        X: AnyArray,
        Y: Array,
        held_out: Sequence[HeldOut] | None,
        plan: StackFitPlan,
    ) -> None:
        self.stack, self.networks, self.plan, members = stack, networks, plan, plan.members
        self.trainer: StackTrainer = StackTrainer(stack, X, Y, members, networks)
        log_members_way(self.trainer, stack.layer_sizes, stack.backend.label)
        objectives = [member.objective for member in members]
        self.validation: StackValidation | None = (
            None if held_out is None else StackValidation(stack, networks, held_out, objectives, plan.metrics)
        )
        message = f"all {plan.epochs} epochs done"
        self.histories: list[History] = [
            History(metrics={name: [] for name in plan.metrics}, message=message) for _ in members
        ]
        self.watches: list[Watch | None] = [
            None if stopping is None else stopping.watch(history)
            for stopping, history in zip(plan.early_stopping, self.histories, strict=True)
        ]
        each = zip(members, self.histories, strict=True)
        self._rates_of = [member.optimizer.follow(history) for member, history in each]
        self.listeners: Listeners = Listeners(plan.callbacks, stack, plan.epochs, self.histories, steps=False)
        self.active: Indices = np.arange(len(members))
        self.broken: dict[int, Exception] = {}
        self._last_good, self._best = (stack.backend.copy(stack.parameters) for _ in range(2))

    def run(self, progress: Progress) -> None:
        """Train epoch by epoch, to the last or until no member trains any more."""
        for epoch in range(self.plan.epochs):
            began = time.perf_counter()
            self.active, rates = _rates(self._rates_of, epoch, self.active, self.broken)
            if not len(self.active):
                break
            trained = len(self.active)
            self.listeners.epoch_begins(epoch + 1)
            self._train_epoch(epoch, rates)
            self._end_epoch(epoch + 1, (time.perf_counter() - began) / trained, progress)
            if self.listeners.epoch_ended(epoch + 1):
                for k in self.active:
                    self.histories[k].message = f"stopped by a callback after epoch {epoch + 1}"
                break
            if not len(self.active):
                break

    def _train_epoch(self, epoch: int, rates: list[float]) -> None:
        """Train every active member for an epoch, record and validate it; those that diverge are no longer active."""
        stack, plan, active = self.stack, self.plan, self.active
        data, _ = self.trainer.epochs(active, _orders(active, self.networks, plan), np.array(rates)[:, np.newaxis])
        costs = _costs(stack, data[:, 0], plan.members, active)
        finite = np.isfinite(costs) & finite_members(stack)[active]
        for place, k in enumerate(active.tolist()):
            history = self.histories[k]
            if not finite[place]:
                stack.parameters[k] = self._last_good[k]
                history.diverged = True
                history.message = divergence_message(epoch + 1, rates[place], costs[place])
                continue
            count_epochs(self.networks[k], history, [float(costs[place])], rates[place])
        self._last_good[...] = stack.parameters
        self.active = active[finite]
        if self.validation is not None and len(self.active):
            self.validation(self.active, self.histories)

    def _end_epoch(self, epoch: int, seconds: float, progress: Progress) -> None:
        """Keep the best parameters, leave out members that stop early, and tell how far training has come."""
        active, members = self.active, self.plan.members
        going = [
            _goes_on(self.watches[k], self.histories[k], self._best[k], self._last_good[k]) for k in active.tolist()
        ]
        for k in active:
            self.histories[k].seconds.append(seconds)
        progress.samples(sum(members[k].samples for k in active.tolist()))
        progress.members(self.histories, [member.samples for member in members], epoch)
        self.active = active[np.array(going, bool)]

    def restore_best(self) -> None:
        """Go back to the parameters of each member's best epoch, if one is known."""
        for k, watch in enumerate(self.watches):
            if watch is not None and self.histories[k].best_epoch:
                self.stack.parameters[k] = self._best[k]


def _rates(
    rates_of: Sequence[Callable[[int], float]],
    epoch: int,
    active: Indices,
    broken: dict[int, Exception],
) -> tuple[Indices, list[float]]:
    """Return the members that go on, and their learning rates; a member whose schedule fails goes into `broken`.

    Raises
    ------
    ScheduleError, TypeError
        If a schedule fails for the first epoch, before anything has been trained; also what the schedule raises.
    """
    going, rates = [], []
    for k in active.tolist():
        try:
            rates.append(rates_of[k](epoch))
        except Exception as error:
            if not epoch:
                raise
            broken[k] = error
        else:
            going.append(k)
    return np.array(going, np.int64), rates


def _report(broken: dict[int, Exception], histories: Sequence[History]) -> None:
    """Say which members ended because their schedules failed.

    Raises
    ------
    Exception
        The exception of the first, if the schedules of all members have failed.
    """
    for k, error in broken.items():
        history = histories[k]
        history.message = (
            f"stopped after epoch {history.epochs}, as its schedule failed ({type(error).__name__}: {error})"
        )
        warnings.warn(f"member {k}: {history.message}", RuntimeWarning, stacklevel=callers_level())
    if len(broken) == len(histories):
        raise broken[0]


def _orders(active: Indices, networks: Sequence[NetworkState], plan: StackFitPlan) -> list[Indices | None]:
    """Draw the order of each member's samples; members of one seed and as many samples share it."""
    drawn: dict[tuple[int, int, int], Indices] = {}
    orders: list[Indices | None] = []
    for k in active.tolist():
        network, member = networks[k], plan.members[k]
        if not plan.shuffle[k] or member.batch_size >= member.samples:
            orders.append(None)
            continue
        key = (network.seed, network.epochs_trained, member.samples)
        if key not in drawn:
            drawn[key] = draw_order(network, member.samples)[np.newaxis]
        orders.append(drawn[key])
    return orders


def _costs(stack: NetworkState, data: Floats, members: Sequence[Member], active: Indices) -> Floats:
    """Compute J of each active member over the epoch; `data` are the summed costs of its minibatches."""
    trained = [members[k] for k in active.tolist()]
    penalized = any(member.objective.l2 for member in trained)
    squares = squared_norms(stack, active) if penalized else np.zeros(len(active))
    each = zip(trained, data.tolist(), squares.tolist(), strict=True)
    return np.array([member.objective.value(cost, of_weights, member.m) for member, cost, of_weights in each])


def _goes_on(watch: Watch | None, history: History, best: Array, now: Array) -> bool:
    """Tell whether a member trains on; if it has never been better, its parameters go into `best`."""
    if watch is None:
        return True
    if watch.best_epoch() == history.epochs:
        history.best_epoch = history.epochs
        best[...] = now
    if watch.should_stop():
        history.message = f"stopped early after epoch {history.epochs}"
        return False
    return True
