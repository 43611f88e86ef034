"""Early stopping of `fit`: when to stop, and which epoch was the best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from deltaprop.arguments import check_choice, check_number, check_whole_number
from deltaprop.reports.history import History

Mode: TypeAlias = Literal["auto", "min", "max"]
#: Metrics that are better the higher they are; all other numbers are better the lower they are.
HIGHER_IS_BETTER = ("accuracy", "r2")
#: Why a monitored number may be nan.
REASONS = {"r2": "; r2 has no value where the validation targets do not vary"}


@dataclass(frozen=True)
class EarlyStopping:
    """Stop when the monitored number has not improved for `patience` epochs; `fit` restores the best parameters.

    It holds no state: when to stop and which epoch was the best follow from the history.

    Parameters
    ----------
    patience : int, default 10
        Training ends after this number of epochs without improvement, at least 1.
    min_delta : float, default 0.0
        A number has to be better by more than this to count as better.
    monitor : str, default "validation_cost"
        The number to watch: "validation_cost", "cost", or the name of a metric. An epoch in which it is nan or
        infinitely bad is never the best; if all epochs are so, `fit` keeps the last parameters and warns.
    mode : {"auto", "min", "max"}, default "auto"
        Whether lower or higher is better; by default higher for "accuracy" and "r2", and lower for everything else.

    Raises
    ------
    ValueError, TypeError
        If a number is out of range or is no number, or the mode is unknown.

    See Also
    --------
    deltaprop.Network.fit : Trains with it.

    Examples
    --------
    >>> import deltaprop as dp
    >>> history = dp.History(validation_cost=[0.9, 0.5, 0.6, 0.7], cost=[0.8, 0.4, 0.3, 0.2])
    >>> stopping = dp.EarlyStopping(patience=2)
    >>> stopping.best_epoch(history), stopping.should_stop(history)
    (2, True)
    """

    patience: int = 10
    min_delta: float = 0.0
    monitor: str = "validation_cost"
    mode: Mode = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "patience", check_whole_number("patience", self.patience, least=1))
        object.__setattr__(self, "min_delta", check_number("min_delta", self.min_delta, least=0.0))
        if not isinstance(self.monitor, str):
            raise TypeError(f"monitor: expected a name, got {self.monitor!r}")
        check_choice("mode", self.mode, Mode)

    def values(self, history: History) -> list[float]:
        """Return the monitored numbers, with the sign changed where higher is better.

        Parameters
        ----------
        history : History
            The history of a fit.

        Returns
        -------
        numbers : list of float
            One an epoch; lower is better.

        Raises
        ------
        ValueError
            If the history does not have the monitored number.

        Examples
        --------
        >>> import deltaprop as dp
        >>> history = dp.History(cost=[0.7, 0.5], metrics={"accuracy": [0.5, 1.0]})
        >>> dp.EarlyStopping(monitor="accuracy").values(history)
        [-0.5, -1.0]
        """
        return self._turned(self._recorded(history))

    def best_epoch(self, history: History) -> int | None:
        """Return the last epoch that was better than every one before it by more than `min_delta`.

        Parameters
        ----------
        history : History
            The history of a fit.

        Returns
        -------
        epoch : int or None
            Counted from 1; None where there is none.

        Examples
        --------
        >>> import deltaprop as dp
        >>> history = dp.History(validation_cost=[0.9, 0.5, 0.49, 0.7])
        >>> dp.EarlyStopping().best_epoch(history), dp.EarlyStopping(min_delta=0.1).best_epoch(history)
        (3, 2)
        """
        watch = Watch(self, history)
        watch.see(self.values(history))
        return watch.best

    def should_stop(self, history: History) -> bool:
        """Return whether `patience` epochs have passed since the best one.

        Parameters
        ----------
        history : History
            The history of a fit.

        Returns
        -------
        stop : bool
            True where training shall end.

        Examples
        --------
        >>> import deltaprop as dp
        >>> history = dp.History(validation_cost=[0.9, 0.5, 0.6, 0.7])
        >>> dp.EarlyStopping(patience=2).should_stop(history), dp.EarlyStopping(patience=3).should_stop(history)
        (False, False)
        """
        return history.epochs - (self.best_epoch(history) or 0) >= self.patience

    def watch(self, history: History) -> Watch:
        """Return an object with the same two answers about a growing history; it looks at each epoch once.

        Parameters
        ----------
        history : History
            The history of a fit that goes on.

        Returns
        -------
        watch : Watch
            Its `best_epoch` and `should_stop` need no argument.
        """
        kind, ours = type(self), EarlyStopping
        same = kind.best_epoch is ours.best_epoch and kind.should_stop is ours.should_stop
        return (Watch if same and kind.values is ours.values else WatchAnew)(self, history)

    def _recorded(self, history: History) -> list[float]:
        if self.monitor in ("cost", "validation_cost"):
            recorded: list[float] = getattr(history, self.monitor)
        elif self.monitor in history.metrics:
            recorded = history.metrics[self.monitor]
        else:
            known = ["cost", "validation_cost", *history.metrics]
            raise ValueError(f"monitor: expected one of {', '.join(map(repr, known))}, got {self.monitor!r}")
        return recorded

    def _turned(self, recorded: list[float]) -> list[float]:
        rises = self.mode == "max" or (self.mode == "auto" and self.monitor in HIGHER_IS_BETTER)
        return [-value for value in recorded] if rises else recorded


class Watch:
    """The answers of an `EarlyStopping` about a history to which epochs are only added."""

    stopping: EarlyStopping
    history: History

    def __init__(self, stopping: EarlyStopping, history: History) -> None:
        self.stopping, self.history = stopping, history
        self._seen, self._lowest = 0, math.inf
        self.best: int | None = None

    def see(self, values: list[float]) -> None:
        """Look at the numbers of the next epochs; lower is better."""
        for value in values:
            self._seen += 1
            if value < self._lowest - self.stopping.min_delta:  # never true for nan or infinity
                self._lowest, self.best = value, self._seen

    def best_epoch(self) -> int | None:
        """Return what `EarlyStopping.best_epoch` does."""
        recorded = self.stopping._recorded(self.history)
        self.see(self.stopping._turned(recorded[self._seen :]))
        return self.best

    def should_stop(self) -> bool:
        """Return what `EarlyStopping.should_stop` does."""
        return self.history.epochs - (self.best_epoch() or 0) >= self.stopping.patience

    def complaint(self) -> str:
        """Return a warning for the end of training, where no epoch had a number to go by; otherwise an empty text."""
        epochs, monitor = self.history.epochs, self.stopping.monitor
        if not epochs or self.best_epoch() is not None:
            return ""
        return (
            f"early_stopping: the monitored {monitor!r} was nan or infinite in every one of {epochs} epochs, so that "
            f"none is the best, and the network keeps its last parameters{REASONS.get(monitor, '')}"
        )


class WatchAnew(Watch):
    """The answers of a subclass of `EarlyStopping` that has its own rule: it is asked anew each time."""

    def best_epoch(self) -> int | None:
        """Return the subclass's answer."""
        return self.stopping.best_epoch(self.history)

    def should_stop(self) -> bool:
        """Return the subclass's answer."""
        return self.stopping.should_stop(self.history)

    def complaint(self) -> str:
        """Return an empty text: its rule is not known."""
        return ""
