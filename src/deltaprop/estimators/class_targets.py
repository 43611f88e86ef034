"""Targets of a classifier with very many classes: their numbers, until rows of them are needed one-hot."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

Vector = np.ndarray[Any, Any]


class ClassTargets:
    """Numbers of classes, (m,), that stand for the rows of a one-hot matrix, (m, n_classes)."""

    def __init__(self, numbers: Vector, classes: int) -> None:
        self.numbers, self.shape = numbers, (len(numbers), classes)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> ClassTargets:
        return ClassTargets(self.numbers[rows], self.shape[1])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return self.one_hot(self.numbers).astype(dtype or bool, copy=False)

    def one_hot(self, numbers: Vector) -> np.ndarray[Any, Any]:
        """The rows of some of them, of bool."""
        rows: np.ndarray[Any, Any] = numbers[:, None] == np.arange(self.shape[1])
        return rows
