"""Chunks of a source that is read part by part: each is read, checked, converted, and copied into memory of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from deltaprop.backends import Array
from deltaprop.backends.array_types import AnyArray, Indices
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.chunked import Chunk, Feed, rows_of_chunks
from deltaprop.epochs.random_numbers import window_generator
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
    """

    network: NetworkState
    source: Source
    check: Callable[[AnyArray, AnyArray], tuple[Array, Array]]
    shuffled: bool

    def __init__(self, network: NetworkState, checked: CheckedSource, batch_size: int, *, shuffled: bool) -> None:
        self.network, self.source, self.check, self.shuffled = network, checked.source, checked.check, shuffled
        self.rows: int = rows_of_chunks(network, checked.shape[0], batch_size)
        self._memory: dict[int, tuple[Array, Array]] = {}  # by the number of samples

    def chunks(self, order: Indices | None) -> Iterator[Chunk]:
        """Read all samples, chunk by chunk."""
        for read in self._read(order):
            X, Y = self._checked(read)
            rows = X.shape[0]
            if rows in self._memory:
                own_X, own_Y = self._memory[rows]
                own_X[...], own_Y[...] = X, Y
            else:
                self._memory[rows] = self.network.backend.copy(X), self.network.backend.copy(Y)
            yield Chunk("host", *self._memory[rows])

    def _read(self, order: Indices | None) -> Iterator[ReadChunk]:
        if isinstance(self.source, Rows):
            yield from self.source.chunks(self.rows, order)
        elif isinstance(self.source, Parts):
            yield from windows(self.source, self.rows, window_generator(self.network) if self.shuffled else None)

    def _checked(self, read: ReadChunk) -> tuple[Array, Array]:
        """Convert its samples to arrays of the network; an error names the row of the data."""
        try:
            return self.check(read.X, read.Y)
        except RowError as error:
            raise error.in_row(*read.place(error.row)) from None
