"""The numbers that an epoch recorded, by name: for one network, or for each member of a stack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deltaprop.reports.history import History
from deltaprop.training.callbacks import EpochEnd


def numbers_of(history: History, epoch: int = 0) -> dict[str, float]:
    """Return the entry of an epoch, by default the last one, in each list of a history, by list or metric."""
    lists: dict[str, list[float]] = {
        "cost": history.cost,
        "validation_cost": history.validation_cost,
        **history.metrics,
        "learning_rate": history.learning_rate,
        "seconds": history.seconds,
    }
    return {name: float(values[epoch - 1]) for name, values in lists.items() if len(values) >= max(epoch, 1)}


def numbers_before(history: Any) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the epochs that a training which goes on from a checkpoint has behind it, and their numbers."""
    if isinstance(history, History):
        for epoch in range(1, history.epochs + 1):
            yield epoch, numbers_of(history, epoch)


def numbers_by_member(event: EpochEnd) -> Iterator[tuple[int | None, dict[str, float]]]:
    """Yield the numbers of an epoch: of a network with None, of a stack with the number of each member.

    Members that have not trained in this epoch are left out.
    """
    history: Any = event.history
    if isinstance(history, History):
        yield None, numbers_of(history)
        return
    for k, own in enumerate(history):
        if own.epochs == event.epoch:
            yield k, numbers_of(own)


def named_numbers(event: EpochEnd, between: str = "/") -> dict[str, float]:
    """Return the numbers of an epoch by name; of a stack, with the name of the member before: "member_3/cost"."""
    return {
        name if k is None else f"member_{k}{between}{name}": value
        for k, numbers in numbers_by_member(event)
        for name, value in numbers.items()
    }
