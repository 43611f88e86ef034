"""Targets of a classifier: which labels it knows; and of very many classes numbers, until rows are needed one-hot."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from deltaprop.backends.array_types import HostArray, Indices

Vector = HostArray


class ClassTargets:
    """Numbers of classes, (m,), in place of the one-hot matrix, (m, n_classes), which would take much memory."""

    numbers: Vector
    shape: tuple[int, int]

    def __init__(self, numbers: Vector, classes: int) -> None:
        self.numbers, self.shape = numbers, (len(numbers), classes)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> ClassTargets:
        return ClassTargets(self.numbers[rows], self.shape[1])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> HostArray:
        return self.one_hot(self.numbers).astype(dtype or bool, copy=False)

    def one_hot(self, numbers: Vector) -> HostArray:
        """The rows of the matrix for some numbers, of bool."""
        rows: Indices = numbers[:, None] == np.arange(self.shape[1])
        return rows


def check_classes(found: Vector, known: Vector, *, all_needed: bool) -> None:
    """Refuse labels that a network fitted before has no output for.

    Raises
    ------
    ValueError
        If there are others than those `known`; where `all_needed`, as for a warm start, also if some are missing.
    """
    if all_needed:
        if set(found) != set(known):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {known}, `y` has {found}"
            )
    elif len(np.setdiff1d(found, known, assume_unique=True)):
        raise ValueError(f"`y` has classes not in `self.classes_`. `self.classes_` has {known}. 'y' has {found}.")
