"""Epochs trained in one way and no other, so that it is known which one a number belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from deltaprop.epochs.compiled import CompiledEpoch
from deltaprop.epochs.graph import GraphEpoch
from deltaprop.epochs.recorded import RecordedEpoch
from deltaprop.epochs.resident import ResidentEpoch
from deltaprop.epochs.task import Task, WholeEpoch

WAYS: tuple[type[WholeEpoch], ...] = (ResidentEpoch, GraphEpoch, CompiledEpoch, RecordedEpoch)


@contextmanager
def only(*ways: type[WholeEpoch]) -> Iterator[list[WholeEpoch]]:
    """Within, `Network.fit` trains in one of these ways or, where there is none, step by step.

    Yields the list of what was found for each training, and found again where a device refuses what it was to do.
    """
    found: list[WholeEpoch] = []
    with ExitStack() as stack:
        for way in WAYS:
            stack.enter_context(
                patch.object(way, "find", staticmethod(_finding(way, found) if way in ways else _nothing))
            )
        yield found


def _finding(way: type[WholeEpoch], found: list[WholeEpoch]) -> Callable[[Task], WholeEpoch | None]:
    find = way.find  # before it is replaced

    def recording(task: Task) -> WholeEpoch | None:
        epoch = find(task)
        if epoch is not None:
            found.append(epoch)
        return epoch

    return recording


def _nothing(task: Task) -> None:
    return None
