"""The mixture: members that see many bins of each number beside members that see few, as one stack of networks.

Many bins suit tables where an answer turns on a threshold, few suit smooth ones, and one table may have both. Some
members are trained on each; rows held out tell how much each kind counts in the mean of all.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from deltaprop.backends.array_types import Floats, HostArray, Indices
from deltaprop.errors import DivergenceError, callers_level
from deltaprop.inputs.encoded_rows import EncodedRows
from deltaprop.stack import NetworkStack
from deltaprop.tabular.coarse_bins import coarser, weights_of_all_bins
from deltaprop.tabular.members import MemberTraining

#: The share of each kind is found by at most so many rows.
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
    dealt_to_others: Sequence[tuple[Indices, int]],
    seeds: Sequence[int],
    deadline: float | None,
    cost: HeldOutCost,
) -> Mixture:
    """Train one network for each entry of `dealt`, and one over few bins for each of `dealt_to_others`.

    The others see all bins too where there are no more of them than few.

    Parameters
    ----------
    training : MemberTraining
        How to train.
    rows : EncodedRows
        (m, s_1).
    dealt, dealt_to_others : sequence of (array, int)
        For each member, the fold of each row, and the fold that it is validated on. There may be no others; where there
        are some, each kind holds out every row.
    seeds : sequence of int
        One a member.
    deadline : float or None
        The time of `time.perf_counter` by which training has to end.
    cost : callable
        What the share of each kind makes small.

    Returns
    -------
    Mixture
        Without the others, if a callback ended the training of the first, or if the others have all diverged.

    Raises
    ------
    DivergenceError
        If the first have all diverged.

    Warns
    -----
    RuntimeWarning
        If the others have all diverged.
    """
    bins, many, few = training.recipe.coarse_bins, len(dealt), len(dealt_to_others)
    seen_by_others = EncodedRows(rows.stored, coarser(rows.encoding, bins))
    if seen_by_others.shape == rows.shape:
        dealt, many, few = [*dealt, *dealt_to_others], many + few, 0
    until = deadline
    if deadline is not None and few:
        now = time.perf_counter()
        until = now + (deadline - now) * many / (many + few)
    first = training.train(rows, dealt, seeds[:many], until)
    outputs, members = first.held_out_outputs(rows)
    alone = Mixture(first.stack, np.full(many, 1 / many), first.held_out, outputs, members > 0)
    if not few or first.ended:
        return alone
    until = None if deadline is None else deadline + first.waited
    try:
        others = training.train(seen_by_others, dealt_to_others, seeds[many:], until)
    except DivergenceError as error:
        message = f"the members that see few bins are left out: {error}"
        if training.ranks.is_first:
            warnings.warn(message, RuntimeWarning, stacklevel=callers_level())
        return alone
    their_outputs, _ = others.held_out_outputs(seen_by_others)  # where there are others, both kinds hold out every row
    share = best_share(outputs, their_outputs, np.arange(len(rows)), cost, seeds[0])
    outputs *= share  # in place: with many rows and classes, these are large
    their_outputs *= 1 - share
    outputs += their_outputs
    return Mixture(
        _joined(training, first.stack, others.stack, rows, bins),
        np.repeat([share / many, (1 - share) / few], [many, few]),
        [*first.held_out, *others.held_out],
        outputs,
        members > 0,
    )


def best_share(outputs: Floats, others: Floats, rows: Indices, cost: HeldOutCost, seed: int) -> float:
    """Find the share, in [0, 1], that the first of two kinds of members has in the mean.

    The cost of s · outputs + (1 − s) · others is least for some s. A row is held out by few members of each kind, whose
    outputs vary more than the mean of all does. Mixing two that vary pays by itself, so that s is too near to ½.
    The odds of the share are therefore (s/(1 − s))²; on 46 tables this was a little better than s, with many rows most.

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


def _joined(
    training: MemberTraining, first: NetworkStack, others: NetworkStack, rows: EncodedRows, bins: int
) -> NetworkStack:
    """Make one stack of all members, over all bins."""
    stack = training.stack(rows.encoding.width, [*first.seeds, *others.seeds])
    own, few = (each.backend.to_numpy(each.parameters) for each in (first, others))
    W = others.backend.to_numpy(others.weights[0])
    widened = weights_of_all_bins(W, rows.encoding, bins).reshape(len(others), -1)
    rest = few[:, W[0].size :]  # parameters begin with the weights of the first layer
    stack.parameters = np.concatenate([own, np.hstack([widened, rest])]).astype(stack.dtype)
    for network, trained in zip(stack, [*first, *others], strict=True):
        network.epochs_trained = trained.epochs_trained
    return stack
