"""Ranks of MPI, by mpi4py; it is imported when they are asked for."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Sequence
from functools import cache
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from deltaprop.backends.array_types import AnyArray
from deltaprop.errors import BackendError
from deltaprop.ranks.base import ONE_RANK, Ranks
from deltaprop.ranks.failures import is_known_to_all
from deltaprop.ranks.launchers import LauncherError, launched

T = TypeVar("T")

INSTALL = "pip install 'deltaprop[mpi]'"
#: Seconds that a rank which ends waits for the others to end, too.
PATIENCE = 5.0
#: Entries of one sum: MPI counts them in 32 bits.
ENTRIES_AT_ONCE = 2**30


class MpiRanks(Ranks):
    """The ranks of a communicator of mpi4py.

    Parameters
    ----------
    communicator : mpi4py.MPI.Intracomm
    """

    def __init__(self, communicator: Any) -> None:
        from mpi4py import MPI

        self._mpi, self._communicator = MPI, communicator
        self.rank: int = communicator.Get_rank()
        self.size: int = communicator.Get_size()

    def sum(self, flat: AnyArray) -> None:
        """Add up an array of the host over all ranks, in place."""
        for start in range(0, len(flat), ENTRIES_AT_ONCE):
            self._communicator.Allreduce(self._mpi.IN_PLACE, flat[start : start + ENTRIES_AT_ONCE])

    def sum_host(self, numbers: Sequence[float]) -> list[float]:
        """Add up some numbers over all ranks."""
        array = np.array(numbers, np.float64)
        self._communicator.Allreduce(self._mpi.IN_PLACE, array)
        summed: list[float] = array.tolist()
        return summed

    def from_first(self, value: T) -> T:
        """Return the value that rank 0 passes; others get a copy."""
        found: T = self._communicator.bcast(value if self.is_first else None)
        return found

    def gather(self, value: T) -> list[T]:
        """Return the values that all ranks pass."""
        values: list[T] = self._communicator.allgather(value)
        return values

    def all_come(self, seconds: float) -> bool:
        """Wait until all ranks have called this, but no longer than so many seconds; return whether they have."""
        until, request = time.monotonic() + seconds, self._communicator.Ibarrier()
        while not (come := request.Test()) and time.monotonic() < until:
            time.sleep(0.01)
        return bool(come)

    def abort(self) -> None:
        """End all ranks of the communicator, with exit status 1."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._communicator.Abort(1)


def mpi_ranks(given: Any) -> Ranks:
    """Return the ranks of "mpi", which are all processes that the launcher has started, or of a communicator.

    From then on, an exception that nobody catches on one rank ends all of them.

    Raises
    ------
    BackendError
        If mpi4py or an MPI library is not installed; `LauncherError` if the launcher belongs to another MPI library.
    TypeError, ValueError
        If `given` is neither, or a communicator without this process.
    """
    starter = launched()
    if starter is not None and multiprocessing.parent_process() is not None:
        # MPI would take it for the process that has started it, and both would end.
        raise LauncherError(
            f"ranks: expected a process that {starter.launcher} has started, got one that such a process has started; "
            "use no n_jobs with ranks"
        )
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: there is no MPI library
        raise BackendError(f"ranks: MPI cannot be had ({error}); install it with: {INSTALL}") from error
    communicator: Any = MPI.COMM_WORLD if isinstance(given, str) else given
    if not isinstance(communicator, MPI.Intracomm):
        raise TypeError(f"ranks: expected an mpi4py.MPI.Intracomm, got {type(given).__name__}")
    if communicator == MPI.COMM_NULL:
        raise ValueError("ranks: expected a communicator that this process belongs to, got MPI.COMM_NULL")
    if communicator == MPI.COMM_WORLD:
        _require_all(communicator.Get_size())
    if communicator.Get_size() == 1:
        return ONE_RANK
    _end_all_when_one_fails()
    return MpiRanks(communicator)


def _require_all(size: int) -> None:
    """Refuse to begin where the launcher has started more processes than MPI sees.

    Raises
    ------
    LauncherError
        If so: each process would train by itself.
    """
    found = launched()
    if found is not None and size != found.size:
        from mpi4py import MPI

        library = MPI.Get_library_version().split(",")[0].split("\n")[0].strip()
        raise LauncherError(
            f"ranks: expected {found.size} ranks, as {found.launcher} says ({found.variable}={found.size}), got {size} "
            f"from {library}, by which mpi4py runs; start them by the mpiexec of that library: {INSTALL} puts one "
            "beside the python of the environment"
        )


@cache
def _end_all_when_one_fails() -> None:
    """Have an exception that nobody catches end all processes, for they would wait for this one.

    ``sys.exit`` is no such exception.
    """
    from mpi4py import MPI

    before, world = sys.excepthook, MpiRanks(MPI.COMM_WORLD)

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        before(kind, error, traceback)
        # What all ranks know of is shown by each, before all end; but some may have caught it, and gone on.
        if not (is_known_to_all(error) and world.all_come(PATIENCE)):
            world.abort()

    sys.excepthook = hook
