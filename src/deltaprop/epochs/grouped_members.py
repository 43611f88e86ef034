"""An epoch of every network of a stack, those whose steps are alike side by side: the member axis at work.

Members of as many samples, minibatches of one size and one update rule take their steps together, in the same calls of
the vocabulary, on copies of their parameters that lie next to each other; whoever has stopped is not among them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.kernel_names import Rule
from deltaprop.derivation.backprop import Workspace, backward, forward
from deltaprop.derivation.parameters import Parameters
from deltaprop.derivation.state import DROPOUT_STREAM, NetworkState
from deltaprop.epochs.members import Member, Numbers, Passes, Stack
from deltaprop.epochs.task import RefusedError

#: Steps of all members that one launch may hold where it can hold many epochs: tables of 40 MB.
MEMBERS_STEPS = 2**20


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
        """The epochs of the members of `group`: what the minibatches cost, and their penalties, (k, epochs)."""

    def at_once(self) -> int:
        """How many epochs a call of `run` may hold."""
        return 1

    def epochs(self, which: Numbers, passes: Passes) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """As `NativeStack.epochs`."""
        cost, decay = (np.zeros((len(which), passes.epochs)) for _ in range(2))
        at_once = self.at_once()
        for first in range(0, passes.epochs, at_once):
            epochs = range(first, min(first + at_once, passes.epochs))
            for of in np.unique(self.group_of[which]):
                places = np.flatnonzero(self.group_of[which] == of)
                group = Group(self.stack, which[places], places, passes, epochs)
                now = slice(epochs.start, epochs.stop)
                cost[places, now], decay[places, now] = self.run(group)
                self.stack.steps[group.numbers] += group.member.batches * len(epochs)
        return cost, decay


class Group:
    """Members that take their steps together, for some epochs.

    Attributes
    ----------
    numbers : array of int64, (k,)
        Their numbers in the stack.
    epochs : int
    member : Member
        The first; in what makes them a group, all are like it.
    orders : array, (k or 1, epochs, samples), or None
        On the host: of each member, or the one that all share.
    weights : array, (k, samples), or None
        On the host.
    terms : array, (k, 3, batches)
    rates : array, (k or 1, epochs · batches, 2)
        What `Optimizer.apply` is to be handed for each step, by each member or by all.
    """

    def __init__(self, stack: Stack, numbers: Numbers, places: Numbers, passes: Passes, epochs: range) -> None:
        self.stack, self.numbers, self.epochs = stack, numbers, len(epochs)
        self.members = [stack.members[k] for k in numbers]
        self.member = self.members[0]
        rule: Any = self.member.rule
        self.rule: Rule = rule
        self.orders = self._orders([passes.orders[place] for place in places], epochs)
        weights = [None if passes.weights is None else passes.weights[place] for place in places]
        self.weights = None if weights[0] is None else np.stack([w for w in weights if w is not None])
        terms = passes.terms if len(places) == len(passes.terms) else passes.terms[places]  # a large copy
        self.terms = terms[:, :, : self.member.batches]
        self.rates = self._rates(passes.learning_rates[places, epochs.start : epochs.stop])

    def _orders(self, given: Sequence[np.ndarray[Any, Any] | None], epochs: range) -> np.ndarray[Any, Any] | None:
        """In rows of all samples of all members, where these have samples of their own."""
        own, samples = self.stack.own_samples, self.member.samples
        if given[0] is None and not own:
            return None
        if not own and all(order is given[0] for order in given):
            given = given[:1]
        orders = [np.arange(samples)[np.newaxis] if order is None else order for order in given]
        of_each = [order if len(order) == 1 else order[epochs.start : epochs.stop] for order in orders]
        rows = np.stack([np.broadcast_to(order, (len(epochs), samples)) for order in of_each])
        if own:
            rows += self.numbers[:, np.newaxis, np.newaxis] * self.stack.X.shape[1]
        return rows

    def _rates(self, learning_rates: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """`Optimizer.rates` of each member and epoch; like members are asked once."""
        batches, known = self.member.batches, {}
        keys = []
        for member, taken, rates in zip(
            self.members, self.stack.steps[self.numbers].tolist(), learning_rates.tolist(), strict=True
        ):
            key = (id(member.optimizer), taken, *rates)
            if key not in known:
                of_each = (member.optimizer.rates(rate, taken + e * batches, batches) for e, rate in enumerate(rates))
                known[key] = np.concatenate(list(of_each))
            keys.append(key)
        return np.stack(list(known.values()) if len(known) == 1 else [known[key] for key in keys])


class Copies:
    """Parameters and moments of some members of a stack, next to each other.

    Attributes
    ----------
    parameters : array, (k, n)
    moments : list of array, (k, n)
        As many as the members' rule has.
    """

    def __init__(self, stack: Stack, numbers: Numbers, rule: Rule) -> None:
        backend = stack.network.backend
        self.originals = [stack.network.parameters, *stack.moments[: rule.moments]]
        self.where = backend.asarray(numbers, np.int64)
        self.parameters, *self.moments = [original[self.where] for original in self.originals]

    def renew(self) -> None:
        """Copy them again."""
        for original, own in zip(self.originals, (self.parameters, *self.moments), strict=True):
            own[...] = original[self.where]

    def give_back(self) -> None:
        """Copy them to where they came from."""
        for original, own in zip(self.originals, (self.parameters, *self.moments), strict=True):
            original[self.where] = own


class SteppedStack(GroupedStack):
    """Step by step, through `deltaprop.derivation.backprop`, on NumPy.

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
        return (member.samples, member.batch_size, rule.name, member.sample_weight is None, dropped)

    def run(self, group: Group) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """The minibatches of an epoch one after the other, every member's at once."""
        copies, k = Copies(self.stack, group.numbers, group.rule), len(group.numbers)
        network, member = self.stack.network.over(copies.parameters), group.member
        backend, dtype = network.backend, network.dtype
        rows = None if group.orders is None else np.broadcast_to(group.orders[:, 0], (k, member.samples))
        rates = np.broadcast_to(group.rates, (k, *group.rates.shape[1:]))
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
            self._update(group, network, gradient, copies.moments, rates[:, batch])
            start = stop
        copies.give_back()
        return cost[:, np.newaxis], decay[:, np.newaxis]

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
                self.stack.network.backend.dropout_mask(stream, 1.0 - member.dropout[l], own)

    @staticmethod
    def _update(
        group: Group, network: NetworkState, gradient: Parameters, moments: Sequence[Array], rates: np.ndarray[Any, Any]
    ) -> None:
        """θ := θ − η ∂J/∂θ by each member's own numbers."""
        rules = [member.rule for member in group.members]

        def of_each(name: str) -> list[float]:
            return [getattr(rule, name) for rule in rules]

        rate, decay = rates.T
        if group.rule.name == "adam":
            network.backend.adam_update(
                network.parameters,
                gradient.flat,
                moments[0],
                moments[1],
                rate,
                of_each("beta_1"),
                of_each("beta_2"),
                of_each("epsilon"),
                decay,
                network.n_weights,
            )
            return
        velocity = moments[0] if moments else None
        nesterov, momentum = group.rule.name == "nesterov", of_each("momentum")
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
        from deltaprop.backends.cuda.backend import CupyBackend

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

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        self._together: dict[int, Together] = {}  # the last of each group

    def at_once(self) -> int:
        """As many as let an interrupt be heard, and as tables of a reasonable size have steps for."""
        from deltaprop.epochs.resident import STEPS_A_CALL

        members = self.stack.members
        steps = min(STEPS_A_CALL, MEMBERS_STEPS // len(members))
        return max(1, steps // max(member.batches for member in members))

    def run(self, group: Group) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """One launch, on fewer blocks where so many are refused.

        Raises
        ------
        RefusedError
            If even one a member is. A launch that is refused changes nothing.
        """
        key = int(self.group_of[group.numbers[0]])
        together = self._together.get(key)
        if together is None or not np.array_equal(together.numbers, group.numbers):
            together = self._together[key] = Together(self.stack, group)
        else:
            together.renew()
        return together(group)


class Together:
    """Members that have been trained in one launch, and will be again: what stays the same from launch to launch.

    All members of a stack are trained where they are, some of them on copies.
    """

    def __init__(self, stack: Stack, group: Group) -> None:
        network, self.numbers = stack.network, group.numbers
        self.network, self.member, k = network, group.member, len(group.numbers)
        whole = np.array_equal(group.numbers, np.arange(len(stack.members)))
        self.copies = None if whole else Copies(stack, group.numbers, group.rule)
        if self.copies is None:
            self.parameters, self.moments = network.parameters, stack.moments[: group.rule.moments]
        else:
            self.parameters, self.moments = self.copies.parameters, self.copies.moments
        self.X, self.Y = (array.reshape(-1, array.shape[-1]) for array in (stack.X, stack.Y))
        self.sums = network.backend.zeros((3, k, group.epochs), np.float64)
        self.run = self._find(None)

    def renew(self) -> None:
        """Have the members' numbers as they are now."""
        if self.copies is not None:
            self.copies.renew()

    def __call__(self, group: Group) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """As `ResidentStack.run`."""
        from deltaprop.backends.cuda.shared_memory import TERMS

        backend: Any = self.network.backend
        k, epochs, steps = len(self.numbers), group.epochs, group.epochs * group.member.batches
        if self.sums.shape == (3, k, epochs):
            self.sums.fill(0)
        else:
            self.sums = backend.zeros((3, k, epochs), np.float64)
        terms = group.terms
        if len(group.rates) == 1 and (terms == terms[:1]).all():
            terms = terms[:1]
        table = np.empty((len(terms), steps, TERMS))
        table[:, :, :3] = np.tile(terms.transpose(0, 2, 1), (1, epochs, 1))
        table[:, :, 3:] = group.rates
        sums = [self.sums[i] for i in range(3)]
        while True:
            try:
                self.run(table, group.orders, None, *sums, epochs=epochs)
            except backend.device_errors as error:
                backend.shrink_clusters(self.run.residence.blocks, error)
                self.run = self._find(error)
            else:
                break
        cost, decay, _ = backend.to_numpy(self.sums)
        if self.copies is not None:
            self.copies.give_back()
        return cost, decay

    def _find(self, refused: Exception | None) -> Any:
        """A launch, on as many blocks as are fastest and not refused.

        Raises
        ------
        RefusedError
            If there is none.
        """
        from deltaprop.backends.cuda.shared_memory import Run

        backend: Any = self.network.backend
        residence = _residence(self.network, self.member, len(self.numbers))
        if residence is None:
            raise RefusedError from refused
        return Run(backend, residence, self.parameters, self.moments, self.X, self.Y, samples=self.member.samples)


def _residence(network: NetworkState, member: Member, members: int) -> Any:
    from deltaprop.backends.cuda.shared_memory import find_residence

    backend: Any = network.backend
    rule: Any = member.rule
    sizes, activations, loss = network.layer_sizes, network.activations, network.loss
    return find_residence(backend, sizes, activations, loss, network.dtype, member.batch_size, rule, members)
