"""Where the chunks of an epoch come from: what brings them, for each kind of data that are not where the network is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from deltaprop.backends.array_types import AnyArray
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.chunked import ChunkedEpoch, Feed, batches_of_chunks, rows_of_chunks
from deltaprop.epochs.read_chunks import ReadChunks
from deltaprop.epochs.read_shards import ReadShards
from deltaprop.epochs.sharding import PartSharding, Sharding
from deltaprop.epochs.shared_chunks import ChunkShares, SharedChunkedEpoch
from deltaprop.epochs.shares import Shares
from deltaprop.epochs.task import Pass
from deltaprop.inputs.sources import CheckedSource, Rows
from deltaprop.ranks.base import Ranks


class Training(Protocol):
    """What has to be known of a `Trainer`."""

    network: NetworkState
    X: AnyArray
    Y: AnyArray
    batch_size: int
    shuffled: bool
    samples: int
    sizes: tuple[int, ...]
    ranks: Ranks
    shares: Shares | None
    sharding: Sharding | None


def chunked_epoch(trainer: Training, make_trainer: Callable[..., Callable[[Pass], None]]) -> ChunkedEpoch:
    """Make what trains on the data of a trainer chunk by chunk.

    Parameters
    ----------
    trainer : Trainer
    make_trainer : callable
        From X and Y of a chunk, and `Shares` where minibatches are shared, it makes a function that trains on them.
    """
    shared = _chunk_shares(trainer)
    feed = _feed(trainer, shared)
    if shared is None:
        return ChunkedEpoch(feed, trainer.batch_size, make_trainer)
    return SharedChunkedEpoch(feed, shared, trainer.ranks, make_trainer)


def _chunk_shares(trainer: Training) -> ChunkShares | None:
    """Return this rank's rows of each chunk, where ranks share minibatches.

    Batches of an iterable come in the windows of a run without ranks. Else a chunk is as large as without ranks, but of
    the rows that one rank has: all ranks have the same minibatches in it.
    """
    network, batch_size, shares, X = trainer.network, trainer.batch_size, trainer.shares, trainer.X
    if shares is None:
        return None
    if isinstance(X, CheckedSource) and not isinstance(X.source, Rows) and trainer.sharding is None:
        return ChunkShares(shares, -(-rows_of_chunks(network, trainer.samples, batch_size) // batch_size))
    most = -(-trainer.samples // trainer.ranks.size) if trainer.sharding is None else trainer.sharding.most_rows
    return ChunkShares(shares, batches_of_chunks(network, max(1, -(-most // len(trainer.sizes)))))


def _feed(trainer: Training, shared: ChunkShares | None) -> Feed:
    network, X, batch_size = trainer.network, trainer.X, trainer.batch_size
    if not isinstance(X, CheckedSource):
        from deltaprop.epochs.uploaded_chunks import UploadedChunks  # not where there is no device

        return UploadedChunks(network, X, trainer.Y, batch_size, shared)
    if isinstance(trainer.sharding, PartSharding) and shared is not None:
        return ReadShards(network, X, batch_size, trainer.sharding, shuffled=trainer.shuffled, shared=shared)
    return ReadChunks(network, X, batch_size, shuffled=trainer.shuffled, shared=shared)
