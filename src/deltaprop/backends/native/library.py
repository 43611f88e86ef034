"""The library compiled from the files under ``kernels/cpu/``, as Python sees it."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np

from deltaprop.backends.array_types import AnyArray, DType
from deltaprop.backends.kernel_names import check_names
from deltaprop.backends.kernel_structures import fields_of
from deltaprop.backends.native.arrays import address
from deltaprop.backends.native.compiler import UNIT, find_compiler
from deltaprop.backends.native.selection import Selected, select_library
from deltaprop.errors import BackendError

_I, _P = ctypes.c_int64, ctypes.c_void_p


class MinibatchShare(ctypes.Structure):
    """One process's rows of a minibatch; ``struct MinibatchShare`` in ``kernels/cpu/epoch_plan.h`` explains it."""

    _fields_ = fields_of("cpu/epoch_plan.h", "MinibatchShare")


class EpochPlan(ctypes.Structure):
    """What an epoch is to do; ``struct EpochPlan`` in ``kernels/cpu/epoch_plan.h`` explains the fields."""

    _fields_ = fields_of("cpu/epoch_plan.h", "EpochPlan")


class EncodedInputs(ctypes.Structure):
    """What encoded inputs are made of; ``struct EncodedInputs`` in ``kernels/cpu/encoded_inputs.h`` explains it."""

    _fields_ = fields_of("cpu/encoded_inputs.h", "EncodedInputs")


class SparseInputs(ctypes.Structure):
    """Inputs in CSR; ``struct SparseInputs`` in ``kernels/cpu/sparse_inputs.h`` explains it."""

    _fields_ = fields_of("cpu/sparse_inputs.h", "SparseInputs")


class EvaluationPlan(ctypes.Structure):
    """What is evaluated; ``struct EvaluationPlan`` in ``kernels/cpu/evaluation_plan.h`` explains the fields."""

    _fields_ = fields_of("cpu/evaluation_plan.h", "EvaluationPlan")


#: For each pointer of a plan to an array: its dtype, None for the network's own, and whether the library writes there.
POINTERS: dict[str, tuple[DType | None, bool]] = {
    "sizes": (np.dtype(np.int64), False),
    "activations": (np.dtype(np.int64), False),
    "parameters": (None, True),
    "x": (None, False),
    "y": (None, False),
    "weights": (None, False),
    "order": (np.dtype(np.int64), False),
    "shares": (np.dtype(MinibatchShare), False),
    "scales": (np.dtype(np.float64), False),
    "penalties": (np.dtype(np.float64), False),
    "decays": (np.dtype(np.float64), False),
    "gradient": (None, True),
    "first": (None, True),
    "second": (None, True),
    "rates": (np.dtype(np.float64), False),
    "keep": (np.dtype(np.float64), False),
    "keys": (np.dtype(np.uint64), False),
    "scratch": (None, True),
    "outputs": (None, True),
    "cost": (np.dtype(np.float64), True),
    "decay": (np.dtype(np.float64), True),
    "carried": (np.dtype(np.float64), True),
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
    return address(name, array, dtype if own is None else own, shape, written=written)


def library(dtype: DType) -> ctypes.CDLL:
    """The compiled library for `dtype`: ``run`` and ``scratch_entries`` of an `EpochPlan`, others of many.

    ``run_members`` trains several networks, and ``evaluate_members`` asks them for costs and outputs; ``evaluate`` asks
    one network, over dense rows. ``apply`` takes a step by a gradient that is known. ``gradient`` and
    ``hessian_product`` write ∂J/∂θ and H v over all samples, and need scratch of a size of their own.

    Python's lock is not held while they run.

    Raises
    ------
    BackendError
        If it cannot be compiled or loaded here.
    ValueError
        If ``DELTAPROP_LIBRARY`` names no library that this processor can run.
    """
    return _loaded(dtype).loaded


def load_ahead(backend: object, dtype: DType) -> None:
    """Load or compile the library before a clock starts, if a backend trains by it; training tells what goes wrong."""
    if getattr(backend, "compiles", False):
        with suppress(BackendError):
            library(dtype)


def loaded_library() -> ctypes.CDLL | None:
    """A library that is loaded already, for whichever dtype: for functions that no dtype concerns."""
    return next(iter(_in_use.values()), None)


def library_origin(dtype: DType) -> str:
    """Where the library for `dtype` comes from, such as "prebuilt (x86-64-v4)" or "compiled here".

    Raises
    ------
    BackendError, ValueError
        As `library`.
    """
    return _loaded(dtype).origin


def library_problem(dtype: DType) -> str | None:
    """Why the library for `dtype` cannot be had, where no compiler is here to blame; None where it may be had."""
    if find_compiler() is not None:
        return None
    try:
        library(dtype)
    except BackendError as error:
        return str(error)
    return None


#: The libraries that are loaded, by the type of their arrays.
_in_use: dict[str, ctypes.CDLL] = {}


def _loaded(dtype: DType) -> Selected[ctypes.CDLL]:
    selected = _load("float" if dtype.itemsize == 4 else "double")
    if isinstance(selected, str):
        raise BackendError(selected)
    return selected


@cache
def _load(real: str) -> Selected[ctypes.CDLL] | str:
    """The library, or why it cannot be had: a compiler that fails is not asked again by every fit."""
    try:
        selected = select_library(real, _checked)
    except BackendError as error:
        return str(error)
    except OSError as error:
        return f"the compiled library does not load ({error})"
    loaded = selected.loaded
    for of_one in (loaded.run, loaded.apply):
        of_one.argtypes, of_one.restype = [ctypes.POINTER(EpochPlan)], None
    for of_members in (loaded.run_members, loaded.evaluate_members):
        of_members.argtypes, of_members.restype = [_P, _P, _I, _I, _I], None
    loaded.evaluate.argtypes, loaded.evaluate.restype = [_P, _P, _I, _P, _P, _P, _P, _P, _I, _I], _I
    loaded.all_finite.argtypes, loaded.all_finite.restype = [_P, _I], _I
    loaded.shuffle.argtypes, loaded.shuffle.restype = [_P, _P, _I], None
    loaded.gradient.argtypes, loaded.gradient.restype = [ctypes.POINTER(EpochPlan), _P], None
    loaded.hessian_product.argtypes, loaded.hessian_product.restype = [ctypes.POINTER(EpochPlan), _P, _P], None
    for entries in (
        loaded.scratch_entries,
        loaded.gradient_scratch_entries,
        loaded.hessian_product_scratch_entries,
    ):
        entries.argtypes, entries.restype = [ctypes.POINTER(EpochPlan)], _I
    _in_use[real] = loaded
    return selected


def _checked(path: Path) -> ctypes.CDLL:
    check_names(path.read_bytes(), UNIT, (EpochPlan, MinibatchShare, EncodedInputs, SparseInputs, EvaluationPlan))
    return ctypes.CDLL(str(path))


@cache
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
