"""Fits of several estimators whose networks have the same widths, all at once, under scikit-learn's rules.

What `deltaprop.estimators.minibatches` does for one estimator, epoch by epoch, is done here for all of them in step,
the bookkeeping in arrays with one entry a member; a member that has stopped is left out of the epochs that follow.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from deltaprop.backends import Array
from deltaprop.backends.native.scipy_threads import numpy_on_one_thread
from deltaprop.derivation.backprop import Objective
from deltaprop.derivation.optimizers import Optimizer
from deltaprop.derivation.parameters import Parameters
from deltaprop.derivation.state import NetworkState, StackState
from deltaprop.epochs.member_trainer import StackTrainer
from deltaprop.epochs.members import Member, finite_members
from deltaprop.estimators.fit_data import has_weight, mean
from deltaprop.estimators.multilayer_perceptron import draw_parameters
from deltaprop.estimators.step_rule import SMALLEST_LEARNING_RATE, step_rule
from deltaprop.training import evaluation

#: (outputs : (k, m, s_L), targets : (m, s_L), weights : (m,) or None) -> (k,): higher is better.
Score = Callable[[Any, Any, Any], np.ndarray[Any, Any]]


class Stream:
    """The random numbers of one ``random_state``, from which members that have the same draw the same.

    Attributes
    ----------
    initial : array, (n,)
        The parameters drawn first.
    rows : array of int64
        Which rows of the table are trained on.
    held_out : array of int64, or None
        And which are held out, under early stopping.
    """

    def __init__(
        self, random_state: Any, shape: Parameters, bounds_of: Sequence[str], rows: np.ndarray[Any, Any]
    ) -> None:
        self.rng = check_random_state(copy.deepcopy(random_state))
        draw_parameters(self.rng, shape, bounds_of)
        self.initial = shape.backend.to_numpy(shape.flat).copy()
        self.rows = rows
        self.held_out: np.ndarray[Any, Any] | None = None
        self._before = copy.deepcopy(self.rng)
        self._first = 0
        self._drawn: np.ndarray[Any, Any] | None = None

    def hold_out(self, share: float, strata: Any) -> None:
        """Split the rows as an estimator does for early stopping; `strata` are of all rows of the table, or None."""
        train, held_out = train_test_split(
            np.arange(len(self.rows)),
            random_state=self.rng,
            test_size=share,
            stratify=None if strata is None else strata[self.rows],
        )
        if len(held_out) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        self.rows, self.held_out = self.rows[train], self.rows[held_out]
        self._before = copy.deepcopy(self.rng)

    def orders(self, first: int, count: int) -> np.ndarray[Any, Any]:
        """In which order the rows are visited in so many epochs from `first` on, (count, m); asked for in turn."""
        if self._drawn is None or self._first != first:
            samples = len(self.rows)
            order = np.arange(samples) if self._drawn is None else self._drawn[-1]
            drawn = np.empty((count, samples), np.int64)
            for own in drawn:
                order = own[:] = order[self.rng.permutation(samples)]
            self._first, self._drawn = first, drawn
        return self._drawn

    def after(self, epochs: int) -> np.random.RandomState:
        """What numbers are drawn from after so many epochs of one member."""
        drawn = 0 if self._drawn is None else self._first + len(self._drawn) - 1
        rng: np.random.RandomState = copy.deepcopy(self.rng if drawn == epochs else self._before)
        for _ in range(0 if drawn == epochs else epochs):
            rng.permutation(len(self.rows))
        return rng


@dataclass
class MemberFit:
    """One fit: what an estimator's parameters ask for, on some rows of the table.

    Attributes
    ----------
    estimator : MLPClassifier or MLPRegressor
        Whose parameters it goes by; it is not changed.
    stream : Stream
    optimizer, objective
        What its parameters come to.
    sample_weight : array, (m,), or None
        Of all rows of the table.
    """

    estimator: Any
    stream: Stream
    optimizer: Optimizer
    objective: Objective
    sample_weight: np.ndarray[Any, Any] | None = None

    @property
    def batch_size(self) -> int:
        """Samples a step."""
        size, samples = self.estimator.batch_size, len(self.stream.rows)
        return min(200 if size == "auto" else int(size), samples)

    def member(self) -> Member:
        """As the engine has it."""
        rows, weight = self.stream.rows, self.sample_weight
        return Member(
            samples=len(rows),
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            objective=self.objective,
            rows=rows,
            sample_weight=None if weight is None else weight[rows],
        )


@dataclass
class Records:
    """What became of each fit.

    Attributes
    ----------
    fits : sequence of MemberFit
    trainer : StackTrainer
        Which has what their optimizers carry.
    n_iter : array of int, (k,)
        Epochs.
    loss, best_loss, best_watched : array, (k,)
        The last, the lowest, and the lowest of those by which scikit-learn decides.
    worse_epochs : array, (k,)
        How many epochs at the end brought no improvement.
    learning_rate : array, (k,)
        Of the last epoch, before "invscaling".
    best_score : array, (k,)
        Of the data held out; nan where there was none in any epoch.
    finite : array of bool, (k,)
        Whether its parameters are.
    ran_out : array of bool, (k,)
        Whether ``max_iter`` ended it.
    epochs : list of (array of int, array)
        Which members were in training in each epoch, and their losses.
    held_out : list of (array of int, array, array)
        Which members were judged after each epoch, their scores and, where they are to go on, their costs.
    """

    fits: Sequence[MemberFit]
    trainer: StackTrainer
    n_iter: np.ndarray[Any, Any]
    loss: np.ndarray[Any, Any]
    best_loss: np.ndarray[Any, Any]
    best_watched: np.ndarray[Any, Any]
    worse_epochs: np.ndarray[Any, Any]
    learning_rate: np.ndarray[Any, Any]
    best_score: np.ndarray[Any, Any]
    finite: np.ndarray[Any, Any]
    ran_out: np.ndarray[Any, Any]
    epochs: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = field(default_factory=list)
    held_out: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]] = field(
        default_factory=list
    )

    @classmethod
    def of(cls, fits: Sequence[MemberFit], trainer: StackTrainer) -> Records:
        """Before the first epoch."""
        k = len(fits)
        infinite = np.full(k, np.inf)
        rates = np.array([fit.estimator.learning_rate_init for fit in fits], np.float64)
        return cls(
            fits,
            trainer,
            n_iter=np.zeros(k, int),
            loss=np.zeros(k),
            best_loss=infinite,
            best_watched=infinite.copy(),
            worse_epochs=np.zeros(k, int),
            learning_rate=rates,
            best_score=np.full(k, np.nan),
            finite=np.ones(k, bool),
            ran_out=np.zeros(k, bool),
        )

    @property
    def unscored(self) -> int:
        """How many stopped early by a validation score that was nan in every epoch."""
        return int(
            (np.isnan(self.best_score) & [fit.estimator.early_stopping for fit in self.fits] & self.finite).sum()
        )

    def hand_over(self, k: int, mlp: Any, network: NetworkState) -> None:
        """Set on `mlp`, whose network has the parameters of fit k, all that a fit by itself leaves on an estimator."""
        fit = self.fits[k]
        early, epochs = fit.estimator.early_stopping, int(self.n_iter[k])
        mlp.n_iter_, mlp.t_, mlp.loss_ = epochs, epochs * len(fit.stream.rows), float(self.loss[k])
        mlp.loss_curve_ = [float(loss[which == k][0]) for which, loss in self.epochs[:epochs]]
        mlp.best_loss_ = None if early else float(self.best_loss[k])
        mlp._best_watched = np.inf if early else float(self.best_watched[k])
        mlp._no_improvement_count = int(self.worse_epochs[k])
        mlp.best_validation_score_ = float(self.best_score[k]) if early else None
        mlp.validation_scores_ = mlp.validation_loss_curve_ = None
        if early:
            own = [(scores[which == k], costs[which == k]) for which, scores, costs in self.held_out[:epochs]]
            mlp.validation_scores_ = [float(score[0]) for score, _ in own]
            mlp.validation_loss_curve_ = [float(cost[0]) for _, cost in own]
            mlp._best_parameters = network.backend.copy(network.parameters)
        mlp._random_state = fit.stream.after(epochs if fit.estimator.shuffle else 0)
        mlp._optimizer = rule = step_rule(mlp, network)
        self.trainer.hand_over(k, rule.state)
        rule.learning_rate = float(self.learning_rate[k])
        rule.epoch_ended(mlp.t_)
        network.epochs_trained = epochs


class MemberTrainer(StackTrainer):
    """Every minibatch has its own m, as in `deltaprop.estimators.minibatches.MinibatchTrainer`.

    Parameters
    ----------
    constant_costs : array, (m,), or None
        A cost of each row of the table that does not depend on the network.

    Attributes
    ----------
    constants : array, (k,)
        Its mean over the last epoch of each member, by weight.
    """

    def __init__(self, *arguments: Any, constant_costs: np.ndarray[Any, Any] | None) -> None:
        super().__init__(*arguments)
        costs = None if constant_costs is None else [constant_costs[member.rows] for member in self.members]
        self.constant_costs = costs
        self.constants = np.array([0.0 if costs is None else np.mean(costs[k]) for k in range(len(self.members))])

    def terms(self, k: int, sums: Sequence[float]) -> np.ndarray[Any, Any]:
        """Those of J_b: 1/n_b, as the weights are scaled to; α/m_b; and n_b/2 times that for the cost."""
        member = self.members[k]
        result = np.empty((3, len(sums)))
        for batch, (n, m) in enumerate(zip(member.sizes, sums, strict=True)):
            penalty = member.objective.penalty(m) if m else 0.0
            result[:, batch] = 1.0 / n, penalty, 0.5 * penalty * n
        return result

    def weights(self, k: int, order: np.ndarray[Any, Any] | None) -> tuple[np.ndarray[Any, Any], Sequence[float]]:
        """Weights scaled so that those of a minibatch sum to its number of samples, and their sums before that."""
        weights, sums = super().weights(k, order)
        sizes = self.members[k].sizes
        factors = [n / m if m else 0.0 for n, m in zip(sizes, sums, strict=True)]
        scaled = (weights * np.repeat(factors, sizes)).astype(weights.dtype)
        if self.constant_costs is not None:
            costs = self.constant_costs[k]
            self.constants[k] = float(scaled @ (costs if order is None else costs[order])) / len(scaled)
        return scaled, sums


def fit_together(
    stack: StackState,
    X: Array,
    Y: Array,
    fits: Sequence[MemberFit],
    *,
    outputs_averaged: int,
    constant_costs: np.ndarray[Any, Any] | None,
    score: Score,
    go_on: bool,
) -> Records:
    """Train the members of `stack`, one for each of `fits`, in place.

    Parameters
    ----------
    X, Y : array, (m, s_1) and (m, s_L)
        The table, as arrays of the stack's backend.
    outputs_averaged : int
        By how many outputs scikit-learn divides the cost that it watches.
    constant_costs : array, (m,), or None
        A cost of each row that does not depend on the network.
    score : callable
        Of the data held out, under early stopping.
    go_on : bool
        Whether estimators are to be made of the fits, which need every record.
    """
    count, backend = len(fits), stack.backend
    estimators = [fit.estimator for fit in fits]

    def of_each(name: str, dtype: Any = np.float64) -> np.ndarray[Any, Any]:
        return np.array([getattr(estimator, name) for estimator in estimators], dtype)

    stack.parameters = np.stack([fit.stream.initial for fit in fits])
    members = [fit.member() for fit in fits]
    trainer = MemberTrainer(stack, X, Y, members, constant_costs=constant_costs)
    records = Records.of(fits, trainer)
    samples = np.array([member.samples for member in members])
    shuffled = [e.shuffle and m.batch_size < m.samples for e, m in zip(estimators, members, strict=True)]
    tol, patience, most = of_each("tol"), of_each("n_iter_no_change"), of_each("max_iter")
    rate, first_rate = records.learning_rate, of_each("learning_rate_init")
    power, sgd = of_each("power_t"), of_each("solver", object) == "sgd"
    schedule = of_each("learning_rate", object)
    adaptive, inverse, early = (
        sgd & (schedule == "adaptive"),
        sgd & (schedule == "invscaling"),
        of_each("early_stopping", bool),
    )
    best_watched, best_score, worse_epochs = records.best_watched, np.full(count, -np.inf), records.worse_epochs
    best = stack.backend.copy(stack.parameters) if early.any() else None
    has_best = np.zeros(count, bool)
    active, epoch = np.arange(count), 0
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        while active.size:
            # Nobody stops before so many more epochs without improvement.
            at_once = min(patience[active] + 1 - worse_epochs[active]) if best is None else 1
            at_once = int(max(1, min(at_once, trainer.epochs_at_once, min(most[active]) - epoch)))
            orders = [fits[k].stream.orders(epoch + 1, at_once) if shuffled[k] else None for k in active.tolist()]
            numbers = np.arange(epoch + 1, epoch + 1 + at_once)
            slowed = first_rate[:, None] / ((numbers - 1) * samples[:, None] + 1.0) ** power[:, None]
            rates = np.where(inverse[:, None], slowed, rate[:, None])[active]
            data, penalties = trainer.epochs(active, orders, rates)
            cost, decay = data / samples[active, None], penalties / samples[active, None]
            cost += trainer.constants[active, None]
            watched, losses = cost / outputs_averaged + decay, cost + decay
            for place in range(at_once):
                epoch += 1
                records.epochs.append((active, losses[:, place]))
                worse = watched[:, place] > best_watched[active] - tol[active]
                best_watched[active] = np.fmin(best_watched[active], watched[:, place])
                if best is not None:
                    judged = active[early[active]]
                    scores, costs = _judge(stack, X, Y, fits, judged, score, constant_costs, with_costs=go_on)
                    records.held_out.append((judged, scores, costs))
                    worse[early[active]] = ~(scores >= best_score[judged] + tol[judged])  # as a nan is
                    better = (scores > best_score[judged]) | ~(has_best[judged] | np.isnan(scores))
                    has_best[judged[better]], best_score[judged[better]] = True, scores[better]
                    best[judged[better]] = stack.parameters[judged[better]]
                worse_epochs[active] = np.where(worse, worse_epochs[active] + 1, 0)
            records.loss[active], records.n_iter[active] = losses[:, -1], epoch
            records.best_loss[active] = np.fmin(records.best_loss[active], np.fmin.reduce(losses, axis=1))
            finite = records.finite[active] = finite_members(stack)[active]
            gave_up = worse_epochs[active] > patience[active]
            goes_on = gave_up & adaptive[active] & (rate[active] > SMALLEST_LEARNING_RATE)
            slower = active[goes_on & finite]
            rate[slower] /= 5.0
            worse_epochs[slower] = 0
            stays = finite & ~(gave_up & ~goes_on)
            records.ran_out[active] = stays & (epoch >= most[active])
            active = active[stays & (epoch < most[active])]
    if best is not None:
        # Those whose score was always nan keep the parameters of their last epoch.
        records.best_score[has_best] = best_score[has_best]
        chosen = backend.asarray(np.flatnonzero(has_best), np.int64)
        stack.parameters[chosen] = best[chosen]
        records.finite[has_best] = finite_members(stack)[has_best]
    return records


def _judge(
    stack: StackState,
    X: Array,
    Y: Array,
    fits: Sequence[MemberFit],
    which: np.ndarray[Any, Any],
    score: Score,
    constant_costs: np.ndarray[Any, Any] | None,
    *,
    with_costs: bool,
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The score and, where asked for, the mean cost of each member named by `which` on the rows held out from it.

    They are nan where these rows weigh nothing.
    """
    backend = stack.backend
    scores, costs = np.full(len(which), np.nan), np.full(len(which), np.nan)
    streams = [fits[k].stream for k in which]
    for stream in dict.fromkeys(streams):
        places = np.flatnonzero([each is stream for each in streams])
        held_out: Any = stream.held_out
        on_backend = backend.asarray(held_out, np.int64)
        held_X, held_Y = X[on_backend], Y[on_backend]
        targets = backend.to_numpy(held_Y)
        weights = [fits[k].sample_weight for k in which[places]]
        for weight in {id(weight): weight for weight in weights}.values():
            own = places[[each is weight for each in weights]]
            own_weight = None if weight is None else weight[held_out]
            if not has_weight(own_weight):
                continue
            scores[own] = score(predict_members(stack, which[own], held_X), targets, own_weight)
            if with_costs:
                m = len(held_out) if own_weight is None else float(own_weight.sum())
                on_device = None if own_weight is None else backend.asarray(own_weight, stack.dtype)
                constant = mean(None if constant_costs is None else constant_costs[held_out], own_weight)
                for place in own:
                    network = stack.over(stack.parameters[which[place]])
                    total = evaluation.data_cost(network, held_X, held_Y, sample_weight=on_device)
                    costs[place] = float(total) / m + constant
    return scores, costs


def predict_members(stack: StackState, which: np.ndarray[Any, Any], X: Array) -> np.ndarray[Any, Any]:
    """a^(L) of the members named by `which`, (k, m, s_L), on the host."""
    backend = stack.backend
    flat = stack.parameters if len(which) == len(stack.seeds) else stack.parameters[backend.asarray(which, np.int64)]
    if backend.on_host:
        # Threads of a BLAS spin after a product, and these here are small.
        with numpy_on_one_thread():
            outputs: np.ndarray[Any, Any] = evaluation.predict(stack.over(flat), X)
        return outputs
    return np.stack([backend.to_numpy(evaluation.predict(stack.over(own), X)) for own in flat])
