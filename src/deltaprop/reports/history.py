"""What training records, and its curves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from deltaprop.reports.plotting import plot_history


@dataclass
class History:
    """One entry an epoch in every list; in full-batch training, one an iteration.

    Attributes
    ----------
    cost : list of float
        J over the epoch: the cost of each sample at the moment its minibatch was trained on, reduced as `fit` was told,
        plus the penalty at the end of the epoch.
    validation_cost : list of float
        Cost over the validation data at the end of the epoch, without penalty. Empty without validation data.
    metrics : dict of str to list of float
        By metric name, over the validation data at the end of the epoch.
    learning_rate : list of float
        Of the epoch. Empty after full-batch training, whose steps are found by a line search.
    seconds : list of float
        Wall time of the epoch, validation included.
    best_epoch : int or None
        Epoch, counted from 1, whose parameters early stopping restored; None without early stopping.
    converged : bool or None
        Whether `fit_full_batch` ended because no entry of the gradient exceeded its `tol`; None after `fit`.
    diverged : bool
        Of a member of a stack, whether training it ended because the cost or a parameter was not finite; a network by
        itself raises DivergenceError instead.
    message : str
        Why training ended.
    """

    cost: list[float] = field(default_factory=list)
    validation_cost: list[float] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_epoch: int | None = None
    converged: bool | None = None
    diverged: bool = False
    message: str = ""

    @property
    def epochs(self) -> int:
        """Epochs recorded."""
        return len(self.cost)

    def plot(self) -> Any:
        """Draw the curves: cost (and validation cost) by epoch, and the metrics beside them where there are any.

        Returns
        -------
        matplotlib.figure.Figure
            Made by pyplot, so that ``pyplot.show()`` shows it; ``.savefig("curves.png")`` writes it.

        Raises
        ------
        ImportError
            If matplotlib is not installed; the message names the extra that brings it.
        ValueError
            If nothing has been recorded.
        """
        unit = "epoch" if self.converged is None else "iteration"
        return plot_history(self.cost, self.validation_cost, self.metrics, self.best_epoch, unit)
