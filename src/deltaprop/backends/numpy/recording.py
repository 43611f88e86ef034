"""Operations of the NumPy backend, written down once as calls on bound buffers and made again without what is around.

A step of a small network is some thirty calls of NumPy, each of a fraction of a microsecond; finding views, blocks and
scratch for them takes longer than they do. Here a step runs once over arrays that note what is called on them; after
that it is a list of functions and their arguments. What CUDA graphs are on a device, this is on the host.

What cannot be made again is refused while it is noted: a result that is a new array or a number on which Python might
decide something. So a tape either holds the whole step or there is none. Of functions that would decide, those take the
place that give 0 where a result is below the smallest normal number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn, TypeAlias
from weakref import ref

import numpy as np

from deltaprop.backends.numpy.activation import STRAIGHT, Function
from deltaprop.backends.numpy.backend import NumpyBackend, Scratch

#: Functions of NumPy that come to ufuncs, which are noted in their place.
MADE_OF_UFUNCS = {np.max, np.sum, np.clip}


def _maximum(a: Any, b: Any, out: Any) -> None:
    """By keyword: alone of all ufuncs these two are not to be handed it by position."""
    np.maximum(a, b, out=out)


def _minimum(a: Any, b: Any, out: Any) -> None:
    np.minimum(a, b, out=out)


BY_KEYWORD: dict[Any, Callable[..., None]] = {np.maximum: _maximum, np.minimum: _minimum}
#: Functions and their arguments.
Calls: TypeAlias = list[tuple[Callable[..., Any], tuple[Any, ...]]]


class NotRecordableError(Exception):
    """A step does what could not be made again."""


class Tape:
    """Calls in their order.

    Attributes
    ----------
    calls : list of (callable, tuple)
        Functions, and arguments that stay the same arrays.
    """

    def __init__(self) -> None:
        self.calls: Calls = []

    def array(self, array: np.ndarray[Any, Any]) -> Recorded:
        """The same memory as an array of which this tape notes every call."""
        recorded = array.view(Recorded)
        recorded.its_tape = ref(self)
        return recorded

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call a function that returns nothing new, and note it."""
        bound = tuple(_plain(argument) for argument in arguments)
        function(*bound)
        self.calls.append((function, bound))

    def along(self, blocks: Sequence[np.ndarray[Any, Any]]) -> list[Calls]:
        """The calls again and again: where they work on the first part of a block, on its second, its third and so on.

        blocks : (parts, …) each.
        """
        parts = len(blocks[0])
        bytes_of = [block.reshape(-1).view(np.uint8) for block in blocks]
        result: list[Calls] = [[] for _ in range(parts)]
        for function, bound in self.calls:
            where = {i: place for i, array in enumerate(bound) if (place := _place(array, blocks)) is not None}
            for part, calls in enumerate(result):
                arguments = bound
                if part and where:
                    moved = list(bound)
                    for i, (block, offset) in where.items():
                        start = offset + part * blocks[block][0].nbytes
                        moved[i] = np.ndarray(bound[i].shape, bound[i].dtype, bytes_of[block], start, bound[i].strides)
                    arguments = tuple(moved)
                calls.append((function, arguments))
        return result


class Recorded(np.ndarray[Any, Any]):
    """An array over somebody's memory; so are all views of it. Its tape notes what writes into it or reads it."""

    #: Weak: a tape holds views of recorded arrays, and through what an array of NumPy is a view of no collector looks.
    its_tape: ref[Tape]

    @property
    def tape(self) -> Tape:
        """That notes it, while there is one."""
        tape = self.its_tape()
        if tape is None:
            raise RuntimeError("a recorded array outlives its tape")
        return tape

    def __array_finalize__(self, parent: Any) -> None:
        if isinstance(parent, Recorded):
            self.its_tape = parent.its_tape

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        out = options.pop("out", ())
        if len(out) != 1 or out[0] is None or any(isinstance(option, Recorded) for option in options.values()):
            _refuse(f"{ufunc.__name__} that makes a new array")
        arrays = [array for array in (*inputs, *out) if isinstance(array, np.ndarray)]
        tape = next(array.tape for array in arrays if isinstance(array, Recorded))
        function = BY_KEYWORD.get(ufunc, ufunc) if method == "__call__" else getattr(ufunc, method)
        if method == "__call__":
            # Numbers as arrays of the type they are taken to: looking at a Python number costs more than adding it.
            kind = np.result_type(*(array.dtype for array in arrays[:-1] or arrays))
            inputs = tuple(np.asarray(x, kind) if type(x) in (float, int) else x for x in inputs)
            tape.call(partial(function, **options) if options else function, *inputs, *out)
        else:
            axis, dtype, keepdims = options.pop("axis", 0), options.pop("dtype", None), options.pop("keepdims", False)
            if method != "reduce" or options.pop("where", True) is not True or options:
                _refuse(f"{ufunc.__name__}.{method} with {sorted(options)}")
            tape.call(function, inputs[0], axis, dtype, *out, keepdims)
        return out[0]

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        if function is np.copyto and not options:
            return self.tape.call(function, *arguments)
        if function not in MADE_OF_UFUNCS:
            _refuse(function.__name__)
        return super().__array_function__(function, types, arguments, options)

    def dot(self, other: Any, out: Any = None) -> Any:
        """The matrix product into `out`."""
        if out is None:
            _refuse("a product that makes a new array")
        self.tape.call(np.ndarray.dot, self, other, out)
        return out

    def fill(self, value: Any) -> None:
        """Every entry `value`."""
        self.tape.call(np.ndarray.fill, self, value)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tape.call(np.copyto, self[key], value)

    def __getitem__(self, key: Any) -> Any:
        view = super().__getitem__(key)
        if not isinstance(view, Recorded):
            _refuse("an entry that is read")
        return view

    def _refused(self, *arguments: Any, **options: Any) -> Any:
        _refuse("a value that is read or copied")

    __bool__ = __float__ = __int__ = __index__ = __iter__ = item = tolist = _refused
    copy = astype = take = repeat = sort = tobytes = nonzero = argsort = _refused


def _plain(argument: Any) -> Any:
    return argument.view(np.ndarray) if isinstance(argument, Recorded) else argument


def _place(view: Any, blocks: Sequence[np.ndarray[Any, Any]]) -> tuple[int, int] | None:
    """Of which block an argument is a view, and where in its first part it begins."""
    for i, block in enumerate(blocks if isinstance(view, np.ndarray) else ()):
        offset = view.ctypes.data - block.ctypes.data
        if 0 <= offset < block[0].nbytes:
            return i, offset
    return None


def _refuse(what: str) -> NoReturn:
    raise NotRecordableError(what)


class RecordedScratch(Scratch):
    """Scratch that is noted too, and nobody else's."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape

    def _make(self, slot: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        view = self.tape.array(super()._make(slot, shape, dtype))
        self.views[slot, shape, dtype.num] = view
        return view

    def ones(self, size: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """As of `Scratch`."""
        return self.tape.array(super().ones(size, dtype))


class RecordingBackend(NumpyBackend):
    """The NumPy backend over arrays of a tape; see `Tape.array`."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape
        self._scratch: Any = RecordedScratch(tape)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
        """As of `NumpyBackend`, and so is the next."""
        return self.tape.array(super().empty(shape, dtype))

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
        """As of `NumpyBackend`."""
        return self.tape.array(super().zeros(shape, dtype))

    def add_cost(self, *arguments: Any) -> None:
        """Nothing: the cost of many minibatches is taken at once, from the z^(L) they leave behind."""

    def _blockwise(self, function: Function, z: Any, out: Any) -> None:
        super()._blockwise(STRAIGHT.get(function, function), z, out)

    def _times(self, function: Function, z: Any, out: Any) -> None:
        super()._times(STRAIGHT.get(function, function), z, out)
