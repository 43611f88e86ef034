"""Copies of an estimator with ranks: those within this process keep a communicator, which no pickle can hold."""

from __future__ import annotations

import copy
from typing import Any, Self


class RanksInCopies:
    """For estimators of scikit-learn with a parameter ``ranks``."""

    ranks: Any

    def __getstate__(self) -> dict[str, Any]:
        """Leave a communicator, which belongs to this process, out of a pickle; "mpi" stays."""
        state: Any = super().__getstate__()
        kept: dict[str, Any] = state if self._ranks_are_plain() else state | {"ranks": None}
        return kept

    def __copy__(self) -> Self:
        """Make a copy with the same ranks."""
        return self._made_anew(self.__getstate__())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Make a copy with the same ranks, which shares nothing else."""
        return self._made_anew(copy.deepcopy(self.__getstate__(), memo))

    def __sklearn_clone__(self) -> Self:
        """Make an unfitted estimator with the same parameters; scikit-learn would copy a communicator."""
        from sklearn.base import _clone_parametrized

        given = self
        if not self._ranks_are_plain():
            given = copy.copy(self)
            given.ranks = None
        cloned: Self = _clone_parametrized(given)
        cloned.ranks = self.ranks
        return cloned

    def _ranks_are_plain(self) -> bool:
        return isinstance(getattr(self, "ranks", None), str | None)

    def _made_anew(self, state: dict[str, Any]) -> Self:
        made: Any = object.__new__(type(self))
        made.__setstate__(state)
        if not self._ranks_are_plain():
            made.ranks = self.ranks
        copied: Self = made
        return copied
