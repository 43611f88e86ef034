"""Training by L-BFGS over all samples, under scikit-learn's stopping rules."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from scipy.optimize import OptimizeResult, minimize
from sklearn.exceptions import ConvergenceWarning

from deltaprop.backends.array_types import Floats
from deltaprop.backends.native.scipy_threads import scipy_on_one_thread
from deltaprop.derivation.backprop import Objective
from deltaprop.derivation.derivatives import CostDerivatives
from deltaprop.epochs.compiled_gradient import cost_derivatives
from deltaprop.epochs.way_log import logger
from deltaprop.errors import callers_level
from deltaprop.estimators.fit_data import HeldOut, Training, mean
from deltaprop.estimators.hyperparameters import Hyperparameters
from deltaprop.reports.history import History
from deltaprop.reports.progress import progress_bar
from deltaprop.training.callbacks import EpochCallback
from deltaprop.training.evaluation import data_cost
from deltaprop.training.listeners import Listeners

Vector: TypeAlias = Floats
#: scipy's status of a minimization that its callback has ended.
ENDED_BY_CALLBACK = 99


def train(
    mlp: Hyperparameters, training: Training, held_out: HeldOut | None, callbacks: Sequence[EpochCallback]
) -> tuple[OptimizeResult, int, float]:
    """Run scipy's L-BFGS-B until no entry of the gradient exceeds `tol`, or a limit is reached.

    Parameters
    ----------
    mlp : Hyperparameters
    training : Training
    held_out : HeldOut or None
        The samples that judge every iteration.
    callbacks : sequence of callable
        They are told of this fit.

    Returns
    -------
    result : OptimizeResult
        What scipy says; see `warn_unless_converged`.
    n_iter : int
        How many iterations were done.
    loss : float
        The loss at the end.
    """
    network, backend = training.network, training.network.backend
    network.own.require_writeable()
    logger.info("training all samples at once by 'l-bfgs' on %s", backend.label)
    derivatives = cost_derivatives(network, training.X, training.Y, Objective(l2=mlp.alpha), training.sample_weight)
    weights = None if training.sample_weight is None else backend.to_numpy(training.sample_weight)
    constant, history = mean(training.constant_costs, weights), History(converged=False)
    cost_and_gradient = _cost_and_gradient(training, derivatives, constant)
    listeners = Listeners(callbacks, network, mlp.max_iter, history)
    with listeners.training(mlp._described) as over, np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if over:
            theta = backend.to_numpy(network.parameters).astype(np.float64)
            loss, nothing = cost_and_gradient(theta)[0], "stopped by a callback"
            return OptimizeResult(status=ENDED_BY_CALLBACK, nit=0, message=nothing), 0, loss
        result = _minimize(mlp, training, held_out, cost_and_gradient, listeners)
        network.parameters = result.x
        n_iter, loss = min(int(result.nit), mlp.max_iter), float(result.fun)
        if training.outputs_averaged > 1:  # then the number minimised is not the one reported
            total = data_cost(network, training.X, training.Y, sample_weight=training.sample_weight)
            loss = derivatives.objective.total(network, total, derivatives.m) + constant
    return result, n_iter, loss


def _minimize(
    mlp: Hyperparameters,
    training: Training,
    held_out: HeldOut | None,
    cost_and_gradient: Callable[[Vector], tuple[float, Vector]],
    listeners: Listeners,
) -> OptimizeResult:
    """Run scipy's solver; record every iteration, and tell of it."""
    network, samples, history = training.network, training.X.shape[0], listeners.history
    began = time.perf_counter()

    def after_iteration(intermediate_result: OptimizeResult) -> None:
        nonlocal began
        history.cost.append(float(intermediate_result.fun))
        mlp._say(f"Iteration {history.epochs}, loss = {history.cost[-1]:.8f}")
        progress.samples(samples)
        if held_out is not None or listeners.callbacks:
            network.parameters = intermediate_result.x
        if held_out is not None:
            held_out.record(network, history)
        now = time.perf_counter()
        history.seconds.append(now - began)
        began = now
        progress.epoch(history)
        if listeners.every:
            listeners.step_ended(history.epochs, history.epochs, history.cost[-1])
        if listeners.epoch_ended(history.epochs):
            raise StopIteration

    bar = progress_bar(mlp.progress, mlp.max_iter, samples, unit="iteration")
    with scipy_on_one_thread(), bar as progress:
        return minimize(
            cost_and_gradient,
            network.backend.to_numpy(network.parameters).astype(np.float64),
            method="L-BFGS-B",
            jac=True,
            callback=after_iteration,
            options={"maxfun": mlp.max_fun, "maxiter": mlp.max_iter, "gtol": mlp.tol},
        )


def _cost_and_gradient(
    training: Training, derivatives: CostDerivatives, constant: float
) -> Callable[[Vector], tuple[float, Vector]]:
    """The function that is minimised: parameters to the cost, as scikit-learn watches it, and its gradient."""
    network = training.network

    def cost_and_gradient(theta: Vector) -> tuple[float, Vector]:
        network.parameters = theta
        total, gradient = derivatives.cost_and_gradient()
        cost = derivatives.scale * float(derivatives.cost)
        decay = total - cost
        return training.watched(cost + constant) + decay, network.backend.to_numpy(gradient.flat).astype(np.float64)

    return cost_and_gradient


def warn_unless_converged(result: OptimizeResult, n_iter: int, max_iter: int) -> None:
    """Say that L-BFGS has not converged, and what may help."""
    if result.status in (0, ENDED_BY_CALLBACK):
        return
    advice = f"\n\nIncrease the number of iterations (max_iter={max_iter})." if result.nit >= max_iter else ""
    warnings.warn(
        f"lbfgs failed to converge after {n_iter} iteration(s) (status={result.status}):\n{result.message}"
        f"{advice}\nScaled inputs often help.",
        ConvergenceWarning,
        stacklevel=callers_level(),
    )
