"""NumPy's shuffle by the compiled library, several times as fast: the same order from the same random numbers."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from deltaprop.backends.array_types import Indices
from deltaprop.backends.native.arrays import address
from deltaprop.backends.native.library import loaded_library

#: Entries that the library can number.
MOST_ENTRIES = 2**31 - 1
#: The name of the capsule by which NumPy tells compiled code where a generator is.
CAPSULE = b"BitGenerator"

_pointer_in: Any = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


class Shuffle:
    """Shuffles an order in place, again and again, as ``random_state.shuffle(order)`` does.

    The random state is left as that would leave it. NumPy itself shuffles where no library is loaded, and where the
    generator is not the one that `numpy.random.RandomState` makes for itself.

    Parameters
    ----------
    random_state : RandomState
    order : array, (m,) of int64
    compiled : bool, default True
        Whether the library may do it.
    """

    random_state: np.random.RandomState
    order: Indices

    def __init__(self, random_state: np.random.RandomState, order: Indices, *, compiled: bool = True) -> None:
        self.random_state, self.order = random_state, order
        loaded = loaded_library() if compiled and len(order) <= MOST_ENTRIES and _knows(random_state) else None
        self._compiled: Callable[..., None] | None = None if loaded is None else loaded.shuffle
        self._first: int = address("order", order, np.int64, (len(order),), written=True)

    def __call__(self) -> None:
        """Shuffle the order."""
        # A program may put another generator into the random state that everybody shares.
        if self._compiled is None or not _knows(self.random_state):
            self.random_state.shuffle(self.order)
            return
        bits: Any = self.random_state._bit_generator  # type: ignore[attr-defined]
        with bits.lock:
            self._compiled(_pointer_in(bits.capsule, CAPSULE), self._first, len(self.order))


def _knows(random_state: np.random.RandomState) -> bool:
    """Whether the library can take its random numbers from the generator of a random state."""
    is_twister = type(getattr(random_state, "_bit_generator", None)) is np.random.MT19937
    return is_twister and type(random_state) is np.random.RandomState and _lies_as_expected()


@cache
def _lies_as_expected() -> bool:
    """Whether this NumPy keeps the state of its generators as ``struct Twister`` of ``kernels/cpu/shuffle.h`` has it."""
    bits: Any = np.random.MT19937(0)
    state = bits.state["state"]
    expected = [*state["key"].tolist(), state["pos"]]
    place = ctypes.c_void_p.from_address(_pointer_in(bits.capsule, CAPSULE)).value
    return place is not None and list((ctypes.c_uint32 * len(expected)).from_address(place)) == expected
