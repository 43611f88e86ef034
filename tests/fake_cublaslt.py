"""Stands for cublasLt on the host: NumPy forms the products, and algorithms take as long as a test says.

It replaces the module of nvmath-python, and the parts of CuPy that it needs: streams that may be capturing, events with
a clock of their own, memory that may be exhausted.
"""

import ctypes
import sys
from dataclasses import dataclass
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from deltaprop.backends.cuda.cublas import GUESSES, LtProducts

DTYPES = {0: np.float32, 1: np.float64, 14: np.uint16}


class cuBLASLtError(Exception):  # noqa: N801
    """The error of nvmath-python, which is no RuntimeError."""


class PointerMode(IntEnum):
    HOST, DEVICE = 0, 1


class MatmulDescAttribute(IntEnum):
    POINTER_MODE, TRANSA, TRANSB = 2, 3, 4


class MatmulPreferenceAttribute(IntEnum):
    MAX_WORKSPACE_BYTES = 1
    MIN_ALIGNMENT_A_BYTES, MIN_ALIGNMENT_B_BYTES, MIN_ALIGNMENT_C_BYTES, MIN_ALIGNMENT_D_BYTES = 5, 6, 7, 8


class MatrixLayoutAttribute(IntEnum):
    BATCH_COUNT, STRIDED_BATCH_OFFSET = 5, 6


RESULT = np.dtype(
    [
        *(("algo", [("data_", "<u8", (8,))]), ("workspace_size", "<u8"), ("state", "<i4")),
        *(("waves_count", "<f4"), ("reserved", "<i4", (4,))),
    ]
)


@dataclass
class Algorithm:
    """An algorithm: the µs of a launch, what the heuristics say of it, and whether cublasLt then refuses it."""

    microseconds: float
    state: int = 0
    refused: bool = False


class FakeLt:
    """The module ``nvmath.bindings.cublasLt``, and a device with it.

    Attributes
    ----------
    algorithms : list of Algorithm
        The algorithms that the heuristics find, best guess first.
    multiplied : list of int
        The numbers of the launched algorithms.
    timed : int
        How many times were measured.
    run : callable
        The function that runs a launch.
    """

    cuBLASLtError, PointerMode = cuBLASLtError, PointerMode  # noqa: N815
    MatmulDescAttribute, MatmulPreferenceAttribute = MatmulDescAttribute, MatmulPreferenceAttribute
    MatrixLayoutAttribute, matmul_heuristic_result_dtype = MatrixLayoutAttribute, RESULT

    def __init__(self, algorithms):
        self.algorithms, self.objects, self.multiplied, self.asked = algorithms, {}, [], []
        self.clock, self.timed, self.capturing, self.exhausted = 0.0, 0, False, False
        self.workspaces, self.run, self.finish = set(), lambda launch: launch(), lambda: None
        self.overhead = 8.0  # µs from an idle stream to a launch

    # -- the module ---------------------------------------------------------------------------------------------

    def create(self):
        return self._made("handle")

    def _made(self, *what):
        self.objects[len(self.objects) + 1] = [*what, {}]
        return len(self.objects)

    def matmul_desc_create(self, compute_type, factors):
        return self._made("product", factors)

    def matrix_layout_create(self, data_type, rows, columns, leading):
        return self._made("layout", data_type, rows, columns, leading)

    def matmul_preference_create(self):
        return self._made("preference")

    def matmul_preference_destroy(self, preference):
        assert self.objects[preference][0] == "preference"

    def _set(self, what, attribute, address, size):
        self.objects[what][-1][attribute] = int.from_bytes(ctypes.string_at(address, size), sys.byteorder)

    matmul_desc_set_attribute = matrix_layout_set_attribute = matmul_preference_set_attribute = _set

    def matmul_algo_get_heuristic(self, handle, product, A, B, C, D, preference, count, results, found):
        self.asked.append(count)
        assert self.objects[handle][0] == "handle"
        known = self.algorithms[:count]
        results = as_array(results, RESULT, (count,))
        for i, algorithm in enumerate(known):
            results[i]["algo"]["data_"], results[i]["state"] = i, algorithm.state
        as_array(found, np.int32, (1,))[0] = len(known)

    def matmul(
        self, handle, product, alpha, a, of_A, b, of_B, beta, c, of_C, d, of_D, algorithm, workspace, size, stream
    ):
        number = int(as_array(algorithm, np.uint64, (8,))[0])
        if self.algorithms[number].refused:
            raise cuBLASLtError("CUBLAS_STATUS_NOT_SUPPORTED (15)")
        assert size == 32 * 2**20
        self.workspaces.add(workspace)
        self.multiplied.append(number)
        self.clock += self.algorithms[number].microseconds
        kind, factors, attributes = self.objects[product]
        assert kind == "product"
        host = attributes[MatmulDescAttribute.POINTER_MODE] == PointerMode.HOST
        read = [as_array(x, DTYPES[factors], ()) for x in (alpha, beta)]
        read = [x.copy() for x in read] if host else read

        def multiply():
            left, right, old, new = (self._matrix(*x) for x in ((a, of_A), (b, of_B), (c, of_C), (d, of_D)))
            if attributes[MatmulDescAttribute.TRANSA]:
                left = left.swapaxes(-1, -2)
            if attributes[MatmulDescAttribute.TRANSB]:
                right = right.swapaxes(-1, -2)
            made = read[0] * (left @ right)
            new[...] = made + read[1] * old if read[1] else made

        self.run(multiply)

    def _matrix(self, address, layout):
        """Columns are contiguous, so the last axis but one has stride 1."""
        kind, data_type, rows, columns, leading, attributes = self.objects[layout]
        assert kind == "layout"
        assert leading >= rows
        members, dtype = attributes.get(MatrixLayoutAttribute.BATCH_COUNT, 1), np.dtype(DTYPES[data_type])
        offset = attributes.get(MatrixLayoutAttribute.STRIDED_BATCH_OFFSET, leading * columns)
        assert offset >= leading * columns
        memory = as_array(address, dtype, ((members - 1) * offset + (columns - 1) * leading + rows,))
        strides = [size * dtype.itemsize for size in (offset, 1, leading)]
        return np.lib.stride_tricks.as_strided(memory, (members, rows, columns), strides)

    # -- the parts of CuPy that it needs ------------------------------------------------------------------------------

    def event(self):
        lt = self

        class Event:
            def record(self, stream):
                self.time = lt.clock

            def synchronize(self):
                lt.finish()

        return Event()

    def elapsed(self, begin, end):
        self.timed += 1
        return (end.time - begin.time + self.overhead) / 1e3

    def filled(self, address, value, size, stream):
        assert (value, size) == (0, 32 * 2**20)
        assert address in self.workspaces

    def empty(self, shape, dtype):
        if self.exhausted:
            raise OutOfMemoryError
        return np.full(shape, np.nan, dtype)


class OutOfMemoryError(Exception):
    """Stands for CuPy's error."""


def as_array(address, dtype, shape):
    dtype = np.dtype(dtype)
    memory = (ctypes.c_char * (max(1, int(np.prod(shape))) * dtype.itemsize)).from_address(address)
    return np.frombuffer(memory, dtype, int(np.prod(shape))).reshape(shape)


def installed(monkeypatch, lt):
    """Put it where ``import nvmath`` finds it."""
    nvmath: Any = ModuleType("nvmath")
    bindings: Any = ModuleType("nvmath.bindings")
    nvmath.bindings, bindings.cublasLt = bindings, lt
    monkeypatch.setitem(sys.modules, "nvmath", nvmath)
    monkeypatch.setitem(sys.modules, "nvmath.bindings", bindings)


def of_backend(monkeypatch, lt, backend):
    """Return `LtProducts` for the emulated backend, which runs them like the launches of its kernels."""
    installed(monkeypatch, lt)
    lt.run, lt.finish = backend.run, lambda: backend._after(None, backend.streams.top())
    backend.cp.cuda.Event, backend.cp.cuda.get_elapsed_time = lt.event, lt.elapsed
    backend.cp.cuda.runtime.memsetAsync = lt.filled
    return LtProducts(backend.cp, backend.address, backend._scratch, GUESSES)


def fake_products(monkeypatch, lt, guesses):
    """Return `LtProducts` on the host."""
    installed(monkeypatch, lt)
    stream = SimpleNamespace(ptr=0, is_capturing=lambda: lt.capturing)
    cuda = SimpleNamespace(
        Device=lambda: SimpleNamespace(id=0),
        get_current_stream=lambda: stream,
        Event=lt.event,
        get_elapsed_time=lt.elapsed,
        runtime=SimpleNamespace(memsetAsync=lt.filled),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    )
    cp = SimpleNamespace(cuda=cuda, empty=lt.empty, full=np.full)
    workspace = np.zeros(32 * 2**20, np.uint8)
    return LtProducts(cp, lambda array: array.ctypes.data, lambda purpose, size, dtype: workspace, guesses)
