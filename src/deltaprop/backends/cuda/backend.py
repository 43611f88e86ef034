"""The CUDA backend: CuPy's arrays and matrix products, our own kernels (``kernels/cuda/*.cu``) for everything else.

Works on the caller's current device and stream; nothing here waits for the device except where a number is handed to
the host (`all_finite`, `squared_norm`, `to_numpy`), where ways are timed when a shape is first met, and where a device
has refused something (`do_without`).
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import DTypeLike

from deltaprop.backends.base import Array, Backend, Precision, Scalar, philox_key
from deltaprop.backends.cuda.compiler import cached_cubin, compile_files, waiting_for_compiler
from deltaprop.backends.cuda.cublas import CupyProducts, Products, find_products
from deltaprop.backends.cuda.launching import NULL, number
from deltaprop.backends.cuda.member_axis import member_by_member
from deltaprop.backends.cuda.padding import ENTRIES, padded_shape
from deltaprop.backends.cuda.small_layers import Affine, SmallLayers
from deltaprop.backends.cuda.tiling import HELD, THREADS, over_columns, over_rows, power_of_two
from deltaprop.backends.cuda.tuning import GraphWatch, fastest, tunes
from deltaprop.backends.installed import is_installed
from deltaprop.errors import BackendError, callers_level

if TYPE_CHECKING:
    from deltaprop.backends.cuda.shared_memory import Residence

INSTALL = "pip install 'deltaprop[cuda13]' (CUDA 13 drivers) or pip install 'deltaprop[cuda12]' (CUDA 12 drivers)"
#: What warnings call graphs.
GRAPHS = "capturing a step as a CUDA graph"
#: Blocks of an elementwise launch for each multiprocessor; further elements are reached by the grid's stride.
BLOCKS_A_MULTIPROCESSOR = 16
#: The same for kernels that add something up: each block leaves a part, and the last one adds up the parts.
SUMMING_BLOCKS_A_MULTIPROCESSOR = 4
#: What the products of a precision are called in `deltaprop.backends.cuda.cublas`.
KIND_OF_PRECISION = {"tf32": "tf32", "bf16": "bfloat16", "fp16": "float16"}
#: The dtype of arrays that hold bfloat16, which NumPy has not: their bits.
BFLOAT16 = np.dtype(np.uint16)
#: By what δ is multiplied for a float16 product: entries from 1.5e-11 (as a subnormal number) to 16 have room then.
DELTA_SCALE = 4096.0


def _import_cupy() -> Any:
    """CuPy, where it is installed and a device answers.

    Raises
    ------
    BackendError
        If it is not installed, is broken, or finds no device.
    """
    if not is_installed("cupy"):
        raise BackendError(f"backend 'cupy': CuPy is not installed; {INSTALL}")
    try:
        import cupy
    except ImportError as error:
        raise BackendError(f"backend 'cupy': CuPy is installed but does not import ({error}); {INSTALL}") from error
    if not hasattr(cupy, "cuda"):
        raise BackendError(f"backend 'cupy': what is imported as cupy is not CuPy, but {cupy.__file__}; {INSTALL}")
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
        if devices == 0:
            raise BackendError("backend 'cupy': CuPy is installed, but this machine has no CUDA device")
        # Memory and both ways of copying: what needs no kernel, which CuPy would have to compile first.
        if cupy.asarray(np.ones(1)).get()[0] != 1.0:
            raise BackendError("backend 'cupy': the CUDA device does not give back what was copied to it")
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendError(
            f"backend 'cupy': CuPy is installed, but no CUDA device answers ({error}); it needs an NVIDIA GPU and its "
            f"driver, and the CuPy built for that driver: {INSTALL}"
        ) from error
    return cupy


def _named(precision: Precision, device: int | None) -> CupyBackend:
    """The backend of this process."""
    from deltaprop.backends import get_backend

    backend: Any = get_backend("cupy")
    variant: CupyBackend = backend.variant(precision, device)
    return variant


class PhiloxStream:
    """The key of the generator, and how many of its 32-bit numbers have been drawn."""

    def __init__(self, *key: np.uint64) -> None:
        self.key = key
        self.drawn = 0


@dataclass
class Narrowed:
    """Copies in 16 bits, by address of what they are copies of, shape and scale, and which of them are up to date."""

    buffers: dict[tuple[int, tuple[int, ...], float], Array] = field(default_factory=dict)
    valid: set[tuple[int, tuple[int, ...], float]] = field(default_factory=set)
    stream: int = 0


@dataclass
class Aside:
    """A stream beside the current one, what is to be launched on one of the two, and whether anything runs there."""

    stream: Any
    held: Callable[[], None] | None = None
    running: bool = False


@dataclass
class Belongings:
    """Scratch by purpose, dtype, device and stream, and streams by purpose and device."""

    buffers: dict[Any, Array] = field(default_factory=dict)
    streams: dict[tuple[str, int], Any] = field(default_factory=dict)


class Loan:
    """What a thread has of these until it ends and the next has them: there are as many as there were threads at once.

    Parameters
    ----------
    idle : list of Belongings
        Of threads that have ended.
    """

    def __init__(self, idle: list[Belongings]) -> None:
        self.idle = idle
        try:
            self.lent = idle.pop()
        except IndexError:
            self.lent = Belongings()

    def __del__(self) -> None:
        self.idle.append(self.lent)


class Here(threading.local):
    """What a thread has to itself: scratch and streams, and what the contexts it is in have set."""

    def __init__(self, idle: list[Belongings]) -> None:
        self.loan = Loan(idle)
        self.buffers, self.streams = self.loan.lent.buffers, self.loan.lent.streams
        #: The buffers that a graph uses which is being captured.
        self.captured: list[Array] | None = None
        #: The files that a step needs and that are not loaded, while it is taken without being launched.
        self.wanted: set[tuple[str, str, tuple[str, ...]]] | None = None
        self.step: Array | None = None
        self.narrowed: Narrowed | None = None
        self.aside: Aside | None = None
        self.small: SmallLayers | None = None


@dataclass
class Found:
    """What is found out once for the backends of all precisions and devices."""

    products: Products | None = None
    #: What has failed on a device, and is done without.
    failed: set[str] = field(default_factory=set)
    lock: Any = field(default_factory=threading.Lock)


@dataclass
class Captured:
    """A graph, and the scratch that it holds the addresses of."""

    graph: Any
    scratch: list[Array]

    def launch(self, stream: Any) -> None:
        """Run it on `stream`."""
        self.graph.launch(stream)


class CupyBackend(Backend):
    """CUDA devices through CuPy."""

    name = "cupy"
    on_host = False

    def __init__(self) -> None:
        self.cp = _import_cupy()
        self._functions: dict[tuple[Any, ...], Any] = {}
        self._limits: dict[int, tuple[int, int, int]] = {}
        self._here = Here([])
        self._found = Found()
        self._small_choices: dict[Any, str] = {}
        self._variants: dict[tuple[Precision, int | None], Any] = {("fp32", None): self}

    def in_precision(self, precision: Precision) -> Self:
        return self.variant(precision, self.device)

    def on_device(self, device: int | None) -> Self:
        """That on the device of this number; by default on its own or, where there are several, on the current one."""
        count = self.cp.cuda.runtime.getDeviceCount()
        if device is None:
            if self.device is not None or count == 1:
                return self
            device = self.cp.cuda.Device().id
        if not 0 <= device < count:
            raise BackendError(f"device: expected one of the {count} CUDA devices here, 0 … {count - 1}, got {device}")
        return self.variant(self.precision, device if count > 1 else None)

    def variant(self, precision: Precision, device: int | None) -> Self:
        """The same in another precision, on another device."""
        key = (precision, device)
        if key not in self._variants:
            variant = self._variants[key] = object.__new__(type(self))
            # Kernels, scratch and handles, of all devices, are shared.
            variant.__dict__ |= self.__dict__ | {"precision": precision, "device": device}
        chosen: Self = self._variants[key]
        return chosen

    def scope(self) -> AbstractContextManager[Any]:
        if self.device is None:
            return nullcontext()
        scope: AbstractContextManager[Any] = self.cp.cuda.Device(self.device)
        return scope

    def __reduce__(self) -> tuple[Any, ...]:
        """By name, precision and device: another process makes its own."""
        return _named, (self.precision, self.device)

    # -- arrays -------------------------------------------------------------------------------------------------

    def owns(self, array: object) -> bool:
        return isinstance(array, self.cp.ndarray)

    def asarray(self, array: Any, dtype: DTypeLike) -> Array:
        entries = array.size if self.owns(array) else np.size(array)
        return self._allocating(entries, dtype, lambda: self.cp.asarray(array, dtype=dtype, order="C"))

    def adopt(self, array: Any) -> Array:
        """An array of another library on the device, its memory taken over by DLPack or a like protocol, not copied."""
        # Both protocols share memory; only the former is spoken by libraries without DLPack (Numba).
        interface = hasattr(array, "__cuda_array_interface__")
        return self.cp.asarray(array) if interface else self.cp.from_dlpack(array)

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        host: np.ndarray[Any, Any] = self.cp.asnumpy(array)
        return host

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        return self._allocating(math.prod(shape), dtype, lambda: self.cp.empty(shape, dtype))

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        return self._allocating(math.prod(shape), dtype, lambda: self.cp.zeros(shape, dtype))

    def _allocating(self, entries: int, dtype: DTypeLike, make: Callable[[], Array]) -> Array:
        """What `make` allocates on the device, or an error that says how much room there is.

        Raises
        ------
        MemoryError
            If so many cannot be had, even once CuPy has given back what it holds unused.
        """
        exhausted = self.cp.cuda.memory.OutOfMemoryError
        try:
            return make()
        except exhausted:
            self.cp.get_default_memory_pool().free_all_blocks()
        try:
            return make()
        except exhausted as error:
            needed, (free, total) = entries * np.dtype(dtype).itemsize, self.cp.cuda.runtime.memGetInfo()
            raise MemoryError(
                f"backend 'cupy': {needed:,} bytes are needed on the device for an array, {free:,} of {total:,} are "
                "free; smaller minibatches or dtype='float32' need less, backend='numpy' takes the host's memory"
            ) from error

    def all_finite(self, array: Array) -> bool:
        return bool(self.cp.isfinite(array).all())

    # -- what a device cannot do --------------------------------------------------------------------------------

    @property
    def device_errors(self) -> tuple[type[Exception], ...]:
        """What CuPy raises where the runtime or the driver refuses something."""
        return self.cp.cuda.runtime.CUDARuntimeError, self.cp.cuda.driver.CUDADriverError

    def do_without(self, what: str, instead: str, error: Exception) -> None:
        """Go on without `what`, which has failed with `error`: a warning says so, once a process.

        Raises
        ------
        Exception
            The same `error`, where the device does not go on after it.
        """
        try:
            self.cp.cuda.get_current_stream().synchronize()
        except self.device_errors:
            raise error from None
        with self._found.lock:
            known = what in self._found.failed
            self._found.failed.add(what)
        if not known:
            warnings.warn(
                f"{what} failed on this device ({type(error).__name__}: {error}); {instead}; `deltaprop doctor` tells "
                "more",
                RuntimeWarning,
                stacklevel=callers_level(),
            )

    # -- launching ----------------------------------------------------------------------------------------------

    def _kernel(
        self,
        file: str,
        function: str,
        dtype: np.dtype[Any],
        definitions: tuple[str, ...] = (),
        shared_bytes: int | None = None,
    ) -> Any:
        """The kernel called `function` in ``kernels/cuda/<file>.cu`` for arrays of `dtype`, compiled at first use.

        ``output_delta.cu`` holds one kernel for each pair of a loss and an activation, and so on. `definitions`
        are options of the compiler that make a variant of the file. A launch may be given up to so many bytes of shared
        memory, or as many as any kernel may where `shared_bytes` is None.
        """
        device = self.cp.cuda.Device()
        kind = kind_of(dtype)
        key = (file, function, kind, device.id, *definitions)
        kernel = self._functions.get(key)
        if self._here.wanted is not None:
            if kernel is None:
                self._here.wanted.add((file, kind, definitions))
            return _nothing
        if kernel is None:
            architecture = f"sm_{device.compute_capability}"
            with waiting_for_compiler(architecture):
                module = self.cp.RawModule(path=str(cached_cubin(file, kind, architecture, definitions)))
            kernel = module.get_function(function)
            if shared_bytes is not None:
                kernel.max_dynamic_shared_size_bytes = shared_bytes
            self._functions[key] = kernel
        return kernel

    def compile_for(self, step: Callable[[], None]) -> None:
        """Compile the files whose kernels `step` launches, several at a time.

        It is called for that, launching nothing: what it changes on the host has to bear that.
        """
        wanted: set[tuple[str, str, tuple[str, ...]]] = set()
        self._here.wanted = wanted
        try:
            step()
        finally:
            self._here.wanted = None
        if wanted:
            architecture = f"sm_{self.cp.cuda.Device().compute_capability}"
            with waiting_for_compiler(architecture):
                compile_files(wanted, architecture)

    @property
    def multiprocessors(self) -> int:
        """Of the current device."""
        return self.shared_memory_limits()[2]

    def _blocks(self, wanted: int) -> tuple[int]:
        """A one-dimensional grid of at most so many blocks as keep the device busy; kernels stride over the rest."""
        return (min(wanted, BLOCKS_A_MULTIPROCESSOR * self.multiprocessors),)

    def _over_elements(self, file: str, function: str, dtype: np.dtype[Any], *arguments: Any, n: int) -> None:
        """Launch a kernel that walks over `n` elements; `n` is its last argument."""
        if n:
            grid = self._blocks(-(-n // THREADS))
            self._kernel(file, function, dtype)(grid, (THREADS,), (*arguments, np.int64(n)))

    def _over_rows(self, file: str, function: str, dtype: np.dtype[Any], *arguments: Any, rows: int) -> None:
        """Launch a kernel that gives each row to one warp, eight warps a block; `rows` is its last argument."""
        if rows:
            self._kernel(file, function, dtype)(self._blocks(-(-rows // 8)), (32, 8), (*arguments, np.int64(rows)))

    def _over_columns(self, function: str, first: tuple[Array, ...], x: Array, sums: Array, keep: float) -> None:
        """Launch a kernel of ``hidden_delta.cu`` over `x` : (…, m, s); its sums over m are added to keep · `sums`."""
        rows, columns = x.shape[-2:]
        members = x.size // (rows * columns)
        widths = self._widths(*(array for array in first if array is not NULL))
        blocks, multiprocessors = SUMMING_BLOCKS_A_MULTIPROCESSOR, self.multiprocessors
        tiling = over_columns(rows, columns, widths, x.itemsize, multiprocessors, blocks, sums=True)
        parts = (NULL, NULL) if tiling.slices == 1 else self._parts(members, rows, columns, sums.dtype)
        arguments = (*first, sums, *parts, *tiling.sizes(), np.int32(sums.shape[-1]), sums.dtype.type(keep))
        self._kernel("hidden_delta", function, x.dtype)(tiling.grid(members), (32, 8), arguments)

    def _widths(self, *arrays: Array, sizes: tuple[int, ...] = (16, 8)) -> list[int]:
        """Columns that a thread may take at once, the widest first: what fills so many bytes, or 1.

        Rows of all arrays have to begin where so many bytes may be read.
        """
        itemsize = int(arrays[0].itemsize)
        fitting = [size // itemsize for size in sizes if self.rows_begin_at(size, *arrays)]
        return [*(width for width in fitting if width > 1), 1]

    def _parts(self, members: int, rows: int, columns: int, dtype: np.dtype[Any]) -> tuple[Array, Array]:
        """Where slices of rows leave their sums, and the tickets by which a tile's last block is known.

        As many as however many slices and tiles need: a launch with fewer rows needs no more. So buffers whose
        addresses a graph holds are not replaced when the last minibatch, which is smaller, comes after it.
        """
        slices = min(-(-rows // 8), SUMMING_BLOCKS_A_MULTIPROCESSOR * self.multiprocessors)
        return self._scratch("partial", members * slices * columns, dtype), self._tickets(members * columns + 1)

    def _scratch(self, purpose: str, size: int, dtype: np.dtype[Any]) -> Array:
        """A buffer for intermediate results; one a thread, device and stream, so that none is shared in flight."""
        buffers = self._here.buffers
        key = (purpose, dtype, self.cp.cuda.Device().id, self.cp.cuda.get_current_stream().ptr)
        buffer = buffers.get(key)
        if buffer is None or buffer.size < size:
            buffer = buffers[key] = self.empty((size,), dtype)
        return self._kept(buffer)

    def _kept(self, buffer: Array) -> Array:
        """`buffer`, kept as long as the graph that is being captured, if one is: a larger one may take its place."""
        if self._here.captured is not None:
            self._here.captured.append(buffer)
        return buffer

    def _tickets(self, count: int) -> Array:
        """At least so many counters that are 0 between launches, for ``kernels/cuda/last_block.cuh``; as `_scratch`."""
        buffers = self._here.buffers
        key = ("tickets", None, self.cp.cuda.Device().id, self.cp.cuda.get_current_stream().ptr)
        if key not in buffers or buffers[key].size < count:
            buffers[key] = self.zeros((max(count, 256),), np.uint32)
        return self._kept(buffers[key])

    # -- matrix products ----------------------------------------------------------------------------------------

    @property
    def products(self) -> Products:
        """What multiplies matrices, found when first asked for."""
        if self._found.products is None:
            with self._found.lock:
                if self._found.products is None:
                    self._found.products = find_products(self.cp, self.address, self._scratch)
        return self._found.products

    def product(
        self,
        A: Array,
        B: Array,
        out: Array,
        *,
        transpose_A: bool = False,
        transpose_B: bool = False,
        keep: Scalar | None = None,
        of_delta: bool = False,
    ) -> None:
        """op(A) op(B), or keep · out + op(A) op(B), into `out`, in the precision of this backend.

        Where A is a δ (`of_delta`), it is scaled up on its way into float16, which has no room for small numbers, and
        the product down again. Operands and result may be bfloat16 already, and then have to be filled up as
        `operand` fills them up; where A is not transposed, B are weights.
        """
        kind, factor = str(out.dtype.name), 1.0
        if self.precision != "fp32" and kind != "float64":
            kind = KIND_OF_PRECISION[self.precision]
            if kind != "tf32":
                scale = DELTA_SCALE if kind == "float16" and of_delta else 1.0
                A, factor = self._narrow(kind, "A", A, scale), 1.0 / scale
                B = self._narrow(kind, "B", B, 1.0, weights=not transpose_A)
        products = self.products
        if self._here.wanted is not None:
            return
        how: Any = {"transpose_A": transpose_A, "transpose_B": transpose_B, "keep": keep}
        try:
            products(A, B, out, kind=kind, factor=factor, **how)
        except products.errors as error:
            if kind not in ("float32", "float64") or self.is_capturing():
                raise
            self.do_without("cublasLt", "CuPy multiplies, and steps are not captured as CUDA graphs", error)
            self._found.products = CupyProducts(self.cp)
            self._found.products(A, B, out, kind=kind, factor=factor, **how)

    def _narrow(self, kind: str, purpose: str, x: Array, scale: float, *, weights: bool = False) -> Array:
        """`x` · `scale` in 16 bits, filled up, in a buffer that the next product overwrites unless `narrowed_once`."""
        if x.dtype == BFLOAT16:
            return x
        narrowed, shape = self._here.narrowed, padded_shape(x.shape, weights=weights)
        key, size = (self.address(x), shape, scale), math.prod(shape)
        if narrowed is not None and key in narrowed.valid:
            return narrowed.buffers[key]
        if narrowed is None or self.cp.cuda.get_current_stream().ptr != narrowed.stream:
            out = self._scratch(f"narrow {purpose}", size, BFLOAT16)[:size].reshape(shape)
        else:
            if key not in narrowed.buffers:
                narrowed.buffers[key] = self.empty(shape, BFLOAT16)
            out = narrowed.buffers[key]
            narrowed.valid.add(key)
        arguments = (x, x.dtype.type(scale), out)
        if shape == x.shape:
            self._over_elements("narrow", f"narrow_{kind}", x.dtype, *arguments, n=size)
        else:
            self._narrow_rows(kind, *arguments)
        return out

    def _narrow_rows(self, kind: str, x: Array, scale: np.generic, out: Array) -> None:
        """The same where rows are filled up: some threads a row."""
        rows, threads = out.size // out.shape[-1], min(THREADS, power_of_two(out.shape[-1] // ENTRIES))
        sizes = (*x.shape[-2:], *out.shape[-2:], threads.bit_length() - 1, self.rows_begin_at(16, x))
        arguments = (x, scale, out, *map(np.int32, sizes), np.int64(rows))
        kernel = self._kernel("narrow", f"narrow_rows_{kind}", x.dtype)
        kernel(self._blocks(-(-rows // (THREADS // threads))), (THREADS,), arguments)

    @contextmanager
    def narrowed_once(self, narrowed: Narrowed) -> Iterator[None]:
        """Inside, an array that stays as it is until its last product of float32 is turned into 16 bits once.

        So it is in a step, whose weights are last written by what reads them no more.
        """
        narrowed.valid.clear()
        narrowed.stream = self.cp.cuda.get_current_stream().ptr  # what another stream makes may not be there in time
        before, self._here.narrowed = self._here.narrowed, narrowed
        try:
            yield
        finally:
            self._here.narrowed = before

    def operand(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Where a step keeps samples, δ, or z or a of a hidden layer, (…, m, s): with bf16 in 16 bits, filled up.

        All operations of a step take such arrays. Their padding stays finite in rows that are.
        """
        if self.precision != "bf16":
            return self.empty(shape, dtype)
        return self.zeros(padded_shape(shape, weights=False), BFLOAT16)

    # -- data that stay on the host -----------------------------------------------------------------------------

    def room(self) -> int | None:
        free, _ = self.cp.cuda.runtime.memGetInfo()
        return int(free) + int(self.cp.get_default_memory_pool().free_bytes())

    def page_locked(self, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray[Any, Any]:
        """A buffer in host memory that the copy engine reads while the host goes on."""
        size = math.prod(shape)
        try:
            memory = self.cp.cuda.alloc_pinned_memory(size * np.dtype(dtype).itemsize)
        except (*self.device_errors, self.cp.cuda.memory.OutOfMemoryError) as error:
            self.do_without("page-locked memory", "data are uploaded from ordinary memory, while the host waits", error)
            return np.empty(shape, dtype)
        return np.frombuffer(memory, dtype, size).reshape(shape)

    def upload(self, sources: list[Any], targets: list[Array], stream: Any, after: Any) -> Any:
        """Copy page-locked arrays to the device on `stream`, once the event `after` is over; an event for their end."""
        stream.wait_event(after)
        for source, target in zip(sources, targets, strict=True):
            target.set(source, stream=stream)
        return stream.record()

    def send(self, source: np.ndarray[Any, Any], target: Array, event: Any) -> Any:
        """Copy a page-locked array to the device on the current stream, for which the host does not wait.

        The event for its end is `event`, one of an earlier call that is over, or a new one where that is None.
        """
        stream = self.cp.cuda.get_current_stream()
        target.set(source, stream=stream)
        return stream.record(event or self.cp.cuda.Event(disable_timing=True))

    def event(self) -> Any:
        """That all launched so far on the current stream is over."""
        return self.cp.cuda.get_current_stream().record()

    def wait_on_device(self, event: Any) -> None:
        """What is launched from now on on the current stream waits for `event`."""
        self.cp.cuda.get_current_stream().wait_event(event)

    def wait_on_host(self, event: Any) -> None:
        """Wait for `event`, if there is one."""
        if event is not None:
            event.synchronize()

    # -- steps that a CUDA graph replays ------------------------------------------------------------------------

    def new_stream(self) -> Any:
        """A stream that waits for no other, as capture needs."""
        return self.cp.cuda.Stream(non_blocking=True)

    def stream_for(self, purpose: str) -> Any:
        """The stream that the current thread and device have for this purpose, made when first asked for.

        All that is trained in turn in a thread shares it, and with it scratch and the workspace of products.
        """
        key = (purpose, self.cp.cuda.Device().id)
        if key not in self._here.streams:
            self._here.streams[key] = self.new_stream()
        return self._here.streams[key]

    @contextmanager
    def on_stream(self, stream: Any) -> Iterator[None]:
        """What is launched inside goes to `stream`, after all before it and before all after it on the caller's."""
        callers = self.cp.cuda.get_current_stream()
        self._after(stream, callers)
        try:
            with stream:
                yield
        finally:
            self._after(callers, stream)

    @property
    def captures(self) -> bool:
        """Whether steps are captured: where graphs can hold the products, and none has failed."""
        return self.products.capturable and GRAPHS not in self._found.failed

    def capture(self, stream: Any, body: Callable[[], None]) -> Any:
        """What `body` launches on `stream`, the current one, as a graph: ``launch(stream)`` runs it."""
        scratch: list[Array] = []
        self._here.captured = scratch
        stream.begin_capture()
        try:
            body()
        except BaseException:
            with suppress(*self.device_errors):  # what is wrong with the capture comes of the error
                stream.end_capture()  # a stream left capturing would refuse everything
            raise
        finally:
            self._here.captured = None
        return Captured(stream.end_capture(), scratch)

    def _after(self, stream: Any, other: Any) -> None:
        """What is launched on `stream` from now on waits for what has been launched on `other`."""
        stream.wait_event(other.record(self.cp.cuda.Event(disable_timing=True)))

    @contextmanager
    def beside(self, side: Any) -> Iterator[None]:
        """Inside, weight gradients run on the stream `side` while what follows them runs on the current one.

        Nothing of a backward pass waits for ∂J/∂W but the update, so it and the δ of the layer before are formed at
        the same time: the products of small minibatches leave most of a device idle. The last of them, which nothing
        follows, stays on the current stream. At the end all is waited for there.
        """
        self._here.aside = Aside(side)
        try:
            yield
            self._join()
        finally:
            self._here.aside = None

    def _fork(self) -> None:
        """Launch the weight gradient that is held back, if there is one, on the other stream."""
        aside = self._here.aside
        if aside is not None and aside.held is not None:
            self._after(aside.stream, self.cp.cuda.get_current_stream())
            with aside.stream:
                aside.held()
            aside.held, aside.running = None, True

    def _join(self) -> None:
        """Launch it on the current stream, which then waits for those on the other."""
        aside = self._here.aside
        if aside is None:
            return
        if aside.held is not None:
            aside.held()
            aside.held = None
        if aside.running:
            self._after(self.cp.cuda.get_current_stream(), aside.stream)
            aside.running = False

    @contextmanager
    def counting(self, step: Array | None) -> Iterator[None]:
        """Inside, `output_delta` counts `step`, () of int64, up: a step has one of them, after all that read it."""
        before, self._here.step = self._here.step, step
        try:
            yield
        finally:
            self._here.step = before

    @contextmanager
    def small_layers(self) -> Iterator[None]:
        """Inside, which is one training step, products that are small may be formed by kernels of our own."""
        small = self._here.small = SmallLayers(self, self._small_choices)
        try:
            yield
            small.flush()
        finally:
            self._here.small = None

    def is_capturing(self) -> bool:
        """Whether what is launched on the current stream is captured, not run."""
        return bool(self.cp.cuda.get_current_stream().is_capturing())

    def is_noting(self) -> bool:
        """Whether kernels are only noted, to be compiled, and nothing is launched."""
        return self._here.wanted is not None

    def fastest_way(self, ways: Mapping[str, Callable[[], None]]) -> str:
        """The name of the one that takes the device the shortest time; they only launch work on the current stream.

        With ``DELTAPROP_TUNE=0`` in the environment, or where nothing can be captured, it is the first.
        """
        first, can_be_timed = next(iter(ways)), tunes() and self.captures
        if not can_be_timed:
            return first
        stream, narrowed = self.stream_for("timing"), Narrowed()

        def capture(stream: Any, body: Callable[[], None]) -> Any:
            def narrowing() -> None:
                with self.narrowed_once(narrowed):  # as it is in a step, whose products share operands
                    body()

            return self.capture(stream, narrowing)

        try:
            with self.on_stream(stream):
                with self.narrowed_once(narrowed):
                    for way in ways.values():
                        way()  # kernels are loaded, and scratch is there
                if not self.captures:  # cublasLt may just have failed
                    return first
                return list(ways)[fastest(list(ways.values()), GraphWatch(self.cp, stream, capture))]
        except (*self.device_errors, *self.products.errors) as error:
            self.do_without(GRAPHS, "steps are launched one by one", error)
            return first

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
        """The rows of minibatch number `step` and their weights into `out`, row `step` of `table` into `current`.

        X may be wanted as an `operand`.
        """
        to_X, to_Y, to_weights = out
        arrays = (X, Y, weights, order, table, step, to_X, to_Y, to_weights, current)
        rows, narrows = to_X.shape[0], to_X.dtype != X.dtype
        x_bytes, y_bytes = self.bytes_a_copy(X, *(() if narrows else (to_X,))), self.bytes_a_copy(Y, to_Y)
        pieces = (to_X.shape[1] * to_X.itemsize // (16 if narrows else x_bytes), Y.shape[1] * Y.itemsize // y_bytes)
        teams = [min(THREADS, power_of_two(n)) for n in pieces]  # threads a row
        (x_blocks,), (y_blocks,) = (self._blocks(-(-rows // (THREADS // threads))) for threads in teams)
        log2_x, log2_y = (threads.bit_length() - 1 for threads in teams)
        sizes = (X.shape[1], to_X.shape[1], Y.shape[1], x_bytes, y_bytes, log2_x, log2_y, x_blocks, table.shape[1])
        arguments = (
            *(NULL if a is None else a for a in arrays),
            *map(np.int32, sizes),
            np.int64(batch),
            np.int64(rows),
        )
        self._kernel("minibatch", "minibatch", to_X.dtype)((x_blocks + y_blocks,), (THREADS,), arguments)

    def bytes_a_copy(self, *arrays: Array) -> int:
        """How many bytes at a time rows may be copied: as many as those of all arrays begin at multiples of."""
        fitting = (size for size in (16, 8) if self.rows_begin_at(size, *arrays))
        return next(fitting, int(arrays[0].itemsize))

    def rows_begin_at(self, size: int, *arrays: Array) -> bool:
        """Whether the rows of all arrays begin at multiples of so many bytes."""
        places = (x for array in arrays for x in (self.address(array), array.shape[-1] * int(array.itemsize)))
        return all(place % size == 0 for place in places)

    # -- whole epochs in one launch -----------------------------------------------------------------------------

    def address(self, array: Array) -> int:
        """Where on the device `array` begins."""
        return int(array.data.ptr)

    def device_number(self) -> int:
        """The number of the current device."""
        return int(self.cp.cuda.Device().id)

    def has_tensor_cores(self) -> bool:
        """Whether the current device has some that multiply TF32 and bfloat16."""
        return int(self.cp.cuda.Device().compute_capability) >= 80

    def shared_memory_limits(self) -> tuple[int, int, int]:
        """Bytes of shared memory a block may have, blocks a cluster may have, and multiprocessors of the device."""
        device = self.cp.cuda.Device()
        if device.id not in self._limits:
            runtime = self.cp.cuda.runtime
            wanted = (runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin, runtime.cudaDevAttrMultiProcessorCount)
            shared, multiprocessors = (int(runtime.deviceGetAttribute(number, device.id)) for number in wanted)
            self._limits[device.id] = shared, 8 if int(device.compute_capability) >= 90 else 1, multiprocessors
        return self._limits[device.id]

    def shrink_clusters(self, blocks: int, error: Exception) -> None:
        """Let no cluster have more than half as many blocks as one that was refused with `error`; half of 1 is none.

        Raises
        ------
        Exception
            The same `error`, where the device does not go on after it.
        """
        instead = "smaller clusters are tried, and without them networks are trained layer by layer"
        self.do_without("a launch with a network in shared memory", instead, error)
        limit, most, multiprocessors = self.shared_memory_limits()
        self._limits[self.cp.cuda.Device().id] = limit, min(most, blocks // 2), multiprocessors

    def resident_kernel(self, dtype: np.dtype[Any], residence: Residence) -> Any:
        """What trains this network in shared memory."""
        function, definitions = f"resident_{residence.blocks}", residence.definitions
        return self._kernel("resident", function, dtype, definitions, residence.shared_bytes)

    def run_resident(self, plan: Array, dtype: np.dtype[Any], residence: Residence, members: int) -> None:
        """Launch ``kernels/cuda/resident.cu``: one cluster a member. The bytes of `plan` lie on the device."""
        kernel = self.resident_kernel(dtype, residence)
        grid, block = (members * residence.blocks,), (residence.shape.threads,)
        kernel(grid, block, (plan,), shared_mem=residence.shared_bytes)

    # -- functions of one array ---------------------------------------------------------------------------------

    def activation(self, activation: str, z: Array, out: Array) -> None:
        self._over_elements("activation", f"activation_{activation}", z.dtype, z, out, n=z.size)

    def activation_gradient(self, activation: str, z: Array, out: Array) -> None:
        self._over_elements("activation", f"activation_gradient_{activation}", z.dtype, z, out, n=z.size)

    # -- forward ------------------------------------------------------------------------------------------------

    @member_by_member(2, if_scattered=True)
    def affine_activation(
        self, A: Array, W: Array, b: Array, activation: str, Z: Array, out: Array, mask: Array | None = None
    ) -> None:
        small = self._here.small
        if small is None or not small.affine_activation(Affine(A, W, b, activation, Z, out, mask)):
            self.library_affine_activation(A, W, b, activation, Z, out, mask)

    def library_affine_activation(
        self, A: Array, W: Array, b: Array, activation: str, Z: Array, out: Array, mask: Array | None
    ) -> None:
        """`affine_activation` by the library's product and a kernel for what follows it."""
        self.product(A, W, out=Z, transpose_B=True)
        self._bias_activation(Z, b, activation, out, mask)

    def _bias_activation(self, Z: Array, b: Array, activation: str, out: Array, mask: Array | None = None) -> None:
        """Z + b into `Z` and g of it into `out`, which may be `Z` where g is the identity."""
        rows, columns = Z.shape[-2:]
        members = Z.size // (rows * columns)
        b_stride = np.int64(b.strides[0] // b.itemsize if b.ndim > 1 else 0)
        if activation == "softmax":
            tiling = over_rows(rows, columns, self._widths(Z, out, sizes=(16,)), self.multiprocessors, 1)
            grid = self._blocks(-(-members * rows // (THREADS // tiling.lanes)))
            arguments = (Z, b, out, np.int32(rows), np.int32(columns), b_stride, *tiling.sizes()[-2:])
            self._kernel("softmax", "bias_softmax", Z.dtype)(grid, (32, 8), (*arguments, np.int64(members * rows)))
        else:
            width = self._widths(Z, out, *(() if mask is None else (mask,)), sizes=(16,))[0]
            width = width if columns >= 32 * width else 1
            tiles = -(-columns // (32 * width))
            # As many slices of rows as keep the device busy; what is left is reached by strides.
            (slices,) = self._blocks(-(-rows // 8) * tiles)
            sizes = (np.int32(rows), np.int32(columns), np.int32(b.shape[-1]), b_stride, np.int32(width))
            kernel = self._kernel("bias_activation", f"bias_activation_{activation}", Z.dtype)
            arguments = (Z, b, NULL if mask is None else mask, out, *sizes)
            kernel((tiles * members, max(1, slices // tiles)), (32, 8), arguments)

    # -- cost and backward --------------------------------------------------------------------------------------

    @member_by_member(2)
    def output_delta(
        self,
        loss: str,
        activation: str,
        Z: Array,
        A: Array,
        Y: Array,
        scale: Scalar,
        out: Array,
        cost: Array,
        sample_weight: Array | None = None,
        bias_gradient: Array | None = None,
        keep: float = 0.0,
    ) -> None:
        given: dict[str, Any] = {"sample_weight": sample_weight, "bias_gradient": bias_gradient, "keep": keep}
        small = self._here.small
        if small is None or not small.output_delta(loss, activation, Z, Y, scale, out, cost, **given):
            self.library_output_delta(loss, activation, Z, A, Y, scale, out, cost, **given)

    def library_output_delta(
        self,
        loss: str,
        activation: str,
        Z: Array,
        A: Array,
        Y: Array,
        scale: Scalar,
        out: Array,
        cost: Array,
        sample_weight: Array | None = None,
        bias_gradient: Array | None = None,
        keep: float = 0.0,
    ) -> None:
        """`output_delta` where z and a are there."""
        (rows, columns), dtype = Z.shape, Z.dtype
        wanted = () if out is NULL else (out,)
        widths = self._widths(Z, A, Y, *wanted, sizes=(16,))
        as_it_is, narrow = (NULL, out) if wanted and out.dtype != dtype else (out, NULL)
        blocks, multiprocessors = SUMMING_BLOCKS_A_MULTIPROCESSOR, self.multiprocessors
        if activation == "softmax":
            tiling = over_rows(rows, columns, widths, multiprocessors, blocks, alone=2)
        else:
            tiling = over_columns(rows, columns, widths, dtype.itemsize, multiprocessors, blocks, sums=False, alone=4)
        sums = NULL if bias_gradient is None else bias_gradient
        partial, tickets = self._parts(1, rows, columns, dtype)
        costs = self._scratch("costs", blocks * multiprocessors + 2 * columns, np.dtype(np.float64))
        by_blocks = tiling.lanes == THREADS  # each has whole rows, and leaves its sums of them to another launch
        left: Array = NULL
        if by_blocks and bias_gradient is not None and columns <= THREADS * HELD * tiling.width:
            left = self._scratch("sums of rows", min(rows, blocks * multiprocessors) * columns, dtype)
        step = self._here.step
        arguments = (
            *(Z, A, Y, NULL if sample_weight is None else sample_weight),
            *(as_it_is, narrow, np.int32(out.shape[-1] if wanted else 0), *number(scale, dtype)),
            *(cost, NULL if step is None else step, costs),
            *((NULL, left) if by_blocks else (sums, partial)),
            *(tickets, *tiling.sizes(), dtype.type(keep)),
        )
        file = "output_delta_softmax" if activation == "softmax" else "output_delta"
        self._kernel(file, f"output_delta_{loss}_{activation}", dtype)(tiling.grid(1), (32, 8), arguments)
        if by_blocks and bias_gradient is not None:
            summands = out if left is NULL else left[: tiling.slices * columns].reshape(tiling.slices, columns)
            self.bias_gradient(summands, bias_gradient, keep)

    @member_by_member(2)
    def add_cost(
        self, loss: str, activation: str, Z: Array, A: Array, Y: Array, cost: Array, sample_weight: Array | None = None
    ) -> None:
        self.output_delta(loss, activation, Z, A, Y, 1.0, NULL, cost, sample_weight)  # no δ wanted

    @member_by_member(2, if_scattered=True)
    def hidden_delta(
        self,
        delta: Array,
        W: Array,
        activation: str,
        Z: Array,
        out: Array,
        bias_gradient: Array,
        mask: Array | None = None,
        keep: float = 0.0,
    ) -> None:
        self._fork()
        small = self._here.small
        if small is None or not small.hidden_delta(delta, W, activation, Z, out, bias_gradient, mask, keep):
            self.library_hidden_delta(delta, W, activation, Z, out, bias_gradient, mask, keep)

    def library_hidden_delta(
        self,
        delta: Array,
        W: Array,
        activation: str,
        Z: Array,
        out: Array,
        bias_gradient: Array,
        mask: Array | None,
        keep: float,
    ) -> None:
        """`hidden_delta` by the library's product and a kernel for what follows it."""
        self.product(delta, W, out=out, of_delta=True)
        arrays = (out, Z, NULL if mask is None else mask)
        self._over_columns(f"hidden_delta_{activation}", arrays, out, bias_gradient, keep)

    @member_by_member(2, if_scattered=True)
    def weight_gradient(self, delta: Array, A: Array, out: Array, keep: Scalar | None = None) -> None:
        self._fork()

        small = self._here.small

        def product() -> None:
            if small is None or not small.weight_gradient(delta, A, out, keep):
                self.product(delta, A, out=out, transpose_A=True, keep=keep, of_delta=True)

        if self._here.aside is None:
            product()
        else:
            self._here.aside.held = product

    @member_by_member(2, if_scattered=True)
    def bias_gradient(self, delta: Array, out: Array, keep: float = 0.0) -> None:
        self._over_columns("column_sum", (delta,), delta, out, keep)

    @member_by_member(1)
    def add_l2_gradient(self, weights: Array, l2: Scalar, gradient: Array) -> None:
        self._join()  # it adds to what they write
        arguments = (weights, *number(l2, weights.dtype), gradient)
        self._over_elements("l2_gradient", "l2_gradient", weights.dtype, *arguments, n=weights.size)

    def squared_norm(self, weights: Array) -> float:
        return float(self.cp.vdot(weights, weights))

    @member_by_member(1)
    def add_squared_norm(self, weights: Array, factor: Scalar, cost: Array) -> None:
        dtype, n = weights.dtype, weights.size
        blocks = min(-(-n // THREADS), SUMMING_BLOCKS_A_MULTIPROCESSOR * self.multiprocessors)
        shares = self._scratch("squared_norm", SUMMING_BLOCKS_A_MULTIPROCESSOR * self.multiprocessors, dtype)
        arguments = (weights, *number(factor, dtype), shares, self._tickets(1), cost, np.int64(n))
        self._kernel("squared_norm", "squared_norm", dtype)((blocks,), (THREADS,), arguments)

    # -- derivatives along a direction --------------------------------------------------------------------------

    def affine_tangent(
        self, A: Array, dA: Array | None, W: Array, dW: Array | None, db: Array | None, out: Array
    ) -> None:
        if dA is None:
            out.fill(0)
        else:
            self.product(dA, W, out=out, transpose_B=True)
        if dW is not None and db is not None:
            self.product(A, dW, out=out, transpose_B=True, keep=1.0)
            self._bias_activation(out, db, "identity", out)

    def activation_tangent(self, activation: str, Z: Array, A: Array, tangent: Array, out: Array) -> None:
        if activation == "softmax":
            columns = A.shape[-1]
            arguments = (A, tangent, out, np.int32(columns))
            self._over_rows(
                "activation_tangent", "activation_tangent_softmax", A.dtype, *arguments, rows=A.size // columns
            )
        else:
            function = f"activation_tangent_{activation}"
            self._over_elements("activation_tangent", function, Z.dtype, Z, tangent, out, n=Z.size)

    def input_gradient(self, delta: Array, W: Array, out: Array) -> None:
        self.product(delta, W, out=out, of_delta=True)

    def output_delta_tangent(
        self,
        loss: str,
        activation: str,
        Z: Array,
        A: Array,
        Y: Array,
        dZ: Array,
        dA: Array,
        scale: float,
        out: Array,
        sample_weight: Array | None = None,
    ) -> None:
        of_rows = NULL if sample_weight is None else sample_weight
        arguments = (Z, A, Y, dZ, dA, of_rows, Z.dtype.type(scale), out, np.int32(Z.shape[-1]))
        function = f"output_delta_tangent_{loss}_{activation}"
        self._over_elements("output_delta_tangent", function, Z.dtype, *arguments, n=Z.size)

    def hidden_delta_tangent(
        self,
        delta: Array,
        d_delta: Array,
        W: Array,
        dW: Array,
        activation: str,
        Z: Array,
        dZ: Array,
        out: Array,
    ) -> None:
        self.product(d_delta, W, out=out, of_delta=True)
        self.product(delta, dW, out=out, keep=1.0, of_delta=True)
        v = self._scratch("second", out.size, out.dtype)[: out.size].reshape(out.shape)
        self.product(delta, W, out=v, of_delta=True)
        function = f"hidden_delta_tangent_{activation}"
        self._over_elements("hidden_delta_tangent", function, Z.dtype, v, Z, dZ, out, n=Z.size)

    def weight_gradient_tangent(self, delta: Array, d_delta: Array, A: Array, dA: Array | None, out: Array) -> None:
        self.product(d_delta, A, out=out, transpose_A=True, of_delta=True)
        if dA is not None:
            self.product(delta, dA, out=out, transpose_A=True, keep=1.0, of_delta=True)

    # -- learning -----------------------------------------------------------------------------------------------

    @member_by_member(1)
    def sgd_update(
        self,
        parameters: Array,
        gradient: Array,
        velocity: Array | None,
        learning_rate: Scalar,
        momentum: Scalar,
        nesterov: bool,
    ) -> None:
        real, rate = parameters.dtype.type, number(learning_rate, parameters.dtype)
        if velocity is None:
            function = "sgd"
            arguments: tuple[Any, ...] = (parameters, gradient, *rate)
        else:
            function = "sgd_nesterov" if nesterov else "sgd_momentum"
            arguments = (parameters, gradient, velocity, *rate, real(momentum))
        self._over_elements("sgd", function, parameters.dtype, *arguments, n=parameters.size)

    @member_by_member(1)
    def adam_update(
        self,
        parameters: Array,
        gradient: Array,
        first_moment: Array,
        second_moment: Array,
        step_size: Scalar,
        beta_1: Scalar,
        beta_2: Scalar,
        epsilon: Scalar,
        decay: Scalar,
        n_decayed: int,
    ) -> None:
        dtype = parameters.dtype
        constants = [dtype.type(x) for x in (beta_1, beta_2, epsilon)]
        arrays = (parameters, gradient, first_moment, second_moment)
        arguments = (*arrays, *number(step_size, dtype), *constants, *number(decay, dtype), np.int64(n_decayed))
        self._over_elements("adam", "adam", parameters.dtype, *arguments, n=parameters.size)

    # -- minibatches --------------------------------------------------------------------------------------------

    def gather(self, X: Array, index: Array, out: Array) -> Array:
        columns = X.size // X.shape[0]
        self._over_elements("gather", "gather", X.dtype, X, index, out, np.int32(columns), n=out.size)
        return out

    # -- dropout ------------------------------------------------------------------------------------------------

    def random_stream(self, key: tuple[int, ...]) -> Any:
        first, second = philox_key(key)
        return PhiloxStream(first, second)

    def dropout_mask(self, stream: Any, keep: float, out: Array) -> None:
        real, n = out.dtype.type, out.size
        arguments = (*stream.key, np.int64(stream.drawn), np.float32(keep), real(1.0 / keep), out)
        self._over_elements("dropout_mask", "dropout_mask", out.dtype, *arguments, n=n)
        stream.drawn += n


def _nothing(*arguments: Any, **options: Any) -> None:
    """Stands for a kernel that is not to be launched."""


def kind_of(dtype: np.dtype[Any]) -> str:
    """What the entries of an array are, as `deltaprop.backends.cuda.compiler` calls it."""
    return "bfloat16" if dtype == BFLOAT16 else dtype.name
