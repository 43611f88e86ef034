"""J, ∂J/∂θ and H v over all samples, each in one call of the compiled library where it knows the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.cache_lines import on_cache_lines
from deltaprop.backends.native.arrays import address
from deltaprop.backends.native.scipy_threads import own_threads, scipy_on_one_thread
from deltaprop.derivation.backprop import Objective
from deltaprop.derivation.derivatives import CostDerivatives, MatrixDerivatives
from deltaprop.derivation.optimizers import SGD
from deltaprop.derivation.parameters import Parameters
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.compiled_plan import PlanTable, can_compile
from deltaprop.epochs.interruption import run_abandonable
from deltaprop.epochs.task import LONG_STEP, operations_of

#: Floating-point operations of an evaluation for which one more thread pays.
OPERATIONS_A_THREAD = 1e6
#: Floating-point operations up to which a single evaluation is faster by NumPy, for the library has to be prepared.
SMALL_EVALUATION = 1e6


class CompiledDerivatives(CostDerivatives):
    """They are computed by the compiled library, a block of samples at a time: as `MatrixDerivatives`, to rounding.

    No layer is held for all samples. The result depends on the number of threads only where the parameters take more
    than 1 MiB; then each thread has a gradient of its own.

    Raises
    ------
    BackendError
        If the library cannot be compiled or loaded here.
    """

    def __init__(
        self, network: NetworkState, X: Array, Y: Array, objective: Objective, sample_weight: Array | None = None
    ) -> None:
        super().__init__(network, X, Y, objective, sample_weight)
        samples, dtype = X.shape[0], network.dtype
        inputs: Any = np.ascontiguousarray(X, dtype)
        targets: Any = np.ascontiguousarray(Y, dtype)
        self.table: PlanTable = PlanTable(network, inputs, targets, [SGD()], [], [samples], [samples])
        row: Any = self.table.row
        self.plan = row
        if sample_weight is not None:
            self.table.point("weights", np.ascontiguousarray(sample_weight, dtype), (samples,))
        for name, value in (("scales", self.scale), ("penalties", self.penalty)):
            self.table.point(name, np.array([value]), (1,))
        self._squares = np.zeros(())
        self.table.point("cost", self.cost, ())
        self.table.point("decay", self._squares, ())
        self.operations: float = operations_of(network, samples)
        threads = min(own_threads(), int(self.operations / OPERATIONS_A_THREAD))
        self.plan.threads = max(1, threads)
        self._scratch = np.empty(0, dtype)
        self._size = (network.own.size,)
        self._gradient = address("gradient", self.gradient.flat, dtype, self._size, written=True)
        self._product: Parameters | None = None
        self._make_room(self.table.library.gradient_scratch_entries)

    def cost_and_gradient(self) -> tuple[float, Parameters]:
        """J and ∂J/∂θ, in one call."""
        self._call(self.operations, lambda: self.table.library.gradient(self.plan, self._gradient))
        return self.objective.value(float(self.cost), float(self._squares), self.m), self.gradient

    def hessian_product(self, direction: Parameters) -> Parameters:
        """H v for v = (Ẇ, ḃ), the `direction`, at the parameters as they are now, in one call."""
        network, library = self.network, self.table.library
        if self._product is None:
            self._product = Parameters(network.backend, network.layer_sizes, network.dtype)
            self._make_room(library.hessian_product_scratch_entries)
        v = address("direction", direction.flat, network.dtype, self._size)
        product = address("product", self._product.flat, network.dtype, self._size, written=True)
        cost = float(self.cost)
        self._call(3 * self.operations, lambda: library.hessian_product(self.plan, v, product))
        self.cost[...] = cost
        return self._product

    def _call(self, operations: float, work: Callable[[], None]) -> None:
        """Call the library; a call that takes long hears signals, and begins again if their handlers return."""
        network = self.network
        # Nothing is written to the parameters, so they may be read-only.
        self.plan.parameters = address("parameters", network.parameters, network.dtype, self._size)

        def begin() -> None:
            self.cost[...] = self._squares[...] = 0.0
            work()

        with scipy_on_one_thread():
            if operations > LONG_STEP:
                run_abandonable(begin, lambda: None, self.table.stop)
            else:
                begin()

    def _make_room(self, entries_for: Callable[[Any], int]) -> None:
        """Let the plan point to as much scratch as a function of the library needs."""
        entries = entries_for(self.plan)
        if entries > self._scratch.size:
            self._scratch = on_cache_lines(entries, self.network.dtype)
            self.table.point("scratch", self._scratch, self._scratch.shape)


def cost_derivatives(
    network: NetworkState,
    X: Array,
    Y: Array,
    objective: Objective,
    sample_weight: Array | None = None,
    *,
    once: bool = False,
) -> CostDerivatives:
    """Make the fastest `CostDerivatives` that there are for this network on these samples.

    With `once` it is asked for one evaluation, for which preparing the library may not pay.
    """
    is_small = once and operations_of(network, X.shape[0]) <= SMALL_EVALUATION
    compiled = not is_small and _is_plain(network, X) and can_compile(network, X)
    kind = CompiledDerivatives if compiled else MatrixDerivatives
    return kind(network, X, Y, objective, sample_weight)


def _is_plain(network: NetworkState, X: Any) -> bool:
    """Tell whether the inputs are a matrix, and compiled code can read the parameters where they are."""
    flat: Any = network.parameters
    if network.lead or not (isinstance(X, np.ndarray) and isinstance(flat, np.ndarray)):
        return False
    return bool(flat.flags.c_contiguous and flat.flags.aligned)
