"""Learning-rate schedules: callables of the epoch (from 0) and the history so far, asked once an epoch.

Any callable ``(epoch, history) -> float`` will do; these are the usual ones. They hold no state: what they need of the
past they read in the history, so that a run that is continued gives the same rates as one that was not interrupted.
A rate of 0 is a rate, under which an epoch leaves the parameters as they are: long decays come down to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from deltaprop.arguments import check_number, check_whole_number
from deltaprop.reports.history import History


def _check(schedule: Any, above_0: tuple[str, ...] = (), at_least_0: tuple[str, ...] = (), **least: int) -> None:
    """Let the fields of a schedule be numbers in their ranges; those of `least` are whole numbers."""
    checked: dict[str, float] = {name: check_number(name, getattr(schedule, name), above=0.0) for name in above_0}
    checked |= {name: check_number(name, getattr(schedule, name), least=0.0) for name in at_least_0}
    checked |= {name: check_whole_number(name, getattr(schedule, name), least=n) for name, n in least.items()}
    for name, value in checked.items():
        object.__setattr__(schedule, name, value)


def _power(base: float, exponent: float) -> float:
    """base^exponent, infinite where it overflows."""
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf


@dataclass(frozen=True)
class StepDecay:
    """initial · factor^⌊epoch/every⌋."""

    initial: float
    factor: float = 0.5
    every: int = 10

    def __post_init__(self) -> None:
        _check(self, ("initial", "factor"), every=1)

    def __call__(self, epoch: int, history: History) -> float:
        """Learning rate of `epoch`."""
        return self.initial * _power(self.factor, epoch // self.every)


@dataclass(frozen=True)
class ExponentialDecay:
    """initial · factor^epoch."""

    initial: float
    factor: float = 0.95

    def __post_init__(self) -> None:
        _check(self, ("initial", "factor"))

    def __call__(self, epoch: int, history: History) -> float:
        """Learning rate of `epoch`."""
        return self.initial * _power(self.factor, epoch)


@dataclass(frozen=True)
class InverseScaling:
    """initial/(epoch + 1)^power."""

    initial: float
    power: float = 0.5

    def __post_init__(self) -> None:
        _check(self, ("initial", "power"))

    def __call__(self, epoch: int, history: History) -> float:
        """Learning rate of `epoch`."""
        return self.initial / _power(epoch + 1, self.power)


@dataclass(frozen=True)
class CosineDecay:
    """From `initial` to `final` over `epochs` along half a cosine, after `warmup` epochs of linear rise.

    From epoch number `epochs` on it is `final`.
    """

    initial: float
    epochs: int
    final: float = 0.0
    warmup: int = 0

    def __post_init__(self) -> None:
        _check(self, ("initial",), ("final",), epochs=1, warmup=0)
        if self.warmup >= self.epochs:
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

    Fallen, that is, below what it was in the last epoch in which it had: small steps add up. The validation cost is
    looked at where there is one, else the training cost.
    """

    initial: float
    factor: float = 0.2
    patience: int = 5
    min_delta: float = 1e-4

    def __post_init__(self) -> None:
        _check(self, ("initial", "factor"), ("min_delta",), patience=1)

    def __call__(self, epoch: int, history: History) -> float:
        """Learning rate of `epoch`."""
        return Plateau(self, history)(epoch)


class Plateau:
    """The rates of a `ReduceOnPlateau` over a history to which only epochs are added: each is looked at once."""

    def __init__(self, schedule: ReduceOnPlateau, history: History) -> None:
        self.schedule, self.history = schedule, history
        self._rate, self._best = schedule.initial, math.inf
        self._seen, self._waited = 0, 0

    def __call__(self, epoch: int) -> float:
        """Learning rate of `epoch`."""
        schedule = self.schedule
        for cost in (self.history.validation_cost or self.history.cost)[self._seen :]:
            self._seen += 1
            self._waited += 1
            if cost < self._best - schedule.min_delta:
                self._best, self._waited = cost, 0
            if self._waited >= schedule.patience:
                self._rate, self._waited = self._rate * schedule.factor, 0
        return self._rate
