"""The rates of the steps that members of a stack are about to take, computed ahead where they can be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deltaprop.backends.array_types import Floats, HostArray, Indices
from deltaprop.derivation.update_rule import Optimizer
from deltaprop.epochs.members import Member
from deltaprop.epochs.task import rates_of_epochs

#: Entries of a table of rates, for all members, and the most steps of a member.
ENTRIES, STEPS_AHEAD = 2**20, 256


class MemberRates:
    """Computes `Optimizer.rates` of the next steps of each member.

    Epochs of few steps would spend more time on this than on training. So members that share an optimizer share the
    rates, as long as they train alike; and while their learning rate stays the same, the rates of their next steps are
    kept in a table.

    Parameters
    ----------
    members : sequence of Member
        Of the whole stack, in order.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = members
        self.batches: HostArray = np.array([member.batches for member in members])
        self.vary: bool = any(member.optimizer.rates_vary for member in members)
        #: For each member, the number of the first one that has the same optimizer.
        firsts = dict[int, int]()
        self.kinds: HostArray = np.array([firsts.setdefault(id(each.optimizer), k) for k, each in enumerate(members)])
        self.ahead: int = min(STEPS_AHEAD, ENTRIES // (2 * len(members)))
        self.learning_rates: HostArray = np.full(len(members), np.nan)  # of the last epoch
        #: The steps taken at the start of each row; −1 if there is no row.
        self.begins: HostArray = np.full(len(members), -1)
        self.table: Floats = np.empty((len(members), self.ahead, 2)) if self.vary else np.empty((0, 0, 2))

    def __call__(self, which: Indices, learning_rates: Floats, taken: Indices) -> tuple[Floats, Indices]:
        """Return rows of rates, (rows, epochs, steps, 2), see `rates_of_epochs`, and each member's row, (k,).

        Parameters
        ----------
        which : array of int, (k,)
            The numbers of the members.
        learning_rates : array, (k, epochs)
        taken : array of int, (k,)
            How many steps came before.
        """
        if not self.vary:
            rates = np.zeros((*learning_rates.shape, 1, 2))
            rates[..., 0, 0] = learning_rates
            return rates, np.arange(len(which))
        chosen, places = self._alike(which, learning_rates, taken)
        rates, own = self._of_kinds(which[chosen], learning_rates[chosen], taken[chosen])
        return rates, own[places]

    def _alike(self, which: Indices, learning_rates: Floats, taken: Indices) -> tuple[Indices, Indices]:
        """Find members that stand for all of these: their places in `which`, and who stands for each."""
        _, chosen, places = np.unique(self.kinds[which], return_index=True, return_inverse=True)
        of_all = (learning_rates, taken, self.batches[which])
        if all(np.array_equal(of_each, of_each[chosen][places]) for of_each in of_all):
            return chosen, places
        return np.arange(len(which)), np.arange(len(which))

    def _of_kinds(self, which: Indices, learning_rates: Floats, taken: Indices) -> tuple[Floats, Indices]:
        """Return what a call returns, for members that differ."""
        epochs, first, batches = learning_rates.shape[1], learning_rates[:, 0], self.batches[which]
        steps = epochs * int(batches[0])
        same = (self.learning_rates[which] == first).all() and (epochs == 1 or (first == learning_rates.T).all())
        if not same or steps > self.ahead or (batches != batches[0]).any():
            self.learning_rates[which], self.begins[which] = learning_rates[:, -1], -1
            return rates_of_members(self._optimizers(which), learning_rates, taken, batches)
        begins = self.begins[which]
        missing = (begins < 0) | (begins > taken) | (begins + self.ahead < taken + steps)
        if missing.any():
            self._renew(which[missing], taken[missing])
            begins = self.begins[which]
        places = (taken - begins)[:, np.newaxis] + np.arange(steps)
        rows: Floats = self.table[which[:, np.newaxis], places]
        return rows.reshape(len(which), epochs, -1, 2), np.arange(len(which))

    def _renew(self, which: Indices, taken: Indices) -> None:
        """Fill in the rows of these members, from the next step on."""
        rates = self.learning_rates[which, np.newaxis]
        rows, places = rates_of_members(self._optimizers(which), rates, taken, np.full(len(which), self.ahead))
        self.table[which], self.begins[which] = rows[places, 0], taken

    def _optimizers(self, which: Indices) -> list[Optimizer]:
        return [self.members[k].optimizer for k in which.tolist()]


def rates_of_members(
    optimizers: Sequence[Optimizer], learning_rates: Floats, taken: Indices, batches: Indices
) -> tuple[Floats, Indices]:
    """Compute the rates of some epochs of members; members that are alike share a row.

    Parameters
    ----------
    optimizers : sequence of Optimizer
        One a member.
    learning_rates : array, (k, epochs)
    taken, batches : array of int, (k,)
        How many steps came before, and how many an epoch has.

    Returns
    -------
    rows : array, (rows, epochs, most batches, 2)
        See `Optimizer.rates`.
    places : array of int, (k,)
        The row of each member.
    """
    known, rows, most = dict[Any, int](), list[Floats](), int(batches.max())
    places = []
    for optimizer, rates, steps, own in zip(
        optimizers, learning_rates.tolist(), taken.tolist(), batches.tolist(), strict=True
    ):
        key = (id(optimizer), steps, own, *rates)
        if key not in known:
            known[key] = len(rows)
            row = np.zeros((len(rates), most, 2))
            row[:, :own] = rates_of_epochs(optimizer, rates, steps, own)
            rows.append(row)
        places.append(known[key])
    return np.stack(rows), np.array(places)
