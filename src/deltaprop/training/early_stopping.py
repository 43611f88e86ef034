"""When to stop, and which epoch was the best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from deltaprop.arguments import check_choice, check_number, check_whole_number
from deltaprop.reports.history import History

Mode: TypeAlias = Literal["auto", "min", "max"]
#: Why a monitor may be nan.
REASONS = {"r2": "; r2 has no value where the validation targets do not vary"}


@dataclass(frozen=True)
class EarlyStopping:
    """Stop when the monitored number has not improved for `patience` epochs; `fit` restores the best parameters.

    It holds no state: both questions are answered from the history.

    Parameters
    ----------
    patience : int, default 10
        Epochs without improvement after which training ends, at least 1.
    min_delta : float, default 0.0
        By how much a number has to be better to count as better.
    monitor : str, default "validation_cost"
        "validation_cost", "cost", or the name of a metric. Costs and errors shall fall, "accuracy" and "r2" rise; of a
        metric of your own, say so by `mode`. An epoch in which it is nan or infinitely bad is not the
        best; where all are, `fit` keeps the last parameters and warns.
    mode : {"auto", "min", "max"}, default "auto"
        Whether lower or higher is better.

    Raises
    ------
    ValueError, TypeError
        If a number is out of range or none, or the mode unknown.
    """

    patience: int = 10
    min_delta: float = 0.0
    monitor: str = "validation_cost"
    mode: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "patience", check_whole_number("patience", self.patience, least=1))
        object.__setattr__(self, "min_delta", check_number("min_delta", self.min_delta, least=0.0))
        if not isinstance(self.monitor, str):
            raise TypeError(f"monitor: expected a name, got {self.monitor!r}")
        check_choice("mode", self.mode, Mode)

    def values(self, history: History) -> list[float]:
        """The monitored numbers, one an epoch, turned so that lower is better.

        Raises
        ------
        ValueError
            If the history does not record what is to be monitored.
        """
        return self._turned(self._recorded(history))

    def best_epoch(self, history: History) -> int | None:
        """The last epoch, counted from 1, that was better than every one before it by more than `min_delta`."""
        watch = Watch(self, history)
        watch.see(self.values(history))
        return watch.best

    def should_stop(self, history: History) -> bool:
        """Whether `patience` epochs have passed since the best one."""
        return history.epochs - (self.best_epoch(history) or 0) >= self.patience

    def watch(self, history: History) -> Watch:
        """The same two answers about a history that grows, each of whose epochs is looked at once."""
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
        rises = self.mode == "max" or (self.mode == "auto" and self.monitor in ("accuracy", "r2"))
        return [-value for value in recorded] if rises else recorded


class Watch:
    """What an `EarlyStopping` says of a history to which only epochs are added."""

    def __init__(self, stopping: EarlyStopping, history: History) -> None:
        self.stopping, self.history = stopping, history
        self._seen, self._lowest = 0, math.inf
        self.best: int | None = None

    def see(self, values: list[float]) -> None:
        """Take note of the next epochs' numbers; lower is better."""
        for value in values:
            self._seen += 1
            if value < self._lowest - self.stopping.min_delta:  # never so of nan, nor of infinity
                self._lowest, self.best = value, self._seen

    def best_epoch(self) -> int | None:
        """As of `EarlyStopping`."""
        recorded = self.stopping._recorded(self.history)
        self.see(self.stopping._turned(recorded[self._seen :]))
        return self.best

    def should_stop(self) -> bool:
        """As of `EarlyStopping`."""
        return self.history.epochs - (self.best_epoch() or 0) >= self.stopping.patience

    def complaint(self) -> str:
        """What to warn of at the end of training: that no epoch had a number to go by; else nothing."""
        epochs, monitor = self.history.epochs, self.stopping.monitor
        if not epochs or self.best_epoch() is not None:
            return ""
        return (
            f"early_stopping: the monitored {monitor!r} was nan or infinite in every one of {epochs} epochs, so that "
            f"none is the best, and the network keeps its last parameters{REASONS.get(monitor, '')}"
        )


class WatchAnew(Watch):
    """The same of a subclass that answers in its own way: it is asked anew each time."""

    def best_epoch(self) -> int | None:
        """What it answers."""
        return self.stopping.best_epoch(self.history)

    def should_stop(self) -> bool:
        """What it answers."""
        return self.stopping.should_stop(self.history)

    def complaint(self) -> str:
        """Nothing: what it goes by is not known."""
        return ""
