"""What only devices have: streams, events, graphs, memory that the host shares, networks kept in shared memory."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

from numpy.typing import DTypeLike

from deltaprop.backends.array_types import DType, HostArray
from deltaprop.backends.base import Array, Backend

#: A stream of the device's library, on which work waits its turn.
Stream: TypeAlias = Any
#: An event of the device's library: that some work is over.
Event: TypeAlias = Any
#: A graph of the device's library: launches that are made again and again; ``launch(stream)`` makes them, ``drop()``
#: lets go of them for good.
Graph: TypeAlias = Any


class Resident(Protocol):
    """How a network lies in shared memory: `deltaprop.backends.cuda.shared_memory.Residence`."""

    @property
    def blocks(self) -> int:
        """Blocks of a cluster, which hold one network."""

    @property
    def shape(self) -> Any:
        """The network, and the threads of a block, as the kernel reads them."""

    @property
    def definitions(self) -> tuple[str, ...]:
        """Options of the compiler that make the kernel of this network."""

    @property
    def shared_bytes(self) -> int:
        """Bytes of shared memory of a block."""


class DeviceBackend(Backend):
    """A backend whose arrays are on a device; the host goes on while the device works.

    Only ways of training that are made for a device call these methods. A backend without them is complete.
    """

    on_host = False

    # -- what a device cannot do ---------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def device_errors(self) -> tuple[type[Exception], ...]:
        """The exceptions that mean: the runtime or the driver of the device has refused something."""

    @abstractmethod
    def do_without(self, what: str, instead: str, error: Exception) -> None:
        """Go on without `what`, which has failed with `error`, and warn of it once a process.

        The warning says what is done `instead`.

        Raises
        ------
        Exception
            The same `error`, where the device does not go on after it.
        """

    # -- memory --------------------------------------------------------------------------------------------------------

    @abstractmethod
    def address(self, array: Array) -> int:
        """Return the address on the device where `array` begins."""

    @abstractmethod
    def page_locked(self, shape: tuple[int, ...], dtype: DTypeLike) -> HostArray:
        """Make a buffer in host memory that the copy engine can read while the host goes on."""

    # -- copies and events ---------------------------------------------------------------------------------------------

    @abstractmethod
    def upload(self, sources: list[HostArray], targets: list[Array], stream: Stream, after: Event) -> Event:
        """Copy page-locked arrays to the device on `stream`, after the event `after`; return the event of their end."""

    @abstractmethod
    def send(self, source: HostArray, target: Array, event: Event) -> Event:
        """Copy a page-locked array to the device on the current stream, and return the event of its end.

        The host does not wait. The event is `event`, one of an earlier copy that is over, or a new one for None.
        """

    @abstractmethod
    def event(self) -> Event:
        """Return the event that everything launched so far on the current stream is over."""

    @abstractmethod
    def wait_on_device(self, event: Event) -> None:
        """Let the current stream wait for `event` before it goes on; the host does not wait."""

    @abstractmethod
    def wait_on_host(self, event: Event) -> None:
        """Let the host wait for `event`, unless it is None."""

    # -- streams -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def new_stream(self) -> Stream:
        """Make a stream that waits for no other stream; only such a stream can be captured."""

    @abstractmethod
    def stream_for(self, purpose: str) -> Stream:
        """Return the stream of the current thread and device for this purpose; the first call makes it.

        Networks that are trained in turn in one thread share it, and so share scratch and the workspace of products.
        """

    @abstractmethod
    def on_stream(self, stream: Stream) -> AbstractContextManager[None]:
        """Launch on `stream` inside: after all that came before on the caller's stream, and before all that follows."""

    @abstractmethod
    def beside(self, side: Stream) -> AbstractContextManager[None]:
        """Run weight gradients on the stream `side` inside, and everything else on the current stream.

        Only the update needs ∂J/∂W, so ∂J/∂W and the δ of the layer before are computed at the same time: the
        products of small minibatches leave most of a device idle. The last weight gradient stays on the current
        stream, for nothing follows it. At the end the current stream waits for `side`.
        """

    # -- graphs --------------------------------------------------------------------------------------------------------

    @abstractmethod
    def compile_for(self, step: Callable[[], None]) -> None:
        """Compile the files whose kernels `step` launches, several at a time.

        `step` is called for this, and launches nothing. So it may change nothing on the host that must change once.
        """

    @property
    @abstractmethod
    def captures(self) -> bool:
        """Whether steps are captured: a graph can hold the matrix products, and no graph has failed."""

    @abstractmethod
    def capture(self, stream: Stream, body: Callable[[], None]) -> Graph:
        """Return what `body` launches on `stream`, the current one, as a graph; its ``launch(stream)`` runs it."""

    @abstractmethod
    def is_capturing(self) -> bool:
        """Whether launches on the current stream are captured rather than run."""

    # -- a step of training --------------------------------------------------------------------------------------------

    @abstractmethod
    def operand(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Make an array for samples, δ, or z or a of a hidden layer, (…, m, s); with bf16 in 16 bits, with padding.

        All operations of a step take such arrays. The padding of a row stays finite where the row is finite.
        """

    @abstractmethod
    def minibatch(
        self,
        X: Array,
        Y: Array,
        weights: Array | None,
        order: Array | None,
        table: Array,
        step: Array,
        out: tuple[Array, Array, Array | None],
        current: Array,
        batch: int,
    ) -> None:
        """Copy the rows of minibatch number `step` and their weights into `out`, row `step` of `table` into `current`.

        The place for X may be an `operand`. Inside `small_layers`, targets may be left where they are: `output_delta`,
        given their place in `out`, reads them there.
        """

    @abstractmethod
    def no_rows(self, gradient: Array, table: Array, step: Array, current: Array) -> None:
        """Take the place of `minibatch`, and of all that fills `gradient`, where a minibatch has no rows here.

        Row `step` of `table` is copied into `current`, `gradient` becomes 0, and 1 is added to `step`.
        """

    @abstractmethod
    def counting(self, step: Array | None) -> AbstractContextManager[None]:
        """Let `output_delta` add 1 to `step`, () of int64, inside: a step calls it once, after all that read `step`."""

    @abstractmethod
    def small_layers(self) -> AbstractContextManager[None]:
        """Let kernels of our own compute small layers inside, which is one training step."""

    # -- whole epochs in shared memory ---------------------------------------------------------------------------------

    @abstractmethod
    def shared_memory_limits(self) -> tuple[int, int, int]:
        """Return the most bytes of shared memory a block, the most blocks a cluster, and how many multiprocessors."""

    @abstractmethod
    def shrink_clusters(self, blocks: int, error: Exception) -> None:
        """Allow clusters of half of `blocks` at most, after one of `blocks` was refused with `error`; half of 1 is 0.

        Raises
        ------
        Exception
            The same `error`, where the device does not go on after it.
        """

    @abstractmethod
    def run_resident(self, plan: Array, dtype: DType, residence: Resident, members: int) -> None:
        """Launch ``kernels/cuda/resident.cu``, one cluster a member; the bytes of `plan` are on the device."""
