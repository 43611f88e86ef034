"""How an error ends the command: its exit status, and the line on standard error that tells of it."""

from __future__ import annotations

import signal
import sys
from typing import Any, NamedTuple

import typer

from deltaprop.cli.memory import not_enough
from deltaprop.cli.option_names import by_option
from deltaprop.errors import BackendError, DivergenceError

#: The base of all usage errors. Newer releases of typer carry a click of their own, so it is found, not imported.
USAGE_ERROR: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
#: The exit statuses of a process that SIGINT or SIGTERM ended.
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM


class Ending(NamedTuple):
    """How the command ends.

    Parameters
    ----------
    status : int
        Of the exit.
    line : str
        What is said on standard error; nothing if it is empty.
    """

    status: int
    line: str


def ending_by(error: BaseException) -> Ending | None:
    """Return how an error ends the command; None if it is a fault of the program, which shows its traceback."""
    if isinstance(error, USAGE_ERROR):
        return _complaint(error.format_message(), 2)
    if isinstance(error, DivergenceError):
        return _complaint(str(error), 1)
    if isinstance(error, MemoryError):
        return _complaint(not_enough(error), 2)
    if isinstance(error, ValueError):
        return _complaint(by_option(str(error)), 2)
    if isinstance(error, (OSError, BackendError, ImportError)):
        return _complaint(str(error), 2)
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return Ending(INTERRUPTED, "deltaprop: interrupted")
    if isinstance(error, SystemExit):
        if isinstance(error.code, str):
            return _complaint(error.code, 1)
        status = int(error.code or 0)
        return Ending(status, "deltaprop: terminated" if status == TERMINATED else "")
    return None


def _complaint(message: str, status: int) -> Ending:
    return Ending(status, f"deltaprop: error: {' '.join(message.split())}")


def tell(ending: Ending) -> int:
    """Say how the command ended; return its exit status."""
    if ending.line:
        print(ending.line, file=sys.stderr, flush=True)  # noqa: T201
    return ending.status
