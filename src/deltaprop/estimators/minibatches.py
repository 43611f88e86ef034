"""Training by minibatches under scikit-learn's rules: its cost of an epoch, its order of samples, its stopping."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from deltaprop.backends.array_types import Indices
from deltaprop.backends.native.twister import Shuffle
from deltaprop.epochs.interruption import Interruption, Paused
from deltaprop.epochs.trainer import Trainer
from deltaprop.epochs.way_log import log_way
from deltaprop.errors import callers_level
from deltaprop.estimators.fit_checkpoint import FitCheckpoint
from deltaprop.estimators.fit_data import NO_SCORE, HeldOut, Training
from deltaprop.estimators.fit_ranks import require_same_fit
from deltaprop.estimators.hyperparameters import Hyperparameters
from deltaprop.estimators.objective import MinibatchObjective, constant_cost
from deltaprop.estimators.records import Records
from deltaprop.estimators.shared_scores import SharedScores
from deltaprop.estimators.step_rule import step_rule
from deltaprop.ranks.base import ALONE, Ranks
from deltaprop.ranks.failures import decided, failing_together, is_known_to_all
from deltaprop.reports.history import History
from deltaprop.reports.progress import Progress, progress_bar
from deltaprop.training.agreement import SameParameters
from deltaprop.training.callbacks import EpochCallback
from deltaprop.training.listeners import Listeners

if TYPE_CHECKING:
    from deltaprop.estimators.step_rule import StepRule
    from deltaprop.network import Network

T = TypeVar("T")

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
    ranks : Ranks, optional
        The processes that share each minibatch, with the same arguments; rank 0 has the callbacks, and decides.
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
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks: Ranks = ranks
        self.interruption: Interruption | None = None if ranks.size == 1 else Interruption()
        self.mlp, self.training, self.held_out, self.records = mlp, training, held_out, records
        self.random_state, self.publish, self.incremental = random_state, publish, incremental
        self.network, self.samples = training.network, training.X.shape[0]
        self.epochs: int = 1 if incremental else mlp.max_iter
        if records.optimizer is None or not incremental:
            records.optimizer = step_rule(mlp, self.network)
        self.rule: StepRule = records.optimizer
        records.stopping.adaptive = self.rule.schedule == "adaptive"
        with failing_together(ranks):
            self.rule.go_on_with(self.network)
            self._prepare(self._batch_size())
        of_call = {"partial_fit": incremental, "checkpoint": keeper is not None, "rate": self.rule.learning_rate}
        require_same_fit(ranks, mlp, training, held_out, records, of_call)
        log_way(self.trainer, ["the rules of scikit-learn"])
        # scikit-learn takes the last order by `random_state.permutation(m)`: a shuffle draws and moves the same.
        compiled = getattr(self.network.backend, "compiles", False)
        self.shuffle: Shuffle = Shuffle(random_state, self.order, compiled=compiled)
        self.history: History = History()
        self.keeper: FitCheckpoint | None = keeper
        if keeper is not None:
            keeper.open(self)
        with failing_together(ranks):
            self.listeners: Listeners = Listeners(callbacks, self.network, self.epochs, self.history)
        done: int = records.n_iter if held_out is not None else 0
        self.scored_before: int = len(records.validation_scores or ()) - done
        if held_out is not None:
            held_out.scores, held_out.costs = records.validation_scores, records.validation_loss_curve
        self._share_out()

    def _prepare(self, batch_size: int) -> None:
        """Make the trainer, for minibatches of this size."""
        mlp, training = self.mlp, self.training
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
            way=self.rule.way if self.ranks.size == 1 else None,
            ranks=self.ranks,
        )

    def _share_out(self) -> None:
        """Have ranks share the samples held out too, and know which steps somebody on rank 0 is told of."""
        ranks = self.ranks
        self._same_parameters = SameParameters(ranks, self.network, self.rule.state)
        if ranks.size == 1:
            self._told_of_epochs = True
            return
        self.listeners.every, self._told_of_epochs = ranks.from_first(
            (self.listeners.every, bool(self.listeners.objects))
        )
        with failing_together(ranks):
            if self.held_out is not None:
                alone = self.mlp.scoring is not None
                self._shared_scores = SharedScores(self.held_out, self.network, ranks, alone=alone)

    def warn(self, message: str, category: type[Warning] = UserWarning) -> None:
        """Warn of something at the line that called this package; of several ranks, rank 0 does."""
        if self.ranks.is_first:
            warnings.warn(message, category, stacklevel=callers_level())

    def _batch_size(self) -> int:
        if self.mlp.batch_size != "auto" and self.mlp.batch_size > self.samples:
            self.warn("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped")
        return self.mlp._samples_a_step(self.samples)

    def run(self) -> None:
        """Train until `max_iter` epochs are done, the loss or the score no longer improves, or a callback says so."""
        with ExitStack() as listening:
            told = self.listeners.training(self.mlp._described, self.trainer.try_rates)
            if not decided(self.ranks, lambda: listening.enter_context(told)):
                self._epochs()
            with failing_together(self.ranks):
                listening.close()
        self._same_parameters()
        # The next call may go on with what has been prepared; large samples are not held for it.
        small = self.incremental and self.samples * self.network.layer_sizes[0] <= MOST_ENTRIES
        self.rule.way = self.trainer.whole_epoch if small and self.ranks.size == 1 else None

    def _epochs(self) -> None:
        mlp, records, ranks = self.mlp, self.records, self.ranks
        try:
            # A cost that overflows is reported at the end, not by NumPy's warnings.
            with (
                np.errstate(over="ignore", invalid="ignore", under="ignore"),
                self._in_a_row(),
                nullcontext() if self.interruption is None else self.interruption.awaited(),
                progress_bar(mlp.progress and ranks.is_first, self.epochs, self.samples) as progress,
            ):
                goes_on = self.keeper is None or not self.keeper.ended
                if records.n_iter and goes_on:  # a fit that was resumed
                    decided(ranks, self._warn_of_last_epoch)
                while goes_on and records.n_iter < self.epochs:
                    goes_on = self._epoch(progress)
        except KeyboardInterrupt as error:
            if ranks.size > 1 and not is_known_to_all(error):
                raise  # the others would wait
            with failing_together(ranks):
                self.warn("Training interrupted by user.")
        self._same_parameters()
        if records.stopping.early_stopping:
            with failing_together(ranks):
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
        records, history, began = self.records, self.history, time.perf_counter()
        cost, decay = self._train(progress)
        records.loss = cost + decay
        records.loss_curve.append(records.loss)
        history.cost.append(records.loss)
        if self.mlp.verbose and self.ranks.is_first:
            self.mlp._say(f"Iteration {records.n_iter}, loss = {records.loss:.8f}")
        if self.held_out is not None:
            self.publish()
            if self.ranks.size == 1:
                self.held_out.record(self.network, history)
            else:
                self._shared_scores(history)
        if self.ranks.size == 1:
            return self._judge(cost, decay, began, progress)
        return self._judge_together(cost, decay, began, progress)

    def _judge_together(self, cost: float, decay: float, began: float, progress: Progress) -> bool:
        """Do what `_judge` does on rank 0, and take over what it has decided on the others."""
        records, history, rule, best = self.records, self.history, self.rule, self.records.best_parameters

        def judge() -> tuple[Any, ...]:
            goes_on = self._judge(cost, decay, began, progress)
            is_best = records.best_parameters is not best
            return goes_on, records.stopping, rule.learning_rate, is_best, records.loss, history.seconds[-1]

        goes_on, stopping, rate, is_best, loss, seconds = decided(self.ranks, judge)
        if not self.ranks.is_first:
            records.stopping, rule.learning_rate, records.loss = stopping, rate, loss
            records.loss_curve[-1] = history.cost[-1] = loss
            history.seconds.append(seconds)
            if is_best:
                records.best_parameters = self.network.backend.copy(self.network.parameters)
        assert self.interruption is not None
        if self.ranks.any(self.interruption()):
            self.interruption.obey_on_all(self.ranks)
        return bool(goes_on)

    def _judge(self, cost: float, decay: float, began: float, progress: Progress) -> bool:
        """Count an epoch with these two terms of its cost, tell of it, and keep it; return whether training goes on."""
        records, history, rule, stopping = self.records, self.history, self.rule, self.records.stopping
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
        ends = self.listeners.epoch_ended(records.n_iter) or self._is_lost()
        goes_on = not ends and (not records.stopping.gives_up or self._slow_down())
        if self.keeper is not None:
            self.keeper.epoch_ended(self, ends=not goes_on)
        if goes_on:
            self._warn_of_last_epoch()
        return goes_on

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
        if self._told_of_epochs:
            decided(self.ranks, partial(self.listeners.epoch_begins, epoch))
        self._same_parameters()
        marks = self.listeners.marks(trainer, epoch)
        try:
            trainer.epoch(rate, order, progress, marks=marks, pause=self.interruption)
        except Paused:
            assert self.interruption is not None
            self.interruption.obey_on_all(self.ranks)
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
