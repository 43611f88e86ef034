"""Fits of several estimators whose networks have the same widths: the task of each, and its records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from deltaprop.backends.array_types import HostArray
from deltaprop.derivation.backprop import Objective
from deltaprop.derivation.state import NetworkState
from deltaprop.derivation.update_rule import Optimizer
from deltaprop.epochs.members import Member
from deltaprop.epochs.stack_trainer import StackTrainer
from deltaprop.estimators.drawing import Stream
from deltaprop.estimators.hyperparameters import Hyperparameters
from deltaprop.estimators.records import Records
from deltaprop.estimators.step_rule import step_rule
from deltaprop.estimators.stopping import StoppingRule

Vector: TypeAlias = HostArray


@dataclass
class MemberFit:
    """One fit: an estimator's parameters, on some rows of the table.

    Attributes
    ----------
    estimator : MLPClassifier or MLPRegressor
        The estimator whose parameters are used; it is not changed.
    stream : Stream
        Its random numbers, and the rows it is trained on.
    optimizer, objective
        Made from its parameters.
    sample_weight : array, (m,), or None
        The weights of all rows of the table.
    """

    estimator: Hyperparameters
    stream: Stream
    optimizer: Optimizer
    objective: Objective
    sample_weight: Vector | None = None

    @property
    def batch_size(self) -> int:
        """How many samples a step has."""
        return self.estimator._samples_a_step(len(self.stream.rows))

    @property
    def shuffled(self) -> bool:
        """Whether the order of the samples changes from epoch to epoch, and matters."""
        return self.estimator.shuffle and self.batch_size < len(self.stream.rows)

    def member(self) -> Member:
        """Make the member of a stack that is trained so."""
        rows, weight = self.stream.rows, self.sample_weight
        return Member(
            samples=len(rows),
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            objective=self.objective,
            rows=rows,
            sample_weight=None if weight is None else weight[rows],
        )


def of_each(fits: Sequence[MemberFit], name: str, dtype: Any = np.float64) -> Vector:
    """Collect one parameter of the estimators of all fits in an array."""
    return np.array([getattr(fit.estimator, name) for fit in fits], dtype)


@dataclass
class MemberRecords:
    """The records of several fits; every array has an entry for each.

    Attributes
    ----------
    fits : sequence of MemberFit
    trainer : StackTrainer
        Holds the states of their optimizers.
    stopping : StoppingRule
        The counts of each, and its best loss and score.
    n_iter : array of int, (k,)
        Epochs.
    loss : array, (k,)
        The loss of the last epoch.
    learning_rate : array, (k,)
        The learning rate of the last epoch, before "invscaling".
    finite : array of bool, (k,)
        Whether all parameters are finite.
    ran_out : array of bool, (k,)
        Whether ``max_iter`` ended it.
    epochs : list of (array of int, array)
        For each epoch, which fits were in training, and their losses.
    held_out : list of (array of int, array, array)
        For each epoch, which fits were judged, their scores and, where estimators are made of them, their costs.
    """

    fits: Sequence[MemberFit]
    trainer: StackTrainer
    stopping: StoppingRule
    n_iter: Vector
    loss: Vector
    learning_rate: Vector
    finite: Vector
    ran_out: Vector
    epochs: list[tuple[Vector, Vector]] = field(default_factory=list)
    held_out: list[tuple[Vector, Vector, Vector]] = field(default_factory=list)

    @classmethod
    def of(cls, fits: Sequence[MemberFit], trainer: StackTrainer) -> MemberRecords:
        """Make the records before the first epoch."""
        k = len(fits)
        return cls(
            fits,
            trainer,
            StoppingRule(
                of_each(fits, "tol"),
                of_each(fits, "n_iter_no_change"),
                adaptive=np.array([fit.estimator._schedule() == "adaptive" for fit in fits]),
                early_stopping=of_each(fits, "early_stopping", bool),
                worse_epochs=np.zeros(k, int),
                best_loss=np.full(k, np.inf),
                best_watched=np.full(k, np.inf),
                best_score=np.full(k, -np.inf),
                has_best=np.zeros(k, bool),
            ),
            n_iter=np.zeros(k, int),
            loss=np.zeros(k),
            learning_rate=of_each(fits, "learning_rate_init"),
            finite=np.ones(k, bool),
            ran_out=np.zeros(k, bool),
        )

    @property
    def unscored(self) -> int:
        """How many fits with early stopping had only validation scores that are nan."""
        return int(self.is_unscored.sum())

    @property
    def is_unscored(self) -> Vector:
        """Which fits with early stopping had only validation scores that are nan, (k,)."""
        stopping = self.stopping
        unscored: Vector = ~stopping.has_best & stopping.early_stopping & self.finite
        return unscored

    def hand_over(self, k: int, mlp: Any, network: NetworkState) -> None:
        """Set on `mlp` all that fit k by itself would have left there; `network` has its parameters."""
        fit, epochs, stopping = self.fits[k], int(self.n_iter[k]), self.stopping.of(k)
        records = Records(
            stopping,
            n_iter=epochs,
            t=epochs * len(fit.stream.rows),
            loss=float(self.loss[k]),
            loss_curve=[float(loss[which == k][0]) for which, loss in self.epochs[:epochs]],
            optimizer=step_rule(mlp, network),
        )
        if stopping.early_stopping:
            own = [(scores[which == k], costs[which == k]) for which, scores, costs in self.held_out[:epochs]]
            records.validation_scores = [float(score[0]) for score, _ in own]
            records.validation_loss_curve = [float(cost[0]) for _, cost in own]
            records.best_parameters = network.backend.copy(network.parameters)
            stopping.best_loss, stopping.best_watched = None, np.inf
            stopping.best_score = stopping.best_score if stopping.has_best else np.nan
        else:
            stopping.best_score = None
        self._hand_over_optimizer(k, records)
        records.leave_in(mlp)
        mlp._random_state = fit.stream.after(epochs if fit.estimator.shuffle else 0)
        network.epochs_trained = epochs

    def _hand_over_optimizer(self, k: int, records: Records) -> None:
        rule = records.optimizer
        assert rule is not None
        self.trainer.hand_over(k, rule.state)
        rule.learning_rate = float(self.learning_rate[k])
        rule.epoch_ended(records.t)
