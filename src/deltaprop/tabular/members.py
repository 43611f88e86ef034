"""Training of the members: a stack of networks, each stopped by a fold of its own, and predictions for those folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deltaprop.backends import Backend
from deltaprop.backends.array_types import Floats, HostArray, Indices
from deltaprop.derivation.optimizers import Adam
from deltaprop.derivation.schedules import CosineDecay
from deltaprop.inputs.encoded_rows import EncodedRows
from deltaprop.reports.history import History
from deltaprop.stack import NetworkStack
from deltaprop.tabular.recipe import Deadline, Recipe
from deltaprop.training.callbacks import Callback
from deltaprop.training.early_stopping import EarlyStopping

#: Rows whose outputs are computed together.
BLOCK = 2**16


@dataclass(frozen=True)
class Members:
    """Trained members.

    Parameters
    ----------
    stack : NetworkStack
        Their networks.
    histories : list of History
        How each was trained.
    held_out : list of array
        For each member, the numbers of the rows that it was validated on and has not been trained on.
    """

    stack: NetworkStack
    histories: Sequence[History]
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
        for network, own in zip(self.stack, self.held_out, strict=True):
            sums[own] += network.backend.to_numpy(network.predict(rows.take(own)))
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
    schedule = Deadline(recipe, np.inf if deadline is None else deadline)
    held_out = [np.flatnonzero(folds == own) for folds, own in dealt]
    histories = stack.fit(
        rows,
        Y,
        optimizer=Adam(schedule if deadline is not None else CosineDecay(recipe.learning_rate, recipe.epochs)),
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        sample_weight=weights,
        samples=[np.flatnonzero(folds != own) for folds, own in dealt],
        validation_samples=held_out,
        early_stopping=EarlyStopping(recipe.patience),
        callbacks=[*callbacks, *([] if deadline is None else [schedule.stop])],
        progress=progress,
    )
    return Members(stack, histories, held_out)


def mean_outputs(stack: NetworkStack, rows: EncodedRows) -> Floats:
    """Compute the mean of the members' outputs, (m, s_L), some rows at a time."""
    result = np.empty((len(rows), stack.layer_sizes[-1]))
    for start in range(0, len(rows), BLOCK):
        part = rows.take(np.arange(start, min(start + BLOCK, len(rows))))
        result[start : start + BLOCK] = stack.backend.to_numpy(stack.predict(part)).mean(axis=0, dtype=np.float64)
    return result
