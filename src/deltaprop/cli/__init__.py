"""The ``deltaprop`` command."""

from __future__ import annotations

import signal
import sys
from typing import Any

import typer

from deltaprop.cli.app import app
from deltaprop.cli.memory import not_enough
from deltaprop.errors import BackendError, DivergenceError
from deltaprop.reports import notice

__all__ = ["main"]

#: The base of all usage errors. Newer releases of typer carry a click of their own, so it is found, not imported.
USAGE_ERROR: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
#: The exit statuses of a process that SIGINT or SIGTERM ended.
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM


def main() -> None:
    """Run the command line.

    Its exit status is 0, or 1 if training diverged, 2 on bad input or too little memory, 130 or 143 after a signal.
    """
    notice.always = True
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit status; bad input is told in one line on standard error."""
    try:
        status = app(arguments or ["--help"], prog_name="deltaprop", standalone_mode=False)
    except USAGE_ERROR as error:
        return _complain(error.format_message(), 2)
    except (ValueError, OSError, BackendError, ImportError) as error:
        return _complain(str(error), 2)
    except MemoryError as error:
        return _complain(not_enough(error), 2)
    except DivergenceError as error:
        return _complain(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        return _say("interrupted", INTERRUPTED)
    except SystemExit as exit:
        return _say("terminated", exit.code) if exit.code == TERMINATED else int(exit.code or 0)
    if status == INTERRUPTED:  # which typer makes of a KeyboardInterrupt
        return _say("interrupted", INTERRUPTED)
    return status or 0


def _complain(message: str, status: int) -> int:
    return _say(f"error: {message}", status)


def _say(message: str, status: int) -> int:
    """Tell how the command ended, in one line on standard error."""
    line = " ".join(message.split())
    print(f"deltaprop: {line}", file=sys.stderr)  # noqa: T201
    return status
