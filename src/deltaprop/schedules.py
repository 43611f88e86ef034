"""Learning-rate schedules: callables of the epoch (from 0) and the history so far, asked once an epoch.

Any callable ``(epoch, history) -> float`` will do; these are the usual ones. They hold no state: what they need of the
past they read in the history, so that a run that is continued gives the same rates as one that was not interrupted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from deltaprop.history import History


def _check_positive(name: str, value: float) -> None:
    if not 0.0 < value < math.inf:
        raise ValueError(f"{name}: expected a finite number above 0, got {value!r}")


@dataclass(frozen=True)
class StepDecay:
    """initial · factor^⌊epoch/every⌋."""

    initial: float
    factor: float = 0.5
    every: int = 10

    def __post_init__(self) -> None:
        for name in ("initial", "factor", "every"):
            _check_positive(name, getattr(self, name))

    def __call__(self, epoch: int, history: History) -> float:
        """Learning rate of `epoch`."""
        return float(self.initial * self.factor ** (epoch // self.every))


@dataclass(frozen=True)
class ExponentialDecay:
    """initial · factor^epoch."""

    initial: float
    factor: float = 0.95

    def __post_init__(self) -> None:
        for name in ("initial", "factor"):
            _check_positive(name, getattr(self, name))

    def __call__(self, epoch: int, history: History) -> float:
        """Learning rate of `epoch`."""
        return float(self.initial * self.factor**epoch)


@dataclass(frozen=True)
class InverseScaling:
    """initial/(epoch + 1)^power."""

    initial: float
    power: float = 0.5

    def __post_init__(self) -> None:
        for name in ("initial", "power"):
            _check_positive(name, getattr(self, name))

    def __call__(self, epoch: int, history: History) -> float:
        """Learning rate of `epoch`."""
        return float(self.initial / (epoch + 1) ** self.power)


@dataclass(frozen=True)
class CosineDecay:
    """From `initial` to `final` over `epochs` along half a cosine, after `warmup` epochs of linear rise."""

    initial: float
    epochs: int
    final: float = 0.0
    warmup: int = 0

    def __post_init__(self) -> None:
        for name in ("initial", "epochs"):
            _check_positive(name, getattr(self, name))
        if not 0.0 <= self.final < math.inf:
            raise ValueError(f"final: expected a finite number of at least 0, got {self.final!r}")
        if not 0 <= self.warmup < self.epochs:
            raise ValueError(f"warmup: expected at least 0 and less than epochs={self.epochs}, got {self.warmup!r}")

    def __call__(self, epoch: int, history: History) -> float:
        """Learning rate of `epoch`."""
        if epoch < self.warmup:
            return self.initial * (epoch + 1) / (self.warmup + 1)
        done = min(1.0, (epoch - self.warmup) / (self.epochs - self.warmup))
        return self.final + (self.initial - self.final) * 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass(frozen=True)
class ReduceOnPlateau:
    """`initial`, multiplied by `factor` whenever the cost has not fallen by `min_delta` for `patience` epochs.

    The validation cost is looked at where there is one, else the training cost.
    """

    initial: float
    factor: float = 0.2
    patience: int = 5
    min_delta: float = 1e-4

    def __post_init__(self) -> None:
        for name in ("initial", "factor", "patience"):
            _check_positive(name, getattr(self, name))

    def __call__(self, epoch: int, history: History) -> float:
        """Learning rate of `epoch`."""
        rate, best, waited = self.initial, math.inf, 0
        for cost in history.validation_cost or history.cost:
            waited = 0 if cost < best - self.min_delta else waited + 1
            best = min(best, cost)
            if waited >= self.patience:
                rate, waited = rate * self.factor, 0
        return rate
