"""The library compiled from ``kernels/cpu/library.cpp``, as Python sees it."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from deltaprop.backends.array_types import AnyArray, DType
from deltaprop.backends.kernel_names import check_names
from deltaprop.backends.kernel_structures import fields_of
from deltaprop.backends.native.arrays import address
from deltaprop.backends.native.compiler import native_library
from deltaprop.errors import BackendError

_I, _P = ctypes.c_int64, ctypes.c_void_p


class EpochPlan(ctypes.Structure):
    """What an epoch is to do; ``struct EpochPlan`` in ``kernels/cpu/epoch_plan.h`` explains the fields."""

    _fields_ = fields_of("cpu/epoch_plan.h", "EpochPlan")


class EncodedInputs(ctypes.Structure):
    """What encoded inputs are made of; ``struct EncodedInputs`` in ``kernels/cpu/encoded_inputs.h`` explains it."""

    _fields_ = fields_of("cpu/encoded_inputs.h", "EncodedInputs")


class SparseInputs(ctypes.Structure):
    """Inputs in CSR; ``struct SparseInputs`` in ``kernels/cpu/sparse_inputs.h`` explains it."""

    _fields_ = fields_of("cpu/sparse_inputs.h", "SparseInputs")


#: For each pointer of a plan to an array: its dtype, None for the network's own, and whether the library writes there.
POINTERS: dict[str, tuple[Any, bool]] = {
    "sizes": (np.int64, False),
    "activations": (np.int64, False),
    "parameters": (None, True),
    "x": (None, False),
    "y": (None, False),
    "weights": (None, False),
    "order": (np.int64, False),
    "scales": (np.float64, False),
    "penalties": (np.float64, False),
    "decays": (np.float64, False),
    "first": (None, True),
    "second": (None, True),
    "rates": (np.float64, False),
    "keep": (np.float64, False),
    "keys": (np.uint64, False),
    "scratch": (None, True),
    "outputs": (None, True),
    "cost": (np.float64, True),
    "decay": (np.float64, True),
    "carried": (np.float64, True),
}


def pointer(name: str, array: AnyArray, dtype: DType, shape: tuple[int, ...]) -> int:
    """The address of an array that a plan shall point to by the field `name`; see `native_arrays.address`.

    dtype is the network's.

    Raises
    ------
    ValueError, TypeError
        If the array is not what the library takes it for.
    """
    own, written = POINTERS[name]
    return address(name, array, own or dtype, shape, written=written)


def library(dtype: DType) -> ctypes.CDLL:
    """The compiled library for `dtype`: ``run`` and ``scratch_entries`` of an `EpochPlan`, others of many.

    ``run_members`` trains several networks, and ``evaluate_members`` asks them for costs and outputs.

    Python's lock is not held while they run.

    Raises
    ------
    BackendError
        If it cannot be compiled or loaded here.
    """
    loaded = _load("float" if dtype.itemsize == 4 else "double")
    if isinstance(loaded, str):
        raise BackendError(loaded)
    return loaded


@cache
def _load(real: str) -> ctypes.CDLL | str:
    """The library, or why it cannot be had: a compiler that fails is not asked again by every fit."""
    try:
        loaded = native_library(real, _checked)
    except BackendError as error:
        return str(error)
    except OSError as error:
        return f"the compiled library does not load ({error})"
    loaded.run.argtypes, loaded.run.restype = [ctypes.POINTER(EpochPlan)], None
    for of_members in (loaded.run_members, loaded.evaluate_members):
        of_members.argtypes, of_members.restype = [_P, _P, _I, _I, _I], None
    loaded.scratch_entries.argtypes, loaded.scratch_entries.restype = [ctypes.POINTER(EpochPlan)], _I
    return loaded


def _checked(path: Path) -> ctypes.CDLL:
    check_names(path.read_bytes(), "cpu/library.cpp", (EpochPlan, EncodedInputs, SparseInputs))
    return ctypes.CDLL(str(path))


def gemm(dtype: DType) -> int:
    """Address of sgemm or dgemm, the matrix product that SciPy offers to compiled code (`scipy.linalg.cython_blas`)."""
    from scipy.linalg import cython_blas

    capsule = cython_blas.__pyx_capi__["sgemm" if dtype.itemsize == 4 else "dgemm"]
    python = ctypes.pythonapi
    python.PyCapsule_GetName.argtypes, python.PyCapsule_GetName.restype = [ctypes.py_object], ctypes.c_char_p
    python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    python.PyCapsule_GetPointer.restype = _P
    address: int = python.PyCapsule_GetPointer(capsule, python.PyCapsule_GetName(capsule))
    return address
