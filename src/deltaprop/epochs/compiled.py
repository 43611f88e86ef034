"""An epoch in a few calls of the compiled library, where there is one: NumPy's arrays, no step of Python's."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.array_types import Floats, Indices
from deltaprop.backends.native.scipy_threads import own_threads, scipy_on_one_thread
from deltaprop.derivation.optimizers import moments_of
from deltaprop.derivation.remembered import Remembered
from deltaprop.epochs.compiled_dropout import keep_of, numbers_of
from deltaprop.epochs.compiled_plan import PlanTable, can_compile, obstacle_to_compiling
from deltaprop.epochs.compiled_rates import CompiledRates
from deltaprop.epochs.compiled_sparse import is_csr
from deltaprop.epochs.interruption import Interruption, Paused, run_abandonable
from deltaprop.epochs.random_numbers import dropout_keys
from deltaprop.epochs.step_marks import ends_of
from deltaprop.epochs.task import (
    LONG_STEP,
    OPERATIONS_A_CALL,
    Pass,
    Task,
    Terms,
    WholeEpoch,
)

if TYPE_CHECKING:
    from deltaprop.derivation.remembered import OptimizerState
    from deltaprop.derivation.state import NetworkState

#: Steps of several epochs in a call: their rates take 16 bytes a step.
STEPS_A_CALL = 500_000
#: Floating-point operations of a step for which one more thread pays.
OPERATIONS_A_THREAD = 1e6
#: It pays for steps so many times smaller where there is one hidden layer: threads then exchange little, see
#: ``one_hidden_layer.h``.
GAIN_OF_ONE_HIDDEN_LAYER = 7.5
#: It pays for epochs of so many times that.
STEPS_TO_WAKE = 4
#: Epochs a call may hold whose orders are drawn beforehand.
MOST_EPOCHS = 256


def useful_threads(network: NetworkState, operations: float, batches: int) -> int:
    """Return how many threads share the work of a step of so many operations, in epochs of so many steps."""
    gain = GAIN_OF_ONE_HIDDEN_LAYER if len(network.layer_sizes) == 3 else 1.0
    # To wake a thread takes as long as a few steps of a small network.
    of_an_epoch = operations * batches / STEPS_TO_WAKE
    useful = max(1, int(min(gain * operations, of_an_epoch) / OPERATIONS_A_THREAD))
    return 1 if useful == 1 else min(own_threads(), useful)


def operations_of_a_step(table: PlanTable, task: Task, rows: int) -> float:
    """Count the operations of a step over so many rows."""
    operations = table.operations_of_a_row * rows
    # Of sparse inputs few of the weights' entries are multiplied, but all of them may move.
    return operations + 10.0 * task.network.n_weights if is_csr(task.X) else operations


class OfTheLibrary(WholeEpoch):
    """A way of training one network by the compiled library."""

    @abstractmethod
    def __init__(self, task: Task) -> None: ...

    @classmethod
    def obstacle(cls, task: Task) -> str | None:
        """Tell what the library does not know, or why it cannot be had."""
        return task.given_as_code or obstacle_to_compiling(task.network, task.X, load=True)

    @classmethod
    def find(cls, task: Task) -> Self | None:
        """Make one, if a library that can be compiled here can train this network on these inputs in this way."""
        return cls(task) if task.given_as_code is None and can_compile(task.network, task.X) else None


class CompiledEpoch(OfTheLibrary):
    """Does what `Steps` does, by the compiled library: the same to rounding.

    Several threads share the work of a step if it is large, so it is no stack of one member: the library gives each
    member of a stack one thread. Its plan is the plan of a stack of one.
    """

    task: Task
    network: NetworkState
    state: OptimizerState
    plan: Any
    run: Callable[..., None]

    label = "compiled epochs"
    resumes = True

    def __init__(self, task: Task) -> None:
        network, moments = task.network, moments_of(task.optimizer, task.state)
        self.task, self.network, self.state, self.moments = task, network, task.state, moments
        self.table: PlanTable = PlanTable(
            network, task.X, task.Y, [task.optimizer], moments, [task.samples], [task.batch_size]
        )
        row: Any = self.table.row
        self.plan, self.run = row, self.table.library.run
        self.plan.epochs = 1
        self.rates: CompiledRates = CompiledRates(self.table, task.optimizer, task.batches)
        self.keep: Floats | None = keep_of(task.dropout) if any(task.dropout) else None
        self.table.point("keep", self.keep, (len(network.layer_sizes) - 2,))
        self.operations: float = operations_of_a_step(self.table, task, task.batch_size)
        self.terms: Terms = np.empty((0, 3))
        self._point_to_sums()
        #: What a step that is left in its middle has changed, as it was before; None where steps are short.
        self.before: Remembered | None = None
        if self.operations > LONG_STEP:
            sums = {"cost": task.cost, "decay": task.decay}
            self.before = Remembered(network.backend, self.state, parameters=network.parameters, **sums)
        own_threads()  # finds the BLAS; that, too, is no part of the first epoch
        threads = self._useful_threads()
        # The system gives memory when it is first written to: that is no part of the first epoch.
        self.table.share_scratch(threads, 1, touched=self.operations > OPERATIONS_A_THREAD)

    def _useful_threads(self) -> int:
        return useful_threads(self.network, self.operations, self.task.batches)

    def takes_on(self, task: Task) -> bool:
        """Take on a task that differs from the last one in its samples alone; return whether it does."""
        last = self.task
        alike = (
            self.operations < LONG_STEP
            and self.plan.threads == self._useful_threads()
            and task.network is last.network
            and task.optimizer is last.optimizer
            and (task.samples, task.batch_size) == (last.samples, last.batch_size)
            and all(map(operator.is_, moments_of(task.optimizer, task.state), self.moments))
            and all(isinstance(each.X, np.ndarray) and not any(each.dropout) for each in (task, last))
        )
        if alike:
            self.task, self.state = task, task.state
            self.table.point_to_samples(task.X, task.Y)
            self._point_to_sums()
        return alike

    @property
    def details(self) -> str:
        """The threads that share the work of a step."""
        return f"{self.plan.threads} thread{'s' if self.plan.threads > 1 else ''}"

    def __call__(self, given: Pass, terms: Terms) -> None:
        """Train in as many calls as keep an interrupt waiting for less than a second or so."""
        plan, table, batches = self.plan, self.table, self.task.batches
        self._point_to_terms(terms)
        table.point("order", given.order, (plan.samples,))
        table.point("weights", given.weights, (plan.samples,))
        table.point_to_parameters()
        # Minibatches before the first are among the steps taken.
        self.rates.of_epoch(given.learning_rate, self.state.get("step", 0) - given.first)
        self._point_to_keys(given)
        at_once = max(1, int(OPERATIONS_A_CALL / self.operations))
        with scipy_on_one_thread():
            for first in range(given.first, batches, at_once):
                if given.pause() and first > given.first:
                    raise Paused(first)
                self._block(given, first, min(first + at_once, batches))
        if self.keep is not None and given.dropout is not None:
            given.dropout.skip(numbers_of(self.network, self.keep, self.task.samples))

    def _block(self, given: Pass, first: int, last: int) -> None:
        """Run minibatches `first` to `last`; where there are marks between them, in several calls."""
        ends = ends_of(given.marks, first, last)
        if len(ends) > 1:
            self._parts(given, first, ends)
        else:
            self._some(given, first, last)
        if given.marks is not None:
            given.marks.reached(last, self.network.backend, self.task.cost)

    def _parts(self, given: Pass, first: int, ends: list[int]) -> None:
        """Run minibatches from `first` on, in a call for each part: the same numbers as in one call."""
        carried = np.zeros((2, self.plan.threads))  # each call goes on with the sums of the call before
        self.table.point("carried", carried, carried.shape)
        try:
            for end in ends:
                self._some(given, first, end)
                first = end
                if given.marks is not None and end < ends[-1]:
                    given.marks.reached(end, self.network.backend, self.task.cost, carried[0].sum())
        finally:
            self.table.point("carried", None, ())
        for cost, decay in carried.T:
            self.task.cost[...] += cost
            self.task.decay[...] += decay

    def _some(self, given: Pass, first: int, last: int) -> None:
        """Run minibatches `first` to `last` in one call."""
        plan = self.plan
        plan.first_batch, plan.last_batch = first, last
        self._run_or_undo(first, given.pause)
        if "step" in self.state:
            self.state["step"] += last - first
        given.progress.samples(min(last * plan.batch, plan.samples) - first * plan.batch)

    def _run_or_undo(self, first: int, pause: Interruption) -> None:
        """Run the minibatches that the plan names, from `first` on; a long one may be left in its middle and undone.

        Raises
        ------
        Paused
            If it is left because of a signal that is held back.
        """
        if self.before is None:
            self.run(self.plan)
            return
        self.before.renew()
        if not run_abandonable(lambda: self.run(self.plan), self.before.restore, self.table.stop, pause):
            raise Paused(first)

    def in_a_row(self) -> AbstractContextManager[object]:
        """Keep scipy's BLAS on one thread."""
        return scipy_on_one_thread()

    def leaves_finite(self, network: NetworkState) -> bool:
        """Tell whether the parameters hold neither nan nor infinity."""
        self.table.point_to_parameters()
        return bool(self.table.library.all_finite(self.plan.parameters, network.own.size))

    @property
    def epochs_at_once(self) -> int:
        """As many as let an interrupt be heard; none if J of each asks for Σ W² or for weights."""
        if self.task.weighted or self.task.penalized:
            return 0
        batches = self.task.batches
        return min(MOST_EPOCHS, int(OPERATIONS_A_CALL / (self.operations * batches)), STEPS_A_CALL // batches)

    def epochs(
        self, orders: Indices | None, weights: Array | None, terms: Terms, learning_rate: float, count: int
    ) -> tuple[Floats, Floats, int]:
        """Train in one call, without sample weights and penalty; the optimizer is as the last good epoch left it."""
        parameters = self.network.parameters
        before = Remembered(self.network.backend, self.state, parameters=parameters)
        keys = None if self.keep is None else dropout_keys(self.network, count)
        costs, good = self._epochs(orders, keys, terms, learning_rate, count), count
        if not (np.isfinite(costs).all() and self.network.backend.all_finite(parameters)):
            good = 0
            while good < count:  # again, one by one, to the last that is good
                before.restore()
                order, key = (None if all_ is None else all_[good : good + 1] for all_ in (orders, keys))
                costs[good : good + 1] = self._epochs(order, key, terms, learning_rate, 1)
                if not (np.isfinite(costs[good]) and self.network.backend.all_finite(parameters)):
                    before.restore()
                    break
                before.renew()
                good += 1
        self.plan.epochs = 1
        self._point_to_sums()
        return costs, np.zeros(count), good

    def _epochs(
        self, orders: Indices | None, keys: Indices | None, terms: Terms, learning_rate: float, count: int
    ) -> Floats:
        """Train so many epochs; return what each cost."""
        plan, table, costs = self.plan, self.table, np.zeros(count)
        self._point_to_terms(terms)
        table.point("weights", None, ())
        table.point("order", orders, (count, plan.samples))
        table.point("keys", keys, (count, 2))
        plan.drawn = 0
        table.point_to_parameters()
        self.rates.of_epochs(learning_rate, self.state.get("step", 0), count)
        table.point("cost", costs, (count,))
        table.point("decay", np.zeros(count), (count,))
        plan.order_stride, plan.epochs = plan.samples, count
        plan.first_batch, plan.last_batch = 0, self.task.batches
        with scipy_on_one_thread():
            self.run(plan)
        if "step" in self.state:
            self.state["step"] += count * self.task.batches
        return costs

    def _point_to_terms(self, terms: Terms) -> None:
        """Let the plan point to these terms, unless it does already."""
        if terms is not self.terms:
            columns = terms.T.copy()
            for name, values in zip(("scales", "penalties", "decays"), columns, strict=True):
                self.table.point(name, values, (self.task.batches,))
            self.terms = terms

    def _point_to_keys(self, given: Pass) -> None:
        """Let the plan point to the random numbers of an epoch, or of what is left of it: of a chunk, for one."""
        if given.dropout is not None:
            self.table.point("keys", given.dropout.key.reshape(1, 2), (1, 2))
            self.plan.drawn = given.dropout.drawn

    def _point_to_sums(self) -> None:
        self.table.point("cost", self.task.cost, ())
        self.table.point("decay", self.task.decay, ())
