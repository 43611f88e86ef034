"""Minibatches that take a slice of every shard of the data: how many rows of each, in which order, and whose."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from deltaprop.backends.array_types import Indices
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.random_numbers import shard_generator
from deltaprop.epochs.shares import Shares, warn_of_idle
from deltaprop.inputs.shards import PartShards, starts_of_shards
from deltaprop.inputs.sources import Parts, Rows, Source
from deltaprop.ranks.base import Ranks


class Slices(NamedTuple):
    """The rows of a shard that some minibatches take.

    Attributes
    ----------
    shard : int
    first, last : int
        They are rows `first` to `last` of the shard, in its order.
    places : array of int64, (last - first,)
        Where they stand among all rows that these minibatches take from the shards in question.
    """

    shard: int
    first: int
    last: int
    places: Indices


class Sharding(ABC):
    """Shares out n rows in S shards over nb = ⌈n/batch_size⌉ minibatches and R ranks.

    Shard s of n_s rows has given ⌊n_s b/nb + s/S⌋ of them before minibatch b. If shards are equal, that makes the sizes
    of minibatches as even as can be (Hermite's identity); else they vary a little. Minibatches that get no row are left
    out. Rank r reads shards ⌊S r/R⌋ to ⌊S (r + 1)/R⌋. In a minibatch, rows stand in the order of their shards.

    Parameters
    ----------
    sizes : array of int64, (S,)
        n_s.
    batch_size : int
    ranks : Ranks

    Attributes
    ----------
    count : int
        S.
    own : range
        The shards of this rank.
    shares : Shares
        Its rows of each minibatch.
    most_rows : int
        How many rows a rank has at most.
    """

    sizes: Indices
    count: int
    own: range
    shares: Shares
    most_rows: int

    def __init__(self, sizes: Indices, batch_size: int, ranks: Ranks) -> None:
        self.sizes, self.count = sizes, len(sizes)
        bounds = self.count * np.arange(ranks.size + 1) // ranks.size
        self.own = range(int(bounds[ranks.rank]), int(bounds[ranks.rank + 1]))
        rows = int(sizes.sum())
        ends = np.concatenate([[0], np.cumsum(sizes)])
        self.most_rows = int(np.diff(ends[bounds]).max())
        self._steps = -(-rows // batch_size)
        begins = np.arange(self._steps + 1)
        #: Those of all shards, of this rank's, and of the shards before.
        whole, starts, before = (np.zeros(self._steps + 1, np.int64) for _ in range(3))
        for shard, given in self._given(range(self.count), begins):
            whole += given
            if shard in self.own:
                starts += given
            elif shard < self.own.start:
                before += given
        #: The minibatches that have rows begin and end with these.
        self._begins: Indices = np.concatenate([begins[:-1][np.diff(whole) > 0], [self._steps]])
        whole, starts, before = (of_all[self._begins] for of_all in (whole, starts, before))
        self.shares = Shares(starts, whole, np.diff(before))

    @abstractmethod
    def order(self, network: NetworkState, *, of_all: bool) -> Indices | None:
        """Draw the order of this rank's rows in the next epoch, or of all rows: their numbers, where rows have some."""

    def _given(self, shards: range, begins: Indices) -> Iterator[tuple[int, Indices]]:
        """Yield how many rows each of some shards has given before each of some minibatches."""

        @lru_cache(maxsize=2)  # slices of rows have two sizes
        def quotient_and_rest(size: int) -> tuple[Indices, Indices]:
            whole, rest = np.divmod(size * begins, self._steps)
            return whole, rest * self.count

        for shard in shards:
            whole, rest = quotient_and_rest(int(self.sizes[shard]))
            yield shard, whole + (rest >= self._steps * (self.count - shard))

    def slices(self, first: int, last: int, shards: range | None = None) -> Iterator[Slices]:
        """Yield what minibatches `first` to `last` take of each of some shards, by default of this rank's."""
        begins = self._begins[first : last + 1]
        starts = self.shares.starts if shards is None else self.shares.whole_starts
        place = starts[first:last] - starts[first]
        for shard, given in self._given(self.own if shards is None else shards, begins):
            counts = np.diff(given)
            places = np.repeat(place - given[:-1], counts) + np.arange(given[0], given[-1])
            yield Slices(shard, int(given[0]), int(given[-1]), places)
            place += counts


class RowSharding(Sharding):
    """The same of rows that can be read by number, each shard permuted.

    Parameters
    ----------
    rows : int
    batch_size : int
    ranks : Ranks
    """

    def __init__(self, rows: int, batch_size: int, ranks: Ranks) -> None:
        self._starts = starts_of_shards(rows)
        super().__init__(np.diff(self._starts), batch_size, ranks)

    def order(self, network: NetworkState, *, of_all: bool) -> Indices:
        """Draw the order of this rank's rows in the next epoch, or of all rows."""
        shards = range(self.count) if of_all else None
        starts = self.shares.whole_starts if of_all else self.shares.starts
        order = np.empty(starts[-1], np.int64)
        for shard, _, last, places in self.slices(0, len(self.shares.places), shards):
            order[places] = self._starts[shard] + shard_generator(network, shard).permutation(last)
        return order


class PartSharding(Sharding):
    """The same of a source that is read part by part.

    Parameters
    ----------
    source : Parts
    batch_size : int
    ranks : Ranks
    """

    def __init__(self, source: Parts, batch_size: int, ranks: Ranks) -> None:
        self.parts: PartShards = PartShards(source)
        super().__init__(self.parts.sizes, batch_size, ranks)

    def order(self, network: NetworkState, *, of_all: bool) -> None:
        """Return None: rows are shuffled as they are read."""


def sharding_of(source: Source, batch_size: int, ranks: Ranks, *, shuffled: bool) -> Sharding | None:
    """Return how a source is shared out in shards over ranks; None if each minibatch is shared out evenly instead.

    So it is if all ranks have the rows in memory, or have to read all of them, or read them in the order in which they
    lie.

    Warns
    -----
    RuntimeWarning
        On rank 0, if there are fewer shards than ranks.
    """
    sharding: Sharding | None = None
    if isinstance(source, Rows) and source.on_disk and shuffled:
        sharding = RowSharding(source.shape[0], batch_size, ranks)
    elif isinstance(source, Parts) and source.by_number:
        sharding = PartSharding(source, batch_size, ranks)
    if sharding is not None:
        why = f"these data can be shared out over {sharding.count} ranks at most ({source.describe()})"
        warn_of_idle(ranks, sharding.count, why)
    return sharding
