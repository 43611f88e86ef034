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
#: How often the cells of a column are permuted; less often where rows times columns times inputs times this is more
#: than `MOST_WORK`, which takes some ten seconds.
REPEATS, MOST_WORK = 5, 2 * 10**9

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
    work = len(held_out.rows) * len(columns) * held_out.rows.shape[1]
    repeats = max(1, min(REPEATS, MOST_WORK // max(1, work)))
    risen = dict.fromkeys(columns, 0.0)
    for k in np.unique(held_out.members).tolist():
        own = np.flatnonzero(held_out.members == k)
        rows, targets, weights = held_out.rows.take(own), held_out.targets[own], held_out.weights[own]
        least = float(weights @ loss(_outputs(stack[k], rows), targets))
        orders = np.concatenate([rng.permutation(len(own)) for _ in range(repeats)])
        for name, stored in columns.items():
            permuted = np.tile(rows.stored, (repeats, 1))
            permuted[:, stored] = rows.stored[orders][:, stored]
            outputs = _outputs(stack[k], EncodedRows(permuted, rows.encoding))
            losses = loss(outputs, np.tile(targets, repeats)).reshape(repeats, -1) @ weights
            risen[name] += float(losses.mean()) - least
    return {name: total / float(held_out.weights.sum()) for name, total in risen.items()}


def _outputs(network: Network, rows: EncodedRows) -> Floats:
    return np.asarray(network.predict(rows), np.float64)  # on the host, as encoded rows are
