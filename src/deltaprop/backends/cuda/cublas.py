"""Matrix products on the device: by a cublasLt handle of our own, which a CUDA graph may capture, or by CuPy.

CuPy refuses its own cuBLAS calls while a stream is captured, so with CuPy alone there are no graphs. The bindings are
those of nvmath-python. Everything a call needs (descriptors, the algorithm, the workspace) is made when a shape is
first seen, so that later calls allocate nothing.

The algorithm that cublasLt puts first may take ten times as long as another. So the first product of a shape times the
best guesses on the device, in a few milliseconds, and the process stays with the fastest. Another process may choose
another algorithm, whose sums are rounded in another order: the last digits may differ from process to process, though
never within one. With ``DELTAPROP_TUNE=0`` in the environment nothing is timed, here or in `small_layers.py`, and the
first guess is taken, the same in every process. A product first met while a stream is captured takes the first guess,
too.
"""

from __future__ import annotations

import ctypes
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from deltaprop.backends.array_types import AnyArray, DType, HostArray, Indices
from deltaprop.backends.array_types import AnyArray as Array
from deltaprop.backends.base import Scalar
from deltaprop.backends.cuda.tuning import DeviceWatch, fastest, tunes
from deltaprop.backends.device import Stream
from deltaprop.backends.installed import is_installed
from deltaprop.errors import BackendError, callers_level

#: Bytes of the workspace, as NVIDIA recommends for Hopper.
WORKSPACE = 32 * 2**20
BYTES = np.dtype(np.uint8)
#: How many algorithms are timed for each shape.
GUESSES = 8
#: How often the workspace is filled to keep the device busy for some 100 µs, in which the host gets ahead of it.
FILLS = 16
#: Of each kind of product: cudaDataType of its operands and of its factors, cublasComputeType. Sums are float32, or
#: float64 with operands of float64; "tf32" rounds operands to 11 significant bits on their way into the matrix units.
KINDS = {
    "float32": (0, 0, 68),
    "float64": (1, 1, 70),
    "tf32": (0, 0, 77),
    "bfloat16": (14, 0, 68),
    "float16": (2, 0, 68),
}
#: cudaDataType of a result by the name of its dtype; 16 bits are bfloat16.
RESULTS = {"float32": 0, "float64": 1, "uint16": 14}


class Products(ABC):
    """Row-major matrix products, each of a stack of them where arrays have a leading member axis."""

    #: Whether a CUDA graph can hold them.
    capturable: bool
    #: Raised where the library cannot compute a product; nothing has been written then.
    errors: tuple[type[Exception], ...] = ()

    @abstractmethod
    def __call__(
        self,
        A: Array,
        B: Array,
        out: Array,
        *,
        kind: str,
        factor: float,
        transpose_A: bool,
        transpose_B: bool,
        keep: Scalar | None,
    ) -> None:
        """Write factor · op(A) op(B) into `out`; with `keep`, keep · out + factor · op(A) op(B).

        out : (…, m, n), A : (…, m, k) and B : (…, k, n), or the transpose of that. op(A) may have further rows and
        op(B) further columns, which are left out. Of 16-bit kinds they hold the bits, and `out` does where its dtype is
        uint16.
        """


class CupyProducts(Products):
    """Multiplies by ``cupy.matmul``."""

    capturable = False

    def __init__(self, cp: Any) -> None:
        self.cp = cp

    def __call__(
        self,
        A: Array,
        B: Array,
        out: Array,
        *,
        kind: str,
        factor: float,
        transpose_A: bool,
        transpose_B: bool,
        keep: Scalar | None,
    ) -> None:
        """Multiply in full precision; with `keep`, the product is allocated first."""
        if kind not in ("float32", "float64"):
            raise BackendError(
                f"precision: a {kind} product needs cublasLt through nvmath-python; pip install 'deltaprop[cuda13]' "
                "(CUDA 13 drivers) or pip install 'deltaprop[cuda12]' (CUDA 12 drivers)"
            )
        A, B = A.swapaxes(-1, -2) if transpose_A else A, B.swapaxes(-1, -2) if transpose_B else B
        if keep is None:
            self.cp.matmul(A, B, out=out)
        else:
            out *= keep
            out += self.cp.matmul(A, B)


class NoAlgorithmError(RuntimeError):
    """The heuristics of cublasLt find no algorithm for a product."""


@dataclass(frozen=True, eq=False)
class ProductPlan:
    """The descriptors of a product and of A, B and out, and the algorithm."""

    description: int
    layouts: tuple[int, int, int]
    algorithm: HostArray


class LtProducts(Products):
    """Multiplies by cublasLt, on the current device and stream.

    Parameters
    ----------
    cp : module
        CuPy.
    address : callable
        From an array to where it begins on the device.
    scratch : callable
        From what it is for, a number of entries and their dtype to a buffer that the current thread, device and stream
        have to themselves.
    guesses : int
        How many algorithms are timed a shape.

    Raises
    ------
    ImportError, RuntimeError, cuBLASLtError
        If the bindings or the library cannot be had.
    """

    cp: Any
    lt: Any
    address: Callable[[AnyArray], int]
    scratch: Callable[[str, int, DType], AnyArray]

    capturable = True

    def __init__(
        self,
        cp: Any,
        address: Callable[[Array], int],
        scratch: Callable[[str, int, DType], Array],
        guesses: int,
    ) -> None:
        from nvmath.bindings import cublasLt

        self.cp, self.lt, self.address, self.scratch = cp, cublasLt, address, scratch
        self.guesses = guesses
        self.errors: tuple[Any, type[NoAlgorithmError]] = (cublasLt.cuBLASLtError, NoAlgorithmError)
        self.handles: dict[int, int] = {}
        self.plans: dict[Any, ProductPlan] = {}
        self._planning = threading.Lock()
        #: The factors of products and of what was there, by value and dtype; the former on each device too.
        self.numbers: dict[tuple[float, str], Indices] = {}
        self.on_device: dict[tuple[int, float, str], Array] = {}
        self._handle(cp.cuda.Device().id)  # now, so that what is missing is found out here

    def __call__(
        self,
        A: Array,
        B: Array,
        out: Array,
        *,
        kind: str,
        factor: float,
        transpose_A: bool,
        transpose_B: bool,
        keep: float | Array | None,
    ) -> None:
        """Call cublasLtMatmul once."""
        device, stream = self.cp.cuda.Device().id, self.cp.cuda.get_current_stream()
        dtype = "float64" if kind == "float64" else "float32"  # of the factors
        on_device = not (keep is None or isinstance(keep, float))  # so that a graph can be replayed with another
        a, b, c = map(self.address, (A, B, out))
        of_result = RESULTS[out.dtype.name]
        alignments = map(_alignment, (a, b, c))
        shapes = (A.shape, B.shape, out.shape)
        key = (device, kind, of_result, *shapes, transpose_A, transpose_B, on_device, *alignments)
        if on_device:
            alpha, beta = self._number_on_device(device, factor, dtype), self.address(keep)
        else:
            alpha, beta = self._number(factor, dtype), self._number(keep or 0.0, dtype)
        workspace = self.address(self.scratch("cublasLt", WORKSPACE, BYTES))
        # cublasLt counts columns first: the transpose of row-major out = A B is outᵀ = Bᵀ Aᵀ, on the same memory.
        multiply = partial(self._multiply, self._handle(device), stream.ptr, workspace, alpha, beta, b, a)
        plan = self.plans.get(key)
        if plan is None:
            plan = self._planned(key, out, multiply, stream, workspace, kept=keep is not None)
        multiply(c, plan)

    def _multiply(
        self, handle: int, stream: int, workspace: int, alpha: int, beta: int, b: int, a: int, c: int, plan: ProductPlan
    ) -> None:
        of_A, of_B, of_out = plan.layouts
        operands, result = (alpha, b, of_B, a, of_A), (beta, c, of_out, c, of_out)
        how = (plan.algorithm.ctypes.data, workspace, WORKSPACE, stream)
        self.lt.matmul(handle, plan.description, *operands, *result, *how)

    def _planned(
        self,
        key: Any,
        out: Array,
        multiply: Callable[[int, ProductPlan], None],
        stream: Stream,
        workspace: int,
        *,
        kept: bool,
    ) -> ProductPlan:
        """Find the plan of a new shape, for this and all later products of it."""
        with self._planning:  # another thread may just have made it
            if key not in self.plans:
                guesses = 1 if stream.is_capturing() else self.guesses
                plans = self._plans(key, guesses)
                self.plans[key] = self._fastest(plans, out, multiply, stream, workspace, kept=kept)
            return self.plans[key]

    def _fastest(
        self,
        plans: list[ProductPlan],
        out: Array,
        multiply: Callable[[int, ProductPlan], None],
        stream: Stream,
        workspace: int,
        *,
        kept: bool,
    ) -> ProductPlan:
        """Return the plan that takes the shortest time."""
        if len(plans) == 1:
            return plans[0]
        try:
            # The product that follows overwrites what these leave, unless it adds to what is there.
            target = self.cp.empty(out.shape, out.dtype) if kept else out
        except self.cp.cuda.memory.OutOfMemoryError:
            return plans[0]
        able = [plan for plan in plans if self._works(multiply, self.address(target), plan)]

        def delay() -> None:
            for _ in range(FILLS):
                self.cp.cuda.runtime.memsetAsync(workspace, 0, WORKSPACE, stream.ptr)

        ways = [partial(multiply, self.address(target), plan) for plan in able]
        return able[fastest(ways, DeviceWatch(self.cp, stream, delay))] if able else plans[0]

    def _works(self, multiply: Callable[[int, ProductPlan], None], target: int, plan: ProductPlan) -> bool:
        """Whether cublasLt can run this plan, which it guessed; the call also loads the plan's code."""
        try:
            multiply(target, plan)
        except self.lt.cuBLASLtError:
            return False
        return True

    def _handle(self, device: int) -> int:
        if device not in self.handles:
            self.handles[device] = self.lt.create()
        return self.handles[device]

    def _number(self, value: float, dtype: str) -> int:
        """Return the address of a number on the host."""
        if (value, dtype) not in self.numbers:
            self.numbers[value, dtype] = np.array(value, dtype)
        return self.numbers[value, dtype].ctypes.data

    def _number_on_device(self, device: int, value: float, dtype: str) -> int:
        if (device, value, dtype) not in self.on_device:
            self.on_device[device, value, dtype] = self.cp.full((), value, dtype)
        return self.address(self.on_device[device, value, dtype])

    def _plans(self, key: Any, guesses: int) -> list[ProductPlan]:
        """Return plans of one product, each with another algorithm that cublasLt guesses is good."""
        device, kind, of_result, A, B, out, transpose_A, transpose_B, on_device, *alignments = key
        lt = self.lt
        of_operands, of_factors, compute_type = KINDS[kind]
        description = lt.matmul_desc_create(compute_type, of_factors)
        of_description = lt.MatmulDescAttribute
        self._set(lt.matmul_desc_set_attribute, description, of_description.TRANSA, np.int32(transpose_B))
        self._set(lt.matmul_desc_set_attribute, description, of_description.TRANSB, np.int32(transpose_A))
        mode = lt.PointerMode.DEVICE if on_device else lt.PointerMode.HOST
        self._set(lt.matmul_desc_set_attribute, description, of_description.POINTER_MODE, np.int32(mode))
        (m, n), k = out[-2:], A[-2 if transpose_A else -1]
        layouts = (
            self._layout(A, (k, m) if transpose_A else (m, k), of_operands),
            self._layout(B, (n, k) if transpose_B else (k, n), of_operands),
            self._layout(out, (m, n), of_result),
        )
        preference = lt.matmul_preference_create()
        attributes = lt.MatmulPreferenceAttribute
        self._set(lt.matmul_preference_set_attribute, preference, attributes.MAX_WORKSPACE_BYTES, np.uint64(WORKSPACE))
        of_A, of_B, of_out = alignments
        for name, alignment in (("A", of_B), ("B", of_A), ("C", of_out), ("D", of_out)):
            attribute = getattr(attributes, f"MIN_ALIGNMENT_{name}_BYTES")
            self._set(lt.matmul_preference_set_attribute, preference, attribute, np.uint32(alignment))
        found, count = np.zeros(guesses, lt.matmul_heuristic_result_dtype), np.zeros(1, np.int32)
        try:
            lt.matmul_algo_get_heuristic(
                self._handle(device),
                description,
                layouts[1],
                layouts[0],
                layouts[2],
                layouts[2],
                preference,
                guesses,
                found.ctypes.data,
                count.ctypes.data,
            )
        finally:
            lt.matmul_preference_destroy(preference)
        able = [i for i in range(count[0]) if found["state"][i] == 0]
        if not able:
            raise NoAlgorithmError(f"cublasLt knows no way to multiply {A} by {B} in {kind}")
        return [ProductPlan(description, layouts, np.ascontiguousarray(found["algo"][i])) for i in able]

    def _layout(self, shape: tuple[int, ...], used: tuple[int, int], data_type: int) -> int:
        """Of the transpose of the `used` rows and columns of row-major (…, rows, columns): columns first."""
        (rows, columns), (used_rows, used_columns) = shape[-2:], used
        layout: int = self.lt.matrix_layout_create(data_type, used_columns, used_rows, columns)
        if len(shape) > 2:
            attributes, members = self.lt.MatrixLayoutAttribute, int(np.prod(shape[:-2]))
            self._set(self.lt.matrix_layout_set_attribute, layout, attributes.BATCH_COUNT, np.int32(members))
            offset = np.int64(rows * columns)
            self._set(self.lt.matrix_layout_set_attribute, layout, attributes.STRIDED_BATCH_OFFSET, offset)
        return layout

    @staticmethod
    def _set(function: Any, what: int, attribute: int, value: np.generic) -> None:
        held = np.array([value])
        function(what, int(attribute), held.ctypes.data, ctypes.c_size_t(held.nbytes).value)


def _alignment(address: int) -> int:
    """Return the largest power of two up to 256 that divides `address`."""
    return min(address & -address, 256)


def find_products(cp: Any, address: Callable[[Array], int], scratch: Callable[[str, int, DType], Array]) -> Products:
    """Return `LtProducts` where the bindings are installed and find the library, else `CupyProducts`.

    Raises
    ------
    ValueError
        If ``DELTAPROP_TUNE`` is neither 0 nor 1.
    """
    guesses = GUESSES if tunes() else 1
    if not is_installed("nvmath"):
        return CupyProducts(cp)
    try:
        return LtProducts(cp, address, scratch, guesses)
    except Exception as error:  # noqa: BLE001  (cublasLt's own error is an Exception and no more)
        warnings.warn(
            f"cublasLt is not available through nvmath-python ({error}); training steps are not captured as CUDA "
            "graphs; `deltaprop doctor` tells more",
            RuntimeWarning,
            stacklevel=callers_level(),
        )
        return CupyProducts(cp)
