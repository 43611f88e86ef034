"""Training of the members: a stack of networks, each stopped by a fold of its own, and predictions for those folds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deltaprop.backends import Backend
from deltaprop.backends.array_types import Floats, HostArray, Indices
from deltaprop.derivation.optimizers import Adam
from deltaprop.derivation.schedules import CosineDecay
from deltaprop.epochs.compiled_answers import CompiledAnswers
from deltaprop.inputs.encoded_rows import EncodedRows
from deltaprop.stack import NetworkStack
from deltaprop.tabular.own_rows import outputs_of_own_rows
from deltaprop.tabular.recipe import Deadline, Recipe
from deltaprop.training.callbacks import Callback
from deltaprop.training.early_stopping import EarlyStopping

#: Early stopping watches at most one row for so many that a member is trained on, but not fewer than these.
WATCHED, LEAST_WATCHED = 7, 2048
#: Minibatches that are trained to measure the speed.
TRIED = 4
#: Rows whose outputs are computed together, and outputs of all members, at most.
BLOCK, MOST_OUTPUTS = 2**16, 2**22


@dataclass(frozen=True)
class Members:
    """Trained members.

    Parameters
    ----------
    stack : NetworkStack
        Their networks.
    held_out : list of array
        For each member, the numbers of the rows that it was validated on and has not been trained on.
    """

    stack: NetworkStack
    held_out: Sequence[Indices]

    def held_out_outputs(self, rows: EncodedRows) -> tuple[Floats, Indices]:
        """Compute the outputs for rows of training by the members that were not trained on them.

        Parameters
        ----------
        rows : EncodedRows
            All rows of training, (m, s_1).

        Returns
        -------
        outputs : array, (m, s_L)
            Means over those members; NaN for rows that all members were trained on.
        members : array, (m,)
            How many those were.
        """
        sums, count = np.zeros((len(rows), self.stack.layer_sizes[-1])), np.zeros(len(rows), np.int64)
        at_once = _rows_at_once(self.stack)
        for start in range(0, max(map(len, self.held_out)), at_once):
            parts = [own[start : start + at_once] for own in self.held_out]
            outputs = outputs_of_own_rows(self.stack, [rows.take(own) for own in parts])
            for own, predicted in zip(parts, outputs, strict=True):
                sums[own] += predicted
                count[own] += 1
        with np.errstate(invalid="ignore"):
            return sums / count[:, np.newaxis], count


def train_members(
    rows: EncodedRows,
    Y: HostArray,
    weights: Floats | None,
    dealt: Sequence[tuple[Indices, int]],
    recipe: Recipe,
    *,
    hidden_layer_sizes: Sequence[int],
    loss: str,
    seeds: Sequence[int],
    backend: str | Backend,
    progress: bool,
    callbacks: Sequence[Callback],
    deadline: float | None,
) -> Members:
    """Train one network for each entry of `dealt`.

    Parameters
    ----------
    rows : EncodedRows
        (m, s_1).
    Y : array, (m, s_L)
        Targets as the loss wants them.
    weights : array, (m,), or None
        How much each row counts.
    dealt : sequence of (array, int)
        For each member, the fold of each row, and the fold that it is validated on.
    recipe : Recipe
        How to train.
    hidden_layer_sizes : sequence of int
        Widths of the hidden layers.
    loss : str
        Its name; the output activation is the one that suits it.
    seeds : sequence of int
        One a member.
    backend : str or Backend
        As of `Network`.
    progress : bool
        Whether to draw a progress bar.
    callbacks : sequence of callable
        As of `NetworkStack.fit`.
    deadline : float or None
        The time of `time.perf_counter` by which training has to end.

    Returns
    -------
    Members
        Each with the parameters of its best epoch.
    """
    stack = NetworkStack(
        len(dealt),
        [rows.shape[1], *hidden_layer_sizes, Y.shape[1]],
        seeds=seeds,
        hidden_activation="silu",
        loss=loss,
        init="he",
        dtype=rows.dtype,
        backend=backend,
    )
    held_out: list[Indices] = [np.flatnonzero(folds == own) for folds, own in dealt]
    samples: list[Indices] = [np.flatnonzero(folds != own) for folds, own in dealt]
    limit = None
    if deadline is not None:
        # The first fit on a machine compiles the library, which may take longer than the limit: that does not count.
        began = time.perf_counter()
        CompiledAnswers.find(stack[0], [rows])
        limit = Deadline(recipe, deadline + time.perf_counter() - began)
        samples = _fewer(samples, limit.rows_in_time(_rows_a_second(stack.copy(), rows, Y, samples, recipe)), seeds)
    stack.fit(
        rows,
        Y,
        optimizer=Adam(CosineDecay(recipe.learning_rate, recipe.epochs) if limit is None else limit.learning_rate),
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        sample_weight=weights,
        samples=samples,
        validation_samples=_fewer(held_out, max(LEAST_WATCHED, max(map(len, samples)) // WATCHED), seeds),
        metrics=(),  # early stopping goes by the cost alone
        early_stopping=EarlyStopping(recipe.patience),
        callbacks=[*callbacks, *([] if limit is None else [limit.stop])],
        progress=progress,
    )
    return Members(stack, held_out)


def _fewer(rows: Sequence[Indices], most: int, seeds: Sequence[int]) -> list[Indices]:
    """Draw at most so many of each member's rows."""
    each = zip(rows, seeds, strict=True)
    return [
        own if len(own) <= most else np.sort(np.random.default_rng(seed).choice(own, most, replace=False))
        for own, seed in each
    ]


def _rows_a_second(
    stack: NetworkStack, rows: EncodedRows, Y: HostArray, samples: Sequence[Indices], recipe: Recipe
) -> float:
    """Measure how many rows a second each member of a stack is trained on, all at the same time."""
    some = [own[: TRIED * recipe.batch_size] for own in samples]
    histories = stack.fit(rows, Y, optimizer=Adam(), batch_size=recipe.batch_size, epochs=3, samples=some)
    return max(map(len, some)) / max(1e-9, len(stack) * min(histories[0].seconds[1:]))


def mean_outputs(stack: NetworkStack, rows: EncodedRows) -> Floats:
    """Compute the mean of the members' outputs, (m, s_L), some rows at a time."""
    result = np.empty((len(rows), stack.layer_sizes[-1]))
    at_once = _rows_at_once(stack)
    for start in range(0, len(rows), at_once):
        part = rows.take(np.arange(start, min(start + at_once, len(rows))))
        result[start : start + at_once] = np.asarray(stack.predict(part)).mean(axis=0, dtype=np.float64)
    return result


def _rows_at_once(stack: NetworkStack) -> int:
    """Compute how many rows each member predicts together."""
    return min(BLOCK, max(1, MOST_OUTPUTS // (len(stack) * stack.layer_sizes[-1])))
