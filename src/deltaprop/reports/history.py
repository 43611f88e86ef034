"""The history of a training: what each epoch recorded, as curves, as a table and as a DataFrame."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from itertools import pairwise
from math import isfinite
from typing import TYPE_CHECKING, Any

from deltaprop.reports.plotting import plot_history
from deltaprop.reports.sheet import Sheet
from deltaprop.reports.text_table import Table

if TYPE_CHECKING:
    import pandas as pd

#: A longer history is shown by so many of its first and of its last epochs, and the best one.
ENDS = 5


@dataclass(repr=False)
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

    See Also
    --------
    deltaprop.Network.fit : Makes it.

    Examples
    --------
    >>> import deltaprop as dp
    >>> net = dp.Network([2, 8, 1], seed=3)
    >>> X, Y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    >>> history = net.fit(X, Y, optimizer=dp.Adam(0.1), epochs=300, validation=(X, Y))
    >>> history.epochs, history.metrics["accuracy"][-1], history.cost[-1] < history.cost[0]
    (300, 1.0, True)
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

    def __repr__(self) -> str:
        """Return the number of epochs, the last cost and the best validation cost; `dataclasses.asdict` has it all."""
        facts = [f"cost {self.cost[-1]:.6g}"] if self.cost else []
        finite = {epoch: cost for epoch, cost in enumerate(self.validation_cost, start=1) if isfinite(cost)}
        if finite:
            best = min(finite, key=finite.__getitem__)
            facts.append(f"best validation cost {finite[best]:.6g} in {self._unit} {best}")
        if self.best_epoch is not None:
            facts.append(f"parameters of {self._unit} {self.best_epoch}")
        if self.diverged:
            facts.append("diverged")
        return f"<History of {self._counted}{': ' if facts else ''}{', '.join(facts)}>"

    def plot(self) -> Any:
        """Draw the cost and the validation cost by epoch, and beside them the metrics, if there are any.

        Returns
        -------
        matplotlib.figure.Figure
            Made by pyplot: ``pyplot.show()`` shows it, and a notebook does so by itself; ``.savefig("curves.png")``
            writes it.

        Raises
        ------
        ImportError
            If matplotlib is not installed; the message names the extra that installs it.
        ValueError
            If nothing has been recorded.

        Examples
        --------
        >>> import deltaprop as dp
        >>> history = dp.History(cost=[0.7, 0.5, 0.4], validation_cost=[0.8, 0.6, 0.6], learning_rate=[0.1] * 3)
        >>> figure = history.plot()  # needs matplotlib
        >>> figure.savefig("curves.png")
        """
        return plot_history(self.cost, self.validation_cost, self.metrics, self.best_epoch, self._unit)

    def frame(self) -> pd.DataFrame:
        """Make a pandas DataFrame with one row an epoch and one column for each number that was recorded.

        Returns
        -------
        pandas.DataFrame
            Its index counts epochs (or iterations) from 1. Its columns are cost, validation_cost, every metric by its
            name, learning_rate and seconds; without those that were not recorded. A metric that has the name of one of
            the others gets ``metric_`` before it.

        Raises
        ------
        ImportError
            If pandas is not installed; the message names the command that installs it.

        Examples
        --------
        >>> import deltaprop as dp
        >>> history = dp.History(cost=[0.7, 0.5], learning_rate=[0.1, 0.1], seconds=[0.01, 0.01])
        >>> table = history.frame()  # needs pandas
        >>> table.loc[2, "cost"].item(), list(table.columns)
        (0.5, ['cost', 'learning_rate', 'seconds'])
        """
        try:
            pandas = import_module("pandas")
        except ImportError as error:
            raise ImportError(f"History.frame needs pandas: pip install pandas ({error})") from error
        columns = self._columns()
        rows = max(map(len, columns.values()), default=0)
        index = pandas.RangeIndex(1, rows + 1, name=self._unit)
        # A column that ends early, as where the training was interrupted, ends in nan.
        series = {name: pandas.Series(values, index[: len(values)], dtype=float) for name, values in columns.items()}
        return pandas.DataFrame(series, index)

    @property
    def _unit(self) -> str:
        return "epoch" if self.converged is None else "iteration"

    @property
    def _counted(self) -> str:
        return f"{self.epochs} {self._unit}{'' if self.epochs == 1 else 's'}"

    def _columns(self) -> dict[str, list[float]]:
        """Return what was recorded, each list under a name of its own."""
        before = {"cost": self.cost, "validation_cost": self.validation_cost}
        after = {"learning_rate": self.learning_rate, "seconds": self.seconds}
        taken, metrics = {*before, *after, *self.metrics}, dict[str, list[float]]()
        for name, values in self.metrics.items():
            column = name
            if name in before or name in after:
                while column in taken:
                    column = f"metric_{column}"
                taken.add(column)
            metrics[column] = values
        return {name: values for name, values in (before | metrics | after).items() if values}

    def _repr_html_(self) -> str:
        columns, epochs, unit = self._columns(), self.epochs, self._unit
        facts = {"ended": self.message} if self.message else {}
        if self.best_epoch is not None:
            facts["best epoch"] = str(self.best_epoch)
        if self.converged is not None:
            facts["converged"] = "yes" if self.converged else "no"
        if self.seconds:
            facts["time"] = f"{sum(self.seconds):.3g} s"
        table = Table([unit, *(name.replace("_", " ") for name in columns)], left=0)
        shown = {*range(epochs)[:ENDS], *range(epochs)[-ENDS:]}
        if self.best_epoch is not None:
            shown.add(self.best_epoch - 1)
        shown |= {epoch for epoch in range(epochs) if {epoch - 1, epoch + 1} <= shown}  # no dots for one epoch
        for before, epoch in pairwise([-1, *sorted(shown)]):
            if epoch - before > 1:
                table.add(*"…" * (1 + len(columns)))
            figures = (f"{values[epoch]:.6g}" if epoch < len(values) else "" for values in columns.values())
            table.add(str(epoch + 1), *figures, strong=epoch + 1 == self.best_epoch)
        return Sheet(f"History of {self._counted}", facts, table).html()
