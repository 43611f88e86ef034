"""One step after another by calls of the backend: gather, forward, backward, update, into buffers made beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from deltaprop.backends import Array
from deltaprop.derivation.backprop import Workspace, backward, forward
from deltaprop.derivation.parameters import Parameters
from deltaprop.derivation.remembered import Remembered
from deltaprop.epochs.interruption import Abandoned, Interruption, Paused
from deltaprop.epochs.task import LONG_STEP, Pass, Task, Terms, minibatch_sizes, operations_of

if TYPE_CHECKING:
    from deltaprop.derivation.state import NetworkState


class Minibatch(NamedTuple):
    """Some samples of an epoch.

    Attributes
    ----------
    number : int
        Minibatches before it in the epoch.
    X, Y, weights : array, (n, s_1), (n, s_L) and (n,), or None
    """

    number: int
    X: Array
    Y: Array
    weights: Array | None


class Steps:
    """The steps of an epoch; nothing is allocated in `step`.

    Parameters
    ----------
    task : Task

    Attributes
    ----------
    work : dict of int to Workspace
        One for each size of a minibatch; at most two sizes occur, as the minibatch at the end may be shorter.
    batches : dict of int to (array, array)
        For each size, the buffers into which X and Y are gathered.
    before : Remembered or None
        A copy of what a step changes, so that a long step may be undone; None where steps are short.
    """

    task: Task
    network: NetworkState

    def __init__(self, task: Task) -> None:
        self.task, self.network = task, task.network
        self.sizes: tuple[int, ...] = minibatch_sizes(task.samples, task.batch_size)
        self.keep: list[float] = [1.0 - p for p in task.dropout]

    def make_buffers(self, *, shuffled: bool) -> None:
        """Make every buffer that steps write into."""
        task, network, backend = self.task, self.network, self.network.backend
        sizes = set(self.sizes)
        self.gradient: Parameters = Parameters(backend, network.layer_sizes, network.dtype)
        self.work: dict[int, Workspace] = {size: Workspace(network, size) for size in sizes}
        for size, work in self.work.items():
            for l, keep in enumerate(self.keep):
                if keep < 1.0:
                    work.masks[l] = backend.empty((size, network.layer_sizes[l + 1]), network.dtype)
        self.batches: dict[int, tuple[Array, Array]] = {
            size: (backend.gather_buffer(task.X, size), backend.gather_buffer(task.Y, size))
            for size in sizes
            if shuffled
        }
        self.before: Remembered | None = None
        if backend.on_host and operations_of(network, task.batch_size) > LONG_STEP:
            sums = {"cost": task.cost, "decay": task.decay}
            self.before = Remembered(network.backend, task.state, parameters=network.parameters, **sums)

    def need_buffers(self, *, shuffled: bool) -> None:
        """Make the buffers unless they are there: if epochs go another way, steps are taken only now and then."""
        if not hasattr(self, "work"):
            self.make_buffers(shuffled=shuffled)

    def __call__(self, given: Pass, terms: Terms) -> None:
        """Train on all minibatches, one after the other.

        Raises
        ------
        Paused
            If `given.pause` asks to stop.
        """
        self.need_buffers(shuffled=given.order is not None)
        rows = terms.tolist()
        for minibatch in self.in_turn(given):
            if given.pause() and minibatch.number > given.first:
                raise Paused(minibatch.number)
            self._take_or_undo(minibatch, rows[minibatch.number], given.learning_rate, given.pause)
            given.progress.samples(minibatch.X.shape[0])
            if given.marks is not None:
                given.marks.reached(minibatch.number + 1, self.network.backend, self.task.cost)

    def _take_or_undo(
        self, minibatch: Minibatch, terms: Sequence[float], learning_rate: float, pause: Interruption
    ) -> None:
        """Take a step; a long one on the host may be left in its middle, and is undone.

        Raises
        ------
        Paused
            If it is left because of a signal that is held back.
        """
        if self.before is None:
            self.take(minibatch, terms, learning_rate)
            return
        self.before.renew()
        try:
            with pause.heard_at_once():
                self.take(minibatch, terms, learning_rate)
        except (Abandoned, KeyboardInterrupt) as signal:
            self.before.restore()
            if isinstance(signal, Abandoned):
                raise Paused(minibatch.number) from None
            raise

    def in_turn(self, given: Pass) -> Iterator[Minibatch]:
        """Yield the minibatches from `given.first` on, gathered into our buffers, with their dropout masks drawn."""
        task, backend = self.task, self.network.backend
        rows = None if given.order is None else backend.asarray(given.order, np.int64)
        for number, start in enumerate(range(0, task.samples, task.batch_size)):
            stop = min(start + task.batch_size, task.samples)
            # Minibatches before the first have had their random numbers, too.
            self._draw_masks(given, self.work[stop - start])
            if number < given.first:
                continue
            weights = None if given.weights is None else given.weights[start:stop]
            if rows is None:
                yield Minibatch(number, task.X[start:stop], task.Y[start:stop], weights)
                continue
            of_X, of_Y = self.batches[stop - start]
            X = backend.gather(task.X, rows[start:stop], out=of_X)
            yield Minibatch(number, X, backend.gather(task.Y, rows[start:stop], out=of_Y), weights)

    def _draw_masks(self, given: Pass, work: Workspace) -> None:
        """Draw μ of every layer with dropout: the next random numbers of the epoch."""
        for keep, mask in zip(self.keep, work.masks, strict=False):
            if mask is not None:
                self.network.backend.dropout_mask(given.dropout, keep, mask)

    def take(self, minibatch: Minibatch, terms: Sequence[float], learning_rate: float) -> None:
        """Take a step over one minibatch, `terms` being its row of `Terms`."""
        scale, penalty, decay = terms
        if decay:
            self.network.backend.add_squared_norm(self.network.flat_weights, decay, self.task.decay)
        self.step(minibatch.X, minibatch.Y, scale, penalty, learning_rate, minibatch.weights)

    def step(
        self, X: Array, Y: Array, scale: float, penalty: float, learning_rate: float, sample_weight: Array | None
    ) -> None:
        """Forward, backward, update: θ := θ − η ∂J/∂θ over one minibatch, X : (n, s_1), Y : (n, s_L)."""
        work = self.work[X.shape[0]]
        forward(self.network, X, work)
        backward(
            self.network,
            Y,
            work,
            self.gradient,
            self.task.cost,
            scale=scale,
            penalty=penalty or None,
            sample_weight=sample_weight,
        )
        self.task.optimizer.update(self.network, self.gradient, self.task.state, learning_rate)
