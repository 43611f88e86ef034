"""Restricts training to one way of running epochs, so that each result belongs to a known way."""

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
    """Inside, make `Network.fit` train in one of these ways or, if none fits, step by step.

    Yields the list of the epochs that were found: one for each training, and one more if a device refuses the first.
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
