"""Epochs over a source that is read part by part, on the host: a chunk at a time is held, converted and trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from deltaprop.backends import Array
from deltaprop.derivation.state import SHUFFLE_STREAM, NetworkState
from deltaprop.epochs.task import Epoch, Pass
from deltaprop.errors import RowError
from deltaprop.inputs.sources import CHUNK_BYTES, Chunk, Parts, Rows, Source, windows

#: From X and Y of a chunk, as they are in the source, to arrays of the network, checked.
Check = Callable[[Any, Any], tuple[Array, Array]]


class ChunkedEpoch:
    """The minibatches of an epoch, chunk by chunk; the same as of the whole in memory, for the same order of samples.

    Parameters
    ----------
    network : NetworkState
    source : Source
    batch_size : int
        A chunk is a whole number of minibatches, but for the last.
    shuffled : bool
        Whether a source in parts is to be shuffled, in windows of a chunk; rows are, by the order handed in.
    check : callable
    make_trainer : callable
        From arrays of the network to what trains on their minibatches.
    """

    def __init__(
        self,
        network: NetworkState,
        source: Source,
        batch_size: int,
        check: Check,
        make_trainer: Callable[[Array, Array], Epoch],
        *,
        shuffled: bool,
    ) -> None:
        self.network, self.source, self.batch, self.shuffled = network, source, batch_size, shuffled
        self.check, self.make_trainer = check, make_trainer
        bytes_a_batch = batch_size * (network.layer_sizes[0] + network.layer_sizes[-1]) * network.dtype.itemsize
        self.rows = min(batch_size * max(1, CHUNK_BYTES // bytes_a_batch), source.shape[0])
        self.trainers: dict[int, tuple[Epoch, Array, Array]] = {}

    def __call__(self, given: Pass) -> None:
        """All minibatches."""
        batch = start = 0
        for chunk in self._chunks(given.order):
            X, Y = self._checked(chunk)
            rows = X.shape[0]
            trainer = self._trainer(X, Y)
            count = -(-rows // self.batch)
            weights = None if given.weights is None else given.weights[start : start + rows]
            sums = given.sums[batch : batch + count]
            trainer.minibatches(replace(given, order=None, weights=weights, sums=sums))
            batch, start = batch + count, start + rows

    def _checked(self, chunk: Chunk) -> tuple[Array, Array]:
        """Its samples as arrays of the network; an error names the row of the data."""
        try:
            return self.check(chunk.X, chunk.Y)
        except RowError as error:
            raise error.in_row(*chunk.place(error.row)) from None

    def _chunks(self, order: np.ndarray[Any, Any] | None) -> Iterator[Chunk]:
        if isinstance(self.source, Rows):
            yield from self.source.chunks(self.rows, order)
        elif isinstance(self.source, Parts):
            key = (self.network.seed, SHUFFLE_STREAM, self.network.epochs_trained)
            yield from windows(self.source, self.rows, np.random.default_rng(key) if self.shuffled else None)

    def _trainer(self, X: Array, Y: Array) -> Epoch:
        """What trains on a chunk; one for each size, whose arrays each chunk is copied into."""
        rows = X.shape[0]
        if rows not in self.trainers:
            X, Y = (self.network.backend.copy(array) for array in (X, Y))
            self.trainers[rows] = self.make_trainer(X, Y), X, Y
            return self.trainers[rows][0]
        trainer, own_X, own_Y = self.trainers[rows]
        own_X[...], own_Y[...] = X, Y
        return trainer
