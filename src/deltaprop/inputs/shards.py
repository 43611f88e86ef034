"""Virtual shards: runs of the rows of a source, into which it is divided whatever number of ranks reads it.

Each rank reads shards of its own, so that the page cache of each machine holds only its share, and every minibatch
takes a slice of every shard: so a run does not depend on the number of ranks. The number of shards depends on the data
alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from deltaprop.backends.array_types import Indices
from deltaprop.inputs.sources import CHUNK_BYTES, Parts, Piece, ReadChunk, windows_of

#: Shards at most: this number can be shared out evenly among 2 to 8, 10, 12, 14 and 15 ranks.
MOST_SHARDS = 840
#: Shards of parts at most, unless parts are small.
MOST_SHARDS_OF_LARGE_PARTS = 48
#: Bytes of the windows of all shards; each rank holds its share of them.
WINDOWS_BYTES = 2 * 2**30
#: Bytes that a number counts as.
NUMBER_BYTES = 8


def starts_of_shards(rows: int) -> Indices:
    """Return where each shard of so many rows begins, and at the end how many rows there are."""
    shards = min(rows, MOST_SHARDS)
    return rows * np.arange(shards + 1) // shards


class PartShards:
    """The shards of a source that is read part by part: each is a run of parts.

    A shard is read in windows: its parts follow one another, in a random order if it is shuffled, and the rows within a
    window are permuted. A window takes `WINDOWS_BYTES` divided by the number of shards, and `CHUNK_BYTES` at most; so
    the windows of one of R ranks take 2 GiB / R at most, if numbers have eight bytes. Beside each window a rank holds
    the piece of the source that comes next, which is a megabyte of a row group or file; where a whole part is no larger
    than a window, it is the rest of that part, so that all may take twice as much. Files whose arrays lie column by
    column are one piece. While a window is permuted, it is there twice.

    Parameters
    ----------
    source : Parts
        Its parts can be read by number.

    Attributes
    ----------
    sizes : array of int64, (shards,)
        How many rows each shard has.
    rows_of_window : int
    """

    sizes: Indices
    rows_of_window: int

    def __init__(self, source: Parts) -> None:
        self.source = source
        parts = len(source.sizes)
        bytes_of_row = NUMBER_BYTES * (source.shape[1] + 1)
        largest = max(source.sizes) * bytes_of_row
        shards = min(parts, MOST_SHARDS, max(MOST_SHARDS_OF_LARGE_PARTS, WINDOWS_BYTES // largest))
        self._bounds: list[int] = (parts * np.arange(shards + 1) // shards).tolist()
        rows_before = np.concatenate([[0], np.cumsum(source.sizes)])
        self.sizes = np.diff(rows_before[self._bounds])
        self.rows_of_window = max(1, min(CHUNK_BYTES, WINDOWS_BYTES // shards) // bytes_of_row)

    def read(self, shard: int, rng: np.random.Generator | None) -> ShardReader:
        """Begin to read a shard, shuffled by `rng`, if given."""
        return ShardReader(windows_of(self.source, self._pieces(shard, rng), self.rows_of_window, rng))

    def _pieces(self, shard: int, rng: np.random.Generator | None) -> Iterator[Piece]:
        first, last = self._bounds[shard : shard + 2]
        parts = first + (np.arange(last - first) if rng is None else rng.permutation(last - first))
        for number in parts.tolist():
            pieces = self.source.parts([number])
            # Its file is closed before another shard is read: there may be more shards than files may be open.
            yield from list(pieces) if self.source.sizes[number] <= self.rows_of_window else pieces


class ShardReader:
    """Takes the rows of a shard one after the other.

    Parameters
    ----------
    windows : iterator of ReadChunk
        All rows of the shard.
    """

    def __init__(self, windows: Iterator[ReadChunk]) -> None:
        self._windows = windows
        self._held: ReadChunk | None = None
        self._taken = 0

    def take(self, rows: int) -> Iterator[Taken]:
        """Yield the next so many rows, in one piece or several."""
        while rows:
            if self._held is None:
                self._held, self._taken = next(self._windows), 0
            first, last = self._taken, min(self._taken + rows, len(self._held.X))
            yield Taken(self._held, first, last)
            rows, self._taken = rows - (last - first), last
            if last == len(self._held.X):
                self._held = None

    def end(self) -> None:
        """Read on to the end of the shard, once all rows have been taken: what is wrong there is found then."""
        next(self._windows, None)


class Taken(NamedTuple):
    """Rows `first` to `last` of a window."""

    window: ReadChunk
    first: int
    last: int


def joined(taken: list[Taken], order: Indices) -> ReadChunk:
    """Join rows of windows, in this order: the places of rows among all that are taken. There may be none."""
    ends = np.cumsum([last - first for _, first, last in taken])
    places = [(window.place, last) for window, _, last in taken]  # and not their arrays, which are released

    def place(row: int) -> tuple[int, str]:
        row = int(order[row])
        which = int(np.searchsorted(ends, row, side="right"))
        place_in_window, last = places[which]
        return place_in_window(last - (int(ends[which]) - row))

    if not taken:
        return ReadChunk(np.empty((0, 0)), np.empty(0), place)
    X = np.concatenate([window.X[first:last] for window, first, last in taken])[order]
    Y = np.concatenate([window.Y[first:last] for window, first, last in taken])[order]
    return ReadChunk(X, Y, place)
