"""Learning-rate schedules: functions of the epoch (from 0) and the history so far, called once an epoch.

Any function ``(epoch, history) -> float`` is a schedule; these are the usual ones. They hold no state: what they need
from the past, they read in the history. So a run that is continued has the same rates as one that was not interrupted.
A rate may be 0; the epoch then leaves the parameters as they are. Long decays come down to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from deltaprop.arguments import check_number, check_whole_number
from deltaprop.errors import ScheduleError
from deltaprop.reports.history import History


def _check(schedule: object, above_0: tuple[str, ...] = (), at_least_0: tuple[str, ...] = (), **least: int) -> None:
    """Check that the fields of a schedule are numbers in their ranges; the fields in `least` are whole numbers."""
    checked: dict[str, float] = {name: check_number(name, getattr(schedule, name), above=0.0) for name in above_0}
    checked |= {name: check_number(name, getattr(schedule, name), least=0.0) for name in at_least_0}
    checked |= {name: check_whole_number(name, getattr(schedule, name), least=n) for name, n in least.items()}
    for name, value in checked.items():
        object.__setattr__(schedule, name, value)


def _power(base: float, exponent: float) -> float:
    """Compute base^exponent, or infinity if it overflows."""
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf


@dataclass(frozen=True)
class StepDecay:
    """Multiply the learning rate by a factor every few epochs: initial · factor^⌊epoch/every⌋.

    Parameters
    ----------
    initial : float
        The learning rate of the first epochs, > 0.
    factor : float, default 0.5
        The factor, > 0.
    every : int, default 10
        After how many epochs, at least 1.

    Raises
    ------
    ValueError
        If a number is out of range.
    TypeError
        If it is no number.

    See Also
    --------
    ExponentialDecay : A factor after every epoch.

    Examples
    --------
    >>> import deltaprop as dp
    >>> schedule = dp.StepDecay(0.1, factor=0.5, every=2)
    >>> [schedule(epoch, dp.History()) for epoch in range(5)]
    [0.1, 0.1, 0.05, 0.05, 0.025]
    """

    initial: float
    factor: float = 0.5
    every: int = 10

    def __post_init__(self) -> None:
        _check(self, ("initial", "factor"), every=1)

    def __call__(self, epoch: int, history: History) -> float:
        """Compute the learning rate of an epoch.

        Parameters
        ----------
        epoch : int
            The epoch, counted from 0.
        history : History
            What the epochs before it recorded.

        Returns
        -------
        float
            The learning rate.
        """
        return self.initial * _power(self.factor, epoch // self.every)


@dataclass(frozen=True)
class ExponentialDecay:
    """Multiply the learning rate by a factor after every epoch: initial · factor^epoch.

    Parameters
    ----------
    initial : float
        The learning rate of the first epoch, > 0.
    factor : float, default 0.95
        The factor, > 0.

    Raises
    ------
    ValueError
        If a number is out of range.
    TypeError
        If it is no number.

    See Also
    --------
    StepDecay : A factor every few epochs.

    Examples
    --------
    >>> import deltaprop as dp
    >>> schedule = dp.ExponentialDecay(0.1, factor=0.5)
    >>> [schedule(epoch, dp.History()) for epoch in range(3)]
    [0.1, 0.05, 0.025]
    """

    initial: float
    factor: float = 0.95

    def __post_init__(self) -> None:
        _check(self, ("initial", "factor"))

    def __call__(self, epoch: int, history: History) -> float:
        """Compute the learning rate of an epoch.

        Parameters
        ----------
        epoch : int
            The epoch, counted from 0.
        history : History
            What the epochs before it recorded.

        Returns
        -------
        float
            The learning rate.
        """
        return self.initial * _power(self.factor, epoch)


@dataclass(frozen=True)
class InverseScaling:
    """Divide the learning rate by a power of the epoch: initial/(epoch + 1)^power.

    Parameters
    ----------
    initial : float
        The learning rate of the first epoch, > 0.
    power : float, default 0.5
        The power, > 0.

    Raises
    ------
    ValueError
        If a number is out of range.
    TypeError
        If it is no number.

    Examples
    --------
    >>> import deltaprop as dp
    >>> schedule = dp.InverseScaling(0.1, power=1.0)
    >>> [schedule(epoch, dp.History()) for epoch in (0, 1, 3)]
    [0.1, 0.05, 0.025]
    """

    initial: float
    power: float = 0.5

    def __post_init__(self) -> None:
        _check(self, ("initial", "power"))

    def __call__(self, epoch: int, history: History) -> float:
        """Compute the learning rate of an epoch.

        Parameters
        ----------
        epoch : int
            The epoch, counted from 0.
        history : History
            What the epochs before it recorded.

        Returns
        -------
        float
            The learning rate.
        """
        return self.initial / _power(epoch + 1, self.power)


@dataclass(frozen=True)
class CosineDecay:
    """Lower the learning rate along half a cosine, after a linear rise.

    Parameters
    ----------
    initial : float
        The highest learning rate, > 0; it is reached after the rise.
    epochs : int
        In how many epochs, the rise included, the learning rate comes down to `final`; it then stays there.
    final : float, default 0.0
        The last learning rate, at least 0.
    warmup : int, default 0
        How many epochs the rise takes, fewer than `epochs`.

    Raises
    ------
    ValueError
        If a number is out of range, or `warmup` is not below `epochs`.
    TypeError
        If it is no number.

    Notes
    -----
    In epoch t < warmup it is initial · (t + 1)/(warmup + 1), then final + ½ (initial − final)(1 + cos πu),
    with u = (t − warmup)/(epochs − warmup), until epoch `epochs`: the first cycle of Loshchilov and Hutter, "SGDR:
    stochastic gradient descent with warm restarts" (2017).

    Examples
    --------
    >>> import deltaprop as dp
    >>> schedule = dp.CosineDecay(0.1, epochs=7, warmup=2)
    >>> [round(schedule(epoch, dp.History()), 3) for epoch in range(8)]
    [0.033, 0.067, 0.1, 0.09, 0.065, 0.035, 0.01, 0.0]
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
        """Compute the learning rate of an epoch.

        Parameters
        ----------
        epoch : int
            The epoch, counted from 0.
        history : History
            What the epochs before it recorded.

        Returns
        -------
        float
            The learning rate.
        """
        if epoch < self.warmup:
            return self.initial * (epoch + 1) / (self.warmup + 1)
        done = min(1.0, (epoch - self.warmup) / (self.epochs - self.warmup))
        return self.final + (self.initial - self.final) * 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass(frozen=True)
class ReduceOnPlateau:
    """Multiply the learning rate by a factor whenever the cost has stopped falling.

    The cost has fallen if it is more than `min_delta` below its value in the last epoch in which it had fallen, so that
    small steps add up. It is the validation cost if there is one, else the training cost.

    Parameters
    ----------
    initial : float
        The learning rate of the first epochs, > 0.
    factor : float, default 0.2
        The factor, > 0.
    patience : int, default 5
        After how many epochs in which the cost has not fallen, at least 1.
    min_delta : float, default 1e-4
        By how much the cost has to fall, at least 0.

    Raises
    ------
    ValueError
        If a number is out of range.
    TypeError
        If it is no number.

    See Also
    --------
    EarlyStopping : Ends training where the cost has stopped falling.

    Examples
    --------
    >>> import deltaprop as dp
    >>> schedule = dp.ReduceOnPlateau(0.1, factor=0.5, patience=2)
    >>> falling, flat = dp.History(cost=[0.9, 0.8, 0.7]), dp.History(cost=[0.9, 0.9, 0.9])
    >>> schedule(3, falling), schedule(3, flat)
    (0.1, 0.05)
    """

    initial: float
    factor: float = 0.2
    patience: int = 5
    min_delta: float = 1e-4

    def __post_init__(self) -> None:
        _check(self, ("initial", "factor"), ("min_delta",), patience=1)

    def __call__(self, epoch: int, history: History) -> float:
        """Compute the learning rate of an epoch.

        Parameters
        ----------
        epoch : int
            The epoch, counted from 0.
        history : History
            What the epochs before it recorded.

        Returns
        -------
        float
            The learning rate.
        """
        return Plateau(self, history)(epoch)


class Plateau:
    """Computes the rates of a `ReduceOnPlateau` over a history that only grows, and looks at each epoch once."""

    schedule: ReduceOnPlateau
    history: History

    def __init__(self, schedule: ReduceOnPlateau, history: History) -> None:
        self.schedule, self.history = schedule, history
        self._rate, self._best = schedule.initial, math.inf
        self._seen, self._waited = 0, 0

    def __call__(self, epoch: int) -> float:
        """Compute the learning rate of an epoch, counted from 0."""
        schedule = self.schedule
        for cost in (self.history.validation_cost or self.history.cost)[self._seen :]:
            self._seen += 1
            self._waited += 1
            if cost < self._best - schedule.min_delta:
                self._best, self._waited = cost, 0
            if self._waited >= schedule.patience:
                self._rate, self._waited = self._rate * schedule.factor, 0
        return self._rate


def check_rate(schedule: object, value: object, epoch: int, history: History) -> float:
    """Check that what a schedule returned for an epoch is a learning rate, and return it as a float.

    Parameters
    ----------
    schedule : callable
        The schedule; the message names it.
    value : object
        What it returned.
    epoch : int
        The epoch, counted from 0.
    history : History
        What the epochs before recorded.

    Raises
    ------
    ScheduleError
        If the value is negative, nan or infinite.
    TypeError
        If the value is not a number.
    """
    name = getattr(schedule, "__qualname__", None) or repr(schedule)
    try:
        return check_number("learning_rate", value, least=0.0)
    except (ValueError, TypeError) as error:
        message = f"{error} from {name} for epoch {epoch + 1}"
        if isinstance(error, TypeError):
            raise TypeError(message) from None
        raise ScheduleError(message, epoch=epoch + 1, history=history) from None
