"""The records that a fit by minibatches leaves in an estimator; a later fit may go on from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deltaprop.backends import Array
from deltaprop.estimators.hyperparameters import Hyperparameters
from deltaprop.estimators.step_rule import StepRule
from deltaprop.estimators.stopping import StoppingRule


@dataclass
class Records:
    """The records of one fit.

    Attributes
    ----------
    stopping : StoppingRule
        With the best loss and the best validation score; they are None where the estimator does not keep them.
    n_iter : int
        Epochs of this fit.
    t : int
        Samples trained on in all.
    loss : float or None
        The loss of the last epoch.
    loss_curve : list of float
        One loss an epoch.
    validation_scores, validation_loss_curve : list of float or None
        One an epoch, where there are validation data.
    best_parameters : array or None
        The parameters of the best validation score.
    optimizer : StepRule or None
        The optimizer with its state; `partial_fit` goes on with it.
    """

    stopping: StoppingRule
    n_iter: int = 0
    t: int = 0
    loss: float | None = None
    loss_curve: list[float] = field(default_factory=list)
    validation_scores: Any = None
    validation_loss_curve: Any = None
    best_parameters: Array | None = None
    optimizer: StepRule | None = None

    @classmethod
    def of(cls, settings: Hyperparameters, kept: dict[str, Any], *, validates: bool) -> Records:
        """Make the records to begin with, from those that an earlier fit has left.

        Parameters
        ----------
        settings : Hyperparameters
            The parameters of the estimator.
        kept : dict
            The attributes of an estimator by name; empty for a fit that begins anew.
        validates : bool
            Whether there will be validation scores.
        """
        early, best_loss = settings.early_stopping, kept.get("best_loss_", np.inf)
        best_score, best_parameters = kept.get("best_validation_score_"), kept.get("_best_parameters")
        if early and (best_score is None or np.isnan(best_score)):
            best_loss, best_score, best_parameters = None, -np.inf, None
        elif not early and best_loss is None:
            best_loss = np.inf
        scores, losses = kept.get("validation_scores_"), kept.get("validation_loss_curve_")
        if validates:
            # A fitted estimator of scikit-learn has scores without losses.
            losses = [np.nan] * len(scores or ()) if scores is None or losses is None else losses
            scores = [] if scores is None else scores
        return cls(
            StoppingRule(
                settings.tol,
                settings.n_iter_no_change,
                early_stopping=early,
                worse_epochs=kept.get("_no_improvement_count", 0),
                best_loss=best_loss,
                best_watched=kept.get("_best_watched", np.inf),
                best_score=best_score,
                has_best=best_parameters is not None,
            ),
            t=kept.get("t_", 0),
            loss=kept.get("loss_"),
            loss_curve=kept.get("loss_curve_", []),
            validation_scores=scores,
            validation_loss_curve=losses,
            best_parameters=best_parameters,
            optimizer=kept.get("_optimizer"),
        )

    def leave_in(self, estimator: Any) -> None:
        """Set the attributes of `estimator`, under scikit-learn's names where it has them."""
        stopping, kept = self.stopping, estimator.__dict__
        kept |= {
            "n_iter_": self.n_iter,
            "t_": self.t,
            "loss_curve_": self.loss_curve,
            "best_loss_": _number(stopping.best_loss),
            "validation_scores_": self.validation_scores,
            "validation_loss_curve_": self.validation_loss_curve,
            "best_validation_score_": _number(stopping.best_score),
            "_no_improvement_count": int(stopping.worse_epochs),
            "_best_watched": float(stopping.best_watched),
        }
        there_may_be = {"loss_": self.loss, "_optimizer": self.optimizer, "_best_parameters": self.best_parameters}
        for name, value in there_may_be.items():
            if value is None:
                kept.pop(name, None)
            else:
                kept[name] = value


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
