"""The steps of an epoch whose minibatches several ranks share, by calls of the backend: the sum before the update."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from deltaprop.backends import Array
from deltaprop.derivation.backprop import Workspace, backward, forward
from deltaprop.epochs.interruption import Paused
from deltaprop.epochs.shares import SummedGradient
from deltaprop.epochs.steps import Minibatch, Steps
from deltaprop.epochs.task import Pass, Task, Terms


class OfSizes(dict[int, Workspace]):
    """The workspaces of minibatches, by how many rows this rank has of them; each is made when it is first needed."""

    make: Callable[[int], Workspace]

    def __init__(self, make: Callable[[int], Workspace]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, rows: int) -> Workspace:
        self[rows] = self.make(rows)
        return self[rows]


class SharedSteps(Steps):
    """The steps of one rank. A rank that has no row of a minibatch takes the step all the same.

    Parameters
    ----------
    task : Task

    Attributes
    ----------
    sum : SummedGradient
        It adds up the gradients of all ranks.
    """

    work: dict[int, Workspace]
    batches: dict[int, tuple[Array, Array]]

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.sum: SummedGradient = SummedGradient(task.ranks, task.network)
        self._whole_masks: dict[tuple[int, int], Array] = {}

    def make_buffers(self, *, shuffled: bool) -> None:
        """Prepare to make buffers of each size that occurs."""
        self.gradient = self.sum.gradient
        self.work = OfSizes(self._workspace)
        self.batches = {}
        self.before = None

    def _workspace(self, rows: int) -> Workspace:
        network, work = self.network, Workspace(self.network, rows)
        for l, keep in enumerate(self.keep):
            if keep < 1.0:
                work.masks[l] = network.backend.empty((rows, network.layer_sizes[l + 1]), network.dtype)
        return work

    def __call__(self, given: Pass, terms: Terms) -> None:
        """Train on all minibatches; after each step, all ranks know whether to leave off.

        Raises
        ------
        Paused
            If `given.pause` of any rank asks to stop.
        """
        assert given.shares is not None
        self.need_buffers(shuffled=given.order is not None)
        rows, sizes = terms.tolist(), given.shares.sizes
        for minibatch in self.in_turn(given):
            number = minibatch.number
            asked = self._take(minibatch, rows[number], given.learning_rate, leaves_off=given.pause())
            given.progress.samples(sizes[number])
            if given.marks is not None:
                given.marks.reached(number + 1, self.network.backend, self.task.cost)
            if asked and number + 1 < len(sizes):
                raise Paused(number + 1)

    def in_turn(self, given: Pass) -> Iterator[Minibatch]:
        """Yield this rank's rows of the minibatches from `given.first` on; see `Steps.in_turn`."""
        shares, task = given.shares, self.task
        assert shares is not None
        order = None if given.order is None else self.network.backend.asarray(given.order, np.int64)
        for number, (start, stop) in enumerate(
            zip(shares.starts[:-1].tolist(), shares.starts[1:].tolist(), strict=True)
        ):
            self._draw_shared_masks(given, stop - start, shares.sizes[number], int(shares.places[number]))
            if number < given.first:
                continue
            rows = slice(start, stop) if order is None else order[start:stop]
            weights = None if given.weights is None else given.weights[start:stop]
            yield Minibatch(number, self._rows(task.X, rows, 0), self._rows(task.Y, rows, 1), weights)

    def _rows(self, array: Array, rows: slice | Array, which: int) -> Array:
        """Gather rows of X (0) or Y (1)."""
        backend = self.network.backend
        if isinstance(rows, slice):
            return array[rows]
        size = rows.shape[0]
        if size not in self.batches:
            buffers = (backend.gather_buffer(self.task.X, size), backend.gather_buffer(self.task.Y, size))
            self.batches[size] = buffers
        return backend.gather(array, rows, out=self.batches[size][which]) if size else self.batches[size][which]

    def _draw_shared_masks(self, given: Pass, rows: int, whole_rows: int, place: int) -> None:
        """Draw μ of every layer with dropout for the minibatch of all ranks, and take this rank's rows of it."""
        backend, network = self.network.backend, self.network
        for l, (keep, mask) in enumerate(zip(self.keep, self.work[rows].masks, strict=False)):
            if mask is None:
                continue
            key = (l, whole_rows)
            if key not in self._whole_masks:
                self._whole_masks[key] = backend.empty((whole_rows, network.layer_sizes[l + 1]), network.dtype)
            whole = self._whole_masks[key]
            backend.dropout_mask(given.dropout, keep, whole)
            mask[...] = whole[place : place + rows]

    def take(self, minibatch: Minibatch, terms: Sequence[float], learning_rate: float) -> None:
        """Take a step over one minibatch, together with the other ranks."""
        self._take(minibatch, terms, learning_rate, leaves_off=False)

    def _take(self, minibatch: Minibatch, terms: Sequence[float], learning_rate: float, *, leaves_off: bool) -> bool:
        """Take a step; return whether a rank is to leave off after it."""
        scale, penalty, decay = terms
        network, backend, task = self.network, self.network.backend, self.task
        if decay:
            backend.add_squared_norm(network.flat_weights, decay, task.decay)
        asked = self.sum(lambda: self._differentiate(minibatch, scale), leaves_off=leaves_off)
        if penalty:
            backend.add_l2_gradient(network.flat_weights, penalty, self.gradient.flat_weights)
        task.optimizer.update(network, self.gradient, task.state, learning_rate)
        return asked

    def _differentiate(self, minibatch: Minibatch, scale: float) -> None:
        """∂J/∂θ over this rank's rows, without the penalty."""
        X, Y, weights = minibatch.X, minibatch.Y, minibatch.weights
        if not X.shape[0]:
            self.network.backend.fill(self.gradient.flat, 0.0)
            return
        work = self.work[X.shape[0]]
        forward(self.network, X, work)
        backward(self.network, Y, work, self.gradient, self.task.cost, scale=scale, penalty=None, sample_weight=weights)
