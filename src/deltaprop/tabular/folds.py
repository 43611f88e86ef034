"""Folds: each member is validated on one, and trained on the others."""

from __future__ import annotations

import numpy as np

from deltaprop.backends.array_types import HostArray, Indices

#: Into how many folds the rows fall.
FOLDS = 8


def deal(order_by: HostArray, rng: np.random.RandomState) -> Indices:
    """Deal rows out to `FOLDS` folds so that each fold has rows of all kinds.

    The rows are sorted, and of every `FOLDS` neighbours each fold gets one. Of two rows of a class, therefore, one is
    trained on by every member, where `StratifiedKFold` would refuse so small a class; and a fold has low, middling and
    high quantities.

    Parameters
    ----------
    order_by : array, (m,)
        Numbers of classes, or quantities.
    rng : RandomState
        Decides between equal rows, and which neighbour goes where.

    Returns
    -------
    array, (m,)
        The number of each row's fold, below min(`FOLDS`, m).
    """
    m = len(order_by)
    folds = min(FOLDS, m)
    order = np.lexsort((rng.random_sample(m), order_by))
    dealt = np.concatenate([rng.permutation(folds) for _ in range(-(-m // folds))])[:m]
    result = np.empty(m, np.int64)
    result[order] = dealt
    return result


def deal_to_members(
    order_by: HostArray, members: int, rng: np.random.RandomState
) -> tuple[list[tuple[Indices, int]], list[tuple[Indices, int]]]:
    """Give each member its folds, (m,), as of `deal`, and the number of the fold that it is validated on.

    There are two lists. The first is for all members, or for half of 2 · `FOLDS` or more; the rows are dealt out anew
    for each `FOLDS` of them. The second is for the others, which have the folds of the first again, as they see the
    rows otherwise.
    """
    first = members if members < 2 * FOLDS else members - members // 2
    given: list[tuple[Indices, int]] = []
    while len(given) < first:
        folds = deal(order_by, rng)
        given += [(folds, fold) for fold in range(min(FOLDS, len(order_by)))]
    return given[:first], given[: members - first]
