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

from deltaprop import evaluation
from deltaprop.backends import Array
from deltaprop.backprop import Objective
from deltaprop.estimators.multilayer_perceptron import draw_parameters
from deltaprop.estimators.step_rule import SMALLEST_LEARNING_RATE
from deltaprop.members import Member, finite_members
from deltaprop.network import StackState
from deltaprop.optimizers import Optimizer
from deltaprop.parameters import Parameters
from deltaprop.scipy_threads import numpy_on_one_thread
from deltaprop.stack_trainer import StackTrainer

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
    n_iter : array of int, (k,)
        Epochs.
    loss, best_loss : array, (k,)
    finite : array of bool, (k,)
        Whether its parameters are.
    ran_out : array of bool, (k,)
        Whether ``max_iter`` ended it.
    epochs : list of (array of int, array)
        Which members were in training in each epoch, and their losses.
    """

    n_iter: np.ndarray[Any, Any]
    loss: np.ndarray[Any, Any]
    best_loss: np.ndarray[Any, Any]
    finite: np.ndarray[Any, Any]
    ran_out: np.ndarray[Any, Any]
    epochs: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = field(default_factory=list)

    def curve(self, k: int) -> list[float]:
        """The loss of each epoch of member k."""
        return [float(loss[which == k][0]) for which, loss in self.epochs[: self.n_iter[k]]]


class MemberTrainer(StackTrainer):
    """Every minibatch has its own m, as in `deltaprop.estimators.minibatches.MinibatchTrainer`."""

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
        return (weights * np.repeat(factors, sizes)).astype(weights.dtype), sums


def fit_together(
    stack: StackState,
    X: Array,
    Y: Array,
    fits: Sequence[MemberFit],
    *,
    outputs_averaged: int,
    constant_costs: np.ndarray[Any, Any] | None,
    score: Score,
) -> Records:
    """Train the members of `stack`, one for each of `fits`, in place.

    Parameters
    ----------
    X, Y : array, (m, s_1) and (m, s_L)
        The table, as arrays of the stack's backend.
    outputs_averaged : int
        By how many outputs scikit-learn divides the cost that it watches.
    constant_costs : array, (m,), or None
        A cost of each row that does not depend on the network; not with sample weights.
    score : callable
        Of the data held out, under early stopping.
    """
    count, backend = len(fits), stack.backend
    estimators = [fit.estimator for fit in fits]

    def of_each(name: str, dtype: Any = np.float64) -> np.ndarray[Any, Any]:
        return np.array([getattr(estimator, name) for estimator in estimators], dtype)

    stack.parameters = np.stack([fit.stream.initial for fit in fits])
    members = [fit.member() for fit in fits]
    trainer = MemberTrainer(stack, X, Y, members)
    samples = np.array([member.samples for member in members])
    shuffled = [e.shuffle and m.batch_size < m.samples for e, m in zip(estimators, members, strict=True)]
    tol, patience, most = of_each("tol"), of_each("n_iter_no_change"), of_each("max_iter")
    rate = first_rate = of_each("learning_rate_init")
    power, sgd = of_each("power_t"), of_each("solver", object) == "sgd"
    schedule = of_each("learning_rate", object)
    adaptive, inverse, early = (
        sgd & (schedule == "adaptive"),
        sgd & (schedule == "invscaling"),
        of_each("early_stopping", bool),
    )
    constants = np.zeros(count)
    if constant_costs is not None:
        constants[:] = [float(np.mean(constant_costs[fit.stream.rows])) for fit in fits]
    best_watched, best_score = np.full(count, np.inf), np.full(count, -np.inf)
    worse_epochs, rate = np.zeros(count), rate.copy()
    best = stack.parameters.copy() if early.any() else None
    records = Records(
        np.zeros(count, int),
        np.zeros(count),
        np.full(count, np.inf),
        np.ones(count, bool),
        np.zeros(count, bool),
    )
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
            cost, decay = data / samples[active, None] + constants[active, None], penalties / samples[active, None]
            watched, losses = cost / outputs_averaged + decay, cost + decay
            for place in range(at_once):
                epoch += 1
                records.epochs.append((active, losses[:, place]))
                worse = watched[:, place] > best_watched[active] - tol[active]
                best_watched[active] = np.fmin(best_watched[active], watched[:, place])
                if best is not None:
                    judged = active[early[active]]
                    scores = _held_out_scores(stack, X, Y, fits, judged, score)
                    worse[early[active]] = scores < best_score[judged] + tol[judged]
                    better = scores > best_score[judged]
                    best_score[judged[better]] = scores[better]
                    best[judged[better]] = stack.parameters[judged[better]]
                worse_epochs[active] = np.where(worse, worse_epochs[active] + 1, 0)
            records.loss[active], records.n_iter[active] = losses[:, -1], epoch
            records.best_loss[active] = np.fmin(records.best_loss[active], losses.min(axis=1))
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
        chosen = backend.asarray(np.flatnonzero(early & records.finite), np.int64)
        stack.parameters[chosen] = best[chosen]
    return records


def _held_out_scores(
    stack: StackState, X: Array, Y: Array, fits: Sequence[MemberFit], which: np.ndarray[Any, Any], score: Score
) -> np.ndarray[Any, Any]:
    """What each member named by `which` scores on the rows held out from it."""
    scores = np.empty(len(which))
    streams = [fits[k].stream for k in which]
    for stream in dict.fromkeys(streams):
        places = np.flatnonzero([each is stream for each in streams])
        held_out: Any = stream.held_out
        weights = [fits[k].sample_weight for k in which[places]]
        for weight in {id(weight): weight for weight in weights}.values():
            own = places[[each is weight for each in weights]]
            own_weight = None if weight is None else weight[held_out]
            scores[own] = score_members(stack, which[own], X, Y, held_out, score, own_weight)
    return scores


def score_members(
    stack: StackState,
    which: np.ndarray[Any, Any],
    X: Array,
    Y: Array,
    rows: np.ndarray[Any, Any],
    score: Score,
    weights: np.ndarray[Any, Any] | None = None,
) -> np.ndarray[Any, Any]:
    """What each member named by `which` scores on some rows of the table."""
    backend = stack.backend
    on_backend = backend.asarray(rows, np.int64)
    outputs = predict_members(stack, which, X[on_backend])
    return score(outputs, backend.to_numpy(Y[on_backend]), weights)


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
