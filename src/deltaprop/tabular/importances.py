"""How much each column of a table matters: the loss over rows held out rises when its cells are permuted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from deltaprop.backends.array_types import Floats, HostArray, Indices
from deltaprop.inputs.encoded_rows import EncodedRows
from deltaprop.network import Network
from deltaprop.stack import NetworkStack

#: At most this number of rows are kept, of all members together.
MOST_ROWS = 2000
#: How often the cells of a column are permuted.
REPEATS = 5
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
    rng = np.random.default_rng(held_out.seed)
    risen, names = dict.fromkeys(columns, 0.0), list(columns)
    for k in np.unique(held_out.members).tolist():
        own = np.flatnonzero(held_out.members == k)
        rows, targets, weights = held_out.rows.take(own), held_out.targets[own], held_out.weights[own]
        least = float(weights @ loss(_outputs(stack[k], rows), targets))
        orders = np.concatenate([rng.permutation(len(own)) for _ in range(REPEATS)])
        at_once = max(1, TOGETHER // (REPEATS * rows.stored.size))
        for group in (names[start : start + at_once] for start in range(0, len(names), at_once)):
            permuted = np.tile(rows.stored, (len(group), REPEATS, 1)).reshape(len(group), len(orders), -1)
            for part, name in zip(permuted, group, strict=True):
                part[:, columns[name]] = rows.stored[orders][:, columns[name]]
            outputs = _outputs(stack[k], EncodedRows(permuted.reshape(-1, permuted.shape[2]), rows.encoding))
            for part, name in zip(np.split(outputs, len(group)), group, strict=True):
                losses = loss(part, np.tile(targets, REPEATS)).reshape(REPEATS, -1) @ weights
                risen[name] += float(losses.mean()) - least
    return {name: total / float(held_out.weights.sum()) for name, total in risen.items()}


def _outputs(network: Network, rows: EncodedRows) -> Floats:
    return np.asarray(network.predict(rows), np.float64)  # on the host, as encoded rows are
