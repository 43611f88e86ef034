"""Some rows of raw data; they are read and scaled when they are needed, since all of them would take much memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from deltaprop.backends.array_types import DType, HostArray, Indices

Matrix = HostArray

#: Elements that are converted together: 64 MiB of float64.
BLOCK = 2**23


class RawRows:
    """Some rows of a matrix, (m, n), or some entries of a vector, by their numbers.

    Parameters
    ----------
    X : array, (…, n) or (…,)
        The matrix or vector, which may be on disk.
    rows : array, (m,), optional
        The numbers of the rows; all rows by default.
    """

    numbers: Matrix | None
    shape: tuple[int, Any]
    dtype: DType

    def __init__(self, X: Matrix, rows: Matrix | None = None) -> None:
        self.X, self.numbers = X, rows
        self.shape, self.dtype = (len(X) if rows is None else len(rows), *X.shape[1:]), X.dtype

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, which: slice | Indices) -> Matrix:
        rows: Matrix = self.X[which if self.numbers is None else self.numbers[which]]
        return rows

    def take(self, rows: Indices) -> RawRows:
        """Return some of these rows, which are not read."""
        return RawRows(self.X, rows if self.numbers is None else self.numbers[rows])

    def number(self, row: int) -> int:
        """Return the number that a row has in the matrix."""
        return int(row if self.numbers is None else self.numbers[row])

    def blocks(self) -> Iterator[tuple[slice, Matrix]]:
        """Yield a few rows at a time, each block with the slice that says which rows they are."""
        at_once = max(1, BLOCK // self.shape[1])
        for start in range(0, len(self), at_once):
            yield slice(start, start + at_once), self[start : start + at_once]

    def scaled(self, offset: Matrix, spread: Matrix, dtype: DTypeLike) -> Matrix:
        """Compute (x − offset)/spread of all rows in float64; what is too large for `dtype` becomes infinite."""
        result = np.empty(self.shape, dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            for rows, X in self.blocks():
                result[rows] = (X - offset) / spread
        return result

    def mean_and_deviation(self) -> tuple[Matrix, Matrix]:
        """Compute the mean and the standard deviation of each feature over the rows, (n,) of float64."""
        mean = sum(X.sum(axis=0, dtype=np.float64) for _, X in self.blocks()) / len(self)
        squares = sum(((X - mean) ** 2).sum(axis=0) for _, X in self.blocks())
        return mean, np.sqrt(squares / len(self))

    def column_ranges(self) -> tuple[Matrix, Matrix]:
        """Find the least and the largest entry of each feature, (n,) of float64."""
        ends = [(X.min(axis=0), X.max(axis=0)) for _, X in self.blocks()]
        lows, highs = zip(*ends, strict=True)
        return np.min(lows, axis=0).astype(np.float64), np.max(highs, axis=0).astype(np.float64)

    def range(self) -> tuple[float, float]:
        """Find the least and the largest of all entries."""
        ends = [(float(X.min()), float(X.max())) for _, X in self.blocks()]
        return min(low for low, _ in ends), max(high for _, high in ends)
