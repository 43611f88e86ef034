"""Sends rows from the process of a part to the process that started it: a line of JSON each, through a pipe."""

import json
import os
from typing import Any

#: The exit status of a part that cannot run here, after it has sent the reason.
NOT_HERE = 77


class NotHereError(Exception):
    """A part cannot run on this machine; the message says why. That is no failure."""


class Channel:
    """The end of the pipe that a part writes to."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def _send(self, message: dict[str, Any]) -> None:
        os.write(self.descriptor, (json.dumps(message) + "\n").encode())

    def plan(self, names: list[str]) -> None:
        """Announce the rows to come; those that do not come count as left out."""
        self._send({"plan": names})

    def begins(self, work: str, within: float) -> None:
        """Say that this work begins; if it takes longer than so many seconds or breaks the process, avoid it later."""
        self._send({"begins": work, "within": within})

    def row(self, name: str, text: str | None = None, **facts: Any) -> None:
        """Send a row, which replaces one of the same name. `text` is the line for people."""
        self._send({"row": {"name": name, **facts}, "text": text or short(name, facts)})

    def not_here(self, why: str) -> None:
        """Say that the part cannot run here."""
        self._send({"not_here": why})


def short(name: str, facts: dict[str, Any]) -> str:
    """Return a row as one line."""
    return f"{name}: " + ", ".join(f"{key} {_figure(value)}" for key, value in facts.items())


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_figure, value)) + "]"
    return str(value)
