"""Which ranks the argument `ranks` means."""

from __future__ import annotations

from typing import Any, TypeAlias

from deltaprop.ranks.base import ALONE, Ranks

#: What users pass: None, "mpi", or a communicator of mpi4py.
RanksArgument: TypeAlias = Any


def find_ranks(ranks: RanksArgument) -> Ranks:
    """Return the ranks that share the minibatches of a training; `ALONE` for None, and where there is one rank.

    Raises
    ------
    ValueError, TypeError
        If `ranks` is none of these.
    BackendError
        If MPI cannot be had, or does not see all processes.
    """
    if ranks is None:
        return ALONE
    if isinstance(ranks, Ranks):
        return ranks
    if isinstance(ranks, str) and ranks != "mpi":
        raise ValueError(f'ranks: expected None, "mpi" or an mpi4py communicator, got {ranks!r}')
    if not isinstance(ranks, str) and not any(kind.__module__.startswith("mpi4py") for kind in type(ranks).__mro__):
        raise TypeError(f'ranks: expected None, "mpi" or an mpi4py communicator, got {type(ranks).__name__}')
    from deltaprop.ranks.mpi import mpi_ranks  # not at start-up, and not without MPI

    return mpi_ranks(ranks)


def without_communicator(state: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of an estimator for a copy or a pickle, in which "mpi" stays."""
    is_of_process = not isinstance(state.get("ranks"), str | None)
    return state | {"ranks": None} if is_of_process else state
