"""How much each column of a table matters: the loss over rows held out rises when its cells are permuted."""

from __future__ import annotations

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
#: Numbers of stored rows that are predicted together: a call on a few rows of a wide table is mostly preparation.
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
    rows: EncodedRows, targets: HostArray, weights: Floats, held_out: Sequence[Indices], seed: int
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
    return HeldOutRows(rows.take(taken), targets[taken], weights[taken], members, seed)


def permutation_importances(
    stack: NetworkStack, held_out: HeldOutRows, columns: Mapping[str, Indices], loss: RowLoss
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

    Returns
    -------
    dict of str to float
        Of each column of `columns`.
    """
    stored, orders = held_out.rows.stored, _orders(held_out, REPEATS if len(columns) <= FEW else LEAST_REPEATS)
    base = loss(_outputs(stack, held_out, np.arange(len(stored)), stored), held_out.targets)
    # Only rows whose cells another row gives other numbers lose anything: of a rare level these are few.
    changed = {
        name: [np.flatnonzero((stored[order][:, own] != stored[:, own]).any(axis=1)) for order in orders]
        for name, own in columns.items()
    }
    risen, total = dict.fromkeys(columns, 0.0), float(held_out.weights.sum()) * len(orders)
    for group in _groups({name: sum(map(len, rows)) for name, rows in changed.items()}, TOGETHER // stored.shape[1]):
        places, permuted = [], []
        for name in group:
            for order, rows in zip(orders, changed[name], strict=True):
                part = stored[rows]
                part[:, columns[name]] = stored[order[rows]][:, columns[name]]
                places.append(rows)
                permuted.append(part)
        rows = np.concatenate(places)
        losses = loss(_outputs(stack, held_out, rows, np.concatenate(permuted)), held_out.targets[rows])
        rises = held_out.weights[rows] * (losses - base[rows])
        ends = np.cumsum([sum(map(len, changed[name])) for name in group])
        for name, part in zip(group, np.split(rises, ends[:-1]), strict=True):
            risen[name] = float(part.sum()) / total
    return risen


def _orders(held_out: HeldOutRows, repeats: int) -> HostArray:
    """Permute the rows of each member among themselves, several times: the numbers of rows, (repeats, n)."""
    rng = np.random.default_rng(held_out.seed)
    orders = np.empty((repeats, len(held_out.members)), np.int64)
    for k in np.unique(held_out.members).tolist():
        own = np.flatnonzero(held_out.members == k)
        orders[:, own] = [own[rng.permutation(len(own))] for _ in range(repeats)]
    return orders


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
