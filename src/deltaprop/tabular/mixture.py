"""The mixture: members that see many bins of each number beside members that see few, as one stack of networks.

Many bins suit tables where an answer turns on a threshold, few suit smooth ones, and one table may have both. Half of
the members are trained on each; rows held out tell how much each half counts in the mean of all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar

from deltaprop.backends.array_types import Floats, HostArray, Indices
from deltaprop.inputs.encoded_rows import EncodedRows
from deltaprop.stack import NetworkStack
from deltaprop.tabular.coarse_bins import coarser, weights_of_all_bins
from deltaprop.tabular.members import MemberTraining
from deltaprop.training.callbacks import Callback, EpochEnd, tell

#: The share of a half is found by at most so many rows.
MOST_ROWS = 50_000

#: The mean loss of outputs, (n, s_L), for the rows of these numbers, (n,).
HeldOutCost = Callable[[Floats, Indices], float]


@dataclass(frozen=True)
class Mixture:
    """Trained members of both kinds.

    Parameters
    ----------
    stack : NetworkStack
        Their networks, all over all bins: K.
    member_weights : array, (K,)
        How much each counts in the mean of their outputs; their sum is 1.
    held_out : list of array
        For each member, the numbers of the rows that it has not been trained on.
    outputs : array, (m, s_L)
        For each row of training, the mean over the members that were not trained on it; NaN where all were.
    seen : array of bool, (m,)
        Whether there is such a member.
    """

    stack: NetworkStack
    member_weights: Floats
    held_out: Sequence[Indices]
    outputs: Floats
    seen: HostArray


def train_mixture(
    training: MemberTraining,
    rows: EncodedRows,
    dealt: Sequence[tuple[Indices, int]],
    seeds: Sequence[int],
    deadline: float | None,
    cost: HeldOutCost,
) -> Mixture:
    """Train one network for each entry of `dealt`: the first half over all bins, the others over few.

    All see all bins if there are no more of them than few, or if there is only one network.

    Parameters
    ----------
    training : MemberTraining
        How to train.
    rows : EncodedRows
        (m, s_1).
    dealt : sequence of (array, int)
        For each member, the fold of each row, and the fold that it is validated on.
    seeds : sequence of int
        One a member.
    deadline : float or None
        The time of `time.perf_counter` by which training has to end.
    cost : callable
        What the share of each half makes small.

    Returns
    -------
    Mixture
        Without the others, if a callback ended the training of the first half.
    """
    count, bins = len(dealt), training.recipe.coarse_bins
    coarse = coarser(rows.encoding, bins)
    of_all = count if coarse.width == rows.encoding.width else count - count // 2
    watch = _Watch(training.callbacks)
    training = replace(training, callbacks=[watch.epoch])
    half = deadline
    if deadline is not None and of_all < count:
        half = (time.perf_counter() + deadline) / 2
    fine = training.train(rows, dealt[:of_all], seeds[:of_all], half)
    outputs, members = fine.held_out_outputs(rows)
    if of_all == count or watch.ended:
        return Mixture(fine.stack, np.full(len(fine.stack), 1 / len(fine.stack)), fine.held_out, outputs, members > 0)
    few = training.train(
        EncodedRows(rows.stored, coarse),
        dealt[of_all:],
        seeds[of_all:],
        None if deadline is None else deadline + fine.waited,
    )
    others, members_of_few = few.held_out_outputs(EncodedRows(rows.stored, coarse))
    share = best_share(outputs, others, np.flatnonzero((members > 0) & (members_of_few > 0)), cost, seeds[0])
    return Mixture(
        _joined(training, fine.stack, few.stack, rows, bins),
        np.repeat([share / of_all, (1 - share) / (count - of_all)], [of_all, count - of_all]),
        [*fine.held_out, *few.held_out],
        _mixed(outputs, others, share, members, members_of_few),
        (members > 0) | (members_of_few > 0),
    )


def best_share(outputs: Floats, others: Floats, rows: Indices, cost: HeldOutCost, seed: int) -> float:
    """Find the share, in [0, 1], that the first of two halves has in the mean.

    The cost of s · outputs + (1 − s) · others is least for some s. A row is held out by few members of each half, whose
    outputs vary more than the mean of a half does. Mixing two that vary pays by itself, so that s is too near to ½.
    The odds of the share are therefore (s/(1 − s))²; on 45 tables this was better than s, on those of many rows most.

    Parameters
    ----------
    outputs, others : array, (m, s_L)
        By members that were not trained on these rows.
    rows : array
        The numbers of the rows that have both.
    cost : callable
        Convex in the outputs.
    seed : int
        Draws the rows, where there are more than enough.

    Returns
    -------
    float
        One half if there are no rows.
    """
    if not len(rows):
        return 0.5
    if len(rows) > MOST_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_ROWS, replace=False))
    first, second = outputs[rows], others[rows]

    def cost_at(share: float) -> float:
        return cost(share * first + (1 - share) * second, rows)

    best = float(minimize_scalar(cost_at, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-3}).x)
    return best**2 / (best**2 + (1 - best) ** 2)


def _mixed(outputs: Floats, others: Floats, share: float, members: Indices, members_of_few: Indices) -> Floats:
    """Mix the outputs of rows that have both; those that have one of them keep it."""
    mixed = share * outputs + (1 - share) * others
    for own, without in ((outputs, members_of_few == 0), (others, members == 0)):
        mixed[without] = own[without]
    return mixed


def _joined(
    training: MemberTraining, fine: NetworkStack, few: NetworkStack, rows: EncodedRows, bins: int
) -> NetworkStack:
    """Make one stack of all members, over all bins."""
    stack = training.stack(rows.encoding.width, [*fine.seeds, *few.seeds])
    own, others = (each.backend.to_numpy(each.parameters) for each in (fine, few))
    units = stack.layer_sizes[1]
    W = others[:, : units * few.layer_sizes[0]].reshape(len(few), units, -1)  # parameters begin with them
    widened = weights_of_all_bins(W, rows.encoding, bins).reshape(len(few), -1)
    rest = others[:, W[0].size :]
    stack.parameters = np.concatenate([own, np.concatenate([widened, rest], axis=1)]).astype(stack.dtype)
    for network, trained in zip(stack, [*fine, *few], strict=True):
        network.epochs_trained = trained.epochs_trained
    return stack


class _Watch:
    """Tells callbacks, and remembers whether one of them has ended training."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks, self.ended = callbacks, False

    def epoch(self, event: EpochEnd) -> bool:
        """Tell all callbacks that an epoch has ended."""
        self.ended = tell(self.callbacks, event)
        return self.ended
