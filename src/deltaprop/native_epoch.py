"""An epoch in a few calls of the compiled library, where there is one: NumPy's arrays, no step of Python's."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.native_compiler import find_compiler
from deltaprop.backends.native_library import Plan, gemm, library
from deltaprop.backends.numpy import NumpyBackend
from deltaprop.backends.places import LOSSES, Rule, activation_place
from deltaprop.interruption import Paused
from deltaprop.network import NetworkState
from deltaprop.optimizers import AdamW, Optimizer, moments_of, rule_of
from deltaprop.progress import Progress
from deltaprop.scipy_threads import own_threads, scipy_on_one_thread

#: Floating-point operations of a step for which one more thread pays, and those after which the library returns, so
#: that an interrupt is heard and a progress bar drawn.
OPERATIONS_A_THREAD, OPERATIONS_A_CALL = 1e6, 2e9


#: Epochs a call may hold whose orders are drawn beforehand.
MOST_EPOCHS = 256


class NativeEpoch:
    """What `Trainer.epoch` does, by the compiled library: the same to rounding.

    Parameters
    ----------
    network : NetworkState
        On the NumPy backend.
    X, Y : array, (m, s_1) and (m, s_L)
    optimizer, state
        The latter is changed in place.
    batch_size : int
    cost, decay : array, () of float64
        What the minibatches cost, and their penalties, are added to.

    Attributes
    ----------
    first, pause
        As of `Trainer`.

    Raises
    ------
    BackendError
        If the library cannot be compiled or loaded here.
    """

    first = 0

    @staticmethod
    def pause() -> bool:
        """Whether to leave off: nobody asks for it, unless `Trainer` does."""
        return False

    def __init__(
        self,
        network: NetworkState,
        X: Array,
        Y: Array,
        optimizer: Optimizer,
        state: dict[str, Any],
        batch_size: int,
        cost: Array,
        decay: Array,
    ) -> None:
        compiled = library(network.dtype)
        self.run, self.cost, self.decay = compiled.run, cost, decay
        self.network, self.optimizer, self.state = network, optimizer, state
        sizes = np.array(network.layer_sizes, np.int64)
        activations = np.array([activation_place(g) for g in network.activations], np.int64)
        self.operations = 6.0 * batch_size * network.n_weights
        self.batches = math.ceil(X.shape[0] / batch_size)
        self.plan = plan = Plan(
            layers=len(sizes) - 1,
            loss=LOSSES.index(network.loss),
            samples=X.shape[0],
            batch=batch_size,
            epochs=1,
            gemm=gemm(network.dtype),
        )
        # What the plan points to has to live as long as it does.
        self.held: dict[str, Array] = {}
        self._point(sizes=sizes, activations=activations, x=X, y=Y, cost=cost, decay=decay)
        self._describe_optimizer()
        plan.threads = min(own_threads(), os.cpu_count() or 1, max(1, int(self.operations / OPERATIONS_A_THREAD)))
        self._point(scratch=np.empty(compiled.scratch_entries(plan), network.dtype))

    @staticmethod
    def can(network: NetworkState, X: Array, optimizer: Optimizer, dropout: Sequence[float]) -> bool:
        """Whether a library that can be compiled here can train this network on these inputs in this way."""
        return (
            isinstance(network.backend, NumpyBackend)
            and network.backend.compiles
            and find_compiler() is not None
            and isinstance(X, np.ndarray)
            and isinstance(network.loss, str)
            and network.output_error == "exact"
            and rule_of(optimizer) is not None
            and not any(dropout)
        )

    def __call__(
        self,
        order: np.ndarray[Any, Any] | None,
        weights: Array | None,
        terms: Sequence[tuple[float, float, float]],
        learning_rate: float,
        progress: Progress,
    ) -> None:
        """All minibatches; `terms` are, for each, the scale of δ^(L), the factor of W in ∂J/∂W and that of Σ W²."""
        plan = self.plan
        scales, penalties, decays = np.array(terms, np.float64).T.copy()
        self._point(scales=scales, penalties=penalties, decays=decays, order=order, weights=weights)
        self._point(parameters=self.network.parameters)
        self._point(learning_rates=np.array([learning_rate]))
        at_once = max(1, int(OPERATIONS_A_CALL / self.operations))
        with scipy_on_one_thread():
            for first in range(self.first, self.batches, at_once):
                if self.pause() and first > self.first:
                    raise Paused(first)
                last = min(first + at_once, self.batches)
                plan.first_batch, plan.last_batch = first, last
                plan.steps = self.state.get("step", 0)
                self.run(plan)
                if "step" in self.state:
                    self.state["step"] += last - first
                progress.samples(min(last * plan.batch, plan.samples) - first * plan.batch)

    @property
    def epochs_at_once(self) -> int:
        """How many epochs one call of `epochs` may hold, so that an interrupt is heard."""
        return min(MOST_EPOCHS, int(OPERATIONS_A_CALL / (self.operations * self.batches)))

    def epochs(
        self,
        orders: np.ndarray[Any, Any] | None,
        weights: None,
        terms: Sequence[tuple[float, float, float]],
        learning_rate: float,
        count: int,
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], int]:
        """`count` epochs in one call, as of `ResidentEpoch.epochs`; without sample weights and penalty.

        Where one ends in numbers that are not finite, parameters and optimizer are as it found them.
        """
        plan, parameters = self.plan, self.network.parameters
        before = [array.copy() for array in (parameters, *moments_of(self.state))]
        steps = self.state.get("step", 0)
        costs, good = self._epochs(orders, terms[: self.batches], learning_rate, count), count
        if not (np.isfinite(costs).all() and self.network.backend.all_finite(parameters)):
            good = 0
            while good < count:  # again, one by one, to the last that is good
                self._restore(before, steps)
                order = None if orders is None else orders[good : good + 1]
                costs[good : good + 1] = self._epochs(order, terms[: self.batches], learning_rate, 1)
                if not (np.isfinite(costs[good]) and self.network.backend.all_finite(parameters)):
                    self._restore(before, steps)
                    break
                before = [array.copy() for array in (parameters, *moments_of(self.state))]
                steps = self.state.get("step", 0)
                good += 1
        plan.epochs = 1
        self._point(cost=self.cost, decay=self.decay)
        return costs, np.zeros(count), good

    def _epochs(
        self,
        orders: np.ndarray[Any, Any] | None,
        terms: Sequence[tuple[float, float, float]],
        learning_rate: float,
        count: int,
    ) -> np.ndarray[Any, Any]:
        """So many epochs; what each cost."""
        plan, costs = self.plan, np.zeros(count)
        scales, penalties, decays = np.array(terms, np.float64).T.copy()
        self._point(scales=scales, penalties=penalties, decays=decays, weights=None)
        self._point(order=None if orders is None else np.ascontiguousarray(orders, np.int64))
        self._point(parameters=self.network.parameters, learning_rates=np.full(count, learning_rate))
        self._point(cost=costs, decay=np.zeros(count))
        plan.order_stride, plan.epochs, plan.steps = plan.samples, count, self.state.get("step", 0)
        plan.first_batch, plan.last_batch = 0, self.batches
        with scipy_on_one_thread():
            self.run(plan)
        if "step" in self.state:
            self.state["step"] += count * self.batches
        return costs

    def _restore(self, arrays: Sequence[Array], steps: int) -> None:
        """Parameters and optimizer as they were."""
        for array, before in zip((self.network.parameters, *moments_of(self.state)), arrays, strict=True):
            array[...] = before
        if "step" in self.state:
            self.state["step"] = steps

    def _describe_optimizer(self) -> None:
        rule, plan = rule_of(self.optimizer) or Rule(), self.plan
        plan.optimizer, plan.momentum, plan.epsilon = rule.optimizer, rule.momentum, rule.epsilon
        plan.beta_1, plan.beta_2 = rule.beta_1, rule.beta_2
        plan.weight_decay = self.optimizer.weight_decay if isinstance(self.optimizer, AdamW) else 0.0
        self._point(**dict(zip(("first", "second"), moments_of(self.state), strict=False)))

    def _point(self, **arrays: Array | None) -> None:
        """Let fields of the plan point to arrays, or to nothing."""
        for name, array in arrays.items():
            self.held[name] = array
            setattr(self.plan, name, None if array is None else array.ctypes.data)
