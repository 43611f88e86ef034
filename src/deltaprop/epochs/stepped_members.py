"""Members of a stack train step by step on NumPy, a group at a time, through `deltaprop.derivation.backprop`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.array_types import AnyArray, Floats, Indices
from deltaprop.backends.base import RandomStream
from deltaprop.backends.kernel_names import Rule
from deltaprop.derivation.backprop import Workspace, backward, forward
from deltaprop.derivation.parameters import Parameters
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.grouped_members import Copies, GroupedMembers, MemberGroup
from deltaprop.epochs.members import Member, MembersTask
from deltaprop.epochs.random_numbers import dropout_stream


class SteppedMembers(GroupedMembers):
    """Takes a step of every member of a group at once.

    Parameters
    ----------
    task : MembersTask
    networks : sequence of NetworkState, or None
        Each member as a network: dropout depends on its seed and its epochs.
    """

    label = "step by step, all members of a group at once, by NumPy"

    def __init__(self, task: MembersTask, networks: Sequence[NetworkState] | None) -> None:
        super().__init__(task)
        self.networks = networks
        self.X: AnyArray
        self.Y: AnyArray
        self.X, self.Y = (array.reshape(-1, array.shape[-1]) for array in (task.X, task.Y))

    @classmethod
    def find(cls, task: MembersTask, networks: Sequence[NetworkState] | None) -> Self | None:
        """Make one, if the loss is a built-in one and the inputs are an array."""
        return cls(task, networks) if isinstance(task.X, np.ndarray) and isinstance(task.network.loss, str) else None

    @staticmethod
    def key(member: Member) -> tuple[object, ...]:
        """Numbers of samples and of samples a step, the update rule, and which layers drop units."""
        rule = member.rule
        assert rule is not None  # members of other rules are trained alone
        dropped = tuple(p > 0 for p in member.dropout)
        return (member.samples, member.batch_size, rule.name, member.sample_weight is None, dropped)

    def run(self, group: MemberGroup) -> tuple[Floats, Floats]:
        """Take the steps of an epoch one after the other, every member's at once."""
        copies, k = Copies(self.task, group.numbers, group.rule), len(group.numbers)
        network, member = self.task.network.over(copies.parameters), group.member
        rows = None if group.orders is None else np.broadcast_to(group.orders[:, 0], (k, member.samples))
        rates = np.broadcast_to(group.rates, (k, *group.rates.shape[1:]))
        gradient = Parameters(network.backend, network.layer_sizes, network.dtype, k)
        cost, decay = np.zeros(k), np.zeros(k)
        rule = Rule.of_members([own.rule for own in group.members if own.rule is not None])
        moments, streams = tuple(copies.moments), self._streams(group)
        start = 0
        for batch, n in enumerate(member.sizes):
            X, Y = self._minibatch(rows, slice(start, start + n), k)
            weights = None if group.weights is None else group.weights[:, start : start + n]
            scale, penalty, factor = group.terms[:, :, batch].T
            if factor.any():
                network.backend.add_squared_norm(network.flat_weights, factor, decay)
            work = Workspace(network, n)
            self._drop(group, work, streams)
            forward(network, X, work)
            backward(
                network,
                Y,
                work,
                gradient,
                cost,
                scale=scale,
                penalty=penalty if penalty.any() else None,
                sample_weight=weights,
            )
            self._update(rule, network, gradient, moments, rates[:, batch])
            start += n
        copies.give_back()
        return cost[:, np.newaxis], decay[:, np.newaxis]

    def _minibatch(self, rows: Indices | None, batch: slice, k: int) -> tuple[Array, Array]:
        """Gather X and Y of each member: X without the member axis, (n, s_1), if all have the same."""
        if rows is not None:
            index = rows[:, batch]
            return self.X[index], self.Y[index]
        Y = self.Y[batch]
        return self.X[batch], np.broadcast_to(Y, (k, *Y.shape))

    def _streams(self, group: MemberGroup) -> list[RandomStream]:
        """Return each member's random numbers of this epoch: those that it would have alone."""
        if not any(group.member.dropout) or self.networks is None:
            return []
        return [dropout_stream(self.networks[k], group.first) for k in group.numbers]

    def _drop(self, group: MemberGroup, work: Workspace, streams: list[RandomStream]) -> None:
        """Draw the masks of a step."""
        for l, _ in enumerate(group.member.dropout if streams else ()):
            if not group.member.dropout[l]:
                continue
            mask = work.masks[l] = np.empty_like(work.Z[l])
            for member, stream, own in zip(group.members, streams, mask, strict=True):
                self.task.network.backend.dropout_mask(stream, 1.0 - member.dropout[l], own)

    @staticmethod
    def _update(
        rule: Rule, network: NetworkState, gradient: Parameters, moments: tuple[Array, ...], rates: Floats
    ) -> None:
        """Update the parameters: θ := θ − η ∂J/∂θ by each member's own numbers."""
        backend, theta, (rate, decay) = network.backend, network.parameters, rates.T
        taken_off = decay if decay.any() else 0.0  # a pass over the weights is saved
        backend.update(rule, theta, gradient.flat, moments, rate, taken_off, network.n_weights)
