"""The recipe: how networks for a table are made and trained, by how many rows, columns and outputs there are."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from deltaprop.derivation.schedules import CosineDecay
from deltaprop.reports.history import History
from deltaprop.training.callbacks import EpochEnd

#: A column of numbers has at most so many bins, and at least so many where it has that many numbers.
MOST_BINS, LEAST_BINS = 32, 4
#: There are fewer bins, down to the least, where there would be more than so many inputs for a row to train on.
INPUTS_OF_A_ROW = 16
#: Members that see few bins see this share of them.
SHARE_OF_BINS = 1 / 4
#: Width of the two hidden layers; width where there are more outputs than a few.
WIDTH, MOST_WIDTH, FEW_OUTPUTS = 64, 128, 16
#: Rows of a minibatch: this share of the rows, as a power of two between these two.
SHARE_OF_A_BATCH, LEAST_BATCH, MOST_BATCH = 1 / 32, 16, 256
#: Rows up to which there are as many epochs as there can be; their number falls as 1/√rows beyond.
ROWS_OF_ALL_EPOCHS = 20_000
#: The share of the time that is kept for what follows training.
KEPT = 0.04
#: Epochs that have to fit into the time: else members are trained on fewer rows.
LEAST_EPOCHS = 8


@dataclass(frozen=True)
class Recipe:
    """What networks are like, and what `NetworkStack.fit` is told.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int
        Widths of the hidden layers, where the user has not named any.
    bins : int
        How many bins a column of numbers may have.
    coarse_bins : int
        How many of them a column has for members that see few.
    epochs : int
        Passes over the rows, at most.
    batch_size : int
        Rows of a minibatch.
    learning_rate : float
        The first; it comes down to 0 along half a cosine.
    patience : int
        Epochs without a better validation cost after which a member stops.
    """

    hidden_layer_sizes: tuple[int, ...]
    bins: int
    coarse_bins: int
    epochs: int
    batch_size: int
    learning_rate: float
    patience: int


def recipe_for(rows: int, columns: int, outputs: int) -> Recipe:
    """Choose the recipe for a table of so many rows and columns of numbers, and networks of so many outputs."""
    batch = 2 ** round(np.log2(max(1.0, rows * SHARE_OF_A_BATCH)))
    epochs = round(100 * min(1.0, (ROWS_OF_ALL_EPOCHS / rows) ** 0.5))
    bins = min(max(round(INPUTS_OF_A_ROW * rows / max(1, columns)), LEAST_BINS), MOST_BINS)
    width = WIDTH if outputs <= FEW_OUTPUTS else MOST_WIDTH
    return Recipe(
        hidden_layer_sizes=(width, width),
        bins=bins,
        coarse_bins=max(LEAST_BINS, round(SHARE_OF_BINS * bins)),
        epochs=epochs,
        batch_size=min(max(batch, LEAST_BATCH), MOST_BATCH),
        learning_rate=2e-3,
        patience=max(5, round(0.3 * epochs)),
    )


class Deadline:
    """Ends training in time: the learning rate comes down by then, and no epoch begins that would end later.

    Parameters
    ----------
    recipe : Recipe
        Its learning rate comes down in its epochs, or by the deadline if that is earlier.
    at : float
        The time of `time.perf_counter` by which training has to end.
    """

    ended: list[float]
    recipe: Recipe
    began: float
    at: float
    decay: CosineDecay

    def __init__(self, recipe: Recipe, at: float) -> None:
        now = time.perf_counter()
        self.recipe, self.began, self.at = recipe, now, now + (1 - KEPT) * (at - now)
        self.decay, self.ended = CosineDecay(recipe.learning_rate, recipe.epochs), [now]

    def learning_rate(self, epoch: int, history: History) -> float:
        """Compute the learning rate of an epoch, counted from 0."""
        share = min(1.0, (time.perf_counter() - self.began) / max(self.at - self.began, 1e-9))
        return self.decay(max(epoch, round(share * self.recipe.epochs)), history)

    def stop(self, event: EpochEnd) -> bool:
        """Tell whether another epoch as long as the longest of the last three would end too late."""
        self.ended = [*self.ended[-3:], time.perf_counter()]
        return self.ended[-1] + max(later - earlier for earlier, later in pairwise(self.ended)) > self.at

    def rows_in_time(self, rows_a_second: float) -> int:
        """Compute how many rows an epoch may have, so that `LEAST_EPOCHS` epochs end in time."""
        return max(1, int(rows_a_second * (self.at - time.perf_counter()) / LEAST_EPOCHS))
