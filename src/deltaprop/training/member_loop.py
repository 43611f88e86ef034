"""The loop over epochs of a stack: every member shuffles, is validated, stops and diverges by itself."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deltaprop.backends import Array
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.member_trainer import StackTrainer
from deltaprop.epochs.members import Member, finite_members, squared_norms
from deltaprop.errors import callers_level
from deltaprop.reports.history import History
from deltaprop.reports.progress import progress_bar
from deltaprop.training.callbacks import Callback, EpochEnd, tell
from deltaprop.training.early_stopping import EarlyStopping, Watch
from deltaprop.training.evaluation import validate
from deltaprop.training.loop import divergence_message, shuffle
from deltaprop.training.metrics import Metric


@dataclass(frozen=True)
class StackPlan:
    """Everything `train` has been told besides the data, checked at the public door."""

    members: Sequence[Member]
    epochs: int
    shuffle: Sequence[bool]
    metrics: dict[str, Metric]
    early_stopping: Sequence[EarlyStopping | None]
    callbacks: Sequence[Callback]
    progress: bool


def train(
    stack: NetworkState,
    networks: Sequence[NetworkState],
    X: Array,
    Y: Array,
    held_out: Sequence[tuple[Array, Array]] | None,
    plan: StackPlan,
) -> list[History]:
    """Train the members of `stack` in place; `networks` are they, one by one, in the same memory.

    X and Y : (m, s_1) and (m, s_L), or with the member axis, trusted arrays of the stack's backend; `held_out` are such
    arrays for each member, without the axis. A member that diverges keeps the parameters it had before that epoch, and
    its history says so.
    """
    members, count = plan.members, len(plan.members)
    trainer = StackTrainer(stack, X, Y, members, networks)
    histories = [History(metrics={name: [] for name in plan.metrics}) for _ in members]
    watches = [
        None if stopping is None else stopping.watch(history)
        for stopping, history in zip(plan.early_stopping, histories, strict=True)
    ]
    rates_of = [member.optimizer.follow(history) for member, history in zip(members, histories, strict=True)]
    broken: dict[int, Exception] = {}
    for history in histories:
        history.message = f"all {plan.epochs} epochs done"
    last_good, best = stack.parameters.copy(), stack.parameters.copy()
    active = np.arange(count)
    quiet = np.errstate(over="ignore", invalid="ignore", under="ignore")
    samples = sum(member.samples for member in members)
    with quiet, progress_bar(plan.progress, plan.epochs, samples) as progress:
        for epoch in range(plan.epochs):
            began = time.perf_counter()
            active, rates = _rates(rates_of, epoch, active, broken)
            if not len(active):
                break
            data, _ = trainer.epochs(active, _orders(active, networks, plan), np.array(rates)[:, np.newaxis])
            costs = _costs(stack, data[:, 0], members, active)
            finite = np.isfinite(costs) & finite_members(stack)[active]
            for place, k in enumerate(active.tolist()):
                history = histories[k]
                if not finite[place]:
                    stack.parameters[k] = last_good[k]
                    history.diverged = True
                    history.message = divergence_message(epoch + 1, rates[place], costs[place])
                    continue
                networks[k].epochs_trained += 1
                history.cost.append(float(costs[place]))
                history.learning_rate.append(rates[place])
                if held_out is not None:
                    validate(networks[k], *held_out[k], members[k].objective, plan.metrics, history)
            last_good[...] = stack.parameters
            seconds = (time.perf_counter() - began) / len(active)
            active = active[finite]
            going = [_goes_on(watches[k], histories[k], best[k], last_good[k]) for k in active]
            for k in active:
                histories[k].seconds.append(seconds)
            progress.samples(sum(members[k].samples for k in active))
            if len(active):
                progress.epoch(histories[active[0]])
            active = active[np.array(going, bool)]
            told = EpochEnd(stack, epoch + 1, plan.epochs, histories)  # type: ignore[arg-type]
            if tell(plan.callbacks, told):
                for k in active:
                    histories[k].message = f"stopped by a callback after epoch {epoch + 1}"
                break
            if not len(active):
                break
    for k, watch in enumerate(watches):
        if watch is not None and histories[k].best_epoch:
            stack.parameters[k] = best[k]
    for k, watch in enumerate(watches):
        if watch is not None and not histories[k].diverged and (complaint := watch.complaint()):
            warnings.warn(f"member {k}: {complaint}", RuntimeWarning, stacklevel=callers_level())
    _report(broken, histories)
    return histories


def _rates(
    rates_of: Sequence[Callable[[int], float]],
    epoch: int,
    active: np.ndarray[Any, Any],
    broken: dict[int, Exception],
) -> tuple[np.ndarray[Any, Any], list[float]]:
    """The members that go on, and their learning rates; one whose schedule fails has learned what it has.

    Raises
    ------
    ScheduleError, TypeError
        If a schedule fails for the first epoch, before anything has been trained; also what it raises itself.
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
        That of the first, where those of all members have.
    """
    for k, error in broken.items():
        history = histories[k]
        history.message = (
            f"stopped after epoch {history.epochs}, as its schedule failed ({type(error).__name__}: {error})"
        )
        warnings.warn(f"member {k}: {history.message}", RuntimeWarning, stacklevel=callers_level())
    if len(broken) == len(histories):
        raise broken[0]


def _orders(
    active: np.ndarray[Any, Any], networks: Sequence[NetworkState], plan: StackPlan
) -> list[np.ndarray[Any, Any] | None]:
    """In which order each member visits its samples; members of one seed and as many samples share it."""
    drawn: dict[tuple[int, int, int], np.ndarray[Any, Any]] = {}
    orders: list[np.ndarray[Any, Any] | None] = []
    for k in active.tolist():
        network, member = networks[k], plan.members[k]
        if not plan.shuffle[k] or member.batch_size >= member.samples:
            orders.append(None)
            continue
        key = (network.seed, network.epochs_trained, member.samples)
        if key not in drawn:
            drawn[key] = shuffle(network, member.samples)[np.newaxis]
        orders.append(drawn[key])
    return orders


def _costs(
    stack: NetworkState, data: np.ndarray[Any, Any], members: Sequence[Member], active: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """J of each active member over the epoch, `data` being what its minibatches cost."""
    trained = [members[k] for k in active.tolist()]
    penalized = any(member.objective.l2 for member in trained)
    squares = squared_norms(stack, active) if penalized else np.zeros(len(active))
    each = zip(trained, data.tolist(), squares.tolist(), strict=True)
    return np.array([member.objective.value(cost, of_weights, member.m) for member, cost, of_weights in each])


def _goes_on(watch: Watch | None, history: History, best: Array, now: Array) -> bool:
    """Whether a member trains on; where it has never been better, its parameters go into `best`."""
    if watch is None:
        return True
    if watch.best_epoch() == history.epochs:
        history.best_epoch = history.epochs
        best[...] = now
    if watch.should_stop():
        history.message = f"stopped early after epoch {history.epochs}"
        return False
    return True
