"""The ``deltaprop`` command."""

from __future__ import annotations

import sys

from deltaprop.cli.app import app
from deltaprop.cli.ending import INTERRUPTED, Ending, ending_by, tell
from deltaprop.cli.option_names import forget_options
from deltaprop.cli.processes import Ended, tell_once
from deltaprop.reports import notice

__all__ = ["main"]


def main() -> None:
    """Run the command line.

    Its exit status is 0, or 1 if training diverged, 2 on bad input or too little memory, 130 or 143 after a signal.
    """
    notice.always = True
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit status; bad input is told in one line on standard error."""
    forget_options()
    try:
        status = app(arguments or ["--help"], prog_name="deltaprop", standalone_mode=False)
    except Ended as ended:
        return ended.status
    except BaseException as error:
        ending = ending_by(error)
        if ending is None:
            raise
        return tell_once(ending, error)
    if status == INTERRUPTED:  # which typer makes of a KeyboardInterrupt
        return tell(Ending(INTERRUPTED, "deltaprop: interrupted"))
    return status or 0
