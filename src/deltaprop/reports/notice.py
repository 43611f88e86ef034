"""One line for who waits: by `logging` where a program asks for it, else on standard error where somebody reads it."""

from __future__ import annotations

import logging
import sys

from deltaprop.reports.notebook import notebook_shell

#: Whether a line goes to standard error even where that is no terminal; the command line says so.
always: bool = False
#: Whether no line goes there; of several ranks, the first one alone says something.
never: bool = False


def notice(line: str) -> None:
    """Tell a user why nothing happens for some seconds.

    The line goes to the logger "deltaprop", at level INFO. Where nobody listens there, it goes to standard error, if
    that is a terminal or a notebook's.
    """
    logger = logging.getLogger("deltaprop")
    if logger.isEnabledFor(logging.INFO):
        logger.info(line)
    elif sys.stderr is not None and not never and (always or sys.stderr.isatty() or notebook_shell() is not None):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
