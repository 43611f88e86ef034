"""Metrics of a prediction, by name: functions of a^(L) and the targets, both (m, s_L)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self, TypeAlias

from deltaprop.backends.array_types import AnyArray
from deltaprop.backends.choices import MetricName

Metric: TypeAlias = Callable[[AnyArray, AnyArray], float]


def class_numbers(outputs: AnyArray) -> AnyArray:
    """Find the class of each sample, (…, m), from (…, m, s_L): the largest output; of one, whether it is above ½.

    Of several largest outputs, it is the first, so that ½ itself is class 0.
    """
    return (outputs[..., 0] > 0.5) * 1 if outputs.shape[-1] == 1 else outputs.argmax(axis=-1)


def accuracy(prediction: AnyArray, Y: AnyArray) -> float:
    """Share of samples whose largest output is the class's, or, with one output, is on the target's side of ½."""
    count = int((class_numbers(prediction) == class_numbers(Y)).sum())
    return count / int(Y.shape[0])


def mean_squared_error(prediction: AnyArray, Y: AnyArray) -> float:
    """Mean of (h − y)² over samples and outputs."""
    return float(((prediction - Y) ** 2).mean())


def mean_absolute_error(prediction: AnyArray, Y: AnyArray) -> float:
    """Mean of |h − y| over samples and outputs."""
    return float(abs(prediction - Y).mean())


def r2(prediction: AnyArray, Y: AnyArray) -> float:
    """1 − Σ(h − y)²/Σ(y − ȳ)² over all outputs, the coefficient of determination; nan where the targets do not vary."""
    spread = float(((Y - Y.mean(axis=0)) ** 2).sum())
    return 1.0 - float(((prediction - Y) ** 2).sum()) / spread if spread else float("nan")


#: Metrics that are means over samples.
MEANS: tuple[Metric, ...] = (accuracy, mean_squared_error, mean_absolute_error)
METRICS: dict[str, Metric] = {metric.__name__: metric for metric in (*MEANS, r2)}


class MeanOfParts:
    """A metric that is a mean over samples, computed from a few samples at a time."""

    metric: Metric
    total: float
    rows: int

    def __init__(self, metric: Metric) -> None:
        self.metric, self.total, self.rows = metric, 0.0, 0

    def add(self, prediction: AnyArray, Y: AnyArray) -> None:
        """Add some samples."""
        self.total += Y.shape[0] * self.metric(prediction, Y)
        self.rows += Y.shape[0]

    def joined(self, other: Self) -> Self:
        """Add the samples of another part, and return this one."""
        self.total, self.rows = self.total + other.total, self.rows + other.rows
        return self

    def value(self) -> float:
        """Compute the metric of all samples."""
        return self.total / self.rows


class R2OfParts:
    """Computes `r2` from a few samples at a time, by the pairwise update of sums of squares about the mean."""

    residue: float
    spread: float
    rows: int

    def __init__(self) -> None:
        self.residue, self.spread, self.rows = 0.0, 0.0, 0
        self.mean: AnyArray = 0.0

    def add(self, prediction: AnyArray, Y: AnyArray) -> None:
        """Add some samples."""
        mean = Y.mean(axis=0, dtype="float64")
        self._add(float(((prediction - Y) ** 2).sum()), float(((Y - mean) ** 2).sum()), mean, Y.shape[0])

    def joined(self, other: Self) -> Self:
        """Add the samples of another part, and return this one."""
        if other.rows:
            self._add(other.residue, other.spread, other.mean, other.rows)
        return self

    def _add(self, residue: float, spread: float, mean: AnyArray, rows: int) -> None:
        apart, total = mean - self.mean, self.rows + rows
        self.residue += residue
        self.spread += spread + float((apart**2).sum()) * self.rows * rows / total
        self.mean, self.rows = self.mean + apart * (rows / total), total

    def value(self) -> float:
        """Compute the metric of all samples."""
        return 1.0 - self.residue / self.spread if self.spread else float("nan")


def of_parts(metric: Metric) -> MeanOfParts | R2OfParts | None:
    """Make an object that computes a metric from a few samples at a time; None for a metric that needs them all."""
    if metric is r2:
        return R2OfParts()
    return MeanOfParts(metric) if metric in MEANS else None


def resolve_metrics(metrics: Sequence[MetricName | Metric]) -> dict[str, Metric]:
    """Look up metrics: from names and callables to functions by name.

    Raises
    ------
    ValueError
        If a name is unknown; the message lists those that are known.
    """
    resolved: dict[str, Metric] = {}
    for metric in metrics:
        if callable(metric):
            resolved[_name(metric)] = metric
        elif metric in METRICS:
            resolved[metric] = METRICS[metric]
        else:
            raise ValueError(f"metrics: unknown metric {metric!r}; known are {', '.join(map(repr, METRICS))}")
    return resolved


def _name(metric: object) -> str:
    return str(getattr(metric, "__name__", type(metric).__name__))
