"""Chunks of a source that is read part by part: each is read, checked, converted, and copied into memory of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from deltaprop.backends import Array
from deltaprop.backends.array_types import AnyArray, Indices
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.chunked import Chunk, Feed, rows_of_chunks
from deltaprop.epochs.random_numbers import window_generator
from deltaprop.epochs.shared_chunks import ChunkShares
from deltaprop.errors import RowError
from deltaprop.inputs.sources import CheckedSource, Parts, ReadChunk, Rows, Source, windows


class ReadChunks(Feed):
    """Reads a source once an epoch.

    Parameters
    ----------
    network : NetworkState
    checked : CheckedSource
    batch_size : int
    shuffled : bool
        Whether a source in parts is shuffled, in windows of a chunk; rows are, by the order that `chunks` is given.
    shared : ChunkShares, optional
        Where several ranks share minibatches: the rows of this rank.
    """

    network: NetworkState
    source: Source
    check: Callable[[AnyArray, AnyArray], tuple[Array, Array]]
    shuffled: bool
    shared: ChunkShares | None

    def __init__(
        self,
        network: NetworkState,
        checked: CheckedSource,
        batch_size: int,
        *,
        shuffled: bool,
        shared: ChunkShares | None = None,
    ) -> None:
        self.network, self.source, self.check, self.shuffled = network, checked.source, checked.check, shuffled
        self.rows: int = rows_of_chunks(network, checked.shape[0], batch_size)
        self.shared = shared
        self._memory: dict[int, tuple[Array, Array]] = {}  # by the number of samples
        if shared is not None:  # chunks of all sizes go there
            inputs, outputs = network.layer_sizes[0], network.layer_sizes[-1]
            self._room = tuple(network.backend.zeros((shared.most, s), network.dtype) for s in (inputs, outputs))

    def chunks(self, order: Indices | None) -> Iterator[Chunk]:
        """Read all samples, chunk by chunk."""
        for read in self._read(order):
            yield Chunk("host", *(self._kept(read) if self.shared is None else self._kept_in_room(read)))

    def _kept(self, read: ReadChunk) -> tuple[Array, Array]:
        """Copy samples into memory of their size."""
        X, Y = self._checked(read)
        rows = X.shape[0]
        if rows in self._memory:
            own_X, own_Y = self._memory[rows]
            own_X[...], own_Y[...] = X, Y
        else:
            self._memory[rows] = self.network.backend.copy(X), self.network.backend.copy(Y)
        return self._memory[rows]

    def _kept_in_room(self, read: ReadChunk) -> tuple[Array, Array]:
        """Copy samples, if there are any, into memory that has room for the largest chunk."""
        own_X, own_Y = self._room
        rows = len(read.X)
        if rows:
            own_X[:rows], own_Y[:rows] = self._checked(read)
        return own_X, own_Y

    def _read(self, order: Indices | None) -> Iterator[ReadChunk]:
        shared = self.shared
        if isinstance(self.source, Rows):
            samples = self.source.shape[0]
            cuts = [*range(0, samples, self.rows), samples] if shared is None else shared.cuts
            yield from self.source.chunks(cuts, order)
        elif isinstance(self.source, Parts):
            own = None if shared is None else (part.shares.rows for part in shared.parts)
            yield from windows(self.source, self.rows, window_generator(self.network) if self.shuffled else None, own)

    def _checked(self, read: ReadChunk) -> tuple[Array, Array]:
        """Convert its samples to arrays of the network; an error names the row of the data."""
        try:
            return self.check(read.X, read.Y)
        except RowError as error:
            raise error.in_row(*read.place(error.row)) from None
