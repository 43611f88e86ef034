"""Outputs and costs of networks over dense rows, by the compiled library: what is bound once, and then called."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from deltaprop.backends.array_types import AnyArray, HostArray, Indices
from deltaprop.backends.kernel_names import activation_number, loss_number
from deltaprop.backends.native.arrays import address
from deltaprop.backends.native.library import EvaluationPlan, library, library_problem
from deltaprop.backends.native.scipy_threads import threads_of_numpy
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.task import OPERATIONS_A_CALL
from deltaprop.errors import BackendError

#: Floating-point operations up to which a call is for one thread.
OPERATIONS_OF_ONE_THREAD = 4e6
#: Rows of a block of the library, as in ``dense_evaluation.h``: parts of whole blocks give the numbers of the whole.
BLOCK = 48
#: Rows of a call at least, however large the network is: whole blocks.
LEAST_ROWS = 20 * BLOCK


class CompiledEvaluation:
    """What evaluates a network, or the members of a stack, over dense rows; it is kept beside the parameters.

    It holds the addresses of the parameters, not the parameters. Several threads may call it at once.

    Parameters
    ----------
    network : NetworkState
        On the NumPy backend; its loss may be a pair of functions, and then there are no costs.

    Attributes
    ----------
    knows_loss : bool
        Whether it computes costs.

    Raises
    ------
    BackendError
        If the library cannot be compiled or loaded here.
    """

    knows_loss: bool

    def __init__(self, network: NetworkState) -> None:
        sizes, activations = network.layer_sizes, network.activations
        self.columns, self.outputs, self.dtype, self.lead = sizes[0], sizes[-1], network.dtype, network.lead
        self.made_for: tuple[object, object] = (activations, network.loss)
        self.knows_loss = isinstance(network.loss, str)
        self.operations: float = 2.0 * network.n_weights
        self.at_once: int = max(LEAST_ROWS, int(OPERATIONS_A_CALL / self.operations) // LEAST_ROWS * LEAST_ROWS)
        self._evaluate: Any = library(network.dtype).evaluate
        self._sizes = np.array(sizes, np.int64)
        self._activations = np.array([activation_number(g) for g in activations], np.int64)
        first = address("parameters", network.parameters, network.dtype, (*self.lead, network.own.size))
        stride = network.own.size * network.dtype.itemsize
        members = self.lead[0] if self.lead else 1
        of_all = (
            len(activations),
            address("sizes", self._sizes, np.int64, (len(sizes),)),
            address("activations", self._activations, np.int64, (len(activations),)),
            loss_number(network.loss) if self.knows_loss else -1,
        )
        self._plans = (EvaluationPlan * members)(*(EvaluationPlan(*of_all, first + k * stride) for k in range(members)))
        start = ctypes.addressof(self._plans)
        self.plans: list[int] = [start + k * ctypes.sizeof(EvaluationPlan) for k in range(members)]

    @classmethod
    def of(cls, network: NetworkState) -> CompiledEvaluation | None:
        """Return what is kept beside the parameters of `network`; None where the library cannot evaluate it."""
        parameters = network.own
        kept = parameters.evaluation
        if isinstance(kept, cls):
            activations, loss = kept.made_for
            if network.activations is activations and network.loss is loss:
                return kept
        elif kept is not None:
            return None
        made = cls._made(network)
        parameters.evaluation = made or "none"
        return made

    @classmethod
    def _made(cls, network: NetworkState) -> CompiledEvaluation | None:
        backend: Any = network.backend
        if not getattr(backend, "compiles", False) or library_problem(network.dtype) is not None:
            return None
        flat: Any = network.parameters
        if not (flat.flags.c_contiguous and flat.flags.aligned):
            return None
        try:
            return cls(network)
        except BackendError:
            return None  # training warns of it

    def takes(self, X: object) -> bool:
        """Tell whether X, (m, s_1) with m > 0, is an array that can be read where it is."""
        return (
            type(X) is np.ndarray
            and X.dtype == self.dtype
            and X.ndim == 2
            and X.shape[1] == self.columns
            and X.shape[0] > 0
            and X.flags.c_contiguous
            and X.flags.aligned
        )

    def checked_outputs(self, X: AnyArray) -> HostArray | None:
        """Compute a^(L), (m, s_L), of one network; None if an input is not finite. `takes` has looked at X."""
        out = np.empty((X.shape[0], self.outputs), self.dtype)
        return out if self._run(0, *self._inputs(X), address("outputs", out, self.dtype)) else None

    def predict(self, X: AnyArray, of_rows: int = 0) -> HostArray:
        """Compute a^(L), (…, m, s_L), of all members, for X : (m, s_1) or (…, m, s_1) that have been checked.

        X may be a part of so many rows.
        """
        out = np.empty((*self.lead, X.shape[-2], self.outputs), self.dtype)
        start, stride = address("outputs", out, self.dtype), out.strides[0] if self.lead else 0
        common = self._inputs(X) if X.ndim == 2 else None
        for k in range(len(self.plans)):
            self._run(k, *(common or self._inputs(X[k])), start + k * stride, of_rows=of_rows)
        return out

    def largest(self, X: AnyArray, of_rows: int = 0) -> Indices:
        """Find which output is the largest, (m,), for checked X : (m, s_1)."""
        found = np.empty(X.shape[0], np.int64)
        self._run(0, *self._inputs(X), largest=address("largest", found, np.int64), of_rows=of_rows)
        return found

    def add_cost(
        self,
        X: AnyArray,
        Y: AnyArray,
        total: AnyArray,
        prediction: AnyArray | None = None,
        weights: AnyArray | None = None,
        of_rows: int = 0,
    ) -> bool:
        """Add Σ cost of one network to `total`, () of float64; return whether all inputs are finite.

        Write a^(L) into `prediction`, (m, s_L), if given.
        """
        m, dtype = X.shape[0], self.dtype
        rows = (m, self.outputs)
        out = None if prediction is None else address("prediction", prediction, dtype, rows, written=True)
        of_weights = None if weights is None else address("sample_weight", weights, dtype, (m,))
        cost = address("cost", total, np.float64, (), written=True)
        return self._run(0, *self._inputs(X), out, address("Y", Y, dtype, rows), of_weights, cost=cost, of_rows=of_rows)

    def _inputs(self, X: AnyArray) -> tuple[int, int]:
        """Return where X begins, (m, s_1), and m."""
        m = X.shape[0]
        return address("X", X, self.dtype, (m, self.columns)), m

    def _run(
        self,
        member: int,
        x: int,
        m: int,
        outputs: int | None = None,
        y: int | None = None,
        weights: int | None = None,
        *,
        largest: int | None = None,
        cost: int | None = None,
        of_rows: int = 0,
    ) -> bool:
        """Evaluate a member for m rows in as many calls as keep an interrupt waiting for less than a second or so.

        Return whether all inputs are finite.
        """
        plan = self.plans[member]
        of_rows = max(m, of_rows)
        threads = 1 if m * self.operations <= OPERATIONS_OF_ONE_THREAD else max(1, threads_of_numpy())
        if m <= self.at_once:
            return self._finite(self._evaluate(plan, x, m, y, weights, outputs, largest, cost, threads, of_rows))
        entry, finite = self.dtype.itemsize, True
        for first in range(0, m, self.at_once):
            count = min(self.at_once, m - first)
            result = self._evaluate(
                plan,
                x + first * self.columns * entry,
                count,
                None if y is None else y + first * self.outputs * entry,
                None if weights is None else weights + first * entry,
                None if outputs is None else outputs + first * self.outputs * entry,
                None if largest is None else largest + first * 8,
                cost,
                threads,
                of_rows,
            )
            finite = self._finite(result) and finite
        return finite

    @staticmethod
    def _finite(result: int) -> bool:
        if result < 0:
            raise MemoryError("no memory for a block of rows and the rearranged weights")
        return result == 1
