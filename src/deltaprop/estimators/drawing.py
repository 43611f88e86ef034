"""Random numbers as scikit-learn draws them: first parameters, rows held out, the order of samples in each epoch."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from deltaprop.backends.array_types import AnyArray, HostArray, Indices
from deltaprop.backends.native.twister import Rewound, Shuffle
from deltaprop.derivation.initialization import scikit_learn_range
from deltaprop.derivation.parameters import Parameters
from deltaprop.estimators.hyperparameters import RandomState

#: How `draw_parameters` draws, by the name that `Network` knows.
DRAWN_AS = "scikit_learn"


class Reseeded:
    """A generator that begins again at its seed, in less time than it takes to make a new one."""

    def __init__(self, seed: int) -> None:
        self.seed, self.generator = seed, np.random.RandomState(seed)
        self._rewind = Rewound(self.generator)

    def again(self) -> np.random.RandomState:
        """Return the generator as it was when it was new."""
        self._rewind()
        return self.generator


def draw_parameters(rng: np.random.RandomState, parameters: Parameters, activations: Sequence[str]) -> None:
    """Draw weights and biases as scikit-learn draws them: uniform in Glorot and Bengio's range, in its order."""
    backend, dtype = parameters.backend, parameters.flat.dtype
    for W, b, activation in zip(parameters.weights, parameters.biases, activations, strict=True):
        s_out, s_in = W.shape
        bound = scikit_learn_range(s_in, s_out, activation)
        W[...] = backend.asarray(rng.uniform(-bound, bound, (s_in, s_out)).T, dtype)
        b[...] = backend.asarray(rng.uniform(-bound, bound, s_out), dtype)


def split_rows(
    rng: np.random.RandomState, samples: int, share: float, strata: AnyArray | None
) -> tuple[Indices, Indices]:
    """Divide samples at random into those trained on and the share that is held out for early stopping.

    Raises
    ------
    ValueError
        If fewer than two are held out, or the shares of `strata` cannot be kept.
    """
    train, held_out = train_test_split(np.arange(samples), random_state=rng, test_size=share, stratify=strata)
    if len(held_out) < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    return train, held_out


class Stream:
    """The random numbers of one ``random_state``; fits that have the same one share them.

    Attributes
    ----------
    initial : array, (n,)
        The parameters that are drawn first.
    rows : array of int64
        The rows of the table that are trained on.
    held_out : array of int64, or None
        The rows that are held out, with early stopping.
    """

    rows: Indices

    def __init__(self, random_state: RandomState, shape: Parameters, bounds_of: Sequence[str], rows: Indices) -> None:
        self.rng: np.random.RandomState = check_random_state(copy.deepcopy(random_state))
        draw_parameters(self.rng, shape, bounds_of)
        self.initial: HostArray = shape.backend.to_numpy(shape.flat).copy()
        self.rows = rows
        self.held_out: Indices | None = None
        self._before = copy.deepcopy(self.rng)
        self._first = 0
        self._drawn: Indices | None = None
        self._shuffle: Shuffle | None = None
        self._compiled: bool = getattr(shape.backend, "compiles", False)

    def hold_out(self, share: float, strata: AnyArray | None) -> None:
        """Split the rows as an estimator does for early stopping; `strata` has an entry for each row of the table."""
        train, held_out = split_rows(self.rng, len(self.rows), share, None if strata is None else strata[self.rows])
        self.rows, self.held_out = self.rows[train], self.rows[held_out]
        self._before = copy.deepcopy(self.rng)

    def orders(self, first: int, count: int) -> Indices:
        """The order in which the rows are visited in each of `count` epochs from `first` on, (count, m).

        Epochs have to be asked for in turn.
        """
        if self._drawn is None or self._first != first:
            if self._shuffle is None:
                order = np.arange(len(self.rows), dtype=np.int64)
                self._shuffle = Shuffle(self.rng, order, compiled=self._compiled)
            drawn = np.empty((count, len(self.rows)), np.int64)
            for own in drawn:
                self._shuffle()
                own[:] = self._shuffle.order
            self._first, self._drawn = first, drawn
        return self._drawn

    def after(self, epochs: int) -> np.random.RandomState:
        """Return the generator as it is after `epochs` epochs of one fit."""
        drawn = 0 if self._drawn is None else self._first + len(self._drawn) - 1
        rng: np.random.RandomState = copy.deepcopy(self.rng if drawn == epochs else self._before)
        for _ in range(0 if drawn == epochs else epochs):
            rng.permutation(len(self.rows))
        return rng
