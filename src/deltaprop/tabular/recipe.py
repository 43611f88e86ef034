"""The recipe: how networks for a table are made and trained, by how many rows there are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from deltaprop.derivation.schedules import CosineDecay
from deltaprop.reports.history import History
from deltaprop.training.callbacks import EpochEnd

#: A column of numbers has at most this number of bins.
MOST_BINS = 32


@dataclass(frozen=True)
class Recipe:
    """What `NetworkStack.fit` is told.

    Parameters
    ----------
    bins : int
        How many bins a column of numbers may have.
    epochs : int
        Passes over the rows, at most.
    batch_size : int
        Rows of a minibatch.
    learning_rate : float
        The first; it comes down to 0 along half a cosine.
    patience : int
        Epochs without a better validation cost after which a member stops.
    """

    bins: int = MOST_BINS
    epochs: int = 100
    batch_size: int = 256
    learning_rate: float = 3e-3
    patience: int = 30


def recipe_for(rows: int) -> Recipe:
    """Choose the recipe for so many rows."""
    return Recipe()


class Deadline:
    """Ends training in time: the learning rate comes down by then, and no epoch begins that would end later.

    It is a schedule of learning rates and a callback at once.

    Parameters
    ----------
    recipe : Recipe
        Its learning rate comes down in its epochs, or by the deadline if that is earlier.
    at : float
        The time of `time.perf_counter` by which training has to end.
    """

    def __init__(self, recipe: Recipe, at: float) -> None:
        self.recipe, self.at, self.began = recipe, at, time.perf_counter()
        self.ended: list[float] = []

    def __call__(self, epoch: int, history: History) -> float:
        """Compute the learning rate of an epoch, counted from 0."""
        share = (time.perf_counter() - self.began) / max(self.at - self.began, 1e-9)
        done = max(epoch / self.recipe.epochs, min(share, 1.0))
        return CosineDecay(self.recipe.learning_rate, 1000)(round(1000 * done), history)

    def stop(self, event: EpochEnd) -> bool:
        """Tell whether another epoch as long as the longest of the last three would end too late."""
        self.ended.append(time.perf_counter())
        times: Sequence[float] = [self.began, *self.ended][-4:]
        longest = max(later - earlier for earlier, later in pairwise(times))
        return self.ended[-1] + longest > self.at
