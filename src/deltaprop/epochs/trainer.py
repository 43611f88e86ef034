"""One epoch of minibatches of one network, by the fastest way there is: in a few calls, step by step, or by chunks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.array_types import AnyArray, Floats, HostArray, Indices
from deltaprop.derivation.backprop import Objective, total_weight
from deltaprop.derivation.remembered import OptimizerState, Remembered
from deltaprop.derivation.state import NetworkState
from deltaprop.derivation.update_rule import Optimizer
from deltaprop.epochs.chunked import ChunkedEpoch
from deltaprop.epochs.engines import find_epoch
from deltaprop.epochs.interruption import Interruption, Paused
from deltaprop.epochs.random_numbers import dropout_stream
from deltaprop.epochs.shares import Shares, even_shares, warn_of_idle
from deltaprop.epochs.step_marks import StepMarks
from deltaprop.epochs.steps import Steps
from deltaprop.epochs.task import Pass, RefusedError, Task, Terms, WholeEpoch, minibatch_sizes, weigh_samples
from deltaprop.inputs.arrays import HostData
from deltaprop.inputs.sources import CheckedSource, Parts
from deltaprop.ranks.base import ALONE, Ranks
from deltaprop.reports.progress import Progress

if TYPE_CHECKING:
    from deltaprop.epochs.sharding import Sharding


class Trainer:
    """Trains a network epoch by epoch; nothing is allocated in a step.

    Parameters
    ----------
    network : NetworkState
        It is trained in place.
    X, Y, sample_weight : array, (m, s_1), (m, s_L) and (m,)
        Trusted arrays of the network's backend; X and Y may be `HostData`, which are uploaded chunk by chunk, or a
        `CheckedSource`, which is read chunk by chunk.
    optimizer : Optimizer
    objective : Objective
    batch_size : int
        Samples a step, at most m; the last minibatch of an epoch may be shorter.
    shuffled : bool
        Whether `epoch` will be called with an order, for which minibatches have to be gathered.
    dropout : sequence of float, one a hidden layer, optional
        With what probability a unit is left out of a step; by default none is.
    state : dict, optional
        The optimizer's state to go on from; by default the state before the first step.
    sums : array, (3,) of float64, optional
        The memory of `cost`, `decay` and Σ W²; by default the trainer has its own.
    way : WholeEpoch, optional
        The `whole_epoch` of a trainer that has done its work; it is used again where it takes on this one.
    ranks : Ranks, optional
        The processes that share each minibatch; by default this one trains alone. All have the same arguments.
    shares : Shares, optional
        Which rows of each minibatch are X and Y, if these are some rows of a rank; by default they are all rows.

    Attributes
    ----------
    cost : array, () of float64
        Σ cost(h, y) over the minibatches of the epoch, each at the parameters it was trained from; where several ranks
        share them, over this rank's rows.
    decay : array, () of float64
        The sum of what `terms` makes of Σ W² before each step of the epoch.
    sums : array, (3,) of float64
        `cost`, `decay`, and Σ W² at the end of the last epoch if `knows_squares`.
    last_weights : array, (m,), or None
        How much each sample counted in the last epoch, in its order, on the host.
    sizes : tuple of int
        How many samples each minibatch has.
    sharding : Sharding or None
        How data on disk are shared out over ranks, if they are.
    shares : Shares or None
        Which rows of each minibatch are this rank's, where several share them.
    knows_squares : bool
        Whether the last epoch wrote Σ W².
    steps : Steps
        What takes the steps one by one. Data that come in chunks have none.
    whole_epoch : WholeEpoch or None
        What does an epoch in fewer, larger calls than one a step, if the backend has such a thing.
    chunked : ChunkedEpoch or None
        What does an epoch over data that come in chunks.
    """

    network: NetworkState
    optimizer: Optimizer
    objective: Objective
    batch_size: int
    dropout: Sequence[float]
    shuffled: bool
    cost: Array
    decay: Array

    def __init__(
        self,
        network: NetworkState,
        X: AnyArray,
        Y: AnyArray,
        optimizer: Optimizer,
        objective: Objective,
        batch_size: int,
        *,
        shuffled: bool,
        sample_weight: Array | None = None,
        dropout: Sequence[float] = (),
        state: OptimizerState | None = None,
        sums: Array | None = None,
        way: WholeEpoch | None = None,
        ranks: Ranks = ALONE,
        shares: Shares | None = None,
    ) -> None:
        network.own.require_writeable()
        self.network, self.X, self.Y = network, X, Y
        self.optimizer, self.objective, self.batch_size = optimizer, objective, batch_size
        self.dropout, self.shuffled = dropout, shuffled
        self.state: OptimizerState = optimizer.init(network) if state is None else state
        self.samples: int = X.shape[0]
        self.ranks: Ranks = ranks
        self._share_out(shares)
        self.m: float = total_weight(network, X, sample_weight)
        # What the weights of a minibatch sum to has to be known on the host, and without asking the device for it.
        self.host_weight: HostArray | None = None if sample_weight is None else network.backend.to_numpy(sample_weight)
        self.last_weights: Floats | None = None
        self.sums: Array = network.backend.zeros((3,), np.float64) if sums is None else sums
        self.cost, self.decay, self._squares = (self.sums[i : i + 1].reshape(()) for i in range(3))
        self.knows_squares: bool = False
        self.whole_epoch: WholeEpoch | None = None
        self.chunked: ChunkedEpoch | None = None
        self._same_terms: Terms | None = None
        if isinstance(X, (CheckedSource, HostData)):
            # What brings chunks is imported where it is used: not where data are in memory.
            from deltaprop.epochs.feeds import chunked_epoch

            self.chunked = chunked_epoch(self, lambda *chunk: ChunkTrainer(self, *chunk).minibatches)
            return
        self.task: Task = self._task()
        self.steps: Steps = self._steps()
        if way is not None and way.takes_on(self.task):
            self.whole_epoch = way
        else:
            self.find_way()
        if self.whole_epoch is None:
            self.steps.make_buffers(shuffled=shuffled)

    def _share_out(self, shares: Shares | None) -> None:
        """Find out how many samples each minibatch has, and which of them are this rank's."""
        self.sharding: Sharding | None = None
        if shares is None and isinstance(self.X, CheckedSource) and self.ranks.takes_shards:
            from deltaprop.epochs.sharding import sharding_of

            self.sharding = sharding_of(self.X.source, self.batch_size, self.ranks, shuffled=self.shuffled)
            shares = None if self.sharding is None else self.sharding.shares
        sizes = minibatch_sizes(self.samples, self.batch_size) if shares is None else shares.sizes
        if shares is None and self.ranks.size > 1:
            shares = even_shares(sizes, self.ranks)
            warn_of_idle(self.ranks, sizes[0], f"a minibatch has {sizes[0]} rows at most")
        self.sizes: tuple[int, ...] = sizes
        self.shares: Shares | None = shares

    def _task(self) -> Task:
        """Describe this training to the ways of doing it."""
        return Task(
            self.network,
            self.X,
            self.Y,
            self.optimizer,
            self.state,
            self.batch_size,
            self.cost,
            self.decay,
            self._squares,
            dropout=self.dropout,
            shuffled=self.shuffled,
            weighted=self.host_weight is not None,
            penalized=bool(self.objective.l2),
            terms={m: self.terms(m, m) for m in set(self.sizes)},
            ranks=self.ranks,
            shares=self.shares,
        )

    def _steps(self) -> Steps:
        if self.shares is None:
            return Steps(self.task)
        from deltaprop.epochs.shared_steps import SharedSteps

        return SharedSteps(self.task)

    def find_way(self) -> None:
        """Have `whole_epoch` be the fastest way of training that the backend has."""
        self.whole_epoch = find_epoch(self.task)

    def begin(
        self,
        learning_rate: float,
        order: Indices | None,
        progress: Progress,
        first: int = 0,
        pause: Interruption | None = None,
        marks: StepMarks | None = None,
    ) -> Pass:
        """Describe the next epoch; its random numbers for dropout begin here. See `epoch` for the parameters."""
        order, host_weights, sums = self._in_order(order)
        weights = None if host_weights is None else self.network.backend.asarray(host_weights, self.network.dtype)
        masks = dropout_stream(self.network) if any(self.dropout) else None
        leaves_off = pause or Interruption()
        return Pass(order, weights, sums, learning_rate, progress, masks, first, leaves_off, marks, self.shares)

    def _in_order(self, order: Indices | None) -> tuple[Indices | None, Floats | None, Sequence[float]]:
        """Return the order of this rank's samples in the next epoch, their weights, and the sums of minibatches.

        `order` is the order of all samples; the sums are what the weights of each minibatch sum to, over all ranks.
        """
        is_weighted = self.host_weight is not None
        if self.sharding is not None:
            order = self.sharding.order(self.network, of_all=is_weighted)
            if not is_weighted:
                return order, None, self.sizes
        weights, sums = self.weights_of(order)
        if self.shares is None or self._reads_in_parts:
            return order, weights, sums
        rows = self.shares.rows
        return (rows if order is None else order[rows]), (None if weights is None else weights[rows]), sums

    def epoch(
        self,
        learning_rate: float,
        order: Indices | None,
        progress: Progress,
        *,
        first: int = 0,
        pause: Interruption | None = None,
        marks: StepMarks | None = None,
    ) -> None:
        """Train on every sample once, in minibatches.

        The network's count of epochs stays as it is: whoever finds that the epoch ended well counts it.

        Parameters
        ----------
        learning_rate : float
        order : array, (m,) of int64, or None
            On the host; None for the order in which the samples stand.
        progress : Progress
        first : int, default 0
            The minibatch with which to begin: where the epoch was left off, if it was.
        pause : Interruption, optional
            It is asked between steps, on the host, whether to leave off there.
        marks : StepMarks, optional
            The steps after which somebody is told. The numbers are the same.

        Raises
        ------
        Paused
            If `pause` asks for it; what the epoch has cost so far is in `cost`. An epoch over data that come in chunks
            is undone.
        """
        if not first:
            self.network.backend.fill(self.sums, 0.0)
        given = self.begin(learning_rate, order, progress, first, pause, marks)
        if self.chunked is not None:
            before = Remembered(self.network.backend, self.state, parameters=self.network.parameters)
            self.chunked.train_or_undo(given, before)
        else:
            self.minibatches(given)

    def minibatches(self, given: Pass) -> None:
        """Train on all minibatches, in a few calls or step by step."""
        whole, terms = self.whole_epoch, self.terms_of(given)
        if whole is None or (given.first and not whole.resumes):
            self.steps(given, terms)
            self.knows_squares = False
            return
        try:
            whole(given, terms)
        except RefusedError:
            self.find_way()
            self.minibatches(given)
        else:
            self.knows_squares = whole.writes_squares

    def terms_of(self, given: Pass) -> Terms:
        """Return `terms` of every minibatch of an epoch: without sample weights, the same object for every epoch."""
        return self._unweighted_terms() if given.weights is None else self._terms_of(given.sums)

    def _unweighted_terms(self) -> Terms:
        if self._same_terms is None:
            self._same_terms = self._terms_of(self.sizes)
        return self._same_terms

    def _terms_of(self, sums: Sequence[float]) -> Terms:
        """Return `terms` of minibatches whose weights sum to so much."""
        return np.array([self.terms(n, m) for n, m in zip(self.sizes, sums, strict=True)])

    def total(self) -> float:
        """Return J over the last epoch: the cost of its minibatches, and the penalty of the parameters at its end."""
        if self.knows_squares:
            cost, _, squares = self.sums_on_host()
            return self.objective.value(cost, squares, self.m)
        of_all = self.cost if self.ranks.size == 1 else self.sums_on_host()[0]
        return self.objective.total(self.network, of_all, self.m)

    def sums_on_host(self) -> list[float]:
        """Return `sums`, by one copy; the cost is summed over all ranks."""
        sums: list[float] = self.network.backend.to_numpy(self.sums).tolist()
        if self.ranks.size > 1:
            sums[:1] = self.ranks.sum_host(sums[:1])
        return sums

    def bring_cost_to_first(self) -> None:
        """Have rank 0 hold the cost that all ranks have summed so far, which a checkpoint may then keep."""
        if self.ranks.size > 1:
            total = self.sums_on_host()[0]
            self.cost[...] = total if self.ranks.is_first else 0.0

    def in_a_row(self) -> AbstractContextManager[object]:
        """Return a context for epochs between which no code of users runs; they then begin sooner."""
        return nullcontext() if self.whole_epoch is None else self.whole_epoch.in_a_row()

    def is_finite(self) -> bool:
        """Tell whether the parameters hold neither nan nor infinity."""
        network, whole = self.network, self.whole_epoch
        return network.backend.all_finite(network.parameters) if whole is None else whole.leaves_finite(network)

    @property
    def takes_orders(self) -> bool:
        """Whether `epoch` may be called with an order; what comes in parts or in shards is shuffled as it is read."""
        return not self._reads_in_parts and self.sharding is None

    @property
    def _reads_in_parts(self) -> bool:
        return isinstance(self.X, CheckedSource) and isinstance(self.X.source, Parts)

    @property
    def epochs_at_once(self) -> int:
        """How many epochs one call of `epochs` may hold; 0 if there is no such call."""
        return 0 if self.whole_epoch is None else self.whole_epoch.epochs_at_once

    def epochs(self, learning_rate: float, orders: Sequence[Indices | None]) -> tuple[list[float], int]:
        """Train as many epochs as there are orders in one call; as `epoch`, it counts none.

        Returns
        -------
        costs : list of float
            J of each.
        good : int
            How many ended with finite numbers.

        Raises
        ------
        RefusedError
            If the device refuses them; `epoch` will go another way.
        """
        count = len(orders)
        if self.host_weight is None:
            weights, terms = None, self._unweighted_terms()
        else:
            drawn = [self.weights_of(order) for order in orders]
            in_order = np.concatenate([own for own, _ in drawn if own is not None])
            weights = self.network.backend.asarray(in_order, self.network.dtype)
            terms = np.concatenate([self._terms_of(sums) for _, sums in drawn])
        stacked = None if orders[0] is None else np.stack([order for order in orders if order is not None])
        assert self.whole_epoch is not None
        try:
            costs, squares, good = self.whole_epoch.epochs(stacked, weights, terms, learning_rate, count)
        except RefusedError:
            self.find_way()
            raise
        return [self.objective.value(float(c), float(s), self.m) for c, s in zip(costs, squares, strict=True)], good

    def mean_cost(self, cost: float, batches: int) -> float:
        """Return the mean cost of the samples in the first so many minibatches of this epoch, from their Σ cost."""
        rows = sum(self.sizes[:batches])
        weight = rows if self.host_weight is None or self.last_weights is None else self.last_weights[:rows].sum()
        return cost / float(weight) if weight else float("nan")

    def try_rates(self, learning_rates: Sequence[float]) -> list[float]:
        """Train a copy of the network by a minibatch at each of these rates in turn; see `range_test.try_rates`."""
        from deltaprop.epochs.range_test import try_rates  # not at start-up, for those who do without

        if self.chunked is not None:
            raise ValueError(
                "LearningRateFinder: expected data that are in the memory in which the network is trained, got data "
                "that come there in chunks; let it look at a part of them"
            )
        return try_rates(self.task, self.objective, self.host_weight, learning_rates)

    def terms(self, n: int, m: float) -> tuple[float, float, float]:
        """`Objective.terms` of a minibatch of `n` samples, or weights that sum to `m`."""
        return self.objective.terms(n, m, self.m)

    def weights_of(self, order: Indices | None) -> tuple[Floats | None, Sequence[float]]:
        """How much each sample counts, in the order of the epoch, on the host; what each minibatch's weights sum to."""
        if self.host_weight is None:
            return None, self.sizes
        self.last_weights, sums = weigh_samples(self.objective, self.host_weight, order, self.sizes)
        return self.last_weights, sums


class ChunkTrainer(Trainer):
    """Trains on the minibatches of a chunk, with the terms, the optimizer state and the sums of the whole."""

    def __init__(self, whole: Trainer, X: Array, Y: Array, shares: Shares | None = None) -> None:
        self.whole = whole
        super().__init__(
            whole.network,
            X,
            Y,
            whole.optimizer,
            whole.objective,
            min(whole.batch_size, X.shape[0]),
            shuffled=False,
            dropout=whole.dropout,
            state=whole.state,
            sums=whole.sums,
            ranks=whole.ranks,
            shares=shares,
        )

    def terms(self, n: int, m: float) -> tuple[float, float, float]:
        """Those of the whole."""
        return self.whole.terms(n, m)

    def minibatches(self, given: Pass) -> None:
        """Train on this chunk; a signal that is held back is heard before it, too, by all ranks together."""
        if self.ranks.any(given.pause()):
            raise Paused(0)
        super().minibatches(given)

    def terms_of(self, given: Pass) -> Terms:
        """Return `terms` of its minibatches, whose sizes may differ from chunk to chunk."""
        if given.shares is None:
            return super().terms_of(given)
        return np.array([self.terms(n, m) for n, m in zip(given.shares.sizes, given.sums, strict=True)])
