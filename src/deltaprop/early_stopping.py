"""When to stop, and which epoch was the best."""

from __future__ import annotations

import math
from dataclasses import dataclass

from deltaprop.history import History


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
        metric of your own, say so by `mode`.
    mode : {"auto", "min", "max"}, default "auto"
        Whether lower or higher is better.

    Raises
    ------
    ValueError
        If a number is out of range or the mode unknown.
    """

    patience: int = 10
    min_delta: float = 0.0
    monitor: str = "validation_cost"
    mode: str = "auto"

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ValueError(f"patience: expected at least 1 epoch, got {self.patience!r}")
        if not 0.0 <= self.min_delta < math.inf:
            raise ValueError(f"min_delta: expected a finite number of at least 0, got {self.min_delta!r}")
        if self.mode not in ("auto", "min", "max"):
            raise ValueError(f"mode: expected one of 'auto', 'min', 'max', got {self.mode!r}")

    def values(self, history: History) -> list[float]:
        """The monitored numbers, one an epoch, turned so that lower is better.

        Raises
        ------
        ValueError
            If the history does not record what is to be monitored.
        """
        if self.monitor in ("cost", "validation_cost"):
            recorded: list[float] = getattr(history, self.monitor)
        elif self.monitor in history.metrics:
            recorded = history.metrics[self.monitor]
        else:
            known = ["cost", "validation_cost", *history.metrics]
            raise ValueError(f"monitor: expected one of {', '.join(map(repr, known))}, got {self.monitor!r}")
        rises = self.mode == "max" or (self.mode == "auto" and self.monitor in ("accuracy", "r2"))
        return [-value for value in recorded] if rises else recorded

    def best_epoch(self, history: History) -> int | None:
        """The last epoch, counted from 1, that was better than every one before it by more than `min_delta`."""
        best, best_epoch = math.inf, None
        for epoch, value in enumerate(self.values(history), start=1):
            if value < best - self.min_delta or (best_epoch is None and not math.isnan(value)):
                best, best_epoch = value, epoch
        return best_epoch

    def should_stop(self, history: History) -> bool:
        """Whether `patience` epochs have passed since the best one."""
        return history.epochs - (self.best_epoch(history) or 0) >= self.patience
