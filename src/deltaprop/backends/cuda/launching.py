"""Kernels of the CUDA backend: loading them, passing arguments to them, launching them over arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deltaprop.backends.array_types import AnyArray as Array
from deltaprop.backends.array_types import DType
from deltaprop.backends.base import Scalar
from deltaprop.backends.cuda.arrays import CupyArrays
from deltaprop.backends.cuda.compiler import cached_cubin, compile_files, waiting_for_compiler
from deltaprop.backends.cuda.tiling import THREADS, over_columns

#: Blocks of an elementwise launch for each multiprocessor; further elements are reached by the grid's stride.
BLOCKS_A_MULTIPROCESSOR = 16
#: The same for kernels that add something up: each block leaves a part, and the last one adds up the parts.
SUMMING_BLOCKS_A_MULTIPROCESSOR = 4
#: The dtype of arrays that hold the bits of bfloat16; NumPy has no dtype for it.
BFLOAT16 = np.dtype(np.uint16)
#: The address of an array that is not there.
NULL = np.uintp(0)


def number(value: Scalar, dtype: DType) -> tuple[Any, Any]:
    """Return the two kernel arguments for a number: its value if the host knows it, else its address on the device."""
    if isinstance(value, (int, float)):
        return dtype.type(value), NULL
    return dtype.type(0), value


def kind_of(dtype: DType) -> str:
    """Return the name of a dtype in `deltaprop.backends.cuda.compiler`."""
    return "bfloat16" if dtype == BFLOAT16 else dtype.name


def _nothing(*arguments: Any, **options: Any) -> None:
    """Do nothing, in place of a kernel that must not be launched."""


class Launching(CupyArrays):
    """Loads kernels when they are first asked for, and launches them on grids that keep the device busy."""

    def _kernel(
        self,
        file: str,
        function: str,
        dtype: DType,
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

    def is_noting(self) -> bool:
        """Whether `compile_for` is collecting kernels, so that nothing is launched."""
        return self._here.wanted is not None

    @property
    def multiprocessors(self) -> int:
        """The number of multiprocessors of the current device."""
        return self.shared_memory_limits()[2]

    def shared_memory_limits(self) -> tuple[int, int, int]:
        device = self.cp.cuda.Device()
        if device.id not in self._limits:
            runtime = self.cp.cuda.runtime
            wanted = (runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin, runtime.cudaDevAttrMultiProcessorCount)
            shared, multiprocessors = (int(runtime.deviceGetAttribute(number, device.id)) for number in wanted)
            self._limits[device.id] = shared, 8 if int(device.compute_capability) >= 90 else 1, multiprocessors
        return self._limits[device.id]

    def has_tensor_cores(self) -> bool:
        """Whether the tensor cores of the current device multiply TF32 and bfloat16."""
        return int(self.cp.cuda.Device().compute_capability) >= 80

    def _blocks(self, wanted: int) -> tuple[int]:
        """Return a one-dimensional grid: no more blocks than keep the device busy, for kernels stride over the rest."""
        return (min(wanted, BLOCKS_A_MULTIPROCESSOR * self.multiprocessors),)

    def _over_elements(self, file: str, function: str, dtype: DType, *arguments: Any, n: int) -> None:
        """Launch a kernel that walks over `n` elements; `n` is its last argument."""
        if n:
            grid = self._blocks(-(-n // THREADS))
            self._kernel(file, function, dtype)(grid, (THREADS,), (*arguments, np.int64(n)))

    def _over_rows(self, file: str, function: str, dtype: DType, *arguments: Any, rows: int) -> None:
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
        """Return how many columns a thread may read at once, the widest first: as many as fill `sizes` bytes, or 1.

        A width needs the rows of all arrays to begin at a multiple of its bytes.
        """
        itemsize = int(arrays[0].itemsize)
        fitting = [size // itemsize for size in sizes if self.rows_begin_at(size, *arrays)]
        return [*(width for width in fitting if width > 1), 1]

    def bytes_a_copy(self, *arrays: Array) -> int:
        """Return how many bytes of a row can be copied at a time: the rows of all arrays begin at multiples of it."""
        fitting = (size for size in (16, 8) if self.rows_begin_at(size, *arrays))
        return next(fitting, int(arrays[0].itemsize))

    def rows_begin_at(self, size: int, *arrays: Array) -> bool:
        """Whether the rows of all arrays begin at multiples of so many bytes."""
        places = (x for array in arrays for x in (self.address(array), array.shape[-1] * int(array.itemsize)))
        return all(place % size == 0 for place in places)

    def _parts(self, members: int, rows: int, columns: int, dtype: DType) -> tuple[Array, Array]:
        """Return a buffer for the sums of slices of rows, and the tickets that tell which block of a tile is the last.

        Both are large enough for any number of slices and tiles. So the buffers whose addresses a graph holds are not
        replaced when a smaller minibatch comes after it.
        """
        slices = min(-(-rows // 8), SUMMING_BLOCKS_A_MULTIPROCESSOR * self.multiprocessors)
        return self._scratch("partial", members * slices * columns, dtype), self._tickets(members * columns + 1)

    def _scratch(self, purpose: str, size: int, dtype: DType) -> Array:
        """Return a buffer for intermediate results; each thread, device and stream has its own."""
        buffers = self._here.buffers
        key = (purpose, dtype, self.cp.cuda.Device().id, self.cp.cuda.get_current_stream().ptr)
        buffer = buffers.get(key)
        if buffer is None or buffer.size < size:
            buffer = buffers[key] = self.empty((size,), dtype)
        return self._kept(buffer)

    def _kept(self, buffer: Array) -> Array:
        """Return `buffer`, and keep it as long as the graph that is being captured, even if it is replaced."""
        if self._here.captured is not None:
            self._here.captured.append(buffer)
        return buffer

    def _tickets(self, count: int) -> Array:
        """Return at least `count` counters, 0 between launches, for ``kernels/cuda/last_block.cuh``; as `_scratch`."""
        buffers = self._here.buffers
        key = ("tickets", None, self.cp.cuda.Device().id, self.cp.cuda.get_current_stream().ptr)
        if key not in buffers or buffers[key].size < count:
            buffers[key] = self.zeros((max(count, 256),), np.uint32)
        return self._kept(buffers[key])
