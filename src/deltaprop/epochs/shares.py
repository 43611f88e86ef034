"""Which rows of each minibatch a rank trains on, and the sum of the ranks' gradients in each step."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from deltaprop.backends.array_types import AnyArray, Indices
from deltaprop.derivation.parameters import Parameters
from deltaprop.derivation.state import NetworkState
from deltaprop.errors import callers_level
from deltaprop.ranks.base import Ranks
from deltaprop.ranks.failures import raise_on_all


@dataclass(frozen=True)
class Shares:
    """One rank's rows of some minibatches that follow one another.

    Parameters
    ----------
    starts : array of int64, (batches + 1,)
        Where the rows of each minibatch begin among the rows of this rank; at the end, how many those are.
    whole_starts : array of int64, (batches + 1,)
        Where the rows of each minibatch begin among the rows of all ranks.
    places : array of int64, (batches,)
        The place of this rank's first row in each minibatch.
    """

    starts: Indices
    whole_starts: Indices
    places: Indices

    @cached_property
    def rows(self) -> Indices:
        """The places of this rank's rows among the rows of all ranks."""
        first = self.whole_starts[:-1] + self.places - self.starts[:-1]
        return np.repeat(first, self.counts) + np.arange(self.starts[-1])

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many rows each minibatch has on all ranks together."""
        return tuple(np.diff(self.whole_starts).tolist())

    @cached_property
    def most(self) -> int:
        """How many rows of a minibatch this rank has at most."""
        return int(self.counts.max())

    @cached_property
    def counts(self) -> Indices:
        """How many rows of each minibatch this rank has."""
        counts: Indices = np.diff(self.starts)
        return counts

    def of_part(self, first: int, last: int) -> Shares:
        """Return the shares of minibatches `first` to `last`, counted from the first of their rows."""
        starts, whole = self.starts[first : last + 1], self.whole_starts[first : last + 1]
        return Shares(starts - starts[0], whole - whole[0], self.places[first:last])


def even_shares(sizes: Sequence[int], ranks: Ranks) -> Shares:
    """Share out minibatches of these sizes evenly: rank r of R has rows ⌊m r/R⌋ to ⌊m (r + 1)/R⌋ of each."""
    m = np.array(sizes, np.int64)
    first, end = (m * rank // ranks.size for rank in (ranks.rank, ranks.rank + 1))
    return Shares(_starts(end - first), _starts(m), first)


def warn_of_idle(ranks: Ranks, busy: int, why: str) -> None:
    """Warn on rank 0 if some ranks have nothing to do, since at most `busy` of them have rows to train on.

    Warns
    -----
    RuntimeWarning
    """
    if busy < ranks.size and ranks.is_first:
        idle = f"{ranks.size - busy} of {ranks.size} ranks have no rows to train on"
        warnings.warn(f"ranks: {idle}, as {why}", RuntimeWarning, stacklevel=callers_level())


def _starts(counts: Indices) -> Indices:
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts


class SummedGradient:
    """∂J/∂θ of this rank's rows, which becomes the gradient of all ranks' rows in each step.

    With it, ranks tell one another whether a signal has asked one of them to leave off, and whether one has failed: so
    all hear of it in the same step.

    Parameters
    ----------
    ranks : Ranks
    network : NetworkState

    Attributes
    ----------
    gradient : Parameters
        It has no penalty: that is added once, after the sum.
    """

    ranks: Ranks
    gradient: Parameters

    def __init__(self, ranks: Ranks, network: NetworkState) -> None:
        self.ranks, self._backend = ranks, network.backend
        #: Where arrays are on a device, news is exchanged by the hosts.
        news = 2 if self._backend.on_host else 0
        self._buffer: AnyArray = self._backend.zeros((network.own.size + news,), network.dtype)
        self._news: AnyArray = self._buffer[network.own.size :]
        flat = self._buffer[: network.own.size]
        self.gradient = Parameters(self._backend, network.layer_sizes, network.dtype, flat=flat)

    def __call__(self, compute: Callable[[], None], *, leaves_off: bool) -> bool:
        """Call `compute`, which leaves ∂J/∂θ of this rank's rows in `gradient`; then add up those of all ranks.

        Returns
        -------
        bool
            Whether a rank has been asked to leave off after this step, as `leaves_off` says of this one.

        Raises
        ------
        RankError
            If `compute` fails on another rank; if it fails on this one, its own exception.
        """
        failure: BaseException | None = None
        try:
            compute()
        except BaseException as error:  # noqa: BLE001  (it is raised as soon as the others know)
            failure = error
        asked, failed = self._exchange(leaves_off, failure is not None)
        if failed:
            raise_on_all(self.ranks, failure)
        return asked

    def _exchange(self, leaves_off: bool, fails: bool) -> tuple[bool, bool]:
        if self._backend.on_host:
            if fails:
                self._backend.fill(self.gradient.flat, 0.0)
            self._news[0], self._news[1] = leaves_off, fails
            self.ranks.sum(self._buffer)
            return bool(self._news[0] > 0), bool(self._news[1] > 0)
        asked, failed = self.ranks.sum_host([leaves_off, fails])
        if not failed:
            self.ranks.sum(self._buffer)
        return asked > 0, failed > 0
