"""An epoch in a few calls of the compiled library, where there is one: NumPy's arrays, no step of Python's."""

from __future__ import annotations

import ctypes
import os
from typing import Any, Self

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.kernel_names import Rule, activation_number, loss_number
from deltaprop.backends.native.compiler import find_compiler
from deltaprop.backends.native.library import Plan, gemm, library, pointer
from deltaprop.backends.native.scipy_threads import own_threads, scipy_on_one_thread
from deltaprop.backends.numpy.backend import NumpyBackend
from deltaprop.derivation.optimizers import AdamW, Remembered, moments_of, rule_of
from deltaprop.epochs.interruption import Paused, run_abandonable
from deltaprop.epochs.task import LONG_STEP, OPERATIONS_A_CALL, Pass, Task, Terms, WholeEpoch, operations_of

#: Floating-point operations of a step for which one more thread pays.
OPERATIONS_A_THREAD = 1e6
#: Epochs a call may hold whose orders are drawn beforehand.
MOST_EPOCHS = 256


class NativeEpoch(WholeEpoch):
    """What `Trainer.epoch` does, by the compiled library: the same to rounding.

    Raises
    ------
    BackendError
        If the library cannot be compiled or loaded here.
    """

    takes_up = True

    def __init__(self, task: Task) -> None:
        network = task.network
        compiled = library(network.dtype)
        self.task, self.run, self.network, self.state = task, compiled.run, network, task.state
        sizes = np.array(network.layer_sizes, np.int64)
        activations = np.array([activation_number(g) for g in network.activations], np.int64)
        self.operations = operations_of(network, task.batch_size)
        self.plan = plan = Plan(
            layers=len(sizes) - 1,
            loss=loss_number(network.loss),
            samples=task.X.shape[0],
            batch=task.batch_size,
            epochs=1,
            gemm=gemm(network.dtype),
        )
        self.terms: Terms = np.empty((0, 3))
        # What the plan points to has to live as long as it does.
        self.held: dict[str, Array] = {}
        self._point("sizes", sizes, sizes.shape)
        self._point("activations", activations, (len(sizes) - 1,))
        self._point("x", task.X, (plan.samples, network.layer_sizes[0]))
        self._point("y", task.Y, (plan.samples, network.layer_sizes[-1]))
        self._point_to_sums()
        self._describe_optimizer()
        #: Set while the library runs, it makes it leave off in the middle of a step.
        self.stop = ctypes.c_int32(0)
        plan.stop = ctypes.addressof(self.stop)
        #: What a step that is left in its middle has changed, as it was before; None where steps are short.
        self.before: Remembered | None = None
        if self.operations > LONG_STEP:
            sums = {"cost": task.cost, "decay": task.decay}
            self.before = Remembered(self.state, parameters=network.parameters, **sums)
        plan.threads = min(own_threads(), os.cpu_count() or 1, max(1, int(self.operations / OPERATIONS_A_THREAD)))
        scratch = np.empty(compiled.scratch_entries(plan), network.dtype)
        self._point("scratch", scratch, scratch.shape)

    @classmethod
    def find(cls, task: Task) -> Self | None:
        """One, where a library that can be compiled here can train this network on these inputs in this way."""
        backend = task.network.backend
        if (
            not task.is_built_in
            or task.network.output_error != "exact"
            or not isinstance(backend, NumpyBackend)
            or not backend.compiles
            or find_compiler() is None
            or not isinstance(task.X, np.ndarray)
        ):
            return None
        return cls(task)

    def __call__(self, given: Pass, terms: Terms) -> None:
        """In as many calls as keep an interrupt waiting for less than a second or so."""
        plan, batches = self.plan, self.task.batches
        self._point_to_terms(terms)
        self._point("order", given.order, (plan.samples,))
        self._point("weights", given.weights, (plan.samples,))
        self._point_to_parameters()
        self._point("learning_rates", np.array([given.learning_rate], np.float64), (1,))
        at_once = max(1, int(OPERATIONS_A_CALL / self.operations))
        with scipy_on_one_thread():
            for first in range(self.first, batches, at_once):
                if self.pause() and first > self.first:
                    raise Paused(first)
                last = min(first + at_once, batches)
                plan.first_batch, plan.last_batch = first, last
                plan.steps = self.state.get("step", 0)
                self._run_or_undo(first)
                if "step" in self.state:
                    self.state["step"] += last - first
                given.progress.samples(min(last * plan.batch, plan.samples) - first * plan.batch)

    def _run_or_undo(self, first: int) -> None:
        """The minibatches that the plan names, from `first` on; a long one may be left in its middle, and is undone.

        Raises
        ------
        Paused
            If it was, for a signal that is held back.
        """
        if self.before is None:
            self.run(self.plan)
            return
        self.before.renew()
        if not run_abandonable(lambda: self.run(self.plan), self.before.restore, self.stop, self.pause):
            raise Paused(first)

    @property
    def epochs_at_once(self) -> int:
        """As many as let an interrupt be heard; none where J of each asks for Σ W² or for weights."""
        if self.task.weighted or self.task.penalized:
            return 0
        return min(MOST_EPOCHS, int(OPERATIONS_A_CALL / (self.operations * self.task.batches)))

    def epochs(
        self, orders: np.ndarray[Any, Any] | None, weights: Array | None, terms: Terms, learning_rate: float, count: int
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], int]:
        """In one call, without sample weights and penalty; the optimizer, too, is as the last good epoch left it."""
        plan, parameters = self.plan, self.network.parameters
        before = Remembered(self.state, parameters=parameters)
        costs, good = self._epochs(orders, terms[: self.task.batches], learning_rate, count), count
        if not (np.isfinite(costs).all() and self.network.backend.all_finite(parameters)):
            good = 0
            while good < count:  # again, one by one, to the last that is good
                before.restore()
                order = None if orders is None else orders[good : good + 1]
                costs[good : good + 1] = self._epochs(order, terms[: self.task.batches], learning_rate, 1)
                if not (np.isfinite(costs[good]) and self.network.backend.all_finite(parameters)):
                    before.restore()
                    break
                before.renew()
                good += 1
        plan.epochs = 1
        self._point_to_sums()
        return costs, np.zeros(count), good

    def _epochs(
        self,
        orders: np.ndarray[Any, Any] | None,
        terms: Terms,
        learning_rate: float,
        count: int,
    ) -> np.ndarray[Any, Any]:
        """So many epochs; what each cost."""
        plan, costs = self.plan, np.zeros(count)
        self._point_to_terms(terms)
        self._point("weights", None, ())
        self._point("order", orders, (count, plan.samples))
        self._point_to_parameters()
        self._point("learning_rates", np.full(count, learning_rate), (count,))
        self._point("cost", costs, (count,))
        self._point("decay", np.zeros(count), (count,))
        plan.order_stride, plan.epochs, plan.steps = plan.samples, count, self.state.get("step", 0)
        plan.first_batch, plan.last_batch = 0, self.task.batches
        with scipy_on_one_thread():
            self.run(plan)
        if "step" in self.state:
            self.state["step"] += count * self.task.batches
        return costs

    def _point_to_terms(self, terms: Terms) -> None:
        """Unless the plan points to them already."""
        if terms is not self.terms:
            columns = terms.T.copy()
            for name, values in zip(("scales", "penalties", "decays"), columns, strict=True):
                self._point(name, values, (self.task.batches,))
            self.terms = terms

    def _point_to_parameters(self) -> None:
        self._point("parameters", self.network.parameters, (self.network.own.size,))

    def _point_to_sums(self) -> None:
        self._point("cost", self.task.cost, ())
        self._point("decay", self.task.decay, ())

    def _describe_optimizer(self) -> None:
        rule, plan = rule_of(self.task.optimizer) or Rule(), self.plan
        plan.optimizer, plan.momentum, plan.epsilon = rule.number, rule.momentum, rule.epsilon
        plan.beta_1, plan.beta_2 = rule.beta_1, rule.beta_2
        plan.weight_decay = self.task.optimizer.weight_decay if isinstance(self.task.optimizer, AdamW) else 0.0
        for name, moment in zip(("first", "second"), moments_of(self.state), strict=False):
            self._point(name, moment, (self.network.own.size,))

    def _point(self, name: str, array: Array | None, shape: tuple[int, ...]) -> None:
        """Let a field of the plan point to an array of that shape, or to nothing."""
        self.held[name] = array
        where = None if array is None else pointer(name, array, self.network.dtype, shape)
        setattr(self.plan, name, where)
