"""Epochs of every network of a stack, by whichever way the backend has: together, or one after the other."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from deltaprop.backends import Array
from deltaprop.derivation.optimizers import moments_of
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.compiled_members import NativeStack
from deltaprop.epochs.grouped_members import ResidentStack, SteppedStack
from deltaprop.epochs.members import Member, Numbers, Passes, Stack
from deltaprop.epochs.task import RefusedError
from deltaprop.epochs.trainer import Trainer
from deltaprop.errors import BackendError
from deltaprop.reports.progress import Silent

#: Numbers of rows that the orders of many epochs may hold.
ORDERS = 2**22


class StackTrainer:
    """Several networks of the same widths in training, each with its own samples, optimizer and penalty.

    Parameters
    ----------
    network : NetworkState
        With a member axis, trained in place.
    X, Y : array, (m, s_1) and (m, s_L), or with the member axis before
        Trusted arrays of its backend.
    members : sequence of Member
        One for each.
    networks : sequence of NetworkState, optional
        Each member as a network that shares its memory: what dropout goes by, and what is trained where there is no
        way of training them together. Without them, there has to be one.
    """

    def __init__(
        self,
        network: NetworkState,
        X: Array,
        Y: Array,
        members: Sequence[Member],
        networks: Sequence[NetworkState] | None = None,
    ) -> None:
        for each in (network, *(networks or ())):
            each.own.require_writeable()
        self.members = members
        #: By member, how much each of its samples counted in its last epoch, in its order, where there are weights.
        self.last_weights: dict[int, np.ndarray[Any, Any]] = {}
        self._weighted = any(member.sample_weight is not None for member in members)
        self._terms = np.zeros((len(members), 3, max(member.batches for member in members)))
        for k, member in enumerate(members):
            self._terms[k, :, : member.batches] = self.terms(k)
        self.X, self.Y, self.networks = X, Y, networks
        self.one_by_one: list[Trainer] = []
        if any(member.rule is None for member in members):
            self.way: Any = None
        else:
            self.way = _way(Stack(network, X, Y, members), networks)
        if self.way is None and networks is None:
            raise RefusedError
        if self.way is None:
            self._part()

    def _part(self) -> None:
        """Give each member a trainer of its own."""
        assert self.networks is not None
        own = self.X.ndim == 3
        for k, (member, alone) in enumerate(zip(self.members, self.networks, strict=True)):
            X, Y = (self.X[k], self.Y[k]) if own else (self.X, self.Y)
            self.one_by_one.append(_trainer(alone, X, Y, member))

    @property
    def epochs_at_once(self) -> int:
        """How many epochs one call of `epochs` may hold with profit, orders of a reasonable size provided."""
        if self.one_by_one or self._weighted:
            return 1
        most = max(member.samples for member in self.members)
        return max(1, ORDERS // (most * len(self.members)))

    def epochs(
        self, which: Numbers, orders: Sequence[np.ndarray[Any, Any] | None], learning_rates: np.ndarray[Any, Any]
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Of the members that `which` names, every sample once an epoch.

        Parameters
        ----------
        which : array of int64, (k,)
        orders : list of array of int64, (epochs, samples), or None
            For each of them, in which order its samples are visited; None for the one in which they stand. Arrays that
            members share are best handed in as the same object.
        learning_rates : array, (k, epochs)
            No more epochs than `epochs_at_once`.

        Returns
        -------
        cost, decay : array of float64, (k, epochs)
            As `Trainer` has them.
        """
        if self.one_by_one:
            return self._one_by_one(which, orders, learning_rates)
        alike = not self._weighted and len(which) == len(self.members) and bool((which[1:] > which[:-1]).all())
        terms = self._terms if alike else self._terms[which]
        weights: list[np.ndarray[Any, Any] | None] | None = [None] * len(which) if self._weighted else None
        rows: list[np.ndarray[Any, Any] | None] = []
        composed: dict[tuple[int, int], np.ndarray[Any, Any] | None] = {}
        for place, (k, order) in enumerate(zip(which.tolist(), orders, strict=True)):
            member = self.members[k]
            if weights is not None and member.sample_weight is not None:
                weights[place], sums = self.weights(k, None if order is None else order[0])
                terms[place, :, : len(sums)] = self.terms(k, sums)
            key = (id(member.rows), id(order))
            if key not in composed:
                own = member.rows
                composed[key] = order if own is None else own[np.newaxis] if order is None else own[order]
            rows.append(composed[key])
        passes = Passes(rows, weights, terms, np.asarray(learning_rates, np.float64))
        try:
            cost, decay = self.way.epochs(which, passes)
        except RefusedError as error:
            begun = bool(self.way.stack.steps.any())
            if self.networks is None and not begun:
                raise
            if begun or passes.epochs > 1:
                raise (error.__cause__ or error) from None
            self._part()
            return self._one_by_one(which, orders, learning_rates)
        return cost, decay

    def hand_over(self, k: int, state: dict[str, Any]) -> None:
        """Write what the optimizer of member k carries into `state`, which its `Optimizer.init` has made.

        Of members that are trained together.
        """
        stack: Stack = self.way.stack
        for own, moments in zip(moments_of(state), stack.moments, strict=False):
            own[...] = moments[k]
        if "step" in state:
            state["step"] = int(stack.steps[k])

    def _one_by_one(
        self, which: Numbers, orders: Sequence[np.ndarray[Any, Any] | None], learning_rates: np.ndarray[Any, Any]
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """An epoch of each, by a trainer of its own."""
        cost, decay = np.zeros((len(which), 1)), np.zeros((len(which), 1))
        for place, (k, order) in enumerate(zip(which.tolist(), orders, strict=True)):
            trainer = self.one_by_one[k]
            trainer.epoch(float(learning_rates[place, 0]), None if order is None else order[0], Silent())
            trainer.network.epochs_trained -= 1  # counted by whoever calls
            cost[place], decay[place], _ = trainer.sums_on_host()
        return cost, decay

    def weights(self, k: int, order: np.ndarray[Any, Any] | None) -> tuple[np.ndarray[Any, Any], Sequence[float]]:
        """How much each sample of member k counts, in the order of the epoch; what each minibatch's weights sum to."""
        member = self.members[k]
        weights: Any = member.sample_weight
        weights = weights if order is None else weights[order]
        sums = np.add.reduceat(weights, range(0, member.samples, member.batch_size), dtype=np.float64).tolist()
        self.last_weights[k] = member.objective.weights(weights, member.sizes, sums)
        return self.last_weights[k], sums

    def terms(self, k: int, sums: Sequence[float] | None = None) -> np.ndarray[Any, Any]:
        """`Objective.terms` of the minibatches of member k, (3, batches), from the sums of their weights, if any."""
        member, terms = self.members[k], self.members[k].objective.terms
        if sums is not None:
            return np.array([terms(n, m_b, member.m) for n, m_b in zip(member.sizes, sums, strict=True)]).T
        # Without weights, all minibatches but the last are alike, and there may be very many.
        each = [terms(n, n, member.m) for n in (member.sizes[0], member.sizes[-1])]
        return np.repeat(each, (member.batches - 1, 1), axis=0).T


def _way(stack: Stack, networks: Sequence[NetworkState] | None) -> Any:
    """What trains all members together, or None."""
    if NativeStack.can(stack):
        try:
            return NativeStack(stack)
        except BackendError as error:
            warnings.warn(f"{error}; epochs are trained step by step, by NumPy", RuntimeWarning, stacklevel=6)
    if SteppedStack.can(stack):
        return SteppedStack(stack, networks)
    return ResidentStack(stack) if ResidentStack.can(stack) else None


def _trainer(network: NetworkState, X: Array, Y: Array, member: Member) -> Trainer:
    """That of one member by itself."""
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
