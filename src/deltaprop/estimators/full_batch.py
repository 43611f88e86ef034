"""Training by L-BFGS over all samples, under scikit-learn's stopping rules."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import OptimizeResult, minimize
from sklearn.exceptions import ConvergenceWarning

from deltaprop.backends.native.scipy_threads import scipy_on_one_thread
from deltaprop.derivation.backprop import Objective
from deltaprop.derivation.derivatives import CostDerivatives
from deltaprop.errors import callers_level
from deltaprop.estimators.fit_data import mean
from deltaprop.estimators.minibatches import say
from deltaprop.reports.history import History
from deltaprop.reports.progress import progress_bar
from deltaprop.training.callbacks import EpochEnd, tell
from deltaprop.training.evaluation import data_cost

if TYPE_CHECKING:
    from deltaprop.estimators.fit_data import HeldOut, Training
    from deltaprop.estimators.multilayer_perceptron import MultilayerPerceptron


def train(mlp: MultilayerPerceptron, training: Training, held_out: HeldOut | None) -> None:
    """scipy's L-BFGS-B until no entry of the gradient exceeds `tol`, or a limit is reached."""
    network, backend = training.network, training.network.backend
    network.own.require_writeable()
    derivatives = CostDerivatives(network, training.X, training.Y, Objective(l2=mlp.alpha), training.sample_weight)
    scale = derivatives.scale
    weights = None if training.sample_weight is None else backend.to_numpy(training.sample_weight)
    constant = mean(training.constant_costs, weights)
    history = History(converged=False)
    samples = training.X.shape[0]

    def cost_and_gradient(theta: np.ndarray[Any, Any]) -> tuple[float, np.ndarray[Any, Any]]:
        network.parameters = theta
        total, gradient = derivatives.cost_and_gradient()
        cost = scale * float(derivatives.cost)
        decay = total - cost
        return training.watched(cost + constant) + decay, backend.to_numpy(gradient.flat).astype(np.float64)

    with (
        np.errstate(over="ignore", invalid="ignore", under="ignore"),
        scipy_on_one_thread(),
        progress_bar(mlp.progress, mlp.max_iter, samples, unit="iteration") as progress,
    ):

        def after_iteration(intermediate_result: OptimizeResult) -> None:
            history.cost.append(float(intermediate_result.fun))
            say(mlp, f"Iteration {history.epochs}, loss = {history.cost[-1]:.8f}")
            progress.samples(samples)
            if held_out is not None or mlp.callbacks:
                network.parameters = intermediate_result.x
            if held_out is not None:
                held_out.record(mlp, history)
            progress.epoch(history)
            if tell(mlp.callbacks or (), EpochEnd(network, history.epochs, mlp.max_iter, history)):
                raise StopIteration

        result = minimize(
            cost_and_gradient,
            backend.to_numpy(network.parameters).astype(np.float64),
            method="L-BFGS-B",
            jac=True,
            callback=after_iteration,
            options={"maxfun": mlp.max_fun, "maxiter": mlp.max_iter, "gtol": mlp.tol},
        )
        network.parameters = result.x
        mlp.n_iter_ = min(int(result.nit), mlp.max_iter)
        mlp.loss_ = float(result.fun)
        if training.outputs_averaged > 1:  # then the number minimised is not the one reported
            total = data_cost(network, training.X, training.Y, sample_weight=training.sample_weight)
            mlp.loss_ = derivatives.objective.total(network, total, derivatives.m) + constant
    stopped_by_callback = result.status == 99
    if result.status != 0 and not stopped_by_callback:
        advice = (
            f"\n\nIncrease the number of iterations (max_iter={mlp.max_iter})." if result.nit >= mlp.max_iter else ""
        )
        warnings.warn(
            f"lbfgs failed to converge after {mlp.n_iter_} iteration(s) (status={result.status}):\n{result.message}"
            f"{advice}\nScaled inputs often help.",
            ConvergenceWarning,
            stacklevel=callers_level(),
        )
