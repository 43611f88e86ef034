"""Targets of a table: labels as class probabilities, or a quantity with mean 0 and spread 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deltaprop.backends.array_types import DType, Floats, HostArray, Indices
from deltaprop.tabular.table import Column


def labels_of(column: Column) -> HostArray:
    """Return the labels in a column, (m,): texts as they are written; numbers where all are written as such.

    Raises
    ------
    ValueError
        If there is a gap.
    """
    _refuse_gaps(column, "a label")
    if column.kind == "boolean":
        return column.values.astype(bool)
    if column.is_written_as_numbers() and not column.is_category:
        numbers = column.numbers()
        whole = (numbers == np.round(numbers)).all() and (np.abs(numbers) < 2**53).all()
        return numbers.astype(np.int64) if whole else numbers
    codes, texts = column.texts()
    return np.array(texts, object)[codes]


def quantities_of(column: Column) -> Floats:
    """Return the numbers in a column, (m,).

    Raises
    ------
    ValueError
        If a cell is no number.
    """
    _refuse_gaps(column, "a number")
    numbers = column.numbers()
    if np.isnan(numbers).any():
        codes, texts = column.texts()
        row = int(np.isnan(numbers).argmax())
        raise ValueError(
            f"y: expected a number in every row of {column.name!r}, got {texts[codes[row]]!r} in row {row}"
        )
    return numbers


def _refuse_gaps(column: Column, expected: str) -> None:
    gaps = column.gaps()
    if gaps.any():
        raise ValueError(f"y: expected {expected} in every row of {column.name!r}, got a gap in row {gaps.argmax()}")


@dataclass(frozen=True)
class ClassTargets:
    """Labels of classes, as a softmax layer learns them.

    Parameters
    ----------
    classes : array, (k,)
        The labels, sorted.
    """

    classes: HostArray

    @property
    def outputs(self) -> int:
        """How many outputs the network has."""
        return len(self.classes)

    def numbers(self, labels: HostArray) -> Indices:
        """Find the number of each label, (m,).

        Raises
        ------
        ValueError
            If a label is none of `classes`.
        """
        places = np.minimum(np.searchsorted(self.classes, labels), len(self.classes) - 1)
        unknown = self.classes[places] != labels
        if unknown.any():
            raise ValueError(f"y: expected one of the {len(self.classes)} classes, got {labels[unknown][0]!r}")
        return places

    def probabilities(self, numbers: Indices, smoothing: float, dtype: DType) -> HostArray:
        """Give the class of each row 1 − smoothing, and share `smoothing` among all classes: (m, k)."""
        shared = smoothing / self.outputs
        result = np.full((len(numbers), self.outputs), shared, dtype)
        result[np.arange(len(numbers)), numbers] = 1.0 - smoothing + shared
        return result

    def scaled(self, numbers: Indices, weights: Floats) -> Floats:
        """Compute an indicator of each class but the last, scaled to mean 0 and spread 1: (m, k − 1)."""
        indicators = (numbers[:, np.newaxis] == np.arange(max(1, self.outputs - 1))).astype(np.float64)
        return _standardised(indicators, weights)


@dataclass(frozen=True)
class QuantityTargets:
    """Quantities, as a layer with the identity learns them.

    Parameters
    ----------
    mean, spread : float
        Of the targets to train on.
    lowest, highest : float
        Predictions do not leave their range.
    """

    mean: float
    spread: float
    lowest: float
    highest: float

    @classmethod
    def fit(cls, y: Floats, weights: Floats) -> QuantityTargets:
        """Find mean, standard deviation and range of the targets to train on."""
        mean = float(np.average(y, weights=weights))
        spread = float(np.sqrt(np.average((y - mean) ** 2, weights=weights)))
        counts = y[weights > 0]
        return cls(mean, spread or 1.0, float(counts.min()), float(counts.max()))

    @property
    def outputs(self) -> int:
        """How many outputs the network has."""
        return 1

    def scaled(self, y: Floats) -> Floats:
        """Scale targets to mean 0 and spread 1: (m, 1)."""
        return ((y - self.mean) / self.spread)[:, np.newaxis]

    def values(self, outputs: HostArray) -> Floats:
        """Turn outputs, (m,), into quantities."""
        return np.clip(outputs.astype(np.float64) * self.spread + self.mean, self.lowest, self.highest)


def _standardised(columns: Floats, weights: Floats) -> Floats:
    mean = np.average(columns, axis=0, weights=weights)
    spread = np.sqrt(np.average((columns - mean) ** 2, axis=0, weights=weights))
    return (columns - mean) / np.where(spread > 0, spread, 1.0)
