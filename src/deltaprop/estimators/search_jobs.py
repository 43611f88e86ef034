"""The fits of a search over an estimator by itself: which candidates can be trained together, on which rows."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from sklearn.base import clone

from deltaprop.backends.array_types import ArrayLike, DType, Floats, Indices
from deltaprop.estimators.together import Table, can_be_together, with_parameters

Split: TypeAlias = tuple[Indices, Indices]
#: The numbers of candidate and split.
Place: TypeAlias = tuple[int, int]
#: The samples of a split that a score is computed on, and their places in a split.
TRAIN, TEST = 0, 1


@dataclass(eq=False)
class Fold:
    """The samples of one split, as networks and scorers get them.

    Attributes
    ----------
    table : Table
        The checked samples of this fold and of others.
    rows : array of int
        The rows of the table that are trained on.
    scored : pair of array of int
        The rows of the table that scores are computed on: the training samples, and the test samples.
    sample_weight : array or None
        The weights of all rows of the table.
    samples : pair, optional
        In a search over pipelines: the training samples and the test samples as the network gets them; None where the
        rows of the table are the same.
    dress : callable, optional
        In a search over pipelines: makes the fitted pipeline from a fitted network.
    """

    table: Table
    rows: Indices
    scored: tuple[Indices, Indices]
    sample_weight: Floats | None
    samples: tuple[Any, Any] | None = None
    dress: Callable[[Any], Any] | None = None

    def seen(self, side: int) -> Any:
        """Return the training samples or the test samples of a search over pipelines, as the network gets them."""
        own = None if self.samples is None else self.samples[side]
        return self.table.X[self.scored[side]] if own is None else own


@dataclass
class Job:
    """One fit of the search: a candidate on a split.

    Attributes
    ----------
    candidate, split : int
        Their numbers.
    parameters : dict
        The parameters of the candidate.
    estimator : MLPClassifier or MLPRegressor, optional
        With these parameters; a fit by itself needs none.
    fold : Fold, optional
        The samples of the split; a fit by itself needs none.
    """

    candidate: int
    split: int
    parameters: dict[str, Any]
    estimator: Any = None
    fold: Any = None

    @property
    def place(self) -> Place:
        """The numbers of candidate and split."""
        return self.candidate, self.split


class Networks:
    """The networks of the candidates: `base` with the parameters of each, checked as a fit checks them.

    Parameters
    ----------
    base : MLPClassifier or MLPRegressor
    dtype : dtype or None
        The dtype to which the samples are converted.
    """

    base: Any

    def __init__(self, base: Any, dtype: Any) -> None:
        self.dtype: DType | None = None if dtype is None else np.dtype(dtype)
        self.base, self._known = clone(base), dict[tuple[str, int], Any]()
        try:
            self.base._validate_params()
        except (ValueError, TypeError):
            self._valid = False
        else:
            self._valid = True

    def of(self, parameters: dict[str, Any]) -> Any:
        """Return the network with these parameters; None if it cannot be trained together with others."""
        if not self._valid:
            return None
        try:
            estimator = with_parameters(self.base, parameters, self._known)
        except (ValueError, TypeError):  # the fit by itself will say so
            return None
        return estimator if can_be_together(estimator) and self._has_same_samples(estimator) else None

    def _has_same_samples(self, estimator: Any) -> bool:
        """Return whether samples that were converted to `dtype` are for this network what they would be otherwise."""
        own = None if estimator.dtype is None else np.dtype(estimator.dtype)
        return self.dtype is None or self.dtype == own or (own is not None and self.dtype == np.float64)


class TableJobs:
    """The fits of a search over an `MLPClassifier` or an `MLPRegressor`.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    X, y
        As they were given.
    sample_weight : array or None

    Raises
    ------
    ValueError, TypeError
        If the samples cannot be checked once for all fits.
    """

    #: The parameter that counts epochs.
    epochs = "max_iter"

    def __init__(self, estimator: Any, X: ArrayLike, y: ArrayLike, sample_weight: Floats | None) -> None:
        self.sample_weight = sample_weight
        self.table: Table = Table.of(estimator, X, y)
        if hasattr(self.table.X, "toarray"):
            raise TypeError("X: expected dense samples, got sparse ones")
        self.networks: Networks = Networks(estimator, estimator.dtype)

    def together(
        self,
        candidates: Sequence[dict[str, Any]],
        splits: Sequence[Split],
        done: Container[Place],
        alone: list[Job],
    ) -> Iterator[list[Job]]:
        """Give the fits that can be trained together, table by table; append the others to `alone`.

        Fits in `done` are left out.
        """
        folds = [self._fold(split) if self.table.is_seen_alike(split[TRAIN]) else None for split in splits]
        together: list[Job] = []
        for c, parameters in enumerate(candidates):
            left = [s for s in range(len(splits)) if (c, s) not in done]
            estimator = self.networks.of(parameters) if left else None
            for s in left:
                job = Job(c, s, parameters, estimator, folds[s])
                (alone if estimator is None or folds[s] is None else together).append(job)
        yield together

    def _fold(self, split: Split) -> Fold:
        return Fold(self.table, split[TRAIN], split, self.sample_weight)
