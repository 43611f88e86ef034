"""What a stage tells of itself while it runs, one event at a time: what is known before a crash is not lost by it."""

from __future__ import annotations

from collections.abc import Callable
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

    def progress(self, line: str) -> None:
        """Something to read while one waits."""
        self.tell(("progress", line))
