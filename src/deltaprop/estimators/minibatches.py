"""Training by minibatches under scikit-learn's rules: its cost of an epoch, its order of samples, its stopping."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from deltaprop.backends import Array
from deltaprop.derivation.backprop import Objective
from deltaprop.epochs.trainer import Trainer
from deltaprop.errors import callers_level
from deltaprop.estimators.fit_data import NO_SCORE
from deltaprop.estimators.step_rule import step_rule
from deltaprop.reports.history import History
from deltaprop.reports.progress import progress_bar
from deltaprop.training.callbacks import EpochEnd, tell

if TYPE_CHECKING:
    from deltaprop.estimators.fit_data import HeldOut, Training
    from deltaprop.estimators.multilayer_perceptron import MultilayerPerceptron
    from deltaprop.network import Network


class MinibatchTrainer(Trainer):
    """Every minibatch has its own m, in the mean and in the penalty, and the cost of an epoch is the mean of theirs.

    That is scikit-learn's convention: J_b = Σ w cost/m_b + α/(2 m_b) Σ W² with m_b = Σ w over the minibatch, and over
    an epoch of n samples J = Σ (n_b/n) J_b.
    """

    def __init__(self, *arguments: Any, constant_costs: np.ndarray[Any, Any] | None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.constant_costs, self.constant = constant_costs, 0.0

    def terms(self, n: int, m: float) -> tuple[float, float, float]:
        """Those of J_b: 1/n_b, as the weights are scaled to; α/m_b; and n_b/2 times that for the cost."""
        penalty = self.objective.penalty(m) if m else 0.0
        return 1.0 / n, penalty, 0.5 * penalty * n

    def weights_of(self, order: np.ndarray[Any, Any] | None) -> tuple[np.ndarray[Any, Any] | None, Sequence[float]]:
        """Weights scaled so that those of a minibatch sum to its number of samples, and their sums before that."""
        costs = self.constant_costs if order is None or self.constant_costs is None else self.constant_costs[order]
        weights, sums = super().weights_of(order)
        if weights is None:
            self.constant = 0.0 if costs is None else float(np.mean(costs))
            return None, sums
        factors = [n / m if m else 0.0 for n, m in zip(self.sizes, sums, strict=True)]
        scaled = (weights * np.repeat(factors, self.sizes)).astype(weights.dtype)
        self.constant = 0.0 if costs is None else float(scaled @ costs) / self.samples
        return scaled, sums


def train(mlp: MultilayerPerceptron, training: Training, held_out: HeldOut | None, *, incremental: bool) -> None:
    """`max_iter` epochs at most, one where `incremental`; what scikit-learn records is recorded on `mlp`."""
    network, samples = training.network, training.X.shape[0]
    if not (incremental and hasattr(mlp, "_optimizer")):
        mlp._optimizer = step_rule(mlp, network)
    rule = mlp._optimizer
    rule.go_on_with(network)
    batch_size = _batch_size(mlp, samples)
    # An order within the one minibatch that there is changes nothing.
    shuffled = mlp.shuffle and batch_size < samples
    trainer = MinibatchTrainer(
        network,
        training.X,
        training.Y,
        rule.optimizer,
        Objective(l2=mlp.alpha),
        batch_size,
        shuffled=shuffled,
        sample_weight=training.sample_weight,
        dropout=training.dropout,
        constant_costs=training.constant_costs,
        state=rule.state,
    )
    epochs = 1 if incremental else mlp.max_iter
    stops_by_score = mlp.early_stopping
    scored = len(mlp.validation_scores_) if stops_by_score else 0
    order = np.arange(samples)
    history = History(cost=mlp.loss_curve_)
    mlp.n_iter_ = 0
    try:
        # A cost that overflows is reported at the end, not by NumPy's warnings.
        with (
            np.errstate(over="ignore", invalid="ignore", under="ignore"),
            progress_bar(mlp.progress, epochs, samples) as progress,
        ):
            for epoch in range(1, epochs + 1):
                if mlp.shuffle:
                    order = order[mlp._random_state.permutation(samples)]
                trainer.epoch(rule.learning_rate, order if shuffled else None, progress)
                history.learning_rate.append(rule.learning_rate)
                mlp.n_iter_ = epoch
                mlp.t_ += samples
                cost, decay, _ = trainer.sums_on_host()
                cost, decay = cost / samples + trainer.constant, decay / samples
                mlp.loss_ = cost + decay
                mlp.loss_curve_.append(mlp.loss_)
                say(mlp, f"Iteration {epoch}, loss = {mlp.loss_:.8f}")
                if held_out is not None:
                    held_out.record(mlp, history)
                if stops_by_score:
                    say(mlp, f"Validation score: {mlp.validation_scores_[-1]:f}")
                    _judge_score(mlp, network.parameters)
                else:
                    _judge_loss(mlp, training.watched(cost) + decay)
                progress.epoch(history)
                rule.epoch_ended(mlp.t_)
                ends = tell(mlp.callbacks or (), EpochEnd(network, epoch, epochs, history))
                finite = network.backend.all_finite(network.parameters)
                if ends or not finite:
                    break  # numbers that are not finite never become so again
                if mlp._no_improvement_count > mlp.n_iter_no_change and not _goes_on(mlp, rule.may_go_on()):
                    break
                if epoch == mlp.max_iter and not incremental:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({mlp.max_iter}) reached and the optimization "
                        "hasn't converged yet.",
                        ConvergenceWarning,
                        stacklevel=callers_level(),
                    )
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=callers_level())
    if stops_by_score:
        _restore_best(mlp, network, mlp.validation_scores_[scored:])


def _batch_size(mlp: MultilayerPerceptron, samples: int) -> int:
    if mlp.batch_size == "auto":
        return min(200, samples)
    if mlp.batch_size > samples:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
            stacklevel=callers_level(),
        )
    return int(min(mlp.batch_size, samples))


def _judge_loss(mlp: MultilayerPerceptron, watched: float) -> None:
    """Count the epochs that did not lower the loss by `tol`."""
    mlp._no_improvement_count = mlp._no_improvement_count + 1 if watched > mlp._best_watched - mlp.tol else 0
    if watched < mlp._best_watched:
        mlp._best_watched = watched
    if mlp.loss_ < mlp.best_loss_:
        mlp.best_loss_ = mlp.loss_


def _judge_score(mlp: MultilayerPerceptron, parameters: Array) -> None:
    """Count the epochs that did not raise the validation score by `tol`, and keep the parameters of the best.

    A score that is nan raises nothing.
    """
    score, best = mlp.validation_scores_[-1], mlp.best_validation_score_
    mlp._no_improvement_count = 0 if score >= best + mlp.tol else mlp._no_improvement_count + 1
    is_first = not hasattr(mlp, "_best_parameters") and not np.isnan(score)
    if score > best or is_first:
        mlp.best_validation_score_ = score
        mlp._best_parameters = parameters.copy()


def _restore_best(mlp: MultilayerPerceptron, network: Network, scores: Sequence[float]) -> None:
    """Go back to the parameters of the best of these `scores`; where all are nan, the last parameters are kept."""
    if scores and np.isnan(scores).all():
        warnings.warn(NO_SCORE, UserWarning, stacklevel=callers_level())
        mlp.best_validation_score_, mlp._best_parameters = float("nan"), network.parameters.copy()
    elif hasattr(mlp, "_best_parameters"):
        network.parameters = mlp._best_parameters


def _goes_on(mlp: MultilayerPerceptron, goes_on: bool) -> bool:
    """Say what follows from too many epochs without improvement, and start counting again where training goes on."""
    watched = "Validation score" if mlp.early_stopping else "Training loss"
    what = f"{watched} did not improve more than tol={mlp.tol:f} for {mlp.n_iter_no_change} consecutive epochs."
    if goes_on:
        say(mlp, f"{what} Setting learning rate to {mlp._optimizer.learning_rate:f}")
        mlp._no_improvement_count = 0
    elif mlp._optimizer.schedule == "adaptive":
        say(mlp, f"{what} Learning rate too small. Stopping.")
    else:
        say(mlp, f"{what} Stopping.")
    return goes_on


def say(mlp: MultilayerPerceptron, line: str) -> None:
    """`line` on standard output, where the estimator is to be verbose."""
    if mlp.verbose:
        sys.stdout.write(f"{line}\n")
