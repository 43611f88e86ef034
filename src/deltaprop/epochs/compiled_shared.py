"""An epoch whose minibatches several ranks share, by the compiled library: gradient, sum over the ranks, update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deltaprop.backends.array_types import Floats, HostArray
from deltaprop.backends.native.library import MinibatchShare
from deltaprop.backends.native.scipy_threads import own_threads, scipy_on_one_thread
from deltaprop.derivation.optimizers import moments_of
from deltaprop.epochs.compiled import OfTheLibrary, operations_of_a_step, useful_threads
from deltaprop.epochs.compiled_dropout import keep_of, numbers_of
from deltaprop.epochs.compiled_plan import PlanTable
from deltaprop.epochs.compiled_rates import CompiledRates
from deltaprop.epochs.interruption import Paused
from deltaprop.epochs.shares import Shares, SummedGradient
from deltaprop.epochs.task import Pass, Task, Terms

if TYPE_CHECKING:
    from deltaprop.derivation.remembered import OptimizerState
    from deltaprop.derivation.state import NetworkState


class CompiledSharedEpoch(OfTheLibrary):
    """Does what `Steps` does for several ranks, in two calls of the library a step."""

    task: Task
    network: NetworkState
    state: OptimizerState
    plan: Any

    label = "compiled steps, summed over ranks"
    resumes = True

    def __init__(self, task: Task) -> None:
        network, moments = task.network, moments_of(task.optimizer, task.state)
        self.task, self.network, self.state = task, network, task.state
        assert task.shares is not None
        batch = max(1, task.shares.most)
        self.table: PlanTable = PlanTable(network, task.X, task.Y, [task.optimizer], moments, [task.samples], [batch])
        row: Any = self.table.row
        self.plan = row
        self.plan.epochs = 1
        self.rates: CompiledRates = CompiledRates(self.table, task.optimizer, task.batches)
        self.keep: Floats | None = keep_of(task.dropout) if any(task.dropout) else None
        self.table.point("keep", self.keep, (len(network.layer_sizes) - 2,))
        self.table.point("cost", task.cost, ())
        self.table.point("decay", task.decay, ())
        self.sum: SummedGradient = SummedGradient(task.ranks, network)
        self.table.point("gradient", self.sum.gradient.flat, (network.own.size,))
        self._shares: Shares | None = None
        self._terms: Terms | None = None
        self._make_room(batch)

    def _make_room(self, batch: int) -> None:
        """Make scratch for minibatches with so many rows of this rank."""
        self.plan.batch = batch
        operations = operations_of_a_step(self.table, self.task, batch)
        own_threads()  # finds the BLAS; that is no part of the first epoch
        threads = useful_threads(self.network, operations, self.rates.batches)
        self.table.share_scratch(threads, 1, touched=True)

    @property
    def details(self) -> str:
        """How many ranks there are, and how many threads each has."""
        return f"{self.task.ranks.size} ranks, {self.plan.threads} thread{'s' if self.plan.threads > 1 else ''} each"

    def __call__(self, given: Pass, terms: Terms) -> None:
        """Train step by step; after each, all ranks know whether to leave off."""
        assert given.shares is not None
        self._point_to(given, given.shares, terms)
        counts, sizes, batches = given.shares.counts.tolist(), given.shares.sizes, len(terms)
        with scipy_on_one_thread():
            for number in range(given.first, batches):
                self.plan.first_batch, self.plan.last_batch = number, number + 1
                compute = self._gradient if counts[number] else self._no_gradient
                asked = self.sum(compute, leaves_off=given.pause())
                self.table.library.apply(self.plan)
                if "step" in self.state:
                    self.state["step"] += 1
                given.progress.samples(sizes[number])
                if given.marks is not None:
                    given.marks.reached(number + 1, self.network.backend, self.task.cost)
                if asked and number + 1 < batches:
                    raise Paused(number + 1)
        if self.keep is not None and given.dropout is not None:
            given.dropout.skip(numbers_of(self.network, self.keep, int(given.shares.whole_starts[-1])))

    def _gradient(self) -> None:
        """∂J/∂θ over this rank's rows of the minibatch that the plan names."""
        self.table.library.run(self.plan)

    def _no_gradient(self) -> None:
        """Of no rows it is 0."""
        self.network.backend.fill(self.sum.gradient.flat, 0.0)

    def _point_to(self, given: Pass, shares: Shares, terms: Terms) -> None:
        """Let the plan point to the numbers of an epoch, or of a chunk."""
        plan, table, rows = self.plan, self.table, (int(shares.starts[-1]),)
        if len(terms) > self.rates.batches:  # a chunk is longer than those before, for which there are rates
            self.rates = CompiledRates(table, self.task.optimizer, len(terms))
        if shares.most > plan.batch:
            self._make_room(shares.most)
        if shares is not self._shares:
            self._shares, of_each = shares, table_of(shares)
            table.point("shares", of_each, of_each.shape)
        if terms is not self._terms:
            self._terms, columns = terms, terms.T.copy()
            for name, values in zip(("scales", "penalties", "decays"), columns, strict=True):
                table.point(name, values, values.shape)
        table.point("order", given.order, rows)
        table.point("weights", given.weights, rows)
        table.point_to_parameters()
        if given.dropout is not None:
            table.point("keys", given.dropout.key.reshape(1, 2), (1, 2))
            plan.drawn = given.dropout.drawn
        # Minibatches before the first are among the steps taken.
        self.rates.of_epoch(given.learning_rate, self.state.get("step", 0) - given.first)


def table_of(shares: Shares) -> HostArray:
    """Return the shares as the library reads them, one ``struct MinibatchShare`` a minibatch."""
    table = np.zeros(len(shares.places), np.dtype(MinibatchShare))
    for name, starts in (("", shares.starts), ("whole_", shares.whole_starts)):
        table[f"{name}start"], table[f"{name}rows"] = starts[:-1], np.diff(starts)
    table["place"] = shares.places
    return table
