"""Which ranks the argument `ranks` means, and which add up the arrays of a backend."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

from deltaprop.backends.base import Backend
from deltaprop.backends.device import DeviceBackend
from deltaprop.errors import BackendError
from deltaprop.ranks.base import ALONE, Ranks
from deltaprop.ranks.failures import known_to_all

#: What users pass: None, "mpi", or a communicator of mpi4py.
RanksArgument: TypeAlias = Any


def find_ranks(ranks: RanksArgument) -> Ranks:
    """Return the ranks that share the minibatches of a training; `ALONE` for None, `ONE_RANK` where there is one.

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


def summing_on(backend: Backend, ranks: Ranks) -> AbstractContextManager[Ranks]:
    """Return a context with the same ranks, which add up arrays of `backend`: by NCCL if they are on CUDA devices.

    All ranks enter it, with backends of the same name; the device of each is current.

    Raises
    ------
    BackendError
        On every rank, if the arrays of such a backend cannot be added up, or NCCL cannot connect the devices.
    """
    if ranks.size == 1 or backend.on_host:
        return nullcontext(ranks)
    if not isinstance(backend, DeviceBackend):
        raise known_to_all(
            BackendError(f"ranks: expected a network on the CPU or on CUDA devices, got backend {backend.name!r}")
        )
    from deltaprop.ranks.nccl import NcclRanks  # not without a device

    cuda: Any = backend
    return NcclRanks(ranks, cuda)
