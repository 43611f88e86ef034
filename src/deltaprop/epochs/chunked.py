"""Epochs over data that are not in the memory in which a network is trained: chunk after chunk is brought there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from typing import NamedTuple

from deltaprop.backends import Array
from deltaprop.backends.array_types import Indices
from deltaprop.derivation.remembered import Remembered
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.interruption import Paused
from deltaprop.epochs.task import Pass
from deltaprop.inputs.sources import CHUNK_BYTES


class Chunk(NamedTuple):
    """Some samples of an epoch, as arrays of the network.

    Attributes
    ----------
    memory : hashable
        It tells apart the arrays that chunks are brought into: captured steps hold their addresses.
    X, Y : array, (n, s_1) and (n, s_L)
        Where several ranks share minibatches, there may be more rows than the chunk has.
    """

    memory: Hashable
    X: Array
    Y: Array


class Feed(ABC):
    """Where chunks come from.

    Attributes
    ----------
    rows : int
        Samples a chunk; the last may have fewer.
    """

    rows: int

    @abstractmethod
    def chunks(self, order: Indices | None) -> Iterator[Chunk]:
        """Bring all samples, chunk by chunk, in `order` or as they stand; where ranks share them, this rank's.

        The next chunk is asked for when the one before has been trained on.
        """


class ChunkedEpoch:
    """Trains on the minibatches of an epoch chunk by chunk: as on data in memory, for the same order of samples.

    Parameters
    ----------
    feed : Feed
    batch_size : int
    make_trainer : callable
        From X and Y of a chunk it makes a function that trains on their minibatches, as they stand when it is called.
    """

    feed: Feed
    batch_size: int
    make_trainer: Callable[[Array, Array], Callable[[Pass], None]]

    def __init__(
        self, feed: Feed, batch_size: int, make_trainer: Callable[[Array, Array], Callable[[Pass], None]]
    ) -> None:
        self.feed, self.batch_size, self.make_trainer = feed, batch_size, make_trainer
        self.trainers: dict[Hashable, Callable[[Pass], None]] = {}

    def train_or_undo(self, given: Pass, before: Remembered) -> None:
        """Train chunk by chunk; if a chunk is refused, or the epoch is left off, all is as it was before.

        Raises
        ------
        Paused
            If it is left off: from the first minibatch on, for no chunk of an epoch can be had by itself.
        """
        try:
            self(given)
        except Exception as error:
            before.restore()
            if isinstance(error, Paused):
                raise Paused(0) from None
            raise

    def __call__(self, given: Pass) -> None:
        """Train on all minibatches."""
        batch = start = 0
        for chunk in self.feed.chunks(given.order):
            rows = chunk.X.shape[0]
            batches = -(-rows // self.batch_size)
            weights = None if given.weights is None else given.weights[start : start + rows]
            sums = given.sums[batch : batch + batches]
            marks = None if given.marks is None else given.marks.of_part(batch)
            self._trainer(chunk)(replace(given, order=None, weights=weights, sums=sums, marks=marks))
            batch, start = batch + batches, start + rows

    def _trainer(self, chunk: Chunk) -> Callable[[Pass], None]:
        """Return the function that trains on arrays of this size in this memory."""
        key = chunk.memory, chunk.X.shape[0]
        if key not in self.trainers:
            self.trainers[key] = self.make_trainer(chunk.X, chunk.Y)
        return self.trainers[key]


def rows_of_chunks(network: NetworkState, samples: int, batch_size: int) -> int:
    """Compute the samples a chunk: whole minibatches of about `CHUNK_BYTES`, and no more than there are samples."""
    return min(batch_size * batches_of_chunks(network, batch_size), samples)


def batches_of_chunks(network: NetworkState, rows: int) -> int:
    """Compute the minibatches a chunk of about `CHUNK_BYTES`, if so many rows of each are brought there."""
    columns = network.layer_sizes[0] + network.layer_sizes[-1]
    return max(1, CHUNK_BYTES // (rows * columns * network.dtype.itemsize))
