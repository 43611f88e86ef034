"""Full-batch training: scipy's solvers over the flat vector, and steepest descent.

Every solver gets J and ∂J/∂θ over all samples as functions of a float64 vector on the host; Newton-CG gets H v as well.
One rule says when a solver has converged, whichever it is: no entry of the gradient exceeds `tol`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.array_types import Floats
from deltaprop.backends.native.scipy_threads import scipy_on_one_thread
from deltaprop.derivation.backprop import Objective
from deltaprop.derivation.derivatives import CostDerivatives
from deltaprop.derivation.parameters import Parameters
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.compiled_gradient import cost_derivatives
from deltaprop.epochs.way_log import logger
from deltaprop.errors import DivergenceError
from deltaprop.reports.history import History
from deltaprop.reports.progress import progress_bar
from deltaprop.training.callbacks import EpochCallback
from deltaprop.training.evaluation import validate
from deltaprop.training.hold_out import HeldOut
from deltaprop.training.listeners import STOPPED_AT_ONCE, Listeners
from deltaprop.training.metrics import Metric

Vector: TypeAlias = Floats
Method: TypeAlias = Literal["gd", "cg", "l-bfgs", "newton-cg"]

#: scipy's name of each solver and the options that leave the decision when to stop to us. "gd" is our own.
SCIPY: dict[str, tuple[str, dict[str, Any]]] = {
    "cg": ("CG", {"gtol": 0.0}),
    "l-bfgs": ("L-BFGS-B", {"gtol": 0.0, "ftol": 0.0, "maxfun": 2**31 - 1}),
    "newton-cg": ("Newton-CG", {"xtol": 0.0}),
}


@dataclass(frozen=True)
class FullBatchPlan:
    """The arguments of `Network.fit_full_batch` besides the data, checked at the public door."""

    method: Method
    max_iter: int
    tol: float
    objective: Objective
    metrics: dict[str, Metric]
    callbacks: Sequence[EpochCallback]
    progress: bool


class FullBatch:
    """J, ∂J/∂θ and H v over all samples as functions of θ, a float64 vector on the host.

    The network keeps the parameters of the last evaluation: evaluating twice at one θ costs nothing.
    """

    derivatives: CostDerivatives
    network: NetworkState

    def __init__(self, derivatives: CostDerivatives) -> None:
        self.derivatives, self.network = derivatives, derivatives.network
        self.network.own.require_writeable()
        self.direction: Parameters = Parameters(self.network.backend, self.network.layer_sizes, self.network.dtype)
        self._theta: Vector | None = None
        self._cost = np.nan
        self._gradient: Vector = np.empty(0)

    def _at(self, theta: Vector) -> None:
        if self._theta is not None and np.array_equal(theta, self._theta):
            return
        self.network.parameters = theta
        self._cost, gradient = self.derivatives.cost_and_gradient()
        self._gradient = self._on_host(gradient)
        self._theta = theta.copy()

    def _on_host(self, parameters: Parameters) -> Vector:
        return self.network.backend.to_numpy(parameters.flat).astype(np.float64)

    def cost(self, theta: Vector) -> float:
        """J(θ)."""
        self._at(theta)
        return self._cost

    def gradient(self, theta: Vector) -> Vector:
        """∂J/∂θ, (n,)."""
        self._at(theta)
        return self._gradient

    def hessian_product(self, theta: Vector, v: Vector) -> Vector:
        """H v, (n,), H = ∂²J/∂θ² at θ."""
        self._at(theta)
        self.direction.flat[...] = self.network.backend.asarray(v, self.network.dtype)
        return self._on_host(self.derivatives.hessian_product(self.direction))


class SolverRun:
    """It records every iteration, tells the callbacks, and decides whether to go on."""

    batch: FullBatch
    validation: HeldOut | None
    plan: FullBatchPlan
    history: History

    def __init__(self, batch: FullBatch, validation: HeldOut | None, plan: FullBatchPlan, history: History) -> None:
        self.batch, self.validation, self.plan, self.history = batch, validation, plan, history
        self.accepted: Vector = batch.network.backend.to_numpy(batch.network.parameters).astype(np.float64)
        self.began: float = time.perf_counter()
        self.progress: Any = None
        self.listeners: Listeners = Listeners(plan.callbacks, batch.network, plan.max_iter, history)

    def steepest(self) -> float:
        """Find the largest entry of the gradient, in magnitude, at the parameters accepted last."""
        return float(np.abs(self.batch.gradient(self.accepted)).max())

    def iteration(self, theta: Vector) -> bool:
        """Take note of a new θ; return whether the run is over.

        Raises
        ------
        DivergenceError
            If J or its gradient is not finite there.
        """
        history, network, plan = self.history, self.batch.network, self.plan
        if np.array_equal(theta, self.accepted):
            return False  # a solver at its end may report a step of length 0; that is no iteration
        cost = self.batch.cost(theta)
        k = history.epochs + 1
        if not (np.isfinite(cost) and np.isfinite(self.batch.gradient(theta)).all()):
            raise _divergence(f"the cost is {cost} or the gradient not finite in iteration {k}", k, history)
        self.accepted = theta.copy()
        history.cost.append(cost)
        if self.validation is not None:
            validate(network, self.validation, plan.objective, plan.metrics, history)
        now = time.perf_counter()
        history.seconds.append(now - self.began)
        self.began = now
        self.progress.samples(self.batch.derivatives.X.shape[0])
        self.progress.epoch(history)
        steepest = self.steepest()
        history.converged = steepest <= plan.tol
        if history.converged:
            history.message = _converged(k, steepest, plan.tol)
        if self.listeners.every:
            self.listeners.step_ended(k, k, cost)
        if self.listeners.epoch_ended(k) and not history.converged:
            history.message = f"stopped by a callback after iteration {k}"
        return bool(history.message)


def train_full_batch(
    network: NetworkState,
    X: Array,
    Y: Array,
    sample_weight: Array | None,
    validation: HeldOut | None,
    plan: FullBatchPlan,
) -> History:
    """Train `network` in place on trusted arrays of its backend: X (m, s_1), Y (m, s_L), sample_weight (m,).

    Raises
    ------
    DivergenceError
        If the cost or its gradient is not finite at the start or after an iteration; the network then holds the
        parameters of the iteration before.
    """
    history = History(converged=False)
    history.metrics = {name: [] for name in plan.metrics}
    logger.info("training all samples at once by %r on %s", plan.method, network.backend.label)
    batch = FullBatch(cost_derivatives(network, X, Y, plan.objective, sample_weight))
    run = SolverRun(batch, validation, plan, history)
    # Trial steps may overflow; solvers shorten them, and what is accepted is checked.
    quiet = np.errstate(over="ignore", invalid="ignore", under="ignore")
    bar = progress_bar(plan.progress, plan.max_iter, X.shape[0], unit="iteration")
    with run.listeners.training(lambda: _parameters(network, plan)) as over:
        if over:
            history.message = STOPPED_AT_ONCE
        else:
            with quiet, bar as run.progress:
                _solve(run, plan)
    return history


def _parameters(network: NetworkState, plan: FullBatchPlan) -> dict[str, Any]:
    """Name what a training depends on, for callbacks."""
    objective = plan.objective
    return network.configuration | {
        "method": plan.method,
        "max_iter": plan.max_iter,
        "tol": plan.tol,
        "l2": objective.l2,
        "l2_scaling": objective.l2_scaling,
        "reduction": objective.reduction,
    }


def _solve(run: SolverRun, plan: FullBatchPlan) -> None:
    """Run the solver, unless the parameters are good already; see `train_full_batch`."""
    history = run.history
    try:
        cost, steepest = run.batch.cost(run.accepted), run.steepest()
        if not np.isfinite([cost, steepest]).all():
            raise _divergence(f"the cost is {cost} or the gradient not finite at the start", 0, history)
        if steepest <= plan.tol:
            history.converged, history.message = True, _converged(0, steepest, plan.tol)
        else:
            solver = _steepest_descent if plan.method == "gd" else _scipy_solver
            told = solver(run, plan)
            if not history.message:
                history.message = f"{told}; the largest entry of the gradient is {run.steepest():.3g}"
    finally:  # whatever was tried last, the network keeps what was accepted
        run.batch.network.parameters = run.accepted


def _converged(iterations: int, steepest: float, tol: float) -> str:
    return f"converged after {iterations} iterations: no entry of the gradient exceeds {steepest:.3g} (tol {tol:g})"


def _limit(plan: FullBatchPlan) -> str:
    return f"stopped at the limit of {plan.max_iter} iterations"


def _divergence(what: str, iteration: int, history: History) -> DivergenceError:
    """Make the error of a J or a θ that is not finite."""
    return DivergenceError(
        f"training diverged: {what}; the network keeps the parameters it had before. Scaled inputs or smaller initial "
        "weights usually help",
        epoch=iteration,
        learning_rate=float("nan"),
        history=history,
    )


def _scipy_solver(run: SolverRun, plan: FullBatchPlan) -> str:
    """SolverRun one of scipy's solvers; return its own message, if it was not stopped by `run`."""
    from scipy.optimize import OptimizeResult, minimize

    batch = run.batch

    def after_iteration(intermediate_result: OptimizeResult) -> None:
        if run.iteration(intermediate_result.x):
            raise StopIteration

    name, options = SCIPY[plan.method]
    with scipy_on_one_thread():
        result = minimize(
            batch.cost,
            run.accepted,
            jac=batch.gradient,
            hessp=batch.hessian_product if plan.method == "newton-cg" else None,
            method=name,
            callback=after_iteration,
            options=options | {"maxiter": plan.max_iter},
        )
    if run.history.epochs >= plan.max_iter:
        return _limit(plan)
    return f"stopped after {run.history.epochs} iterations, as no lower cost could be found ({result.message})"


def _steepest_descent(run: SolverRun, plan: FullBatchPlan) -> str:
    """θ := θ − η ∂J/∂θ, with the η of Armijo's rule: halved until J falls by η‖∂J/∂θ‖²/2, doubled when it did at once.

    Where J is quadratic along the gradient, that holds up to the η at which it is least (Armijo, 1966).
    """
    batch, eta = run.batch, 1.0
    for _ in range(plan.max_iter):
        theta, gradient = run.accepted, batch.gradient(run.accepted)
        cost, slope = batch.cost(theta), float(gradient @ gradient)
        first, tried = eta, theta - eta * gradient
        while not batch.cost(tried) <= cost - 0.5 * eta * slope:  # also where it is nan
            eta *= 0.5
            tried = theta - eta * gradient
            if np.array_equal(tried, theta):
                return f"stopped after {run.history.epochs} iterations, as no lower cost could be found"
        if run.iteration(tried):
            return ""
        eta = 2.0 * eta if eta == first else eta
    return _limit(plan)
