"""Epochs over data that come in chunks, where several ranks share each minibatch: each brings rows of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from deltaprop.backends import Array
from deltaprop.epochs.chunked import Chunk, ChunkedEpoch, Feed
from deltaprop.epochs.shares import Shares
from deltaprop.epochs.task import Pass
from deltaprop.ranks.base import Ranks
from deltaprop.ranks.failures import failing_together


class ChunkShares:
    """One rank's rows of each chunk of an epoch. All ranks have the same chunks, of so many minibatches each.

    Parameters
    ----------
    shares : Shares
        Of the epoch.
    batches : int
        Minibatches a chunk; the last may have fewer.

    Attributes
    ----------
    parts : list of (int, int, Shares)
        The first minibatch of each chunk, the first one after it, and the shares of those between.
    cuts : list of int
        Where the rows of each chunk begin among the rows of this rank; at the end, how many those are.
    most : int
        How many rows a chunk has at most, and 1 at least.
    """

    def __init__(self, shares: Shares, batches: int) -> None:
        steps = len(shares.places)
        begins = [*range(0, steps, batches), steps]
        self.parts: list[Part] = [Part(first, last, shares.of_part(first, last)) for first, last in pairwise(begins)]
        self.cuts: list[int] = shares.starts[begins].tolist()
        self.most: int = max(1, int(np.diff(self.cuts).max()))


class Part(NamedTuple):
    """Minibatches `first` to `last` of an epoch, and one rank's rows of them."""

    first: int
    last: int
    shares: Shares


class SharedChunkedEpoch(ChunkedEpoch):
    """Trains chunk by chunk together with other ranks: what one of them cannot read, ends the epoch on all.

    Parameters
    ----------
    feed : Feed
    chunk_shares : ChunkShares
        Its rows of each chunk.
    ranks : Ranks
    make_trainer : callable
        From X and Y, and the shares of the first chunk that is brought there, it makes a function that trains on the
        minibatches of a chunk.
    """

    chunk_shares: ChunkShares
    ranks: Ranks

    def __init__(
        self,
        feed: Feed,
        chunk_shares: ChunkShares,
        ranks: Ranks,
        make_trainer: Callable[[Array, Array, Shares], Callable[[Pass], None]],
    ) -> None:
        self.feed, self.chunk_shares, self.ranks, self._make = feed, chunk_shares, ranks, make_trainer
        self.trainers = {}

    def __call__(self, given: Pass) -> None:
        """Train on all minibatches."""
        chunks = self.feed.chunks(given.order)
        start = 0
        for first, last, shares in self.chunk_shares.parts:
            with failing_together(self.ranks):
                train = self._trainer_of(next(chunks), shares)
            stop = start + int(shares.starts[-1])
            weights = None if given.weights is None else given.weights[start:stop]
            marks = None if given.marks is None else given.marks.of_part(first)
            sums = given.sums[first:last]
            train(replace(given, order=None, weights=weights, sums=sums, marks=marks, shares=shares))
            start = stop
        with failing_together(self.ranks):
            next(chunks, None)  # what is wrong behind the last sample is found there

    def _trainer_of(self, chunk: Chunk, shares: Shares) -> Callable[[Pass], None]:
        if chunk.memory not in self.trainers:
            self.trainers[chunk.memory] = self._make(chunk.X, chunk.Y, shares)
        return self.trainers[chunk.memory]
