"""Chunks of a source that is read part by part and shared out over ranks: each reads shards of its own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np

from deltaprop.backends.array_types import Indices
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.random_numbers import shard_generator
from deltaprop.epochs.read_chunks import ReadChunks
from deltaprop.epochs.sharding import PartSharding
from deltaprop.epochs.shared_chunks import ChunkShares
from deltaprop.inputs.shards import joined
from deltaprop.inputs.sources import CheckedSource, ReadChunk


class ReadShards(ReadChunks):
    """Reads the shards of this rank once an epoch, all at the same time.

    Parameters
    ----------
    network : NetworkState
    checked : CheckedSource
    batch_size : int
    sharding : PartSharding
    shuffled : bool
        Whether shards are.
    shared : ChunkShares
        The rows of this rank.
    """

    def __init__(
        self,
        network: NetworkState,
        checked: CheckedSource,
        batch_size: int,
        sharding: PartSharding,
        *,
        shuffled: bool,
        shared: ChunkShares,
    ) -> None:
        super().__init__(network, checked, batch_size, shuffled=shuffled, shared=shared)
        self.sharding = sharding

    def _read(self, order: Indices | None) -> Iterator[ReadChunk]:
        """Read this rank's rows of the minibatches of each chunk, which come in an order of their own."""
        assert self.shared is not None
        sharding, read = self.sharding, self.sharding.parts.read
        readers = {
            shard: read(shard, shard_generator(self.network, shard) if self.shuffled else None)
            for shard in sharding.own
        }
        for first, last, _ in self.shared.parts:
            slices = list(sharding.slices(first, last))
            places = np.concatenate([slice_.places for slice_ in slices] or [np.arange(0)])
            order = np.empty_like(places)
            order[places] = np.arange(len(places))
            taken = chain.from_iterable(readers[s.shard].take(s.last - s.first) for s in slices)
            yield joined(list(taken), order)
        for reader in readers.values():
            reader.end()
