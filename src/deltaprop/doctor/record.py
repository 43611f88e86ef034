"""What a stage tells of itself while it runs, one event at a time: what is known before a crash is not lost by it."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

#: A kind of event and what belongs to it, in JSON types.
Event: TypeAlias = tuple[str, Any]


class NotTriedError(Exception):
    """A stage cannot be tried here, which is no failure; the message says why."""

    #: What its event is called.
    kind = "not tried"


class NoDeviceError(NotTriedError):
    """No stage of the backend can be tried here."""

    kind = "no device"


class Record:
    """Where a stage puts what it does and finds.

    Parameters
    ----------
    tell : callable
        Given each `Event`.
    """

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self.tell = tell

    def trying(self, what: str) -> None:
        """What comes next: where a stage ends by a signal, it was this."""
        self.tell(("trying", what))

    def compare(self, what: str, found: float, allowed: float, unit: str = "") -> None:
        """A number that was found and the largest one allowed."""
        self.tell(("check", [what, float(found), float(allowed), unit]))

    def fact(self, name: str, value: object) -> None:
        """Something about the machine."""
        self.tell(("fact", [name, str(value)]))

    def slow(self, why: str) -> None:
        """It works, but not as fast as it might."""
        self.tell(("slow", why))

    def not_taken(self, way: str) -> None:
        """A training has gone another way than this one, which was the only one allowed."""
        self.tell(("not taken", way))

    def progress(self, line: str) -> None:
        """Something to read while one waits."""
        self.tell(("progress", line))


@contextmanager
def hearing_warnings(record: Record) -> Iterator[None]:
    """Inside, a RuntimeWarning is told of as something slow: it says what a machine refuses, and is done without."""

    def hear(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
    ) -> None:
        if issubclass(category, RuntimeWarning):
            record.slow(re.sub(r"; `deltaprop doctor` tells more$", "", str(message)))
        else:
            sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))

    with warnings.catch_warnings():
        warnings.simplefilter("always", RuntimeWarning)
        warnings.showwarning = hear
        yield
