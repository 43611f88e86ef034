"""Arrays on CUDA devices, through CuPy: devices, memory, and what to do when a device refuses something."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike

from deltaprop.backends.array_types import AnyArray, ArrayLike, HostArray
from deltaprop.backends.array_types import AnyArray as Array
from deltaprop.backends.base import Precision
from deltaprop.backends.cuda.installation import import_cupy
from deltaprop.backends.cuda.local_rank import local_rank
from deltaprop.backends.cuda.thread_state import Found, Here
from deltaprop.backends.device import DeviceBackend
from deltaprop.errors import BackendError, callers_level


class CupyArrays(DeviceBackend):
    """Chooses devices, makes arrays there, and copies from and to them.

    One object serves all threads. Its variants, for other precisions and devices, share what it has found out.
    """

    name = "cupy"

    def __init__(self) -> None:
        self.cp: Any = import_cupy()
        self._functions: dict[tuple[Any, ...], Any] = {}
        self._limits: dict[int, tuple[int, int, int]] = {}
        self._here = Here([])
        self._found = Found()
        self._small_choices: dict[Any, str] = {}
        self._variants: dict[tuple[Precision, int | None], Any] = {("fp32", None): self}

    def in_precision(self, precision: Precision) -> Self:
        return self.variant(precision, self.device)

    def on_device(self, device: int | None) -> Self:
        """The same backend on this device; by default on its own or, if there are several, on the current one.

        Nobody has chosen device 0, which is current from the start: of processes that a launcher has started on this
        machine, each then takes another device.
        """
        count = self.cp.cuda.runtime.getDeviceCount()
        if device is None:
            if self.device is not None or count == 1:
                return self
            device = self.cp.cuda.Device().id or local_rank() % count
        if not 0 <= device < count:
            raise BackendError(f"device: expected one of the {count} CUDA devices here, 0 … {count - 1}, got {device}")
        return self.variant(self.precision, device if count > 1 else None)

    def variant(self, precision: Precision, device: int | None) -> Self:
        """Return the same backend in another precision, on another device."""
        key = (precision, device)
        if key not in self._variants:
            variant = self._variants[key] = object.__new__(type(self))
            # Kernels, scratch and handles, of all devices, are shared.
            variant.__dict__ |= self.__dict__ | {"precision": precision, "device": device}
        chosen: Self = self._variants[key]
        return chosen

    def scope(self) -> AbstractContextManager[object]:
        if self.device is None:
            return nullcontext()
        scope: AbstractContextManager[object] = self.cp.cuda.Device(self.device)
        return scope

    # -- arrays -------------------------------------------------------------------------------------------------

    def owns(self, array: object) -> bool:
        return isinstance(array, self.cp.ndarray)

    def asarray(self, array: ArrayLike, dtype: DTypeLike) -> Array:
        entries = array.size if self.owns(array) else np.size(array)
        return self._allocating(entries, dtype, lambda: self.cp.asarray(array, dtype=dtype, order="C"))

    def adopt(self, array: AnyArray) -> Array:
        """Return an array of another library as one of CuPy, by DLPack or a similar protocol; nothing is copied."""
        # Both protocols share memory; only the former is spoken by libraries without DLPack (Numba).
        interface = hasattr(array, "__cuda_array_interface__")
        return self.cp.asarray(array) if interface else self.cp.from_dlpack(array)

    def to_numpy(self, array: Array) -> HostArray:
        host: HostArray = self.cp.asnumpy(array)
        return host

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        return self._allocating(math.prod(shape), dtype, lambda: self.cp.empty(shape, dtype))

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        return self._allocating(math.prod(shape), dtype, lambda: self.cp.zeros(shape, dtype))

    def fill(self, array: Array, value: float) -> None:
        array.fill(value)

    def is_beside(self, array: Array, out: Array) -> bool:
        first, last = self.address(array), self.address(out)
        overlap = first < last + int(out.nbytes) and last < first + int(array.nbytes)
        return bool(out.flags.c_contiguous) and not overlap

    def copy(self, array: Array) -> Array:
        return array.copy()

    def sum(self, array: Array) -> Array:
        return array.sum(dtype=np.float64)

    def _allocating(self, entries: int, dtype: DTypeLike, make: Callable[[], Array]) -> Array:
        """Call `make`, which allocates an array on the device.

        Raises
        ------
        MemoryError
            If there is too little memory, even after CuPy has given back what it holds unused.
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

    def room(self) -> int | None:
        free, _ = self.cp.cuda.runtime.memGetInfo()
        return int(free) + int(self.cp.get_default_memory_pool().free_bytes())

    def page_locked(self, shape: tuple[int, ...], dtype: DTypeLike) -> HostArray:
        size = math.prod(shape)
        try:
            memory = self.cp.cuda.alloc_pinned_memory(size * np.dtype(dtype).itemsize)
        except (*self.device_errors, self.cp.cuda.memory.OutOfMemoryError) as error:
            self.do_without("page-locked memory", "data are uploaded from ordinary memory, while the host waits", error)
            return np.empty(shape, dtype)
        return np.frombuffer(memory, dtype, size).reshape(shape)

    def address(self, array: Array) -> int:
        return int(array.data.ptr)

    def device_number(self) -> int:
        """The number of the current device."""
        return int(self.cp.cuda.Device().id)

    # -- what a device cannot do --------------------------------------------------------------------------------

    @property
    def device_errors(self) -> tuple[type[Exception], ...]:
        return self.cp.cuda.runtime.CUDARuntimeError, self.cp.cuda.driver.CUDADriverError

    def do_without(self, what: str, instead: str, error: Exception) -> None:
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
