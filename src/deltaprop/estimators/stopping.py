"""scikit-learn's stopping rule: training ends after some epochs without an improvement by `tol`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np

from deltaprop.backends.array_types import Indices

#: A number of one fit, or an array with an entry for each of many.
OfEach: TypeAlias = Any

#: "adaptive" divides the learning rate by the first number, until it is as small as the second.
DIVISOR, SMALLEST_LEARNING_RATE = 5.0, 1e-6


@dataclass
class StoppingRule:
    """Count the epochs that bring no improvement, for one fit or for many at once.

    For many fits, every field is an array with an entry for each; one fit is the case without that axis. The loss is
    watched or, with early stopping, the validation score.

    Attributes
    ----------
    tol : float
        An epoch counts as an improvement if it is better than the best one by `tol`.
    n_iter_no_change : float
        Training ends after more than `n_iter_no_change` epochs in a row without improvement.
    adaptive : bool
        Whether training then goes on with a smaller learning rate.
    early_stopping : bool
        Whether the validation score is watched.
    worse_epochs : int
        How many epochs in a row have not improved on the best one.
    best_loss : float
        The lowest loss.
    best_watched : float
        The lowest loss in the form in which scikit-learn compares it: the mean over the outputs, not their sum.
    best_score : float
        The highest validation score.
    has_best : bool
        Whether there has been a validation score other than nan.
    """

    tol: OfEach
    n_iter_no_change: OfEach
    adaptive: OfEach = False
    early_stopping: OfEach = False
    worse_epochs: OfEach = 0
    best_loss: OfEach = np.inf
    best_watched: OfEach = np.inf
    best_score: OfEach = -np.inf
    has_best: OfEach = False

    def of(self, which: Any) -> StoppingRule:
        """Return the rule of some of many fits, or of one of them."""
        return StoppingRule(*(getattr(self, name)[which] for name in FIELDS))

    def put(self, which: Indices, rule: StoppingRule) -> None:
        """Write the rule of some fits back into the rule of all."""
        for name in FIELDS:
            getattr(self, name)[which] = getattr(rule, name)

    @property
    def patience(self) -> OfEach:
        """How many more epochs it takes, at least, until the rule gives up."""
        return self.n_iter_no_change + 1 - self.worse_epochs

    @property
    def gives_up(self) -> OfEach:
        """Whether there have been too many epochs without improvement."""
        return self.worse_epochs > self.n_iter_no_change

    def by_loss(self, loss: OfEach, watched: OfEach) -> OfEach:
        """Return whether a loss is no improvement, and keep the lowest; a loss that is nan is not counted."""
        worse = watched > self.best_watched - self.tol
        self.best_watched, self.best_loss = _lower(self.best_watched, watched), _lower(self.best_loss, loss)
        return worse

    def by_score(self, score: OfEach) -> tuple[OfEach, OfEach]:
        """Return whether a score is no improvement, and whether it is the best so far.

        A score that is nan is no improvement.
        """
        worse = np.logical_not(score >= self.best_score + self.tol)
        is_first = np.logical_not(np.logical_or(self.has_best, np.isnan(score)))
        is_best = np.logical_or(score > self.best_score, is_first)
        self.best_score = _choose(is_best, score, self.best_score)
        self.has_best = np.logical_or(self.has_best, is_best)
        return worse, is_best

    def count(self, worse: OfEach) -> None:
        """Count an epoch that is no improvement; begin again with one that is."""
        self.worse_epochs = (self.worse_epochs + 1) * worse

    def slow_down(self, learning_rate: OfEach) -> tuple[OfEach, OfEach]:
        """Return the next learning rate, and whether training goes on.

        A fit that gives up goes on only under "adaptive", with a smaller learning rate, and begins to count again.
        """
        slower = self.gives_up & self.adaptive & (learning_rate > SMALLEST_LEARNING_RATE)
        goes_on = np.logical_or(slower, np.logical_not(self.gives_up))
        self.worse_epochs = _choose(slower, 0, self.worse_epochs)
        return _choose(slower, learning_rate / DIVISOR, learning_rate), goes_on


#: The names of its fields, in order.
FIELDS = tuple(each.name for each in fields(StoppingRule))


def _lower(best: OfEach, value: OfEach) -> OfEach:
    """Return the lower one, which is never nan. NumPy takes long for a single number."""
    return np.fmin(best, value) if isinstance(value, np.ndarray) else min(best, value)


def _choose(condition: OfEach, value: OfEach, otherwise: OfEach) -> OfEach:
    """Choose between two values for each fit."""
    chosen: Any = np.where(condition, value, otherwise)
    return chosen if chosen.ndim else chosen.item()
