"""Training of the members: a stack of networks, each stopped by a fold of its own, and predictions for those folds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deltaprop.backends import Backend
from deltaprop.backends.array_types import Floats, HostArray, Indices
from deltaprop.backends.choices import BackendName, LossName
from deltaprop.derivation.optimizers import Adam
from deltaprop.derivation.schedules import CosineDecay
from deltaprop.epochs.compiled_answers import CompiledAnswers
from deltaprop.inputs.encoded_rows import EncodedRows
from deltaprop.ranks.base import ALONE, Ranks
from deltaprop.ranks.failures import failing_together
from deltaprop.stack import NetworkStack
from deltaprop.tabular.dealt_members import DealtMembers
from deltaprop.tabular.own_rows import outputs_of_own_rows
from deltaprop.tabular.recipe import Deadline, Recipe
from deltaprop.training.callbacks import EpochCallback
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
    waited : float
        Seconds that it took to have the library compiled, which no time limit counts.
    ended : bool
        Whether a callback has ended the training.
    """

    stack: NetworkStack
    held_out: Sequence[Indices]
    waited: float = 0.0
    ended: bool = False

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
            sums /= count[:, np.newaxis]
        return sums, count


@dataclass(frozen=True)
class MemberTraining:
    """How members are trained.

    Parameters
    ----------
    Y : array, (m, s_L)
        Targets as the loss wants them.
    weights : array, (m,), or None
        How much each row counts.
    recipe : Recipe
        How to train.
    hidden_layer_sizes : sequence of int
        Widths of the hidden layers.
    loss : str
        Its name; the output activation is the one that suits it.
    backend : str or Backend
        As of `Network`.
    progress : bool
        Whether to draw a progress bar.
    callbacks : sequence of callable
        As of `NetworkStack.fit`.
    ranks : Ranks
        The processes that share the members.
    """

    Y: HostArray
    weights: Floats | None
    recipe: Recipe
    hidden_layer_sizes: Sequence[int]
    loss: LossName
    backend: BackendName | Backend
    progress: bool
    callbacks: Sequence[EpochCallback]
    ranks: Ranks = ALONE

    def stack(self, inputs: int, seeds: Sequence[int]) -> NetworkStack:
        """Make networks of so many inputs, one for each seed."""
        return NetworkStack(
            len(seeds),
            [inputs, *self.hidden_layer_sizes, self.Y.shape[1]],
            seeds=seeds,
            hidden_activation="silu",
            loss=self.loss,
            init="he",
            dtype=self.Y.dtype,
            backend=self.backend,
        )

    def train(
        self,
        rows: EncodedRows,
        dealt: Sequence[tuple[Indices, int]],
        seeds: Sequence[int],
        deadline: float | None,
    ) -> Members:
        """Train one network for each entry of `dealt`.

        Parameters
        ----------
        rows : EncodedRows
            (m, s_1).
        dealt : sequence of (array, int)
            For each member, the fold of each row, and the fold that it is validated on.
        seeds : sequence of int
            One a member.
        deadline : float or None
            The time of `time.perf_counter` by which training has to end.

        Returns
        -------
        Members
            Each with the parameters of its best epoch; on every rank all of them.
        """
        held_out: list[Indices] = [np.flatnonzero(folds == own) for folds, own in dealt]
        samples: list[Indices] = [np.flatnonzero(folds != own) for folds, own in dealt]
        share = DealtMembers(self.ranks, self.callbacks)
        numbers = share.own(len(dealt))
        stack = self.stack(rows.shape[1], [seeds[k] for k in numbers]) if numbers else None
        limit, waited = None, 0.0
        if deadline is not None:
            # The first fit on a machine compiles the library, which may take longer than the limit.
            began = time.perf_counter()
            with failing_together(self.ranks):
                if stack is not None:
                    CompiledAnswers.find(stack[0], [rows])
            waited = time.perf_counter() - began
            limit = Deadline(self.recipe, deadline + waited)
            possible = len(rows)
            with failing_together(self.ranks):
                if stack is not None:
                    speed = self._rows_a_second(stack.copy(), rows, [samples[k] for k in numbers])
                    possible = limit.rows_in_time(speed)
            samples = _fewer(samples, min(self.ranks.gather(possible)), seeds)
        watched = _fewer(held_out, max(LEAST_WATCHED, max(map(len, samples)) // WATCHED), seeds)
        with share.together():
            if stack is not None:
                trained_on, watches = ([each[k] for k in numbers] for each in (samples, watched))
                self._fit(stack, rows, trained_on, watches, limit, share)
        whole = share.gathered(stack, lambda: self.stack(rows.shape[1], seeds))
        return Members(whole, held_out, waited, share.ended)

    def _fit(
        self,
        stack: NetworkStack,
        rows: EncodedRows,
        samples: Sequence[Indices],
        watched: Sequence[Indices],
        limit: Deadline | None,
        share: DealtMembers,
    ) -> None:
        """Train some members on their rows, each stopped by the rows that it watches."""
        recipe = self.recipe
        stack.fit(
            rows,
            self.Y,
            optimizer=Adam(CosineDecay(recipe.learning_rate, recipe.epochs) if limit is None else limit.learning_rate),
            batch_size=recipe.batch_size,
            epochs=recipe.epochs,
            sample_weight=self.weights,
            samples=samples,
            validation_samples=watched,
            metrics=(),  # early stopping goes by the cost alone
            early_stopping=EarlyStopping(recipe.patience),
            callbacks=[share.epoch, *([] if limit is None else [limit.stop])],
            progress=self.progress and self.ranks.is_first,
        )

    def _rows_a_second(self, stack: NetworkStack, rows: EncodedRows, samples: Sequence[Indices]) -> float:
        """Measure how many rows a second each member of a stack is trained on, all at the same time."""
        batch = self.recipe.batch_size
        some = [own[: TRIED * batch] for own in samples]
        histories = stack.fit(rows, self.Y, optimizer=Adam(), batch_size=batch, epochs=3, samples=some)
        return max(map(len, some)) / max(1e-9, len(stack) * min(histories[0].seconds[1:]))


def _fewer(rows: Sequence[Indices], most: int, seeds: Sequence[int]) -> list[Indices]:
    """Draw at most so many of each member's rows."""
    each = zip(rows, seeds, strict=True)
    return [
        own if len(own) <= most else np.sort(np.random.default_rng(seed).choice(own, most, replace=False))
        for own, seed in each
    ]


def mean_outputs(stack: NetworkStack, member_weights: Floats, rows: EncodedRows) -> Floats:
    """Compute the weighted mean of the members' outputs, (m, s_L), some rows at a time."""
    result = np.empty((len(rows), stack.layer_sizes[-1]))
    at_once = _rows_at_once(stack)
    for start in range(0, len(rows), at_once):
        part = rows.take(np.arange(start, min(start + at_once, len(rows))))
        outputs = np.asarray(stack.predict(part), np.float64)
        result[start : start + at_once] = (outputs * member_weights[:, np.newaxis, np.newaxis]).sum(axis=0)
    return result


def _rows_at_once(stack: NetworkStack) -> int:
    """Compute how many rows each member predicts together."""
    return min(BLOCK, max(1, MOST_OUTPUTS // (len(stack) * stack.layer_sizes[-1])))
