"""Two trainings of one network at once are refused, because training changes parameters in place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from deltaprop.forks import in_child

#: The id of each thing that is being trained, and the call that trains it: its thread, and an object of its own.
_trained_by: dict[int, tuple[int, object]] = {}


@contextmanager
def training_of(*subjects: object) -> Iterator[None]:
    """Refuse other calls within that train any of `subjects`: networks, stacks or estimators.

    Raises
    ------
    RuntimeError
        If one of them is being trained already, by another thread or by the call from which this one is made.
    """
    call = (threading.get_ident(), object())
    try:
        for subject in subjects:
            # `setdefault` is one step for Python: of two threads one is the first.
            if _trained_by.setdefault(id(subject), call) is not call:
                raise RuntimeError(
                    f"this {type(subject).__name__} is being trained by another call, which has not returned; wait for "
                    "it, or train a copy"
                )
        yield
    finally:
        for subject in subjects:
            if _trained_by.get(id(subject)) is call:
                del _trained_by[id(subject)]


def _forget_other_threads() -> None:
    """Forget the trainings of other threads, in the child of a fork, which does not have those threads."""
    for key, (thread, _) in list(_trained_by.items()):
        if thread != threading.get_ident():
            del _trained_by[key]


in_child(_forget_other_threads)
