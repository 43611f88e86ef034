"""Records the NumPy calls of a step once, and replays them as a list.

A step of a small network is some thirty calls of NumPy, each of a fraction of a microsecond; finding views, blocks and
scratch for them takes longer than they do. So a step runs once over arrays that note every call. After that it is a
list of functions and their arguments. What CUDA graphs are on a device, this is on the host.

A call that cannot be replayed is refused while it is recorded: its result is a new array, or a number on which Python
might branch. So a tape either holds the whole step or there is none. Functions that branch on values are replaced by
branch-free ones, which give 0 where a result is below the smallest normal number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn, TypeAlias
from weakref import ref

import numpy as np

from deltaprop.backends.array_types import DType, Floats, HostArray
from deltaprop.backends.numpy.activation import STRAIGHT, Function
from deltaprop.backends.numpy.backend import NumpyBackend, NumpyScratch

#: Functions of NumPy that call a ufunc; the ufunc is recorded in their place.
MADE_OF_UFUNCS: set[Callable[..., Any]] = {np.max, np.sum, np.clip}


def _maximum(a: Any, b: Any, out: Any) -> None:
    """Take `out` by position, as `np.maximum` itself does not everywhere."""
    np.maximum(a, b, out=out)


def _minimum(a: Any, b: Any, out: Any) -> None:
    np.minimum(a, b, out=out)


BY_KEYWORD: dict[Any, Callable[..., None]] = {np.maximum: _maximum, np.minimum: _minimum}
#: Functions and their arguments.
Calls: TypeAlias = list[tuple[Callable[..., Any], tuple[Any, ...]]]


class NotRecordableError(Exception):
    """A step makes a call that cannot be replayed."""


class Tape:
    """A list of calls, in the order in which they were made.

    Attributes
    ----------
    calls : list of (callable, tuple)
        Functions and their arguments; the same arrays in every replay.
    """

    def __init__(self) -> None:
        self.calls: Calls = []

    def array(self, array: HostArray) -> Recorded:
        """Return an array over the same memory, whose calls this tape records."""
        recorded = array.view(Recorded)
        recorded.its_tape = ref(self)
        return recorded

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call a function that writes into its arguments, and record the call."""
        bound = tuple(_plain(argument) for argument in arguments)
        function(*bound)
        self.calls.append((function, bound))

    def along(self, blocks: Sequence[HostArray]) -> list[Calls]:
        """Return the calls once for each part of some blocks, (parts, …) each.

        Calls that were recorded on the first part of a block work on its second part, its third part and so on.
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
    """An array whose tape records every call that reads it or writes into it; so are all views of it."""

    #: Weak: a tape holds views of recorded arrays, and the garbage collector cannot see what an array is a view of.
    its_tape: ref[Tape]

    @property
    def tape(self) -> Tape:
        """The tape that records this array's calls.

        Raises
        ------
        RuntimeError
            If the tape is gone.
        """
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
        tape = next(array.tape for array in (*inputs, *out) if isinstance(array, Recorded))
        if method == "__call__":
            function = BY_KEYWORD.get(ufunc, ufunc)
            operands = _operands(inputs, out[0])
            tape.call(partial(function, **options) if options else function, *operands, *out)
        elif method == "reduce":
            axis, dtype, keepdims = _reduction(ufunc, options)
            tape.call(ufunc.reduce, inputs[0], axis, dtype, *out, keepdims)
        else:
            _refuse(f"{ufunc.__name__}.{method}")
        return out[0]

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        if function is np.copyto and not options:
            return self.tape.call(function, *arguments)
        if function not in MADE_OF_UFUNCS:
            _refuse(function.__name__)
        return super().__array_function__(function, types, arguments, options)

    def dot(self, other: Any, out: Any = None) -> Any:
        """Record the matrix product, into `out`."""
        if out is None:
            _refuse("a product that makes a new array")
        self.tape.call(np.ndarray.dot, self, other, out)
        return out

    def fill(self, value: Any) -> None:
        """Record that every entry becomes `value`."""
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


def _operands(inputs: tuple[Any, ...], out: HostArray) -> tuple[Any, ...]:
    """The inputs of a ufunc, with numbers as arrays: NumPy takes longer to look at a Python number than to add it."""
    dtypes = [x.dtype for x in inputs if isinstance(x, np.ndarray)] or [out.dtype]
    kind = np.result_type(*dtypes)
    return tuple(np.asarray(x, kind) if type(x) in (float, int) else x for x in inputs)


def _reduction(ufunc: np.ufunc, options: dict[str, Any]) -> tuple[Any, Any, bool]:
    """The options of ``ufunc.reduce`` that can be given by position: axis, dtype and keepdims."""
    known = {"axis": 0, "dtype": None, "keepdims": False, "where": True}
    if not options.keys() <= known.keys() or options.get("where", True) is not True:
        _refuse(f"{ufunc.__name__}.reduce with {sorted(options)}")
    given = known | options
    return given["axis"], given["dtype"], bool(given["keepdims"])


def _plain(argument: Any) -> Any:
    """An argument without its tape."""
    return argument.view(np.ndarray) if isinstance(argument, Recorded) else argument


def _place(view: Any, blocks: Sequence[HostArray]) -> tuple[int, int] | None:
    """Find the block an argument is a view of, and where in the block's first part it begins; None if there is none."""
    for i, block in enumerate(blocks if isinstance(view, np.ndarray) else ()):
        offset = view.ctypes.data - block.ctypes.data
        if 0 <= offset < block[0].nbytes:
            return i, offset
    return None


def _refuse(what: str) -> NoReturn:
    raise NotRecordableError(what)


class RecordedScratch(NumpyScratch):
    """Scratch whose calls are recorded too; no other backend uses it."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape

    def _make(self, slot: int, shape: tuple[int, ...], dtype: DType) -> HostArray:
        view = self.tape.array(super()._make(slot, shape, dtype))
        self.views[slot, shape, dtype] = view
        return view

    def ones(self, size: int, dtype: DType) -> Floats:
        """A vector of ones whose calls are recorded."""
        return self.tape.array(super().ones(size, dtype))


class RecordingBackend(NumpyBackend):
    """The NumPy backend over recorded arrays; see `Tape.array`."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape
        self._scratch: Any = RecordedScratch(tape)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> HostArray:
        """A buffer whose calls are recorded."""
        return self.tape.array(super().empty(shape, dtype))

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> HostArray:
        """A buffer of zeros whose calls are recorded."""
        return self.tape.array(super().zeros(shape, dtype))

    def add_cost(self, *arguments: Any) -> None:
        """Do nothing: the costs of many minibatches are computed together, from the z^(L) they leave behind."""

    def _blockwise(self, function: Function, z: Any, out: Any) -> None:
        super()._blockwise(STRAIGHT.get(function, function), z, out)

    def _times(self, function: Function, z: Any, out: Any) -> None:
        super()._times(STRAIGHT.get(function, function), z, out)
