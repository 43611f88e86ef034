"""Training of several fits at once, under scikit-learn's rules.

`deltaprop.estimators.minibatches` trains one estimator, epoch by epoch; here many are trained, all in the same epoch.
Their counts are arrays with one entry a fit. A fit that has stopped is left out of the epochs that follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.array_types import HostArray, Indices
from deltaprop.backends.native.scipy_threads import numpy_on_one_thread
from deltaprop.derivation.state import StackState
from deltaprop.epochs.members import finite_members
from deltaprop.epochs.stack_trainer import StackTrainer
from deltaprop.epochs.way_log import log_members_way
from deltaprop.estimators.fit_data import has_weight, mean
from deltaprop.estimators.member_fits import MemberFit, MemberRecords, Vector, of_each
from deltaprop.estimators.member_scores import Score
from deltaprop.estimators.objective import MinibatchObjective, constant_cost
from deltaprop.estimators.step_rule import inverse_scaled
from deltaprop.estimators.stopping import StoppingRule
from deltaprop.training import evaluation


class MemberTraining:
    """The training of the members of `stack`, one for each of `fits`.

    Parameters
    ----------
    stack : StackState
        Trained in place.
    X, Y : array, (m, s_1) and (m, s_L)
        The table, as arrays of the stack's backend.
    fits : sequence of MemberFit
    outputs_averaged : int
        The number by which scikit-learn divides the cost before it decides whether to stop.
    constant_costs : array, (m,), or None
        A cost of each row that does not depend on the network.
    score : callable
        The score of the data held out, with early stopping.
    go_on : bool
        Whether estimators will be made of the fits, which need every record.

    Attributes
    ----------
    active : array of int, (k,)
        The fits still in training.
    epoch : int
        How many epochs are done.
    resumable : bool
        Whether the fits may be trained on after `run`; set it before.
    """

    stack: StackState
    active: Indices
    epoch: int
    fits: list[MemberFit]
    outputs_averaged: int
    constant_costs: Vector | None
    score: Score
    go_on: bool
    max_iter: Vector
    first_rate: Vector

    def __init__(
        self,
        stack: StackState,
        X: Array,
        Y: Array,
        fits: Sequence[MemberFit],
        *,
        outputs_averaged: int,
        constant_costs: Vector | None,
        score: Score,
        go_on: bool,
    ) -> None:
        self.stack, self.X, self.Y, self.fits = stack, X, Y, list(fits)
        self.outputs_averaged, self.constant_costs = outputs_averaged, constant_costs
        self.score, self.go_on = score, go_on
        stack.parameters = np.stack([fit.stream.initial for fit in fits])
        self.trainer: StackTrainer = StackTrainer(stack, X, Y, [fit.member() for fit in fits])
        self.records: MemberRecords = MemberRecords.of(self.fits, self.trainer)
        self.samples: HostArray = np.array([member.samples for member in self.trainer.members])
        self.shuffled: list[bool] = [fit.shuffled for fit in fits]
        self.max_iter, self.first_rate = of_each(fits, "max_iter"), of_each(fits, "learning_rate_init")
        self.power_t: Vector = of_each(fits, "power_t")
        self.inverse: HostArray = np.array([fit.estimator._schedule() == "invscaling" for fit in fits])
        self.best: Array | None = (
            stack.backend.copy(stack.parameters) if self.records.stopping.early_stopping.any() else None
        )
        costs = None if constant_costs is None else [constant_costs[fit.stream.rows] for fit in fits]
        self.costs = costs
        of_each_fit: Sequence[Vector | None] = costs or [None] * len(fits)
        self.constants: HostArray = np.array([constant_cost(own, None) for own in of_each_fit])
        self.active, self.epoch = np.arange(len(fits)), 0
        self.resumable = False
        self._last: Array | None = None

    def run(self) -> MemberRecords:
        """Train until every fit has stopped."""
        if not self.epoch:
            log_members_way(self.trainer, self.stack.layer_sizes, self.stack.backend.label)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            while self.active.size:
                self._some_epochs()
        if self.best is not None:
            if self.resumable:
                self._last = self.stack.backend.copy(self.stack.parameters)
            self._restore_best(self.best)
        return self.records

    def train_on(self, estimators: dict[int, Any]) -> None:
        """Train some fits on from where ``max_iter`` ended them, to the ``max_iter`` of other estimators.

        The results are those of a training from the beginning: nothing before the last epoch depends on ``max_iter``.

        Parameters
        ----------
        estimators : dict of int to MLPClassifier or MLPRegressor
            By the number of the fit, its estimator with another ``max_iter``.
        """
        for k, estimator in estimators.items():
            self.fits[k] = replace(self.fits[k], estimator=estimator)
            self.max_iter[k] = estimator.max_iter
        which = np.array(sorted(estimators), np.int64)
        self.active = which[self.records.ran_out[which] & (self.max_iter[which] > self.epoch)]
        self.records.ran_out[self.active] = False
        if self._last is not None:
            self.stack.parameters[...] = self._last
        self.run()

    def _some_epochs(self) -> None:
        """Train some epochs within which no fit can stop, then leave out the fits that have stopped."""
        active, rule = self.active, self.records.stopping.of(self.active)
        count = self._at_once(rule)
        orders = [
            self.fits[k].stream.orders(self.epoch + 1, count) if self.shuffled[k] else None for k in active.tolist()
        ]
        data, penalties = self.trainer.epochs(active, orders, self._learning_rates(count)[active])
        cost, decay = MinibatchObjective.of_epoch(data, penalties, self.samples[active, None])
        cost += self._constants(orders)[:, None]
        watched, losses = cost / self.outputs_averaged + decay, cost + decay
        for place in range(count):
            self.epoch += 1
            self._watch(rule, losses[:, place], watched[:, place])
        self.records.loss[active], self.records.n_iter[active] = losses[:, -1], self.epoch
        self._leave_out(rule)

    def _at_once(self, rule: StoppingRule) -> int:
        """Return how many epochs can be done in one call."""
        patience = 1 if self.best is not None else min(rule.patience)
        return int(max(1, min(patience, self.trainer.epochs_at_once, min(self.max_iter[self.active]) - self.epoch)))

    def _learning_rates(self, count: int) -> Vector:
        """Compute the learning rates of the next epochs, (k, count)."""
        before = np.arange(self.epoch, self.epoch + count) * self.samples[:, None]
        slowed = inverse_scaled(self.first_rate[:, None], before, self.power_t[:, None])
        rates: Vector = np.where(self.inverse[:, None], slowed, self.records.learning_rate[:, None])
        return rates

    def _constants(self, orders: Sequence[Vector | None]) -> Vector:
        """Compute the part of each loss that does not depend on the network, in the order of the epoch."""
        for k, order in zip(self.active.tolist(), orders, strict=True):
            weights = self.trainer.last_weights.get(k)
            if self.costs is not None and weights is not None:
                costs = self.costs[k] if order is None else self.costs[k][order[0]]
                self.constants[k] = constant_cost(costs, weights)
        active: Vector = self.constants[self.active]
        return active

    def _watch(self, rule: StoppingRule, losses: Vector, watched: Vector) -> None:
        """Record an epoch, and count it if it brings no improvement."""
        self.records.epochs.append((self.active, losses))
        worse = rule.by_loss(losses, watched)
        if self.best is not None:
            worse = np.where(rule.early_stopping, self._watch_scores(rule, self.best), worse)
        rule.count(worse)

    def _watch_scores(self, rule: StoppingRule, best: Array) -> Vector:
        """Judge the fits with early stopping, and keep the parameters of their best epochs.

        Returns
        -------
        worse : array of bool, (k,)
            Which of the active fits have not improved.
        """
        judged, every_score = self.active[rule.early_stopping], np.full(len(self.active), np.nan)
        scores, costs = self._judge(judged)
        self.records.held_out.append((judged, scores, costs))
        every_score[rule.early_stopping] = scores
        worse: Vector
        worse, is_best = rule.by_score(every_score)
        better = self.active[is_best]
        best[better] = self.stack.parameters[better]
        return worse

    def _leave_out(self, rule: StoppingRule) -> None:
        """Go on without the fits that have stopped; under "adaptive", some go on with a smaller learning rate."""
        active, records = self.active, self.records
        records.learning_rate[active], goes_on = rule.slow_down(records.learning_rate[active])
        records.stopping.put(active, rule)
        finite = records.finite[active] = finite_members(self.stack)[active]
        stays, over = finite & goes_on, self.epoch >= self.max_iter[active]
        records.ran_out[active] = stays & over
        self.active = active[stays & ~over]

    def _restore_best(self, best: Array) -> None:
        """Go back to the parameters of the best scores; those whose score was always nan keep their last ones."""
        has_best = self.records.stopping.has_best
        chosen = self.stack.backend.asarray(np.flatnonzero(has_best), np.int64)
        self.stack.parameters[chosen] = best[chosen]
        self.records.finite[has_best] = finite_members(self.stack)[has_best]

    def _judge(self, which: Vector) -> tuple[Vector, Vector]:
        """Compute the score and, if it is needed, the mean cost of each of these fits on its rows held out.

        Both are nan where these rows weigh nothing.
        """
        scores, costs = np.full(len(which), np.nan), np.full(len(which), np.nan)
        alike: dict[tuple[int, int], list[int]] = {}
        for place, k in enumerate(which.tolist()):
            alike.setdefault((id(self.fits[k].stream), id(self.fits[k].sample_weight)), []).append(place)
        for places in alike.values():
            fit, own = self.fits[which[places[0]]], np.array(places)
            held_out: Any = fit.stream.held_out
            weight = None if fit.sample_weight is None else fit.sample_weight[held_out]
            if has_weight(weight):
                scores[own], costs[own] = self._judge_alike(which[own], held_out, weight)
        return scores, costs

    def _judge_alike(self, which: Vector, held_out: Vector, weight: Vector | None) -> tuple[Vector, Vector]:
        """Compute the same for fits that have the same rows held out, with the same weights."""
        stack, backend, costs = self.stack, self.stack.backend, np.full(len(which), np.nan)
        rows = backend.asarray(held_out, np.int64)
        X, Y = self.X[rows], self.Y[rows]
        scores = self.score(predict_members(stack, which, X), backend.to_numpy(Y), weight)
        if self.go_on:
            m = len(held_out) if weight is None else float(weight.sum())
            on_device = None if weight is None else backend.asarray(weight, stack.dtype)
            constant = mean(None if self.constant_costs is None else self.constant_costs[held_out], weight)
            for place, k in enumerate(which):
                network = stack.over(stack.parameters[k])
                total = evaluation.data_cost(network, X, Y, sample_weight=on_device)
                costs[place] = float(total) / m + constant
        return scores, costs


def predict_members(stack: StackState, which: Vector, X: Array) -> Vector:
    """Compute a^(L) of the members whose numbers are `which`, (k, m, s_L), on the host."""
    backend = stack.backend
    flat = stack.parameters if len(which) == len(stack.seeds) else stack.parameters[backend.asarray(which, np.int64)]
    if backend.on_host:
        # Threads of a BLAS spin after a product, and these products are small.
        with numpy_on_one_thread():
            return backend.to_numpy(evaluation.predict(stack.over(flat), X))
    return np.stack([backend.to_numpy(evaluation.predict(stack.over(own), X)) for own in flat])
