"""What the compiled library is told about dropout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deltaprop.backends.array_types import Floats, Indices
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.compiled_plan import PlanTable
from deltaprop.epochs.members import Member, Numbers
from deltaprop.epochs.random_numbers import dropout_keys


def keep_of(dropout: Sequence[float]) -> Floats:
    """Return with which probability a unit of each hidden layer is kept."""
    return 1.0 - np.array(dropout, np.float64)


def numbers_of(network: NetworkState, keep: Floats, samples: int) -> int:
    """Count the random numbers that so many samples take: one for each unit of a layer with dropout."""
    return samples * sum(units for units, kept in zip(network.layer_sizes[1:-1], keep, strict=True) if kept < 1.0)


class MemberDropout:
    """Lets the plans of members that drop units point to their probabilities and to their random numbers.

    Parameters
    ----------
    table : PlanTable
    members : sequence of Member
    networks : sequence of NetworkState, or None
        Each member as a network, if any of them drops units.
    """

    def __init__(self, table: PlanTable, members: Sequence[Member], networks: Sequence[NetworkState] | None) -> None:
        self.table, self.networks = table, networks
        self.drops: list[bool] = [any(member.dropout) for member in members]
        if any(self.drops):
            hidden = len(table.network.layer_sizes) - 2
            self._keep: Floats = np.array([keep_of(member.dropout or (0.0,) * hidden) for member in members])
            table.rows["keep"] = np.where(self.drops, table.starts("keep", self._keep, self._keep.shape), 0)

    def point(self, which: Numbers, epochs: int) -> None:
        """Point to the keys of the next epochs of the members that `which` names."""
        if self.networks is None or not any(self.drops[k] for k in which):
            return
        self._keys: Indices = np.zeros((len(which), epochs, 2), np.uint64)
        for own, k in zip(self._keys, which.tolist(), strict=True):
            if self.drops[k]:
                own[...] = dropout_keys(self.networks[k], epochs)
        self.table.rows["keys"][which] = self.table.starts("keys", self._keys, self._keys.shape)
