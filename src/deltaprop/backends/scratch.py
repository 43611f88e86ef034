"""Buffers for the intermediate results of an operation."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from deltaprop.backends.array_types import AnyArray

A = TypeVar("A")
#: Entries that a buffer holds at least.
LEAST = 16384
#: Views of scratch that are remembered.
MOST_VIEWS = 512


class Scratch(threading.local, Generic[A]):
    """Gives out buffers for intermediate results; each thread has its own, and they only ever grow.

    Parameters
    ----------
    empty : callable
        Makes an array of a shape and a dtype, content undefined.
    """

    def __init__(self, empty: Callable[[tuple[int, ...], Any], A]) -> None:
        self.empty = empty
        self.buffers: dict[tuple[int, Any], AnyArray] = {}
        self.views: dict[tuple[int, tuple[int, ...], Any], A] = {}

    def __call__(self, slot: int, shape: tuple[int, ...], dtype: Any) -> A:
        """Return buffer number `slot` as an array of `shape`, content undefined."""
        # A step asks for the same few shapes again and again: finding a view is cheaper than making one.
        view = self.views.get((slot, shape, dtype))
        return self._make(slot, shape, dtype) if view is None else view

    def _make(self, slot: int, shape: tuple[int, ...], dtype: Any) -> A:
        size = math.prod(shape)
        buffer: AnyArray = self.buffers.get((slot, dtype))
        if buffer is None or len(buffer) < size:
            buffer = self.buffers[slot, dtype] = self.empty((max(size, LEAST),), dtype)
            self.views.clear()
        elif len(self.views) >= MOST_VIEWS:
            self.views.clear()
        view: A = buffer[:size].reshape(shape)
        self.views[slot, shape, dtype] = view
        return view
