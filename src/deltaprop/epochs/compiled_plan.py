"""The plans of the compiled library: one a network, filled in here for one network and for several alike."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.array_types import AnyArray, DType, Floats, HostArray, Indices
from deltaprop.backends.cache_lines import on_cache_lines
from deltaprop.backends.kernel_names import activation_number, loss_number
from deltaprop.backends.native.arrays import is_as_checked
from deltaprop.backends.native.library import POINTERS, EpochPlan, gemm, library, library_problem, pointer
from deltaprop.derivation.state import NetworkState
from deltaprop.derivation.update_rule import Optimizer
from deltaprop.epochs.compiled_encoding import CompiledEncoding
from deltaprop.epochs.compiled_sparse import CompiledSparse, is_csr
from deltaprop.epochs.task import operations_of
from deltaprop.errors import BackendError, callers_level
from deltaprop.inputs.encoded_rows import EncodedRows

#: Bytes of scratch beyond which it is not touched beforehand.
MOST_TOUCHED = 2**26
#: The dtype of a table of plans; NumPy takes a while to make it.
PLANS: DType = np.dtype(EpochPlan)


def can_compile(network: NetworkState, X: AnyArray) -> bool:
    """Tell whether the library knows this network and these inputs, and can be compiled here.

    Warns
    -----
    RuntimeWarning
        If there is a compiler, but the library cannot be compiled or loaded.
    """
    if obstacle_to_compiling(network, X) is not None:
        return False
    error = _library_error(network)
    if error is not None:
        warnings.warn(f"{error}; epochs are trained step by step, by NumPy", RuntimeWarning, stacklevel=callers_level())
    return error is None


def obstacle_to_compiling(network: NetworkState, X: AnyArray, *, load: bool = False) -> str | None:
    """Tell why the library cannot train this network on these inputs; None if it can.

    With `load`, also if it cannot be compiled or loaded; otherwise only if no compiler is here and none came with the
    package.
    """
    backend: Any = network.backend
    if not isinstance(network.loss, str):
        return "the loss is a pair of functions"
    if not (isinstance(X, (np.ndarray, EncodedRows)) or is_csr(X)):
        return "the inputs are no matrix in CSR of less than 2^31 entries"
    if not getattr(backend, "compiles", False):
        return f"the backend {backend.label!r} does without compiled code"
    problem = library_problem(network.dtype)
    return _library_error(network) if load and problem is None else problem


def _library_error(network: NetworkState) -> str | None:
    """Compile or load the library for the dtype of a network; return what went wrong, if anything did."""
    try:
        library(network.dtype)
    except BackendError as error:
        return str(error)
    return None


def strides_of(rates: Floats) -> tuple[int, int]:
    """Return the entries from one epoch's rates to the next, and from one step's; `rates` : (…, epochs, steps, 2).

    One step stands for all steps of its epoch.
    """
    steps = rates.shape[-2]
    return 2 * steps, 2 if steps > 1 else 0


class PlanTable:
    """One ``struct EpochPlan`` a network, as the rows of a table, and the arrays that the plans point to.

    A network by itself is the table of one row. Its row is an `EpochPlan` too, into which numbers are written faster.

    Parameters
    ----------
    network : NetworkState
        One network, or several with the member axis.
    X, Y : array, (m, s_1) and (m, s_L), or with the member axis before
        The samples of all, or of each. X may be `EncodedRows`, for `run_members` only; Y may be None, for members that
        are asked for outputs only.
    optimizers : sequence of Optimizer
        Built-in ones, one a network.
    moments : sequence of array, (…, n)
        What the optimizers carry from step to step.
    samples, batch_sizes : sequence of int
        One a network.

    Attributes
    ----------
    rows : array of `EpochPlan`, (K,)
    row : EpochPlan or None
        The row of a network by itself.
    operations_of_a_row : float
        Floating-point operations of the matrix products of a training step, for each row.
    stop : ctypes.c_int32
        Set while the library runs, it makes it leave off in the middle of a step.
    """

    network: NetworkState

    def __init__(
        self,
        network: NetworkState,
        X: AnyArray,
        Y: Array | None,
        optimizers: Sequence[Optimizer],
        moments: Sequence[Array],
        samples: Sequence[int],
        batch_sizes: Sequence[int],
    ) -> None:
        self.network, self.library = network, library(network.dtype)
        self.rows: HostArray = np.zeros(len(optimizers), PLANS)
        self.row: EpochPlan | None = None if network.lead else EpochPlan.from_buffer(self.rows.view(np.uint8).data)
        self._members = np.arange(len(optimizers)) if network.lead else 0
        # What the plans point to has to live as long as they do.
        self._held: dict[str, Array | None] = {}
        self._describe_network()
        self.rows["samples"], self.rows["batch"] = samples, batch_sizes
        self.point_to_samples(X, Y)
        self._describe_optimizers(optimizers)
        for name, moment in zip(("first", "second"), moments, strict=False):
            self.point(name, moment, (*network.lead, network.own.size), self._members)
        self.stop: ctypes.c_int32 = ctypes.c_int32(0)
        self.rows["stop"] = ctypes.addressof(self.stop)

    def _describe_network(self) -> None:
        network, rows = self.network, self.rows
        sizes = np.array(network.layer_sizes, np.int64)
        activations = np.array([activation_number(g) for g in network.activations], np.int64)
        rows["layers"], rows["loss"] = len(activations), loss_number(network.loss)
        rows["simplified"] = network.output_error == "simplified"
        rows["gemm"] = gemm(network.dtype)
        self.point("sizes", sizes, sizes.shape)
        self.point("activations", activations, activations.shape)

    def point_to_samples(self, X: AnyArray, Y: Array | None) -> None:
        """Let the plans point to samples, as many as before."""
        network, own = self.network, self._members if X.ndim == 3 else 0
        self._sparse: CompiledSparse | None = None
        self.rows["sparse"] = 0
        self.point("y", Y, (*X.shape[:-1], network.layer_sizes[-1]), own)
        self.operations_of_a_row: float = operations_of(network, 1)
        if is_csr(X):
            return self._describe_sparse(X)
        if not isinstance(X, EncodedRows):
            return self.point("x", X, (*X.shape[:-1], network.layer_sizes[0]), own)
        self._encoding = CompiledEncoding(X.encoding, network.dtype)
        self.rows["encoding"] = self._encoding.address
        self.point("x", X.stored, (len(X), X.encoding.columns))
        inputs, units = network.layer_sizes[:2]
        self.operations_of_a_row -= 6.0 * units * (inputs - self._encoding.slots)

    def _describe_sparse(self, X: Any) -> None:
        self._sparse = CompiledSparse(X, self.network.dtype, int(self.rows["batch"].max()))
        self.rows["sparse"] = self._sparse.address
        inputs, units = self.network.layer_sizes[:2]
        self.operations_of_a_row -= 6.0 * units * (inputs - self._sparse.slots)

    def _describe_optimizers(self, optimizers: Sequence[Optimizer]) -> None:
        rules = [rule for optimizer in optimizers if (rule := optimizer.rule()) is not None]
        self.rows["optimizer"] = [rule.number for rule in rules]
        self.rows["constants"] = [rule.values for rule in rules]

    def share_scratch(self, threads: int, networks: int, *, touched: bool = False) -> int:
        """Make scratch for so many networks at a time, with `threads` threads working on each.

        With `touched`, it is written to, unless it is so large that its steps take much longer than that.

        Returns
        -------
        int
            Entries between the scratch of one and of the next.
        """
        self.rows["threads"] = threads
        # Not the largest minibatch alone: which form the steps take, and so what they need, depends on its size too.
        alike = np.unique(self.rows["batch"], return_index=True)[1].tolist()
        plans = (EpochPlan.from_buffer_copy(self.rows[i].tobytes()) for i in alike)
        stride: int = max(self.library.scratch_entries(plan) for plan in plans)
        scratch = on_cache_lines(stride * networks, self.network.dtype)
        if touched and scratch.nbytes <= MOST_TOUCHED:
            scratch.fill(0.0)
        self.point("scratch", scratch, scratch.shape)
        return stride

    def point_to_parameters(self) -> None:
        """Let the plans point to the parameters of the network, which may be in other memory than before."""
        self.point("parameters", self.network.parameters, (*self.network.lead, self.network.own.size), self._members)

    def point(self, name: str, array: AnyArray | None, shape: tuple[int, ...], members: Any = 0) -> None:
        """Let a field of all plans point to an array of that shape, or to nothing.

        With `members`, the numbers 0 … K − 1, each plan points to its member's part of the array. A plan that points
        there already is left alone.
        """
        if self.row is not None and name in self._held and array is self._held[name]:
            own = POINTERS[name][0]
            if array is None or is_as_checked(array, self.network.dtype if own is None else own, shape):
                return
        self._held[name] = array
        where = 0 if array is None else pointer(name, array, self.network.dtype, shape)
        if self.row is not None:
            setattr(self.row, name, where)
        else:
            self.rows[name] = where + members * (0 if array is None else array.strides[0])

    def starts(self, name: str, array: AnyArray, shape: tuple[int, ...]) -> Indices:
        """Return the addresses at which each row of an array of that shape begins; the caller keeps it alive."""
        places: Indices = np.arange(len(array)) * array.strides[0]
        return places + pointer(name, array, self.network.dtype, shape)
