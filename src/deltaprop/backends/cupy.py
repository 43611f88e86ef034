"""The CUDA backend: CuPy's arrays and matrix products, our own kernels (``kernels/*.cu``) for everything else.

Works on the caller's current device and stream; nothing here waits for the device except where a number is handed to
the host (`all_finite`, `squared_norm`, `to_numpy`).
"""

from __future__ import annotations

import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from deltaprop.backends.base import Array, Backend, philox_key
from deltaprop.backends.cuda_compiler import cached_cubin
from deltaprop.errors import BackendError

if TYPE_CHECKING:
    from deltaprop.backends.resident import Residence

INSTALL = "pip install 'deltaprop[cuda13]' (CUDA 13 drivers) or pip install 'deltaprop[cuda12]' (CUDA 12 drivers)"
#: The address of an array that is not there.
NULL = np.uintp(0)
THREADS = 256
#: Blocks of an elementwise launch for each multiprocessor; further elements are reached by the grid's stride.
BLOCKS_A_MULTIPROCESSOR = 16
#: Rows a block of the column sums takes; more rows are cut into slices that run side by side.
ROWS_A_BLOCK = 256


def _import_cupy() -> Any:
    """CuPy, where it is installed and a device answers.

    Raises
    ------
    BackendError
        If it is not installed, is broken, or finds no device.
    """
    if find_spec("cupy") is None:
        raise BackendError(f"backend 'cupy': CuPy is not installed; {INSTALL}")
    try:
        import cupy
    except ImportError as error:
        raise BackendError(f"backend 'cupy': CuPy is installed but does not import ({error}); {INSTALL}") from error
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
        if devices == 0:
            raise BackendError("backend 'cupy': CuPy is installed, but this machine has no CUDA device")
        cupy.zeros(1).sum().item()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendError(
            f"backend 'cupy': CuPy is installed, but no CUDA device answers ({error}); it needs an NVIDIA GPU and its "
            f"driver, and the CuPy built for that driver: {INSTALL}"
        ) from error
    return cupy


class PhiloxStream:
    """The key of the generator, and how many of its 32-bit numbers have been drawn."""

    def __init__(self, *key: np.uint64) -> None:
        self.key = key
        self.drawn = 0


class CupyBackend(Backend):
    """CUDA devices through CuPy."""

    name = "cupy"
    on_host = False

    def __init__(self) -> None:
        self.cp = _import_cupy()
        self._functions: dict[tuple[str, str, str, int], Any] = {}
        self._multiprocessors: dict[int, int] = {}
        self._local = threading.local()

    # -- arrays -------------------------------------------------------------------------------------------------

    def owns(self, array: object) -> bool:
        return isinstance(array, self.cp.ndarray)

    def asarray(self, array: Any, dtype: DTypeLike) -> Array:
        return self.cp.asarray(array, dtype=dtype, order="C")

    def adopt(self, array: Any) -> Array:
        """An array of another library on the device, its memory taken over by DLPack or a like protocol, not copied."""
        # Both protocols share memory; only the former is spoken by libraries without DLPack (Numba).
        interface = hasattr(array, "__cuda_array_interface__")
        return self.cp.asarray(array) if interface else self.cp.from_dlpack(array)

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        host: np.ndarray[Any, Any] = self.cp.asnumpy(array)
        return host

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        return self.cp.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        return self.cp.zeros(shape, dtype)

    def all_finite(self, array: Array) -> bool:
        return bool(self.cp.isfinite(array).all())

    # -- launching ----------------------------------------------------------------------------------------------

    def _kernel(self, file: str, function: str, dtype: np.dtype[Any]) -> Any:
        """The kernel called `function` in ``kernels/<file>.cu`` for arrays of `dtype`, compiled when first asked for.

        ``kernels/output_delta.cu`` holds one kernel for each pair of a loss and an activation, and so on.
        """
        device = self.cp.cuda.Device()
        key = (file, function, dtype.name, device.id)
        kernel = self._functions.get(key)
        if kernel is None:
            module = self.cp.RawModule(path=str(cached_cubin(file, dtype.name, f"sm_{device.compute_capability}")))
            kernel = self._functions[key] = module.get_function(function)
        return kernel

    def _blocks(self, wanted: int) -> tuple[int]:
        """A one-dimensional grid of at most so many blocks as keep the device busy; kernels stride over the rest."""
        device = self.cp.cuda.Device()
        if device.id not in self._multiprocessors:  # reading the attributes costs a hundred calls of the driver
            self._multiprocessors[device.id] = device.attributes["MultiProcessorCount"]
        return (min(wanted, BLOCKS_A_MULTIPROCESSOR * self._multiprocessors[device.id]),)

    def _over_elements(self, file: str, function: str, dtype: np.dtype[Any], *arguments: Any, n: int) -> None:
        """Launch a kernel that walks over `n` elements; `n` is its last argument."""
        if n:
            grid = self._blocks(-(-n // THREADS))
            self._kernel(file, function, dtype)(grid, (THREADS,), (*arguments, np.int64(n)))

    def _over_rows(self, file: str, function: str, dtype: np.dtype[Any], *arguments: Any, rows: int) -> None:
        """Launch a kernel that gives each row to one warp, eight warps a block; `rows` is its last argument."""
        if rows:
            self._kernel(file, function, dtype)(self._blocks(-(-rows // 8)), (32, 8), (*arguments, np.int64(rows)))

    def _over_columns(self, function: str, first: tuple[Array, ...], x: Array, sums: Array) -> None:
        """Launch a kernel of ``hidden_delta.cu`` over `x` : (…, m, s); sums over m go to `sums` : (…, s)."""
        rows, columns = x.shape[-2:]
        members = x.size // (rows * columns)
        slices = -(-rows // ROWS_A_BLOCK)
        grid = (-(-columns // 32), slices, members)
        kernel = self._kernel("hidden_delta", function, x.dtype)
        sizes = (np.int32(rows), np.int32(columns), np.int32(ROWS_A_BLOCK))
        if slices == 1:
            kernel(grid, (32, 8), (*first, sums, *sizes, np.int64(columns)))
            return
        partial = self._scratch("partial", members * slices * columns, x.dtype)
        kernel(grid, (32, 8), (*first, partial, *sizes, np.int64(slices * columns)))
        add_up = self._kernel("hidden_delta", "column_sum", x.dtype)
        sizes = (np.int32(slices), np.int32(columns), np.int32(slices))
        add_up((grid[0], 1, members), (32, 8), (partial, sums, *sizes, np.int64(columns)))

    def _scratch(self, purpose: str, size: int, dtype: np.dtype[Any]) -> Array:
        """A buffer for intermediate results; one a thread, device and stream, so that none is shared in flight."""
        buffers = self._local.__dict__.setdefault("buffers", {})
        key = (purpose, dtype, self.cp.cuda.Device().id, self.cp.cuda.get_current_stream().ptr)
        buffer = buffers.get(key)
        if buffer is None or buffer.size < size:
            buffer = buffers[key] = self.cp.empty(size, dtype)
        return buffer

    # -- whole epochs in one launch -----------------------------------------------------------------------------

    def address(self, array: Array) -> int:
        """Where on the device `array` begins."""
        return int(array.data.ptr)

    def shared_memory_limits(self) -> tuple[int, int, int]:
        """Bytes of shared memory a block may have, blocks a cluster may have, and how many blocks fit the device."""
        device = self.cp.cuda.Device()
        attributes = device.attributes
        most_blocks = 8 if int(device.compute_capability) >= 90 else 1
        return attributes["MaxSharedMemoryPerBlockOptin"], most_blocks, attributes["MultiProcessorCount"]

    def run_resident(self, plan: Any, dtype: np.dtype[Any], residence: Residence, members: int) -> None:
        """Launch ``kernels/resident.cu``: one cluster a member."""
        kernel = self._kernel("resident", f"resident_{residence.blocks}", dtype)
        kernel.max_dynamic_shared_size_bytes = residence.shared_bytes
        on_device = self.asarray(np.frombuffer(plan, np.uint8), np.uint8)
        grid, block = (members * residence.blocks,), (residence.threads,)
        kernel(grid, block, (on_device,), shared_mem=residence.shared_bytes)

    # -- functions of one array ---------------------------------------------------------------------------------

    def activation(self, activation: str, z: Array, out: Array) -> None:
        self._over_elements("activation", f"activation_{activation}", z.dtype, z, out, n=z.size)

    def activation_gradient(self, activation: str, z: Array, out: Array) -> None:
        self._over_elements("activation", f"activation_gradient_{activation}", z.dtype, z, out, n=z.size)

    # -- forward ------------------------------------------------------------------------------------------------

    def affine_activation(
        self, A: Array, W: Array, b: Array, activation: str, Z: Array, out: Array, mask: Array | None = None
    ) -> None:
        self.cp.matmul(A, W.swapaxes(-1, -2), out=Z)
        self._bias_activation(Z, b, activation, out, mask)

    def _bias_activation(self, Z: Array, b: Array, activation: str, out: Array, mask: Array | None = None) -> None:
        """Z + b into `Z` and g of it into `out`, which may be `Z` where g is the identity."""
        rows, columns = Z.shape[-2:]
        b_stride = b.strides[0] // b.itemsize if b.ndim > 1 else 0
        sizes = (np.int32(rows), np.int32(columns), np.int64(b_stride))
        if activation == "softmax":
            self._over_rows("softmax", "bias_softmax", Z.dtype, Z, b, out, *sizes, rows=Z.size // columns)
        else:
            arrays = (Z, b, NULL if mask is None else mask, out)
            self._over_elements("bias_activation", f"bias_activation_{activation}", Z.dtype, *arrays, *sizes, n=Z.size)

    # -- cost and backward --------------------------------------------------------------------------------------

    def output_delta(
        self,
        loss: str,
        activation: str,
        Z: Array,
        A: Array,
        Y: Array,
        scale: float,
        out: Array,
        cost: Array,
        sample_weight: Array | None = None,
    ) -> None:
        rows, columns = Z.shape
        row_cost = self._scratch("row_cost", rows, Z.dtype)
        of_rows = NULL if sample_weight is None else sample_weight
        arguments = (Z, A, Y, of_rows, out, row_cost, np.int32(columns), Z.dtype.type(scale))
        self._over_rows("output_delta", f"output_delta_{loss}_{activation}", Z.dtype, *arguments, rows=rows)
        self._accumulate(row_cost, rows, cost)

    def add_cost(
        self, loss: str, activation: str, Z: Array, A: Array, Y: Array, cost: Array, sample_weight: Array | None = None
    ) -> None:
        self.output_delta(loss, activation, Z, A, Y, 1.0, NULL, cost, sample_weight)  # no δ wanted

    def hidden_delta(
        self,
        delta: Array,
        W: Array,
        activation: str,
        Z: Array,
        out: Array,
        bias_gradient: Array,
        mask: Array | None = None,
    ) -> None:
        self.cp.matmul(delta, W, out=out)
        arrays = (out, Z, NULL if mask is None else mask)
        self._over_columns(f"hidden_delta_{activation}", arrays, out, bias_gradient)

    def weight_gradient(self, delta: Array, A: Array, out: Array) -> None:
        self.cp.matmul(delta.swapaxes(-1, -2), A, out=out)

    def bias_gradient(self, delta: Array, out: Array) -> None:
        self._over_columns("column_sum", (delta,), delta, out)

    def add_l2_gradient(self, weights: Array, l2: float, gradient: Array) -> None:
        dtype = weights.dtype
        self._over_elements("l2_gradient", "l2_gradient", dtype, weights, dtype.type(l2), gradient, n=weights.size)

    def squared_norm(self, weights: Array) -> float:
        return float(self.cp.vdot(weights, weights))

    def add_squared_norm(self, weights: Array, factor: float, cost: Array) -> None:
        dtype = weights.dtype
        (blocks,) = self._blocks(-(-weights.size // THREADS))
        partial = self._scratch("squared_norm", blocks, dtype)
        arguments = (weights, dtype.type(factor), partial, np.int64(weights.size))
        self._kernel("squared_norm", "squared_norm", dtype)((blocks,), (THREADS,), arguments)
        self._accumulate(partial, blocks, cost)

    def _accumulate(self, parts: Array, n: int, cost: Array) -> None:
        """The first `n` entries of `parts`, added to `cost`."""
        self._kernel("accumulate_cost", "accumulate_cost", parts.dtype)((1,), (256,), (parts, cost, np.int64(n)))

    # -- derivatives along a direction --------------------------------------------------------------------------

    def _product(self, A: Array, B: Array, like: Array) -> Array:
        """A B in a buffer of the shape of `like`, overwritten by the next call."""
        second = self._scratch("second", like.size, like.dtype)[: like.size].reshape(like.shape)
        self.cp.matmul(A, B, out=second)
        return second

    def _add_product(self, A: Array, B: Array, out: Array) -> None:
        """Out += A B. The kernel that adds λ W to a gradient adds the product, with λ = 1."""
        self.add_l2_gradient(self._product(A, B, out), 1.0, out)

    def affine_tangent(
        self, A: Array, dA: Array | None, W: Array, dW: Array | None, db: Array | None, out: Array
    ) -> None:
        if dA is None:
            out.fill(0)
        else:
            self.cp.matmul(dA, W.swapaxes(-1, -2), out=out)
        if dW is not None and db is not None:
            self._add_product(A, dW.swapaxes(-1, -2), out)
            self._bias_activation(out, db, "identity", out)

    def activation_tangent(self, activation: str, Z: Array, A: Array, tangent: Array, out: Array) -> None:
        if activation == "softmax":
            columns = A.shape[-1]
            arguments = (A, tangent, out, np.int32(columns))
            self._over_rows(
                "activation_tangent", "activation_tangent_softmax", A.dtype, *arguments, rows=A.size // columns
            )
        else:
            function = f"activation_tangent_{activation}"
            self._over_elements("activation_tangent", function, Z.dtype, Z, tangent, out, n=Z.size)

    def input_gradient(self, delta: Array, W: Array, out: Array) -> None:
        self.cp.matmul(delta, W, out=out)

    def output_delta_tangent(
        self,
        loss: str,
        activation: str,
        Z: Array,
        A: Array,
        Y: Array,
        dZ: Array,
        dA: Array,
        scale: float,
        out: Array,
        sample_weight: Array | None = None,
    ) -> None:
        of_rows = NULL if sample_weight is None else sample_weight
        arguments = (Z, A, Y, dZ, dA, of_rows, Z.dtype.type(scale), out, np.int32(Z.shape[-1]))
        function = f"output_delta_tangent_{loss}_{activation}"
        self._over_elements("output_delta_tangent", function, Z.dtype, *arguments, n=Z.size)

    def hidden_delta_tangent(
        self,
        delta: Array,
        d_delta: Array,
        W: Array,
        dW: Array,
        activation: str,
        Z: Array,
        dZ: Array,
        out: Array,
    ) -> None:
        self.cp.matmul(d_delta, W, out=out)
        self._add_product(delta, dW, out)
        v = self._product(delta, W, out)
        function = f"hidden_delta_tangent_{activation}"
        self._over_elements("hidden_delta_tangent", function, Z.dtype, v, Z, dZ, out, n=Z.size)

    def weight_gradient_tangent(self, delta: Array, d_delta: Array, A: Array, dA: Array | None, out: Array) -> None:
        self.cp.matmul(d_delta.swapaxes(-1, -2), A, out=out)
        if dA is not None:
            self._add_product(delta.swapaxes(-1, -2), dA, out)

    # -- learning -----------------------------------------------------------------------------------------------

    def sgd_update(
        self,
        parameters: Array,
        gradient: Array,
        velocity: Array | None,
        learning_rate: float,
        momentum: float,
        nesterov: bool,
    ) -> None:
        real = parameters.dtype.type
        if velocity is None:
            function = "sgd"
            arguments: tuple[Any, ...] = (parameters, gradient, real(learning_rate))
        else:
            function = "sgd_nesterov" if nesterov else "sgd_momentum"
            arguments = (parameters, gradient, velocity, real(learning_rate), real(momentum))
        self._over_elements("sgd", function, parameters.dtype, *arguments, n=parameters.size)

    def adam_update(
        self,
        parameters: Array,
        gradient: Array,
        first_moment: Array,
        second_moment: Array,
        step_size: float,
        beta_1: float,
        beta_2: float,
        epsilon: float,
        decay: float,
        n_decayed: int,
    ) -> None:
        constants = [parameters.dtype.type(x) for x in (step_size, beta_1, beta_2, epsilon, decay)]
        arrays = (parameters, gradient, first_moment, second_moment)
        arguments = (*arrays, *constants, np.int64(n_decayed))
        self._over_elements("adam", "adam", parameters.dtype, *arguments, n=parameters.size)

    # -- minibatches --------------------------------------------------------------------------------------------

    def gather(self, X: Array, index: Array, out: Array) -> Array:
        columns = X.size // X.shape[0]
        self._over_elements("gather", "gather", X.dtype, X, index, out, np.int32(columns), n=out.size)
        return out

    # -- dropout ------------------------------------------------------------------------------------------------

    def random_stream(self, key: tuple[int, ...]) -> Any:
        first, second = philox_key(key)
        return PhiloxStream(first, second)

    def dropout_mask(self, stream: Any, keep: float, out: Array) -> None:
        real, n = out.dtype.type, out.size
        arguments = (*stream.key, np.int64(stream.drawn), np.float32(keep), real(1.0 / keep), out)
        self._over_elements("dropout_mask", "dropout_mask", out.dtype, *arguments, n=n)
        stream.drawn += n
