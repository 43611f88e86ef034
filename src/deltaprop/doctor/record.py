"""Reports what a stage does and finds, one event at a time, so that a crash loses nothing found before it."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

#: The kind of an event and its content, in JSON types.
Event: TypeAlias = tuple[str, Any]


class NotTriedError(Exception):
    """A stage cannot be tried on this machine, which is no failure; the message says why."""

    #: The kind of its event.
    kind = "not tried"


class NoDeviceError(NotTriedError):
    """No stage of the backend can be tried on this machine."""

    kind = "no device"


class Record:
    """Writes down what a stage does and finds.

    Parameters
    ----------
    tell : callable
        It is called with each `Event`.
    """

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self.tell = tell

    def trying(self, what: str) -> None:
        """Say what comes next: if a signal ends the stage, this is named."""
        self.tell(("trying", what))

    def compare(self, what: str, found: float, allowed: float, unit: str = "") -> None:
        """Report a number that was found, and the largest one allowed."""
        self.tell(("check", [what, float(found), float(allowed), unit]))

    def fact(self, name: str, value: object) -> None:
        """Report a fact about the machine."""
        self.tell(("fact", [name, str(value)]))

    def slow(self, why: str) -> None:
        """Say why it works, but more slowly than it could."""
        self.tell(("slow", why))

    def not_taken(self, way: str) -> None:
        """Report that epochs were not trained in this way, though it was the only one allowed."""
        self.tell(("not taken", way))

    def progress(self, line: str) -> None:
        """Report a line to read while one waits."""
        self.tell(("progress", line))


@contextmanager
def hearing_warnings(record: Record) -> Iterator[None]:
    """Inside, report each RuntimeWarning as `slow`: the package warns so when it does without something."""

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
