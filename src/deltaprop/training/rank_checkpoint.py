"""A checkpoint that rank 0 reads, and every rank goes on from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from deltaprop.derivation.remembered import counters_of
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.trainer import Trainer
from deltaprop.ranks.base import Ranks
from deltaprop.ranks.failures import decided
from deltaprop.training.checkpoint import Checkpoint, Found


def load_on_all(
    ranks: Ranks, keeper: Checkpoint | None, network: NetworkState, trainer: Trainer, epochs: int
) -> Found | None:
    """Restore training from the checkpoint of rank 0, which alone has a `keeper`; return what else the file held.

    The parameters and the arrays of the optimizer come to the other ranks when the next epoch begins, and the cost of
    an epoch that was left off stays with rank 0: what counts is the sum over all ranks.

    Raises
    ------
    ValueError, OSError
        As `Checkpoint.load`; on other ranks `RankError`.
    """
    if ranks.size == 1:
        return None if keeper is None else keeper.load(epochs)
    backend, state = network.backend, trainer.state

    def read() -> tuple[Found | None, int, dict[str, Any]]:
        found = None if keeper is None else keeper.load(epochs)
        if found is not None:
            arrays = (found.best, found.epoch_start)
            best, start = (None if array is None else backend.to_numpy(array) for array in arrays)
            found = replace(found, best=best, epoch_start=start)
        return found, network.epochs_trained, counters_of(backend, state)

    found, network.epochs_trained, counters = decided(ranks, read)
    state.update(counters)
    if found is None:
        return None
    own = (
        None if array is None else backend.asarray(array, network.dtype) for array in (found.best, found.epoch_start)
    )
    best, start = own
    return replace(found, best=best, epoch_start=start)
