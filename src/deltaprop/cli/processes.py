"""One command run by several processes: refused without ``--ranks``; with it, rank 0 prints and writes for all."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from deltaprop.cli.ending import USAGE_ERROR, Ending, ending_by, tell
from deltaprop.ranks.base import ALONE, Ranks
from deltaprop.ranks.failures import RankError, is_known_to_all
from deltaprop.ranks.launchers import LauncherError, launched
from deltaprop.reports import notice

#: Most launchers end all processes when the first has failed. The others wait so many seconds, so that process 0 is the
#: first, and its line is read.
SECONDS_FOR_THE_FIRST = 3.0


class LaunchedError(ValueError):
    """A launcher has started several processes for a command that one process should run."""


class Ended(Exception):  # noqa: N818  (all ranks know how they end)
    """All ranks have failed, and rank 0 has told why.

    Attributes
    ----------
    status : int
        The exit status, the same on all ranks.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"exit status {status}")
        self.status = status


def require_one_process(what: str = "start one process") -> None:
    """Refuse to run as one of several processes of a launcher: each would train by itself and write the same files.

    what : str
        What the user should do.

    Raises
    ------
    LaunchedError
        If a launcher has started this process as one of several.
    """
    found = launched()
    if found is not None:
        raise LaunchedError(
            f"expected one process, but {found.launcher} has started {found.size} ({found.variable}={found.size}), and "
            f"each would do all the work and write the same files; {what}, or unset {found.variable} where each has "
            "work of its own"
        )


def tell_once(ending: Ending, error: BaseException) -> int:
    """Say how the command ended before the ranks knew of each other; return its exit status.

    What is wrong with the command or with the launcher, all processes find out; process 0 alone tells. What else
    process 0 does not tell within some seconds, the others tell too.
    """
    found = launched()
    if found is not None and not found.is_first and not isinstance(error, (KeyboardInterrupt, SystemExit)):
        time.sleep(SECONDS_FOR_THE_FIRST)
        if isinstance(error, (USAGE_ERROR, LaunchedError, LauncherError)):
            return ending.status
    return tell(ending)


@contextmanager
def ranks_of(asked: str | None) -> Iterator[Ranks]:
    """Find the ranks that train together, and end all of them in the same way if one fails within.

    Within, an exception on one rank has to become one on all (`failing_together`); otherwise all are killed.

    Parameters
    ----------
    asked : str or None
        What ``--ranks`` says.

    Raises
    ------
    ValueError, BackendError
        If that is not "mpi", or MPI cannot be had; `LaunchedError` if several processes have been started without it.
    Ended
        If one of several ranks fails. One rank by itself raises its own exception.
    """
    ranks = _find(asked)
    if ranks.size == 1:
        yield ranks
        return
    try:
        with warnings.catch_warnings():
            if not ranks.is_first:
                warnings.simplefilter("ignore")
                notice.never = True
            yield ranks
    except BaseException as error:
        ending = ending_by(error) or Ending(1, "".join(traceback.format_exception(error)).rstrip())
        if not is_known_to_all(error):
            tell(ending)
            ranks.abort()
        raise Ended(_tell_of_all(ranks, None if isinstance(error, RankError) else ending)) from error


def _find(asked: str | None) -> Ranks:
    if asked is None:
        require_one_process("add --ranks mpi, or start one process")
        return ALONE
    if asked != "mpi":
        raise ValueError(f"--ranks: expected mpi, got {asked!r}")
    from deltaprop.ranks.choice import find_ranks  # not at start-up

    return find_ranks(asked)


def _tell_of_all(ranks: Ranks, own: Ending | None) -> int:
    """Have rank 0 tell what the first rank that has failed says; return the exit status for all ranks."""
    endings = ranks.gather(own)
    rank, ending = next(((rank, each) for rank, each in enumerate(endings) if each is not None), (0, Ending(1, "")))
    if ranks.is_first:
        tell(ending._replace(line=f"{ending.line} (on rank {rank})") if rank and ending.line else ending)
    ranks.any(False)  # a rank that were gone by now would have its launcher end rank 0, which is to tell first
    return ending.status
