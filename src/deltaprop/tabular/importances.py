"""How much each column of a table matters: the loss over rows held out rises when its cells are permuted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from deltaprop.backends.array_types import Floats, HostArray, Indices
from deltaprop.inputs.encoded_rows import EncodedRows
from deltaprop.stack import NetworkStack
from deltaprop.tabular.own_rows import outputs_of_own_rows

#: At most this number of rows are kept, of all members together.
MOST_ROWS = 2000
#: How often the cells of a column are permuted; how often where there are more columns than a few.
REPEATS, LEAST_REPEATS, FEW = 5, 2, 32
#: So many rows are predicted of each permuted column at least, however little time there is.
LEAST_ROWS = 100
#: Numbers of stored rows that are predicted together, and outputs: a call on a few rows of a wide table is mostly
#: preparation.
TOGETHER = 2**22

#: The loss of each row, (n,), from outputs, (n, s_L), and targets, (n,).
RowLoss: TypeAlias = Callable[[Floats, HostArray], Floats]


@dataclass(frozen=True)
class HeldOutRows:
    """Some of the rows that members have not been trained on.

    Parameters
    ----------
    rows : EncodedRows
        (n, s_1), those of one member after those of another.
    targets : array, (n,)
        Numbers of classes, or scaled quantities.
    weights : array, (n,)
        How much each row counts.
    members : array, (n,)
        The number of the member that has not been trained on it.
    seed : int
        Of the permutations.
    """

    rows: EncodedRows
    targets: HostArray
    weights: Floats
    members: Indices
    seed: int


def draw_rows(
    rows: EncodedRows,
    targets: HostArray,
    weights: Floats,
    held_out: Sequence[Indices],
    member_weights: Floats,
    seed: int,
) -> HeldOutRows:
    """Draw at most `MOST_ROWS` rows in all, as many of each member as of the others.

    Parameters
    ----------
    rows : EncodedRows
        All rows of training, (m, s_1).
    targets, weights : array, (m,)
        As of `HeldOutRows`.
    held_out : sequence of array
        For each member, the numbers of the rows that it has not been trained on.
    member_weights : array, (K,)
        How much each member counts.
    seed : int
        Decides which rows are drawn.

    Returns
    -------
    HeldOutRows
        Copies.
    """
    rng = np.random.default_rng(seed)
    each = max(1, MOST_ROWS // len(held_out))
    drawn = [np.sort(rng.choice(own, min(each, len(own)), replace=False)) for own in held_out[:MOST_ROWS]]
    taken = np.concatenate(drawn)
    members = np.repeat(np.arange(len(drawn)), [len(own) for own in drawn])
    return HeldOutRows(rows.take(taken), targets[taken], weights[taken] * member_weights[members], members, seed)


def permutation_importances(
    stack: NetworkStack,
    held_out: HeldOutRows,
    columns: Mapping[str, Indices],
    loss: RowLoss,
    seconds: float | None = None,
) -> dict[str, float]:
    """Compute by how much the mean loss rises when the cells of a column are permuted (Breiman, Random Forests, 2001).

    They are permuted among the rows of one member, which alone predicts them.

    Parameters
    ----------
    stack : NetworkStack
        The members.
    held_out : HeldOutRows
        The rows to predict.
    columns : mapping of str to array
        Which stored columns belong to each column of the table; they move together.
    loss : callable
        Of a row.
    seconds : float, optional
        About how long this may take: there are fewer permutations, and fewer rows are predicted, if all would take
        longer.

    Returns
    -------
    dict of str to float
        Of each column of `columns`.
    """
    every: Indices = np.arange(len(held_out.rows))
    began, stored = time.perf_counter(), held_out.rows.stored
    base = loss(_outputs(stack, held_out, every, stored), held_out.targets)
    seconds_of_a_row = (time.perf_counter() - began) / len(stored)
    orders = _orders(held_out, REPEATS if len(columns) <= FEW else LEAST_REPEATS)
    changed = {name: _changed(stored[:, own], orders) for name, own in columns.items()}
    if seconds is not None:
        every = _in_time(changed, seconds / seconds_of_a_row, every, held_out.seed)
    total = float(held_out.weights[every].sum()) * max(map(len, changed.values()))
    risen = dict.fromkeys(columns, 0.0)
    most = TOGETHER // max(stored.shape[1], stack.layer_sizes[-1])
    for group in _groups({name: sum(map(len, rows)) for name, rows in changed.items()}, most):
        rows = np.concatenate([part for name in group for part in changed[name]])
        permuted = [
            _permuted(stored, part, order, columns[name])
            for name in group
            for part, order in zip(changed[name], orders, strict=False)
        ]
        losses = loss(_outputs(stack, held_out, rows, np.concatenate(permuted)), held_out.targets[rows])
        rises = held_out.weights[rows] * (losses - base[rows])
        ends = np.cumsum([sum(map(len, changed[name])) for name in group])
        for name, part in zip(group, np.split(rises, ends[:-1]), strict=True):
            risen[name] = float(part.sum()) / total
    return risen


def _changed(cells: HostArray, orders: HostArray) -> list[Indices]:
    """Find the rows that each permutation gives other cells, as the cells of a rare level are few."""
    return [np.flatnonzero((cells[order] != cells).any(axis=1)) for order in orders]


def _permuted(stored: HostArray, rows: Indices, order: Indices, columns: Indices) -> HostArray:
    """Return some rows with the cells of columns from the rows that stand in their places in `order`."""
    result = stored[rows]
    result[:, columns] = stored[order[rows, np.newaxis], columns]
    return result


def _orders(held_out: HeldOutRows, repeats: int) -> HostArray:
    """Permute the rows of each member among themselves, several times: the numbers of rows, (repeats, n)."""
    rng = np.random.default_rng(held_out.seed)
    orders = np.empty((repeats, len(held_out.members)), np.int64)
    for k in np.unique(held_out.members).tolist():
        own = np.flatnonzero(held_out.members == k)
        orders[:, own] = [own[rng.permutation(len(own))] for _ in range(repeats)]
    return orders


def _in_time(changed: dict[str, list[Indices]], most: float, every: Indices, seed: int) -> Indices:
    """Leave permutations out of `changed`, and rows, so that at most so many rows are predicted; return those left."""
    repeats = max(map(len, changed.values()))
    possible = repeats * most / max(1, sum(len(rows) for each in changed.values() for rows in each))
    if possible < 1 and len(every) > LEAST_ROWS:
        count = max(LEAST_ROWS, int(possible * len(every)))
        every = np.sort(np.random.default_rng(seed).choice(every, count, replace=False))
    for name, each in changed.items():
        changed[name] = [np.intersect1d(rows, every) for rows in each[: max(1, int(possible))]]
    return every


def _groups(rows: Mapping[str, int], most: int) -> Iterator[list[str]]:
    """Put columns together that have no more rows than `most`, or one that has more."""
    group: list[str] = []
    together = 0
    for name, count in rows.items():
        if group and together + count > most:
            yield group
            group, together = [], 0
        group.append(name)
        together += count
    if group:
        yield group


def _outputs(stack: NetworkStack, held_out: HeldOutRows, rows: Indices, stored: HostArray) -> Floats:
    """Compute the outputs, (n, s_L), for stored rows, each by the member that holds out the row of that number."""
    members = held_out.members[rows]
    order = np.argsort(members, kind="stable")
    ends = np.cumsum(np.bincount(members, minlength=len(stack)))
    encoding = held_out.rows.encoding
    own = [EncodedRows(np.ascontiguousarray(part), encoding) for part in np.split(stored[order], ends[:-1])]
    outputs = np.empty((len(rows), stack.layer_sizes[-1]))
    outputs[order] = np.concatenate(outputs_of_own_rows(stack, own))
    return outputs
