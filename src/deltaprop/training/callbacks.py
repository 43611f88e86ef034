"""Callbacks: what they are told after an epoch, and what they may answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from deltaprop.derivation.state import NetworkState
from deltaprop.reports.history import History


@dataclass(frozen=True)
class EpochEnd:
    """What a callback is told after every epoch of `fit`, and after every iteration of `fit_full_batch`.

    Parameters
    ----------
    network : NetworkState
        The network being trained; reading it changes nothing.
    epoch : int
        The epoch (iteration) that ended, counted from 1.
    epochs : int
        How many epochs were asked for (iterations at most).
    history : History
        Everything recorded so far, this epoch included.
    """

    network: NetworkState
    epoch: int
    epochs: int
    history: History


#: Called after every epoch; True ends training.
Callback: TypeAlias = Callable[[EpochEnd], bool | None]


def tell(callbacks: Iterable[Callback], event: EpochEnd) -> bool:
    """Call every callback, also those after one that ends training; return whether one does."""
    return True in [callback(event) for callback in callbacks]
