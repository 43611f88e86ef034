"""Ranks with a CUDA device each: their arrays are added up by NCCL, from device to device, through CuPy's binding.

Everything on the host goes the way of the ranks they are made of, among it NCCL's own introduction of the devices to
one another. No two devices have run this yet: tests have a stand-in for CuPy's binding, and one device where there is
one.
"""

from __future__ import annotations

import platform
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, TypeVar
from weakref import WeakSet

import numpy as np

from deltaprop.backends.array_types import AnyArray
from deltaprop.backends.cuda.backend import CupyBackend
from deltaprop.errors import BackendError
from deltaprop.ranks.base import Ranks
from deltaprop.ranks.failures import decided, failing_together, known_to_all

T = TypeVar("T")

INSTALL = "pip install nvidia-nccl-cu13 (for CUDA 13) or pip install nvidia-nccl-cu12 (for CUDA 12)"
#: What tells machines apart that have the same name: it is another one each time a machine starts.
BOOT = Path("/proc/sys/kernel/random/boot_id")


class HoldsSums(Protocol):
    """Something with CUDA graphs that hold calls of `NcclRanks.sum`."""

    def drop_graphs(self) -> None:
        """Let go of the graphs."""


class Place(NamedTuple):
    """The device of a rank.

    Attributes
    ----------
    host, boot : str
        The name of its machine, and what tells that apart from others of the same name.
    bus : str
        Where the device is on the machine's PCI bus: one device has one place, whatever its number is in a process.
    device : int
        Its number in the process.
    """

    host: str
    boot: str
    bus: str
    device: int


class NcclRanks(Ranks):
    """Ranks whose arrays are on CUDA devices, one a rank; a context, in which the devices are connected.

    It is made and entered by all ranks, while the device of the backend is current. On the way out, graphs that hold
    sums are dropped first, for NCCL waits for them; after an exception nobody waits for sums that are under way.

    Parameters
    ----------
    ranks : Ranks
        The same ranks, which exchange values of the host.
    backend : CupyBackend

    Attributes
    ----------
    captures : bool
        Whether a CUDA graph may hold `sum`: NCCL needs that it does on all ranks, or on none.

    Raises
    ------
    BackendError
        On every rank, if NCCL cannot be had, two ranks have the same device, or the devices cannot be connected.
    """

    captures: bool

    def __init__(self, ranks: Ranks, backend: CupyBackend) -> None:
        self.rank: int = ranks.rank
        self.size: int = ranks.size
        self._ranks, self._backend = ranks, backend
        self._holders: WeakSet[Any] = WeakSet()
        with failing_together(ranks):
            nccl = import_nccl()
            place = place_of(backend)
            captures = backend.captures
        _require_own_devices(ranks.gather(place))
        identity = decided(ranks, nccl.get_unique_id)
        with failing_together(ranks):
            try:
                self._communicator: Any = nccl.NcclCommunicator(self.size, identity, self.rank)
            except nccl.NcclError as error:
                raise BackendError(
                    f"ranks: NCCL cannot connect the devices of {self.size} ranks ({error}); it tells more with "
                    "NCCL_DEBUG=INFO in the environment"
                ) from error
        self.captures = not ranks.any(not captures)
        #: The errors by which NCCL refuses a sum.
        self.errors: tuple[type[Exception], ...] = (nccl.NcclError,)
        self._types = {np.dtype(np.float32): nccl.NCCL_FLOAT32, np.dtype(np.float64): nccl.NCCL_FLOAT64}
        self._sum = nccl.NCCL_SUM

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for holder in list(self._holders):
            holder.drop_graphs()
        if error is None:
            self._communicator.destroy()
        else:
            self._communicator.abort()  # another rank may never launch its part of a sum

    def held_by(self, holder: HoldsSums) -> None:
        """Remember something that captures `sum`, so that its graphs are dropped before the devices are parted."""
        self._holders.add(holder)

    def sum(self, flat: AnyArray) -> None:
        """Add up an array of the device over all ranks, in place: a launch on the current stream, as of a kernel."""
        address, stream = self._backend.address(flat), self._backend.cp.cuda.get_current_stream()
        self._communicator.allReduce(address, address, flat.size, self._types[flat.dtype], self._sum, stream.ptr)

    def sum_host(self, numbers: Sequence[float]) -> list[float]:
        """Add up some numbers by the hosts."""
        return self._ranks.sum_host(numbers)

    def from_first(self, value: T) -> T:
        """Return the value that rank 0 passes, by the hosts."""
        return self._ranks.from_first(value)

    def gather(self, value: T) -> list[T]:
        """Return the values that all ranks pass, by the hosts."""
        return self._ranks.gather(value)

    def abort(self) -> None:
        """End all ranks."""
        self._ranks.abort()


def import_nccl() -> Any:
    """Import CuPy's binding of NCCL.

    Raises
    ------
    BackendError
        If CuPy was built without it, or NCCL itself is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # CuPy warns of what the error says
            nccl = import_module("cupy.cuda.nccl")
        if not nccl.available:
            import_module("cupy_backends.cuda.libs.nccl")  # to learn what is in the way
            raise BackendError(f"ranks: CuPy has not found NCCL when it was imported; {INSTALL}, and start again")
    except ModuleNotFoundError as error:
        raise BackendError(
            "ranks: this CuPy was built without NCCL, by which ranks add up arrays of their GPUs; install one from its "
            "wheels: pip install 'deltaprop[cuda13]' or pip install 'deltaprop[cuda12]'"
        ) from error
    except ImportError as error:
        raise BackendError(
            f"ranks: NCCL, by which ranks add up arrays of their GPUs, cannot be had ({error}); {INSTALL}"
        ) from error
    return nccl


def place_of(backend: CupyBackend) -> Place:
    """Say which device the arrays of a backend are on, its device being the current one."""
    number, boot = backend.device_number(), ""
    with suppress(OSError):  # where there is none, names have to do
        boot = BOOT.read_text()
    return Place(platform.node(), boot, backend.cp.cuda.runtime.deviceGetPCIBusId(number), number)


def _require_own_devices(places: Sequence[Place]) -> None:
    """Refuse two ranks on the same device, which NCCL does not connect.

    Raises
    ------
    BackendError
        On every rank.
    """
    seen: dict[tuple[str, str, str], int] = {}
    for rank, place in enumerate(places):
        first = seen.setdefault(place[:3], rank)
        if first != rank:
            raise known_to_all(
                BackendError(
                    f"ranks: expected a CUDA device for each rank, got device {places[first].device} of "
                    f"{place.host} ({place.bus}) for rank {first} and device {place.device}, which is the same one, "
                    f"for rank {rank}; start no more ranks on a machine than it has devices, and give each its own: "
                    'device=N or backend="cupy:N" where N is the number of the rank on its machine, or '
                    "CUDA_VISIBLE_DEVICES=N in its environment"
                )
            )
