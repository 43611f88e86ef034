"""The history of a training: what each epoch recorded, and its curves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from deltaprop.reports.plotting import plot_history


@dataclass
class History:
    """What a training recorded: lists with one entry an epoch, or one an iteration in full-batch training.

    `fit` and `fit_full_batch` make it and return it.

    Parameters
    ----------
    cost : list of float
        The cost J over the epoch: the cost of each sample when its minibatch was trained on, by the `reduction` that
        `fit` was given, plus the penalty at the end of the epoch.
    validation_cost : list of float
        Cost over the validation data at the end of the epoch, without penalty. Empty without validation data.
    metrics : dict of str to list of float
        Each metric by its name, over the validation data at the end of the epoch.
    learning_rate : list of float
        The learning rate of the epoch. Empty after full-batch training, which finds its steps by a line search.
    seconds : list of float
        Wall time of the epoch, validation included.
    best_epoch : int or None
        The epoch, counted from 1, whose parameters early stopping restored; None without early stopping.
    converged : bool or None
        Whether `fit_full_batch` ended because no entry of the gradient exceeded its `tol`; None after `fit`.
    diverged : bool
        Whether the training of a member of a stack ended because the cost or a parameter was not finite. The training
        of one network raises DivergenceError instead.
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
        """How many epochs were recorded."""
        return len(self.cost)

    def plot(self) -> Any:
        """Draw the cost and the validation cost by epoch, and beside them the metrics, if there are any.

        Returns
        -------
        matplotlib.figure.Figure
            The figure. ``pyplot.show()`` shows it, and ``.savefig("curves.png")`` writes it.

        Raises
        ------
        ImportError
            If matplotlib is not installed; the message names the extra that installs it.
        ValueError
            If nothing has been recorded.
        """
        unit = "epoch" if self.converged is None else "iteration"
        return plot_history(self.cost, self.validation_cost, self.metrics, self.best_epoch, unit)
