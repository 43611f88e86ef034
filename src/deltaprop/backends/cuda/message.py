"""Copies several small arrays to the device at once, before a launch, through page-locked memory that is kept."""

from __future__ import annotations

import math
import sys
from contextlib import suppress
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from deltaprop.backends.array_types import AnyArray
from deltaprop.backends.device import DeviceBackend, Event

#: The shape and the dtype of an array.
Kind: TypeAlias = tuple[tuple[int, ...], DTypeLike]
#: Each array begins at a multiple of so many bytes.
ALIGNMENT = 16


class Message:
    """Arrays on the device with twins in page-locked memory; one copy writes them all.

    The host does not wait for that copy, but before it writes into the twins again.

    Parameters
    ----------
    backend : DeviceBackend
    **kinds : (shape, dtype)
        Of each array, by its name.

    Attributes
    ----------
    device : dict of str to array
        Each array on the device.
    """

    backend: DeviceBackend
    kinds: dict[str, Kind]
    device: dict[str, AnyArray]
    _copied: Event = None  # the event that the last copy is over

    def __init__(self, backend: DeviceBackend, **kinds: Kind) -> None:
        self.backend, self.kinds = backend, kinds
        places, end = {}, 0
        for name, (shape, dtype) in kinds.items():
            size = math.prod(shape) * np.dtype(dtype).itemsize
            places[name] = slice(end, end + size)
            end += -(-size // ALIGNMENT) * ALIGNMENT
        self._on_device = backend.empty((end,), np.uint8)
        self._on_host = backend.page_locked((end,), np.uint8)
        both: list[AnyArray] = [self._on_device, self._on_host]
        self.device, self._host = (
            {name: memory[places[name]].view(dtype).reshape(shape) for name, (shape, dtype) in kinds.items()}
            for memory in both
        )

    def send(self, **values: ArrayLike | None) -> None:
        """Write these arrays on the current stream; arrays that are None or not named keep their last values."""
        self.backend.wait_on_host(self._copied)
        for name, value in values.items():
            if value is not None:
                self._host[name][...] = value
        self._copied = self.backend.send(self._on_host, self._on_device, self._copied)

    def __del__(self) -> None:
        """Wait before the page-locked memory is freed: a copy may still have to read it."""
        if not sys.is_finalizing():
            with suppress(*self.backend.device_errors):  # a device that does nothing more reads nothing more
                self.backend.wait_on_host(self._copied)
