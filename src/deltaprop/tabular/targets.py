"""Targets of a table: labels as class probabilities, or a quantity with mean 0 and spread 1."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length

from deltaprop.arguments import refuse_masked
from deltaprop.backends.array_types import DType, Floats, HostArray, Indices
from deltaprop.errors import callers_level
from deltaprop.inputs import cells
from deltaprop.tabular.frames import is_records
from deltaprop.tabular.table import Column
from deltaprop.tabular.table_file import without_labels

#: The spread is at least this share of the largest distance from the mean, so that float32 holds the squares of scaled
#: targets even where rows of next to no weight lie far away.
LEAST_SPREAD = 1e-12


#: So many rows without a target are named.
NAMED_ROWS = 12


def gaps_of_target(column: Column) -> HostArray:
    """Find the gaps in a column of targets, (m,) of bool: "-" and "None" too, where all other cells are numbers."""
    if column.kind != "text":
        return column.gaps()
    others = without_labels(column)
    return (others if others.says_numbers() else column).gaps()


def known_targets(column: Column, source: object) -> HostArray:
    """Find the rows of a file that have a target, (m,) of bool.

    Raises
    ------
    ValueError
        If there is none.

    Warns
    -----
    UserWarning
        If there are others; it names them.
    """
    gaps = gaps_of_target(column)
    if gaps.all():
        raise ValueError(f"{source}: expected a target in some rows, but {column.name!r} has only gaps")
    if gaps.any():
        rows = np.flatnonzero(gaps)
        named = ", ".join(map(str, rows[:NAMED_ROWS].tolist())) + (", …" if len(rows) > NAMED_ROWS else "")
        warnings.warn(
            f"{source}: left out {len(rows)} of {len(gaps)} rows, which have no target in {column.name!r}: "
            f"{'row' if len(rows) == 1 else 'rows'} {named} (the first is row 0)",
            UserWarning,
            stacklevel=callers_level(),
        )
    return ~gaps


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


def first_fraction(column: Column) -> int | None:
    """Find the first row of a column of numbers whose number is not whole; None if there is none, or other cells.

    A column of text that says only numbers is one of numbers, unless its own library calls it categorical.
    """
    if column.is_category or not column.says_numbers():
        return None
    numbers = column.numbers()
    fractions = ~np.isnan(numbers) & (numbers != np.round(numbers))
    return int(fractions.argmax()) if fractions.any() else None


def refuse_quantities(column: Column) -> None:
    """Refuse to learn numbers that are not whole as labels, as scikit-learn does where y is an array.

    Raises
    ------
    ValueError
        If all cells are numbers, and one is not whole.
    """
    row = first_fraction(column)
    if row is not None:
        raise ValueError(
            f"y: Unknown label type: continuous: expected labels of classes, but {column.name!r} holds numbers that "
            f"are not whole, such as {column.numbers()[row]:.6g}, and {column.distinct()} different ones; "
            "TabularRegressor predicts quantities. To take them for labels, pass y by itself, as text"
        )


def label_texts(labels: HostArray) -> list[str]:
    """Write labels, (m,), as they are written in a file from which `labels_of` has read them."""
    if labels.dtype.kind in "iuf":
        return [cells.written(label) for label in labels.tolist()]
    return [str(label) for label in labels.tolist()]


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


def column_as_given(X: Any, name: str) -> Any:
    """Return a column of a table in memory as its own library has it; None where there is no such thing."""
    if isinstance(X, Mapping):
        return X.get(name)
    if is_records(X):
        return [row.get(name) for row in X] if any(name in row for row in X) else None
    if isinstance(X, np.ndarray):
        return X[name] if name in (X.dtype.names or ()) else None
    frame = nw.from_native(X, eager_only=True, pass_through=True)
    return frame[name] if isinstance(frame, nw.DataFrame) and name in frame.columns else None


def given_labels(y: Any, rows: int) -> HostArray:
    """Return the labels that a user gave, (m,), with the dtype that they have.

    Parameters
    ----------
    y : array_like or Series, (m,)
        Labels: text, numbers or booleans.
    rows : int
        How many there have to be.

    Returns
    -------
    array, (m,)
        Text of a Series is of dtype object.

    Raises
    ------
    ValueError
        If there are others than rows of the table, one is missing, or they are no labels.
    """
    labels = _plain(_one_dimensional(y, rows))
    missing = _missing(labels)
    if missing.any():
        row = int(missing.argmax())
        raise ValueError(f"y: expected a label in every row, got {labels.tolist()[row]!r} in row {row}")
    check_classification_targets(labels)
    return labels


def given_quantities(y: Any, rows: int) -> Floats:
    """Return the quantities that a user gave, (m,) of float64.

    Parameters
    ----------
    y : array_like or Series, (m,)
        Numbers.
    rows : int
        How many there have to be.

    Returns
    -------
    array, (m,)
        Finite.

    Raises
    ------
    ValueError
        If there are others than rows of the table, or one is no finite number.
    """
    given = _one_dimensional(y, rows)
    if np.iscomplexobj(given):
        raise ValueError(f"y: Complex data not supported: expected real numbers, got {given.dtype}")
    if given.dtype.kind in "mM":
        raise ValueError(f"y: expected numbers, got dates or spans of time ({given.dtype}); pass them as numbers")
    try:
        values = given.astype(np.float64)
    except (TypeError, ValueError):
        row, cell = next((row, cell) for row, cell in enumerate(given.tolist()) if not _is_number(cell))
        raise ValueError(f"y: expected a number in every row, got {cell!r} in row {row}") from None
    finite = np.isfinite(values)
    if not finite.all():
        row = int((~finite).argmax())
        raise ValueError(f"y: expected a finite number in every row, got {given[row]} in row {row}")
    return values


def _one_dimensional(y: Any, rows: int) -> HostArray:
    """Return what a user gave as an array, (m,).

    Raises
    ------
    ValueError
        If it is not one-dimensional, or has not as many entries as the table has rows.
    """
    if y is None:
        raise ValueError("fit requires y to be passed, but the target y is None; pass it, or the name of its column")
    refuse_masked(y, "y")
    series = nw.from_native(y, series_only=True, pass_through=True)
    if isinstance(series, nw.Series):
        y = _of_series(series)
    array: HostArray = column_or_1d(y, warn=True)
    check_consistent_length(np.empty(rows), array)
    return array


def _of_series(series: Any) -> HostArray:
    """Return a series of any library as an array: of numbers or booleans if none is missing, else of objects."""
    kind, missing = series.dtype, bool(series.null_count())
    if not missing and kind.is_integer():
        return np.asarray(series.to_numpy()).astype(np.int64 if kind.is_signed_integer() else np.uint64)
    if not missing and kind.is_float():
        return np.asarray(series.to_numpy()).astype(np.float64)
    if not missing and isinstance(kind, nw.Boolean):
        return np.asarray(series.to_numpy()).astype(bool)
    result = np.empty(len(series), object)
    result[:] = series.to_list()
    return result


def _plain(labels: HostArray) -> HostArray:
    """Return objects that are all booleans, or all numbers, as an array of these."""
    if labels.dtype != object or not len(labels) or isinstance(labels[0], str) or _missing(labels).any():
        return labels
    plain = np.array(labels.tolist())
    return plain if plain.ndim == 1 and plain.dtype.kind in "biuf" else labels


def _missing(labels: HostArray) -> HostArray:
    """Find the labels that are missing or not finite, (m,) of bool; None, NaN, NaT and pandas.NA are missing."""
    if labels.dtype.kind == "f":
        return ~np.isfinite(labels)
    if labels.dtype.kind in "mM":
        return np.isnat(labels)
    if labels.dtype != object:
        return np.zeros(len(labels), bool)
    return np.array([cell is None or type(cell).__name__ == "NAType" or cell != cell for cell in labels.tolist()], bool)


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True


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
            raise ValueError(f"y: expected one of the {len(self.classes)} classes, got {labels[unknown].tolist()[0]!r}")
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
        """Find mean, standard deviation and range of the targets to train on.

        Raises
        ------
        ValueError
            If the range is no float64.
        """
        counts = y[weights > 0]
        lowest, highest = float(counts.min()), float(counts.max())
        if not highest - lowest < np.inf:
            raise ValueError(
                f"y: expected a range that float64 can hold, got quantities from {lowest:g} to {highest:g}"
            )
        mean = _mean(y, weights)
        largest = max(highest - mean, mean - lowest) or 1.0  # so that squares are neither infinite nor all 0
        share = float(np.sqrt(np.average(((y - mean) / largest) ** 2, weights=weights)))
        spread = largest * max(share, LEAST_SPREAD) if share else 1.0
        return cls(mean, spread or 1.0, lowest, highest)

    def scaled(self, y: Floats) -> Floats:
        """Scale targets to mean 0 and spread 1: (m, 1)."""
        return ((y - self.mean) / self.spread)[:, np.newaxis]

    def values(self, outputs: HostArray) -> Floats:
        """Turn outputs, (m,), into quantities."""
        return np.clip(outputs.astype(np.float64) * self.spread + self.mean, self.lowest, self.highest)


def _mean(y: Floats, weights: Floats) -> float:
    """Compute the weighted mean, also where the sum is no float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(np.average(y, weights=weights))
    if np.isfinite(mean):
        return mean
    largest = float(np.abs(y).max())
    return largest * float(np.average(y / largest, weights=weights))


def _standardised(columns: Floats, weights: Floats) -> Floats:
    mean = np.average(columns, axis=0, weights=weights)
    spread = np.sqrt(np.average((columns - mean) ** 2, axis=0, weights=weights))
    return (columns - mean) / np.where(spread > 0, spread, 1.0)
