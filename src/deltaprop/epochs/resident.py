"""An epoch of a small network in one launch, its parameters in shared memory from the first minibatch to the last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.array_types import AnyArray, Floats, Indices
from deltaprop.backends.cuda.shared_memory import TERMS, Residence, ResidentRun, find_residence
from deltaprop.backends.kernel_names import Rule
from deltaprop.derivation.optimizers import moments_of
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.step_marks import StepMarks
from deltaprop.epochs.task import Pass, RefusedError, StepTable, Task, Terms, WholeEpoch

#: Steps that one launch may hold where it can hold many epochs: within a second or so an interrupt is heard.
STEPS_A_CALL = 200_000


def residence_of(network: NetworkState, batch_size: int, rule: Rule | None, members: int = 1) -> Residence | None:
    """Find how such networks lie in shared memory; None if they do not fit, or if the kernel does not know them."""
    if rule is None or not isinstance(network.loss, str) or network.output_error != "exact":
        return None
    backend: Any = network.backend
    sizes, activations, dtype = network.layer_sizes, network.activations, network.dtype
    return find_residence(backend, sizes, activations, network.loss, dtype, batch_size, rule, members)


def step_table(terms: Floats, rates: Floats) -> Floats:
    """Put `terms`, (k, steps, 3), and `rates`, (k or 1, steps, 2), into a table, (k, steps, 5), for `ResidentRun`."""
    table = np.empty((*terms.shape[:2], TERMS))
    table[:, :, :3] = terms
    table[:, :, 3:] = rates
    return table


class Launches:
    """Launches of the kernel for one network, or for several of the same widths.

    Parameters
    ----------
    network : NetworkState
        Its widths, activations and loss count.
    batch_size : int
    rule : Rule
    parameters : array, (n,) or (k, n)
    moments : sequence of array
        As many as the rule has.
    X, Y : array, (m, s_1) and (m, s_L)
    samples : int, optional
        How many of them an epoch visits, if not all.

    Attributes
    ----------
    run : ResidentRun
        The launch, on as many blocks as are fastest and not refused.

    Raises
    ------
    RefusedError
        If the networks do not fit.
    """

    network: NetworkState
    batch_size: int
    rule: Rule | None
    parameters: Array
    moments: Sequence[Array]
    samples: int | None

    def __init__(
        self,
        network: NetworkState,
        batch_size: int,
        rule: Rule | None,
        parameters: Array,
        moments: Sequence[Array],
        X: Array,
        Y: Array,
        samples: int | None = None,
    ) -> None:
        self.network, self.batch_size, self.rule = network, batch_size, rule
        self.parameters, self.moments, self.X, self.Y, self.samples = parameters, moments, X, Y, samples
        self.run: ResidentRun = self._find(None)

    def _find(self, refused: Exception | None) -> ResidentRun:
        """Make the launch.

        Raises
        ------
        RefusedError
            If the networks do not fit on as few blocks as are not refused.
        """
        backend: Any = self.network.backend
        members = 1 if self.parameters.ndim == 1 else len(self.parameters)
        residence = residence_of(self.network, self.batch_size, self.rule, members)
        if residence is None:
            raise RefusedError from refused
        return ResidentRun(backend, residence, self.parameters, self.moments, self.X, self.Y, samples=self.samples)

    def __call__(self, *arguments: Any, **options: Any) -> AnyArray:
        """Call `run`, on fewer blocks if so many are refused.

        Raises
        ------
        RefusedError
            If even one block is refused. A launch that is refused changes nothing.
        """
        backend: Any = self.network.backend
        while True:
            try:
                return self.run(*arguments, **options)
            except backend.device_errors as error:
                backend.shrink_clusters(self.run.residence.blocks, error)
                self.run = self._find(error)


class ResidentEpoch(WholeEpoch):
    """Does what `Steps` does, in one launch: the same to rounding.

    Parameters
    ----------
    task : Task
        On the CUDA backend.

    Raises
    ------
    RefusedError
        If the network does not fit.
    """

    task: Task
    network: NetworkState
    table: StepTable

    label = "epochs in one launch, parameters in shared memory"
    writes_squares = True

    def __init__(self, task: Task) -> None:
        network, rule, moments = task.network, task.optimizer.rule(), moments_of(task.optimizer, task.state)
        self.task, self.network, self.table = task, network, StepTable()
        self._what = (network, task.batch_size, rule, network.parameters, moments, task.X, task.Y)
        self.launches: Launches = Launches(*self._what)
        #: Launches of some steps of an epoch, by how many samples they visit.
        self.of_some: dict[int, Launches] = {}

    @property
    def run(self) -> ResidentRun:
        """The launch, bound to its arrays."""
        return self.launches.run

    @classmethod
    def obstacle(cls, task: Task) -> str | None:
        """Tell whether the network fits into shared memory."""
        fits = task.obstacle or residence_of(task.network, task.batch_size, task.optimizer.rule()) is not None
        return task.obstacle or (None if fits else "the network does not fit into the shared memory of a cluster")

    @property
    def details(self) -> str:
        """The thread blocks that share the network."""
        return f"{self.run.residence.blocks} blocks"

    @classmethod
    def find(cls, task: Task) -> Self | None:
        """Make one, if the kernel can train this network in this way and it fits."""
        if not task.is_built_in:
            return None
        try:
            return cls(task)
        except RefusedError:
            return None

    def __call__(self, given: Pass, terms: Terms) -> None:
        """Train in one launch."""
        if given.marks is not None:
            self._between_marks(given, terms, given.marks)
            return
        order, task = None if given.order is None else given.order[None, None], self.task
        self._launch(terms, given.learning_rate, order, given.weights, task.cost, task.decay, task.squares)
        given.progress.samples(task.samples)

    def _between_marks(self, given: Pass, terms: Terms, marks: StepMarks) -> None:
        """Train in a launch for each part of the epoch: the same parameters; the cost is added up in another order."""
        task, size = self.task, self.task.batch_size
        order = np.arange(task.samples) if given.order is None else given.order
        table = self.table(self._make_table, terms, given.learning_rate, task.state.get("step", 0))
        first = 0
        for last in marks.ends(0, task.batches):
            rows = order[first * size : last * size]
            weights = None if given.weights is None else given.weights[first * size : last * size]
            sums = (task.cost, task.decay, task.squares)
            try:
                launches = self.of_some.get(len(rows)) or Launches(*self._what, samples=len(rows))
                launches(np.ascontiguousarray(table[:, first:last]), rows[None, None], weights, *sums)
            except RefusedError as error:
                if not first:
                    raise
                raise (error.__cause__ or error) from None  # the epoch has begun: no other way can do it over
            self.of_some[len(rows)] = launches
            if "step" in task.state:
                task.state["step"] += last - first
            given.progress.samples(len(rows))
            marks.reached(last, self.network.backend, task.cost)
            first = last

    @property
    def epochs_at_once(self) -> int:
        """As many as let an interrupt be heard."""
        return max(1, STEPS_A_CALL // self.task.batches)

    def epochs(
        self, orders: Indices | None, weights: Array | None, terms: Terms, learning_rate: float, count: int
    ) -> tuple[Floats, Floats, int]:
        """Train in one launch; if an epoch ends badly, the optimizer's state is as that epoch left it."""
        backend = self.network.backend
        sums = backend.zeros((3, 1, count), np.float64)
        cost, decay, squares = (sums[i] for i in range(3))
        what = (None if orders is None else orders[None], weights, cost, decay, squares)
        diverged = self._launch(terms, learning_rate, *what, epochs=count, keep_last_good=True)
        when = int(backend.to_numpy(diverged)[0])
        costs, _, squares_of_each = backend.to_numpy(sums)[:, 0]
        return costs, squares_of_each, when - 1 if when else count

    def _launch(self, terms: Terms, learning_rate: float, *arrays: Any, epochs: int = 1, **options: Any) -> AnyArray:
        """Launch the steps of so many epochs, and count them in the optimizer's state."""
        state, steps = self.task.state, epochs * self.task.batches
        table = self.table(self._make_table, terms, learning_rate, state.get("step", 0), steps // len(terms))
        diverged = self.launches(table, *arrays, epochs=epochs, **options)
        if "step" in state:
            state["step"] += steps
        return diverged

    def _make_table(self, terms: Terms, learning_rate: float, taken: int) -> Floats:
        return step_table(terms[np.newaxis], self.task.optimizer.rates(learning_rate, taken, len(terms))[np.newaxis])
