"""An epoch of every network of a stack, those whose steps are alike side by side: the member axis at work.

Members of as many samples, minibatches of one size and one update rule take their steps together, in the same calls of
the vocabulary, on copies of their parameters that lie next to each other; whoever has stopped is not among them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from deltaprop.backends.places import ADAM, NESTEROV, Rule
from deltaprop.backprop import Workspace, backward, forward
from deltaprop.members import Member, Numbers, Passes, Stack
from deltaprop.network import DROPOUT_STREAM, NetworkState
from deltaprop.parameters import Parameters
from deltaprop.whole_epoch import RefusedError


class GroupedStack(ABC):
    """What `StackTrainer.epochs` does, a group of members at a time."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        keys = [self.key(member) for member in stack.members]
        self.group_of = np.array([keys.index(key) for key in keys])

    @staticmethod
    @abstractmethod
    def key(member: Member) -> Any:
        """What members have to have in common to take their steps together."""

    @abstractmethod
    def run(self, group: Group) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """An epoch of the members of `group`: what the minibatches cost, and their penalties, (k,)."""

    def epochs(self, which: Numbers, passes: Passes) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """As `NativeStack.epochs`."""
        cost, decay = (np.zeros((len(which), passes.epochs)) for _ in range(2))
        for epoch in range(passes.epochs):
            for of in np.unique(self.group_of[which]):
                places = np.flatnonzero(self.group_of[which] == of)
                group = Group(self.stack, which[places], places, passes, epoch)
                cost[places, epoch], decay[places, epoch] = self.run(group)
                group.give_back()
        return cost, decay


class Group:
    """Members that take their steps together, for one epoch.

    Attributes
    ----------
    numbers : array of int64, (k,)
        Their numbers in the stack.
    network : NetworkState
        With their parameters, (k, n), next to each other.
    moments : list of array, (k, n)
    member : Member
        The first; in what makes them a group, all are like it.
    orders, weights : array, (k, samples), or None
        On the host.
    terms : array, (k, 3, batches)
    rates : array, (k, batches, 2)
        What `Optimizer.apply` is to be handed for each step.
    """

    def __init__(self, stack: Stack, numbers: Numbers, places: Numbers, passes: Passes, epoch: int) -> None:
        self.stack, self.numbers = stack, numbers
        self.members = [stack.members[k] for k in numbers]
        self.member = self.members[0]
        rule: Any = self.member.rule
        self.rule: Rule = rule
        state = stack.network
        self.network = state.over(state.parameters[state.backend.asarray(numbers, np.int64)])
        self.moments = [moment[numbers] for moment in stack.moments[: rule.moments]]
        given = [passes.orders[place] for place in places]
        orders = [None if order is None else order[epoch % len(order)] for order in given]
        weights = [None if passes.weights is None else passes.weights[place] for place in places]
        self.orders = None if orders[0] is None and not stack.own_samples else self._rows(orders)
        self.weights = None if weights[0] is None else np.stack([w for w in weights if w is not None])
        batches = self.member.batches
        self.terms = passes.terms[places][:, :, :batches]
        self.rates = np.stack(
            [
                member.optimizer.rates(float(passes.learning_rates[place, epoch]), int(stack.steps[k]), batches)
                for member, place, k in zip(self.members, places, numbers, strict=True)
            ]
        )

    def _rows(self, orders: Sequence[np.ndarray[Any, Any] | None]) -> np.ndarray[Any, Any]:
        """The orders, (k, samples), in rows of all samples of all members where these have samples of their own."""
        every = np.arange(self.member.samples)
        rows = np.stack([every if order is None else order for order in orders])
        if self.stack.own_samples:
            rows += self.numbers[:, np.newaxis] * self.stack.X.shape[1]
        return rows

    def give_back(self) -> None:
        """Copy parameters and moments to where they came from, and count the steps."""
        backend, stack = self.network.backend, self.stack
        where = backend.asarray(self.numbers, np.int64)
        stack.network.parameters[where] = self.network.parameters
        for moment, own in zip(stack.moments, self.moments, strict=False):
            moment[where] = own
        stack.steps[self.numbers] += self.member.batches


class SteppedStack(GroupedStack):
    """Step by step, through `deltaprop.backprop`, on NumPy.

    Parameters
    ----------
    stack : Stack
    networks : sequence of NetworkState, or None
        Each member as a network, whose seed and epochs dropout goes by.
    """

    def __init__(self, stack: Stack, networks: Sequence[NetworkState] | None) -> None:
        super().__init__(stack)
        self.networks = networks
        self.X, self.Y = (array.reshape(-1, array.shape[-1]) for array in (stack.X, stack.Y))

    @staticmethod
    def can(stack: Stack) -> bool:
        """Whether it can train these networks on these inputs."""
        network = stack.network
        return network.backend.on_host and isinstance(stack.X, np.ndarray) and isinstance(network.loss, str)

    @staticmethod
    def key(member: Member) -> Any:
        """Numbers of steps and of samples in each, the update rule, and which layers drop units."""
        rule: Any = member.rule
        dropped = tuple(p > 0 for p in member.dropout)
        return (member.samples, member.batch_size, rule.optimizer, member.sample_weight is None, dropped)

    def run(self, group: Group) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """The minibatches of an epoch one after the other, every member's at once."""
        network, backend, member = group.network, group.network.backend, group.member
        k, dtype, rows = len(group.numbers), network.dtype, group.orders
        gradient = Parameters(backend, network.layer_sizes, dtype, k)
        cost, decay = np.zeros(k), np.zeros(k)
        streams = self._streams(group)
        start = 0
        for batch, n in enumerate(member.sizes):
            stop = start + n
            if rows is None:
                X = self.X[start:stop]
                Y = np.broadcast_to(self.Y[start:stop], (k, n, self.Y.shape[1]))
            else:
                index = rows[:, start:stop]
                X, Y = self.X[index], self.Y[index]
            weights = None if group.weights is None else group.weights[:, start:stop]
            scale, penalty, factor = group.terms[:, :, batch].T
            if factor.any():
                backend.add_squared_norm(network.flat_weights, factor, decay)
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
            self._update(group, gradient, group.rates[:, batch])
            start = stop
        return cost, decay

    def _streams(self, group: Group) -> list[Any]:
        """Each member's random numbers of this epoch, those it would have alone."""
        if not any(group.member.dropout) or self.networks is None:
            return []
        networks = [self.networks[k] for k in group.numbers]
        return [net.backend.random_stream((net.seed, DROPOUT_STREAM, net.epochs_trained)) for net in networks]

    def _drop(self, group: Group, work: Workspace, streams: list[Any]) -> None:
        for l, _ in enumerate(group.member.dropout if streams else ()):
            if not group.member.dropout[l]:
                continue
            mask = work.masks[l] = np.empty_like(work.Z[l])
            for member, stream, own in zip(group.members, streams, mask, strict=True):
                group.network.backend.dropout_mask(stream, 1.0 - member.dropout[l], own)

    @staticmethod
    def _update(group: Group, gradient: Parameters, rates: np.ndarray[Any, Any]) -> None:
        """θ := θ − η ∂J/∂θ by each member's own numbers."""
        network, rules = group.network, [member.rule for member in group.members]

        def of_each(name: str) -> list[float]:
            return [getattr(rule, name) for rule in rules]

        rate, decay = rates.T
        if group.rule.optimizer == ADAM:
            network.backend.adam_update(
                network.parameters,
                gradient.flat,
                group.moments[0],
                group.moments[1],
                rate,
                of_each("beta_1"),
                of_each("beta_2"),
                of_each("epsilon"),
                decay,
                network.n_weights,
            )
            return
        velocity = group.moments[0] if group.moments else None
        nesterov, momentum = group.rule.optimizer == NESTEROV, of_each("momentum")
        network.backend.sgd_update(network.parameters, gradient.flat, velocity, rate, momentum, nesterov)


class ResidentStack(GroupedStack):
    """On a CUDA device, a launch a group: a cluster of blocks a member, its parameters in shared memory."""

    @staticmethod
    def key(member: Member) -> Any:
        """Numbers of steps and of samples in each, and the update rule with its constants, which are the launch's."""
        return (member.samples, member.batch_size, member.rule, member.sample_weight is None)

    @staticmethod
    def can(stack: Stack) -> bool:
        """Whether every member fits into shared memory, and the kernel can train it."""
        from deltaprop.backends.cupy import CupyBackend

        network = stack.network
        if (
            not isinstance(network.backend, CupyBackend)
            or not isinstance(network.loss, str)
            or network.output_error != "exact"
            or any(any(member.dropout) for member in stack.members)
            or any(member.sample_weight is not None for member in stack.members)
        ):
            return False
        return all(_residence(network, member, 1) is not None for member in stack.members)

    def run(self, group: Group) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """One launch, on fewer blocks where so many are refused.

        Raises
        ------
        RefusedError
            If even one a member is. A launch that is refused changes nothing.
        """
        from deltaprop.backends.resident import TERMS, Run

        network, stack, k = group.network, self.stack, len(group.numbers)
        backend: Any = network.backend
        X, Y = (array.reshape(-1, array.shape[-1]) for array in (stack.X, stack.Y))
        cost, decay, squares = (backend.zeros((k, 1), np.float64) for _ in range(3))
        table = np.empty((k, group.member.batches, TERMS))
        table[:, :, :3] = group.terms.transpose(0, 2, 1)
        table[:, :, 3:] = group.rates
        order = None if group.orders is None else group.orders[:, np.newaxis]
        refused: Exception | None = None
        while True:
            residence = _residence(network, group.member, k)
            if residence is None:
                raise RefusedError from refused
            run = Run(backend, residence, network.parameters, group.moments, X, Y, samples=group.member.samples)
            try:
                run(table, order, None, cost, decay, squares)
            except backend.device_errors as error:
                backend.shrink_clusters(residence.blocks, error)
                refused = error
            else:
                break
        return backend.to_numpy(cost)[:, 0], backend.to_numpy(decay)[:, 0]


def _residence(network: NetworkState, member: Member, members: int) -> Any:
    from deltaprop.backends.resident import find_residence

    backend: Any = network.backend
    rule: Any = member.rule
    sizes, activations, loss = network.layer_sizes, network.activations, network.loss
    return find_residence(backend, sizes, activations, loss, network.dtype, member.batch_size, rule, members)
