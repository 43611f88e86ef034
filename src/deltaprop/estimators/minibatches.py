"""Training by minibatches under scikit-learn's rules: its cost of an epoch, its order of samples, its stopping."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from deltaprop.backends.array_types import Indices
from deltaprop.backends.native.twister import Shuffle
from deltaprop.epochs.trainer import Trainer
from deltaprop.epochs.way_log import log_way
from deltaprop.errors import callers_level
from deltaprop.estimators.fit_checkpoint import FitCheckpoint
from deltaprop.estimators.fit_data import NO_SCORE, HeldOut, Training
from deltaprop.estimators.hyperparameters import Hyperparameters
from deltaprop.estimators.objective import MinibatchObjective, constant_cost
from deltaprop.estimators.records import Records
from deltaprop.estimators.step_rule import step_rule
from deltaprop.reports.history import History
from deltaprop.reports.progress import Progress, progress_bar
from deltaprop.training.callbacks import EpochCallback
from deltaprop.training.listeners import Listeners

if TYPE_CHECKING:
    from deltaprop.estimators.step_rule import StepRule
    from deltaprop.network import Network

#: Entries of the inputs up to which they are held until the next `partial_fit`.
MOST_ENTRIES = 2**17


class MinibatchFit:
    """The training of one estimator by minibatches.

    Parameters
    ----------
    mlp : Hyperparameters
    training : Training
    held_out : HeldOut or None
        The samples that judge every epoch.
    records : Records
        Kept up to date, epoch by epoch.
    random_state : RandomState
        Draws the orders in which the samples are visited.
    publish : callable
        Brings the estimator up to date with `records`; called before a scorer or a callback may look at it.
    callbacks : sequence of callable
        They are told of this fit.
    incremental : bool
        Whether this is one epoch of `partial_fit`, which goes on with the optimizer of the last one.
    keeper : FitCheckpoint, optional
        It writes checkpoints, and may bring this training to where it was left off.
    """

    mlp: Hyperparameters
    training: Training
    held_out: HeldOut | None
    records: Records
    random_state: np.random.RandomState
    publish: Callable[[], None]
    incremental: bool
    network: Network
    samples: int

    def __init__(
        self,
        mlp: Hyperparameters,
        training: Training,
        held_out: HeldOut | None,
        records: Records,
        random_state: np.random.RandomState,
        publish: Callable[[], None],
        callbacks: Sequence[EpochCallback],
        *,
        incremental: bool,
        keeper: FitCheckpoint | None = None,
    ) -> None:
        self.mlp, self.training, self.held_out, self.records = mlp, training, held_out, records
        self.random_state, self.publish, self.incremental = random_state, publish, incremental
        self.network, self.samples = training.network, training.X.shape[0]
        self.epochs: int = 1 if incremental else mlp.max_iter
        if records.optimizer is None or not incremental:
            records.optimizer = step_rule(mlp, self.network)
        self.rule: StepRule = records.optimizer
        self.rule.go_on_with(self.network)
        records.stopping.adaptive = self.rule.schedule == "adaptive"
        batch_size = self._batch_size()
        # If there is only one minibatch, the order of its samples changes nothing.
        self.shuffled = mlp.shuffle and batch_size < self.samples
        self.order: Indices = np.arange(self.samples, dtype=np.int64)
        self.objective: MinibatchObjective = MinibatchObjective(l2=mlp.alpha)
        self.trainer: Trainer = Trainer(
            self.network,
            training.X,
            training.Y,
            self.rule.optimizer,
            self.objective,
            batch_size,
            shuffled=self.shuffled,
            sample_weight=training.sample_weight,
            dropout=training.dropout,
            state=self.rule.state,
            way=self.rule.way,
        )
        log_way(self.trainer, ["the rules of scikit-learn"])
        # scikit-learn takes the last order by `random_state.permutation(m)`: a shuffle draws and moves the same.
        compiled = getattr(self.network.backend, "compiles", False)
        self.shuffle: Shuffle = Shuffle(random_state, self.order, compiled=compiled)
        self.history: History = History()
        self.keeper: FitCheckpoint | None = keeper
        if keeper is not None:
            keeper.open(self)
        self.listeners: Listeners = Listeners(callbacks, self.network, self.epochs, self.history)
        done: int = records.n_iter if held_out is not None else 0
        self.scored_before: int = len(records.validation_scores or ()) - done
        if held_out is not None:
            held_out.scores, held_out.costs = records.validation_scores, records.validation_loss_curve

    def warn(self, message: str, category: type[Warning] = UserWarning) -> None:
        """Warn of something at the line that called this package."""
        warnings.warn(message, category, stacklevel=callers_level())

    def _batch_size(self) -> int:
        if self.mlp.batch_size != "auto" and self.mlp.batch_size > self.samples:
            self.warn("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped")
        return self.mlp._samples_a_step(self.samples)

    def run(self) -> None:
        """Train until `max_iter` epochs are done, the loss or the score no longer improves, or a callback says so."""
        with self.listeners.training(self.mlp._described, self.trainer.try_rates) as over:
            if not over:
                self._epochs()
        # The next call may go on with what has been prepared; large samples are not held for it.
        small = self.incremental and self.samples * self.network.layer_sizes[0] <= MOST_ENTRIES
        self.rule.way = self.trainer.whole_epoch if small else None

    def _epochs(self) -> None:
        mlp, records = self.mlp, self.records
        try:
            # A cost that overflows is reported at the end, not by NumPy's warnings.
            with (
                np.errstate(over="ignore", invalid="ignore", under="ignore"),
                self._in_a_row(),
                progress_bar(mlp.progress, self.epochs, self.samples) as progress,
            ):
                goes_on = self.keeper is None or not self.keeper.ended
                if records.n_iter and goes_on:  # a fit that was resumed
                    self._warn_of_last_epoch()
                while goes_on and records.n_iter < self.epochs:
                    goes_on = self._epoch(progress)
                    if self.keeper is not None:
                        self.keeper.epoch_ended(self, ends=not goes_on)
                    if goes_on:
                        self._warn_of_last_epoch()
        except KeyboardInterrupt:
            self.warn("Training interrupted by user.")
        if records.stopping.early_stopping:
            self._restore_best()

    def _in_a_row(self) -> AbstractContextManager[object]:
        """Return a context for all epochs, where no callback or score of the user's comes between them."""
        alone = not self.listeners.callbacks and self.mlp.scoring is None
        return self.trainer.in_a_row() if alone else nullcontext()

    def _warn_of_last_epoch(self) -> None:
        """Warn if all epochs are done and nothing has ended training before."""
        if self.records.n_iter == self.mlp.max_iter and not self.incremental:
            self.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.mlp.max_iter}) reached and the optimization "
                "hasn't converged yet.",
                ConvergenceWarning,
            )

    def _epoch(self, progress: Progress) -> bool:
        """Train one epoch and record it; return whether training goes on."""
        records, history, rule, began = self.records, self.history, self.rule, time.perf_counter()
        cost, decay = self._train(progress)
        records.loss = cost + decay
        records.loss_curve.append(records.loss)
        history.cost.append(records.loss)
        if self.mlp.verbose:
            self.mlp._say(f"Iteration {records.n_iter}, loss = {records.loss:.8f}")
        if self.held_out is not None:
            self.publish()
            self.held_out.record(self.network, history)
        stopping = records.stopping
        stopping.tol, stopping.n_iter_no_change = self.mlp.tol, self.mlp.n_iter_no_change  # a callback may set them
        if stopping.early_stopping:
            self._watch_score()
        else:
            stopping.count(stopping.by_loss(records.loss, self.training.watched(cost) + decay))
        history.seconds.append(time.perf_counter() - began)
        progress.epoch(history)
        rule.epoch_ended(records.t)
        if self.listeners.callbacks:
            self.publish()
        ends = self.listeners.epoch_ended(records.n_iter)
        if ends or self._is_lost():
            return False
        return not records.stopping.gives_up or self._slow_down()

    def _is_lost(self) -> bool:
        """Return whether the parameters are no longer finite: they never become so again."""
        return not self.trainer.is_finite()

    def order_next(self) -> Indices:
        """Return the order in which the next epoch visits the samples."""
        if self.mlp.shuffle:
            self.shuffle()
        # What is still on its way to a device must not change.
        return self.order if self.network.backend.on_host else self.order.copy()

    def _train(self, progress: Progress) -> tuple[float, float]:
        """Visit every sample once; return the two terms of the cost of that epoch."""
        records, trainer, rate = self.records, self.trainer, self.rule.learning_rate
        drawn, epoch = self.order_next(), records.n_iter + 1
        order = drawn if self.shuffled else None
        self.listeners.epoch_begins(epoch)
        trainer.epoch(rate, order, progress, marks=self.listeners.marks(trainer, epoch))
        self.network.epochs_trained += 1
        self.history.learning_rate.append(rate)
        records.n_iter += 1
        records.t += self.samples
        cost, decay, _ = trainer.sums_on_host()
        cost, decay = self.objective.of_epoch(cost, decay, self.samples)
        return cost + self._constant_cost(order), decay

    def _constant_cost(self, order: Indices | None) -> float:
        """Compute the part of the cost that does not depend on the network, in the order of the epoch."""
        costs = self.training.constant_costs
        if costs is None:
            return 0.0
        return constant_cost(costs if order is None else costs[order], self.trainer.last_weights)

    def _watch_score(self) -> None:
        """Count an epoch by its validation score, and keep the parameters of the best."""
        records, score = self.records, self.records.validation_scores[-1]
        self.mlp._say(f"Validation score: {score:f}")
        worse, is_best = records.stopping.by_score(score)
        records.stopping.count(worse)
        if is_best:
            records.best_parameters = self.network.backend.copy(self.network.parameters)

    def _slow_down(self) -> bool:
        """Go on with a smaller learning rate if there is one; print and return the decision."""
        mlp, rule = self.mlp, self.rule
        watched = "Validation score" if self.records.stopping.early_stopping else "Training loss"
        what = f"{watched} did not improve more than tol={mlp.tol:f} for {mlp.n_iter_no_change} consecutive epochs."
        rate, goes_on = self.records.stopping.slow_down(rule.learning_rate)
        if goes_on:
            rule.learning_rate = float(rate)
            mlp._say(f"{what} Setting learning rate to {rule.learning_rate:f}")
        elif rule.schedule == "adaptive":
            mlp._say(f"{what} Learning rate too small. Stopping.")
        else:
            mlp._say(f"{what} Stopping.")
        return bool(goes_on)

    def _restore_best(self) -> None:
        """Go back to the parameters of the best score; where all scores are nan, keep the last parameters."""
        records = self.records
        scores = records.validation_scores[self.scored_before :]
        if scores and np.isnan(scores).all():
            self.warn(NO_SCORE)
            records.stopping.best_score, records.best_parameters = (
                float("nan"),
                self.network.backend.copy(self.network.parameters),
            )
        elif records.best_parameters is not None:
            self.network.parameters = records.best_parameters
