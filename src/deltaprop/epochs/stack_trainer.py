"""Epochs of the members of a stack, by the fastest way there is: together, or one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.array_types import AnyArray, Floats, Indices
from deltaprop.derivation.optimizers import moments_of
from deltaprop.derivation.remembered import OptimizerState
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.engines import find_members_epoch
from deltaprop.epochs.members import Member, MembersEpoch, MembersTask, Numbers, Passes
from deltaprop.epochs.task import RefusedError, weigh_samples
from deltaprop.epochs.trainer import Trainer
from deltaprop.inputs.encoded_rows import EncodedRows
from deltaprop.reports.progress import Silent

#: How many numbers of rows the orders of many epochs may hold.
ORDERS = 2**22


class StackTrainer:
    """Trains several networks of the same widths, each with its own samples, optimizer and penalty.

    Parameters
    ----------
    network : NetworkState
        With a member axis; it is trained in place.
    X, Y : array, (m, s_1) and (m, s_L), or with the member axis before
        Trusted arrays of its backend; X may be `EncodedRows`.
    members : sequence of Member
        One for each.
    networks : sequence of NetworkState, optional
        Each member as a network that shares its memory. Dropout depends on them, and they are trained one by one if
        there is no way of training them together.

    Raises
    ------
    RefusedError
        If there is no such way, and no `networks`.
    """

    networks: Sequence[NetworkState] | None

    def __init__(
        self,
        network: NetworkState,
        X: AnyArray,
        Y: Array,
        members: Sequence[Member],
        networks: Sequence[NetworkState] | None = None,
    ) -> None:
        for each in (network, *(networks or ())):
            each.own.require_writeable()
        self.members = members
        #: By member, how much each of its samples counted in its last epoch, in its order, where there are weights.
        self.last_weights: dict[int, Floats] = {}
        self._weighted = any(member.sample_weight is not None for member in members)
        self._terms = _terms(members)
        self.X, self.Y, self.networks = X, Y, networks
        self.one_by_one: list[Trainer] = []
        self.way: MembersEpoch | None = self._find_way(network)
        if self.way is None:
            self._part()

    def _find_way(self, network: NetworkState) -> MembersEpoch | None:
        if any(member.rule is None for member in self.members):
            return None
        task = MembersTask(network, self.X, self.Y, self.members)
        way = find_members_epoch(task, self.networks)
        self.X = task.X
        return way

    def _part(self) -> None:
        """Give each member a trainer of its own.

        Raises
        ------
        RefusedError
            If there are no `networks`.
        """
        if self.networks is None:
            raise RefusedError
        if isinstance(self.X, EncodedRows):
            self.X = self.X[:]
        own = self.X.ndim == 3
        for k, (member, alone) in enumerate(zip(self.members, self.networks, strict=True)):
            X, Y = (self.X[k], self.Y[k]) if own else (self.X, self.Y)
            self.one_by_one.append(_trainer(alone, X, Y, member))

    @property
    def epochs_at_once(self) -> int:
        """How many epochs one call of `epochs` may hold with profit, and with orders of a reasonable size."""
        if self.one_by_one or self._weighted:
            return 1
        most = max(member.samples for member in self.members)
        return max(1, ORDERS // (most * len(self.members)))

    def epochs(self, which: Numbers, orders: Sequence[Indices | None], learning_rates: Floats) -> tuple[Floats, Floats]:
        """Train the members that `which` names on every sample once an epoch.

        The networks' counts of epochs stay as they are: whoever finds that an epoch ended well counts it.

        Parameters
        ----------
        which : array of int64, (k,)
        orders : list of array of int64, (epochs, samples), or None
            For each of them, the order of its samples; None for the order in which they stand. An order that members
            share is best the same object.
        learning_rates : array, (k, epochs)
            No more epochs than `epochs_at_once`.

        Returns
        -------
        cost, decay : array of float64, (k, epochs)
            As `Trainer` has them.
        """
        if self.way is None or self.one_by_one:
            return self._one_by_one(which, orders, learning_rates)
        passes = self._passes(which, orders, learning_rates)
        try:
            return self.way.epochs(which, passes)
        except RefusedError as error:
            begun = bool(self.way.task.steps.any())
            if self.networks is None and not begun:
                raise
            if begun or passes.epochs > 1:
                raise (error.__cause__ or error) from None
            self._part()
            return self._one_by_one(which, orders, learning_rates)

    def _passes(self, which: Numbers, orders: Sequence[Indices | None], learning_rates: Floats) -> Passes:
        """Describe some epochs to the way of training members together."""
        alike = not self._weighted and len(which) == len(self.members) and bool((which[1:] > which[:-1]).all())
        terms = self._terms if alike else self._terms[which]
        weights: list[Floats | None] | None = [None] * len(which) if self._weighted else None
        rows: list[Indices | None] = []
        composed: dict[tuple[int, int], Indices | None] = {}
        for place, (k, order) in enumerate(zip(which.tolist(), orders, strict=True)):
            member = self.members[k]
            if weights is not None and member.sample_weight is not None:
                weights[place], sums = self.weights(k, None if order is None else order[0])
                terms[place, :, : len(sums)] = _weighted_terms(member, sums)
            key = (id(member.rows), id(order))
            if key not in composed:
                own = member.rows
                composed[key] = order if own is None else own[np.newaxis] if order is None else own[order]
            rows.append(composed[key])
        return Passes(rows, weights, terms, np.asarray(learning_rates, np.float64))

    def hand_over(self, k: int, state: OptimizerState) -> None:
        """Write what the optimizer of member k carries into `state`, which its `Optimizer.init` has made.

        It is for members that are trained together.
        """
        assert self.way is not None
        task = self.way.task
        for own, moments in zip(moments_of(self.members[k].optimizer, state), task.moments, strict=False):
            own[...] = moments[k]
        if "step" in state:
            state["step"] = int(task.steps[k])

    def _one_by_one(
        self, which: Numbers, orders: Sequence[Indices | None], learning_rates: Floats
    ) -> tuple[Floats, Floats]:
        """Train each for an epoch, by a trainer of its own."""
        cost, decay = np.zeros((len(which), 1)), np.zeros((len(which), 1))
        for place, (k, order) in enumerate(zip(which.tolist(), orders, strict=True)):
            trainer = self.one_by_one[k]
            trainer.epoch(float(learning_rates[place, 0]), None if order is None else order[0], Silent())
            cost[place], decay[place], _ = trainer.sums_on_host()
        return cost, decay

    def weights(self, k: int, order: Indices | None) -> tuple[Floats, Sequence[float]]:
        """How much each sample of member k counts, in the order of the epoch; what each minibatch's weights sum to."""
        member = self.members[k]
        assert member.sample_weight is not None
        self.last_weights[k], sums = weigh_samples(member.objective, member.sample_weight, order, member.sizes)
        return self.last_weights[k], sums


def _terms(members: Sequence[Member]) -> Floats:
    """Return `Objective.terms` of the minibatches of each member without weights, see `Passes.terms`."""
    # All minibatches but the last are alike, and there may be very many.
    first, last = (
        np.array([own.objective.terms(own.sizes[which], own.sizes[which], own.m) for own in members])
        for which in (0, -1)
    )
    batches = np.array([member.batches for member in members])
    terms = np.repeat(first[:, :, np.newaxis], batches.max(), axis=2)
    terms[np.arange(len(members)), :, batches - 1] = last
    return terms


def _weighted_terms(member: Member, sums: Sequence[float]) -> Floats:
    """Return `Objective.terms` of a member's minibatches, (3, batches), from the sums of their weights."""
    return np.array([member.objective.terms(n, m_b, member.m) for n, m_b in zip(member.sizes, sums, strict=True)]).T


def _trainer(network: NetworkState, X: Array, Y: Array, member: Member) -> Trainer:
    """Make the trainer of one member by itself."""
    backend = network.backend
    if member.rows is not None:
        rows = backend.asarray(member.rows, np.int64)
        X, Y = X[rows], Y[rows]
    weight = None if member.sample_weight is None else backend.asarray(member.sample_weight, network.dtype)
    return Trainer(
        network,
        X,
        Y,
        member.optimizer,
        member.objective,
        member.batch_size,
        shuffled=member.batch_size < member.samples,
        sample_weight=weight,
        dropout=member.dropout,
    )
