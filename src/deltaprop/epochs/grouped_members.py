"""Members of a stack whose steps are alike take them side by side: the member axis at work.

Members with as many samples, minibatches of one size and one update rule take their steps together, in the same calls,
on copies of their parameters that lie next to each other; members that have stopped are not among them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from deltaprop.backends.array_types import Array, Floats, HostArray, Indices
from deltaprop.backends.kernel_names import Rule
from deltaprop.epochs.member_rates import rates_of_members
from deltaprop.epochs.members import Member, MembersEpoch, MembersTask, Numbers, Passes


class GroupedMembers(MembersEpoch):
    """Trains one group of members after the other."""

    def __init__(self, task: MembersTask) -> None:
        self.task = task
        keys = [self.key(member) for member in task.members]
        self.group_of: HostArray = np.array([keys.index(key) for key in keys])

    @staticmethod
    @abstractmethod
    def key(member: Member) -> tuple[object, ...]:
        """Return what members have to have in common to take their steps together."""

    @abstractmethod
    def run(self, group: MemberGroup) -> tuple[Floats, Floats]:
        """Train the members of `group`; return the costs of their minibatches, and the penalties, (k, epochs)."""

    def at_once(self) -> int:
        """How many epochs a call of `run` may hold."""
        return 1

    def epochs(self, which: Numbers, passes: Passes) -> tuple[Floats, Floats]:
        """Train these members, group by group."""
        cost, decay = (np.zeros((len(which), passes.epochs)) for _ in range(2))
        at_once = self.at_once()
        for first in range(0, passes.epochs, at_once):
            epochs = range(first, min(first + at_once, passes.epochs))
            for of in np.unique(self.group_of[which]):
                places = np.flatnonzero(self.group_of[which] == of)
                group = MemberGroup(self.task, which[places], places, passes, epochs)
                now = slice(epochs.start, epochs.stop)
                cost[places, now], decay[places, now] = self.run(group)
                self.task.steps[group.numbers] += group.member.batches * len(epochs)
        return cost, decay


class MemberGroup:
    """Members that take their steps together, and what they do in some epochs.

    Parameters
    ----------
    task : MembersTask
    numbers : array of int64, (k,)
        The numbers of the members in the stack.
    places : array of int64, (k,)
        Their places in `passes`.
    passes : Passes
    epochs : range
        Which of its epochs.

    Attributes
    ----------
    numbers : array of int64, (k,)
    epochs : int
        How many.
    first : int
        The number of the first of them in `passes`.
    members : list of Member
    member : Member
        The first; in what makes them a group, all are like it.
    rule : Rule
        Its update rule.
    orders : array, (k or 1, epochs, samples), or None
        On the host: the order of each member, or the one that all share.
    weights : array, (k, samples), or None
        On the host.
    terms : array, (k, 3, batches)
    rates : array, (k or 1, epochs · batches, 2)
        The numbers that `Optimizer.apply` takes for each step, of each member or of all.
    """

    task: MembersTask
    numbers: Numbers
    epochs: int
    first: int
    member: Member
    rule: Rule

    def __init__(self, task: MembersTask, numbers: Numbers, places: Numbers, passes: Passes, epochs: range) -> None:
        self.task, self.numbers, self.epochs, self.first = task, numbers, len(epochs), epochs.start
        self.members: list[Member] = [task.members[k] for k in numbers]
        self.member = self.members[0]
        assert self.member.rule is not None  # members of other rules are trained alone
        self.rule = self.member.rule
        self.orders: Indices | None = self._orders([passes.orders[place] for place in places], epochs)
        self.weights: Floats | None = _weights(passes, places)
        self.terms: Floats = _terms(passes, places)[:, :, : self.member.batches]
        self.rates: Floats = self._rates(passes.learning_rates[places, epochs.start : epochs.stop])

    def _orders(self, given: Sequence[Indices | None], epochs: range) -> Indices | None:
        """Stack their orders; if members have samples of their own, as rows of the samples of all."""
        own, samples = self.task.own_samples, self.member.samples
        if given[0] is None and not own:
            return None
        if not own and all(order is given[0] for order in given):
            given = given[:1]
        orders = [np.arange(samples)[np.newaxis] if order is None else order for order in given]
        of_each = [order if len(order) == 1 else order[epochs.start : epochs.stop] for order in orders]
        rows = np.stack([np.broadcast_to(order, (len(epochs), samples)) for order in of_each])
        if own:
            rows += self.numbers[:, np.newaxis, np.newaxis] * self.task.X.shape[1]
        return rows

    def _rates(self, learning_rates: Floats) -> Floats:
        """Compute `Optimizer.rates` of each member and step, (k, …), or (1, …) if members are alike."""
        optimizers, taken = [member.optimizer for member in self.members], self.task.steps[self.numbers]
        batches = np.full(len(optimizers), self.member.batches)
        rows, places = rates_of_members(optimizers, learning_rates, taken, batches)
        rates = rows if len(rows) == 1 else rows[places]
        return rates.reshape(len(rates), -1, 2)


def _weights(passes: Passes, places: Numbers) -> Floats | None:
    """Stack the sample weights of these members, who all have some or have none."""
    if passes.weights is None or passes.weights[places[0]] is None:
        return None
    return np.stack([weights for weights in (passes.weights[place] for place in places) if weights is not None])


def _terms(passes: Passes, places: Numbers) -> Floats:
    """Return the terms of these members; if these are all, nothing is copied, as terms may be large."""
    return passes.terms if len(places) == len(passes.terms) else passes.terms[places]


class Copies:
    """Copies of the parameters and moments of some members, next to each other.

    Attributes
    ----------
    parameters : array, (k, n)
    moments : list of array, (k, n)
        As many as the members' rule has.
    """

    parameters: Array
    moments: list[Array]

    def __init__(self, task: MembersTask, numbers: Numbers, rule: Rule) -> None:
        backend = task.network.backend
        self.originals: list[Array] = [task.network.parameters, *task.moments[: rule.moments]]
        self.where: Array = backend.asarray(numbers, np.int64)
        self.parameters, *self.moments = [original[self.where] for original in self.originals]

    def renew(self) -> None:
        """Copy them again."""
        for original, own in zip(self.originals, (self.parameters, *self.moments), strict=True):
            own[...] = original[self.where]

    def give_back(self) -> None:
        """Copy them to where they came from."""
        for original, own in zip(self.originals, (self.parameters, *self.moments), strict=True):
            original[self.where] = own
