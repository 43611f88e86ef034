"""Members of a stack train on a CUDA device, a launch a group: a cluster of blocks a member, in shared memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from deltaprop.backends.array_types import Array, Floats
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs import resident
from deltaprop.epochs.grouped_members import Copies, GroupedMembers, MemberGroup
from deltaprop.epochs.members import Member, MembersTask, Numbers
from deltaprop.epochs.resident import Launches, residence_of, step_table

#: Steps of all members that one launch may hold where it can hold many epochs: tables of 40 MB.
MEMBERS_STEPS = 2**20


class ResidentMembers(GroupedMembers):
    """Trains a group of members in one launch."""

    label = "all members of a group in one launch"

    def __init__(self, task: MembersTask) -> None:
        super().__init__(task)
        self._together: dict[int, Together] = {}  # the last of each group

    @classmethod
    def find(cls, task: MembersTask, networks: Sequence[NetworkState] | None) -> Self | None:
        """Make one, if every member fits into shared memory, and the kernel can train it."""
        members = task.members
        if any(any(member.dropout) or member.sample_weight is not None for member in members):
            return None
        fit = all(residence_of(task.network, member.batch_size, member.rule) is not None for member in members)
        return cls(task) if fit else None

    @staticmethod
    def key(member: Member) -> tuple[object, ...]:
        """Numbers of samples and of samples a step, and the update rule with its constants: one launch has one."""
        return (member.samples, member.batch_size, member.rule, member.sample_weight is None)

    def at_once(self) -> int:
        """As many as let an interrupt be heard, and as a table of reasonable size has steps for."""
        members = self.task.members
        steps = min(resident.STEPS_A_CALL, MEMBERS_STEPS // len(members))
        return max(1, steps // max(member.batches for member in members))

    def run(self, group: MemberGroup) -> tuple[Floats, Floats]:
        """Train in one launch, on fewer blocks if so many are refused.

        Raises
        ------
        RefusedError
            If even one block a member is refused. A launch that is refused changes nothing.
        """
        key = int(self.group_of[group.numbers[0]])
        together = self._together.get(key)
        if together is None or not np.array_equal(together.numbers, group.numbers):
            together = self._together[key] = Together(self.task, group)
        else:
            together.renew()
        return together(group)


class Together:
    """Members that have been trained in one launch, and will be again: what stays the same from launch to launch.

    If they are all members of the stack they are trained where they are, else on copies.
    """

    numbers: Numbers

    def __init__(self, task: MembersTask, group: MemberGroup) -> None:
        network, member, self.numbers = task.network, group.member, group.numbers
        self.network = network
        whole = np.array_equal(group.numbers, np.arange(len(task.members)))
        self.copies: Copies | None = None if whole else Copies(task, group.numbers, group.rule)
        if self.copies is None:
            parameters, moments = network.parameters, task.moments[: group.rule.moments]
        else:
            parameters, moments = self.copies.parameters, self.copies.moments
        X, Y = (array.reshape(-1, array.shape[-1]) for array in (task.X, task.Y))
        self.sums: Array = network.backend.zeros((3, len(group.numbers), group.epochs), np.float64)
        self.launches: Launches = Launches(
            network, member.batch_size, group.rule, parameters, moments, X, Y, samples=member.samples
        )

    def renew(self) -> None:
        """Copy the members' numbers as they are now."""
        if self.copies is not None:
            self.copies.renew()

    def __call__(self, group: MemberGroup) -> tuple[Floats, Floats]:
        """Train; as `ResidentMembers.run`."""
        backend, shape = self.network.backend, (3, len(self.numbers), group.epochs)
        if self.sums.shape == shape:
            backend.fill(self.sums, 0.0)
        else:
            self.sums = backend.zeros(shape, np.float64)
        terms = group.terms
        if len(group.rates) == 1 and (terms == terms[:1]).all():
            terms = terms[:1]
        table = step_table(np.tile(terms.transpose(0, 2, 1), (1, group.epochs, 1)), group.rates)
        sums = [self.sums[i] for i in range(3)]
        self.launches(table, group.orders, None, *sums, epochs=group.epochs)
        cost, decay, _ = backend.to_numpy(self.sums)
        if self.copies is not None:
            self.copies.give_back()
        return cost, decay
