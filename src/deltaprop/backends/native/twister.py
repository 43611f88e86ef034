"""NumPy's Mersenne Twister in memory: the compiled library shuffles by it, and its state is copied as a whole.

Both do what NumPy does, several times as fast: the same order from the same random numbers, the same state.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from deltaprop.backends.array_types import Indices
from deltaprop.backends.native.arrays import address
from deltaprop.backends.native.library import loaded_library

#: Entries of an order that the library can number.
MOST_ENTRIES = 2**31 - 1
#: The name of the capsule by which NumPy tells compiled code where a generator is.
CAPSULE = b"BitGenerator"
#: The state: 624 words, and how many of them have been used.
State = ctypes.c_uint32 * 625

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
        loaded = loaded_library() if compiled and len(order) <= MOST_ENTRIES else None
        self._compiled: Callable[..., None] | None = None if loaded is None else loaded.shuffle
        self._first: int = address("order", order, np.int64, (len(order),), written=True)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how a copy is made: its order is elsewhere in memory."""
        return Shuffle, (self.random_state, self.order)

    def __call__(self) -> None:
        """Shuffle the order."""
        # A program may put another generator into the random state that everybody shares.
        bits = None if self._compiled is None else twister_of(self.random_state)
        if bits is None or self._compiled is None:
            self.random_state.shuffle(self.order)
            return
        with bits.lock:
            self._compiled(_pointer_in(bits.capsule, CAPSULE), self._first, len(self.order))


class Rewound:
    """Brings a random state back to where it is now, again and again.

    Parameters
    ----------
    random_state : RandomState
        Nobody draws normal numbers from it afterwards: it makes two at a time, and keeps the second.
    """

    random_state: np.random.RandomState

    def __init__(self, random_state: np.random.RandomState) -> None:
        self.random_state = random_state
        bits = twister_of(random_state)
        self._slow: Any = random_state.get_state(legacy=False)
        self._state: Any = None if bits is None else State.from_buffer_copy(_state_of(bits))

    def __call__(self) -> None:
        """Bring it back."""
        bits = None if self._state is None else twister_of(self.random_state)
        if bits is None:
            self.random_state.set_state(self._slow)
            return
        with bits.lock:
            ctypes.memmove(_state_of(bits), self._state, ctypes.sizeof(State))


def twister_of(random_state: np.random.RandomState) -> Any:
    """Return the generator of a random state; None where it is another than NumPy makes by itself."""
    bits = getattr(random_state, "_bit_generator", None)
    is_known = type(bits) is np.random.MT19937 and type(random_state) is np.random.RandomState
    return bits if is_known and _lies_as_expected() else None


def _state_of(bits: Any) -> Any:
    """Return the state of a generator, in its own memory."""
    place = ctypes.c_void_p.from_address(_pointer_in(bits.capsule, CAPSULE)).value
    return State.from_address(place or 0)


@cache
def _lies_as_expected() -> bool:
    """Whether this NumPy has the state of its generators in memory as ``kernels/cpu/shuffle.h`` describes it."""
    bits = np.random.MT19937(0)
    state: Any = bits.state["state"]
    return list(_state_of(bits)) == [*state["key"].tolist(), state["pos"]]
