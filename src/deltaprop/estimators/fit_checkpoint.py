"""The checkpoint of an estimator's fit: one that goes on from it has the same numbers, to the bit.

The file is a checkpoint of `deltaprop.training.checkpoint` with the counts, curves and the learning rate of the
estimator. Of its random numbers, it holds the state of the generator before the first order of samples was drawn:
orders are drawn again, one an epoch.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deltaprop.arguments import check_bool, check_path, check_whole_number
from deltaprop.derivation.remembered import counters_of
from deltaprop.estimators.hyperparameters import Hyperparameters
from deltaprop.files.atomic_file import check_writable
from deltaprop.network import Network
from deltaprop.ranks.base import Ranks
from deltaprop.ranks.failures import failing_together
from deltaprop.training.checkpoint import Checkpoint, Found, Position, describe_run, read_checkpoint

if TYPE_CHECKING:
    from deltaprop.files.file_schema import EstimatorRun, NetworkContent

#: Parameters on which the numbers of a fit do not depend, or which the file has in another form.
ELSEWHERE = {
    "hidden_layer_sizes",
    "activation",
    "loss",
    "output_activation",
    "dtype",
    "class_weight",
    "max_iter",
    "max_fun",
    "warm_start",
    "verbose",
    "progress",
    "callbacks",
    "backend",
    "ranks",
}


class FitCheckpoint:
    """Writes one fit, a `MinibatchFit`, to a file, and goes on from there.

    Parameters
    ----------
    mlp : Hyperparameters
        The estimator that is fitted.
    path : path
    every : int
        Epochs between checkpoints.
    resume : bool
        Whether to go on from the file, if there is one.
    ranks : Ranks
        Rank 0 writes and reads the file.

    Attributes
    ----------
    ended : bool
        Whether the fit in the file has ended before its last epoch.

    Raises
    ------
    ValueError, TypeError
        If an argument is not one of these, the solver is "lbfgs", or the file is damaged or of something else.
    OSError
        If the file cannot be written or read.
    """

    mlp: Hyperparameters
    path: Path
    every: int
    ranks: Ranks
    ended: bool
    random_state: dict[str, Any]
    earlier: dict[str, Any]
    epochs_there: int

    def __init__(
        self, mlp: Hyperparameters, path: str | os.PathLike[str], every: int, *, resume: bool, ranks: Ranks
    ) -> None:
        self.mlp, self.path, self.ended, self.ranks = mlp, check_path("checkpoint", path), False, ranks
        self.every = check_whole_number("checkpoint_every", every, least=1)
        self.checkpoint: Checkpoint | None = None
        self.kept_network: tuple[Network, int, int] | None = None
        if mlp.solver == "lbfgs":
            raise ValueError(
                "checkpoint: expected None with solver='lbfgs', whose state between two iterations is scipy's own; "
                "'adam' and 'sgd' have checkpoints"
            )
        given = mlp.random_state
        state = given.get_state(legacy=False) if isinstance(given, np.random.RandomState) else None
        self.kept = dict(mlp.__dict__), state
        self.content: NetworkContent | None = None
        self.there: EstimatorRun | None = None
        if ranks.is_first:
            check_writable(path)
        if ranks.is_first and resume and self.path.exists():
            self.content, training, *_ = read_checkpoint(self.path)
            self.there, self.epochs_there = training.estimator, training.position.epoch
            if self.there is None:
                raise ValueError(f"checkpoint: {self.path} is of Network.fit, not of an estimator's fit")

    @classmethod
    def of(cls, mlp: Hyperparameters, path: Any, every: int, resume: bool, ranks: Ranks) -> FitCheckpoint | None:
        """Make one from the arguments of `fit`; None without a path."""
        if check_bool("resume", resume) and path is None:
            raise ValueError("resume: expected a checkpoint to go on from, got checkpoint=None")
        return None if path is None else cls(mlp, path, every, resume=resume, ranks=ranks)

    def begin(self, random_state: np.random.RandomState, network: Network) -> np.random.RandomState:
        """Return the generator of this fit, before it draws rows to hold out and orders.

        Of a fit that goes on, it is as it was then, whatever has been drawn here; the seed of the network, too. Other
        ranks take over what rank 0 has.

        Raises
        ------
        ValueError
            If the generator is not MT19937, as `numpy.random.RandomState` makes it.
        """
        state: dict[str, Any] = random_state.get_state(legacy=False)
        if state["bit_generator"] != "MT19937":
            raise ValueError(f"random_state: expected MT19937 with a checkpoint, got {state['bit_generator']}")
        self.kept_network = network, network.seed, network.epochs_trained
        if self.content is not None and self.there is not None:
            there = self.there.random_state
            state = {
                "bit_generator": "MT19937",
                "state": {"key": np.array(there.key, np.uint32), "pos": there.pos},
                "has_gauss": there.has_gauss,
                "gauss": there.gauss,
            }
            if self.mlp.random_state is None:  # the generator that everybody shares stays as it is
                random_state = np.random.RandomState()
            random_state.set_state(state)
            network.seed = self.content.network.seed
            network.epochs_trained = self.content.epochs_trained - self.epochs_there
        own = state["state"]
        self.random_state = {
            "key": [int(word) for word in own["key"]],
            "pos": int(own["pos"]),
            "has_gauss": int(state["has_gauss"]),
            "gauss": float(state["gauss"]),
        }
        return random_state

    def open(self, fit: Any) -> None:
        """Describe the run, and bring it to where the file has it.

        Raises
        ------
        ValueError
            If the file is of another run, or of more epochs; the estimator is then what it was before `fit`.
        """
        try:
            with failing_together(self.ranks):
                if self.ranks.is_first:
                    self._open(fit)
            self._go_on_together(fit)
        except Exception:
            attributes, state = self.kept
            self.mlp.__dict__.clear()
            self.mlp.__dict__.update(attributes)
            if self.kept_network is not None:
                network, seed, epochs = self.kept_network
                network.seed, network.epochs_trained = seed, epochs
            if state is not None and isinstance(self.mlp.random_state, np.random.RandomState):
                self.mlp.random_state.set_state(state)
            raise

    def _open(self, fit: Any) -> None:
        records = fit.records
        self.checkpoint = Checkpoint(self.path, self.every, fit.network, fit.trainer, self._configuration(fit))
        self.earlier = {
            "earlier_losses": list(records.loss_curve),
            "earlier_scores": None if records.validation_scores is None else list(records.validation_scores),
            "earlier_validation_losses": (
                None if records.validation_loss_curve is None else list(records.validation_loss_curve)
            ),
        }
        found = None if self.content is None else self.checkpoint.load(self.mlp.max_iter, "max_iter")
        if found is not None and self.there is not None:
            self._restore(fit, found, self.there)

    def _go_on_together(self, fit: Any) -> None:
        """Have other ranks go on from where rank 0 does; parameters and moments come when the next epoch begins."""
        network, records = fit.network, fit.records
        if self.ranks.size == 1 or not self.ranks.from_first(self.content is not None):
            return
        backend, own = network.backend, dict(records.__dict__)
        best = None if records.best_parameters is None else backend.to_numpy(records.best_parameters)
        counters = counters_of(backend, fit.rule.state)
        own |= {"best_parameters": best, "optimizer": None}
        here = own, counters, network.epochs_trained, fit.rule.learning_rate, fit.history, self.ended
        there = self.ranks.from_first(here)
        if self.ranks.is_first:
            return
        own, counters, network.epochs_trained, fit.rule.learning_rate, fit.history, self.ended = there
        best = own["best_parameters"]
        best = None if best is None else backend.copy(backend.asarray(best, network.dtype))
        records.__dict__.update(own | {"best_parameters": best, "optimizer": fit.rule})
        fit.rule.state.update(counters)
        for _ in range(records.n_iter):
            fit.order_next()

    def _configuration(self, fit: Any) -> dict[str, Any]:
        """Describe what decides the numbers of the fit: its data and the parameters of the estimator."""
        training, held_out, settings = fit.training, fit.held_out, self.mlp._described()
        given = settings["random_state"]
        plan = {name: value for name, value in settings.items() if name not in ELSEWHERE} | {
            "estimator": type(self.mlp).__name__,
            "batch_size": fit.trainer.batch_size,
            "dropout": list(training.dropout),
            "random_state": None if given is None or isinstance(given, np.random.RandomState) else given,
            "classes": _classes(self.mlp),
            "metrics": {} if held_out is None else {"score": settings["scoring"]},
        }
        judged = None
        if held_out is not None:
            weights = held_out.sample_weight
            judged = (held_out.X, held_out.Y, None if weights is None else np.asarray(weights))
        run = describe_run(fit.network, training.X, training.Y, training.sample_weight, judged, plan)
        del run["data"]["initial parameters"]  # those of the file are used
        return run

    def _restore(self, fit: Any, found: Found, there: EstimatorRun) -> None:
        """Set records, history, learning rate and the order of samples to what they were when the file was written."""
        history, records, stopping = found.history, fit.records, fit.records.stopping
        self.ended, epochs = found.ended, found.position.epoch
        self.earlier = {name: getattr(there, name) for name in self.earlier}
        records.n_iter, records.t = epochs, there.t
        if stopping.early_stopping:
            records.best_parameters = found.best
        records.loss_curve = there.earlier_losses + history.cost
        records.loss = records.loss_curve[-1]
        scores, losses = there.earlier_scores, there.earlier_validation_losses
        if fit.held_out is not None:
            scores = (scores or []) + history.metrics["score"]
            losses = (losses or []) + history.validation_cost
        records.validation_scores, records.validation_loss_curve = scores, losses
        for name in ("worse_epochs", "best_loss", "best_watched", "best_score"):
            setattr(stopping, name, getattr(there, name))
        stopping.has_best = found.best is not None
        fit.rule.learning_rate = there.learning_rate
        history.message = ""
        fit.history = history
        for _ in range(epochs):
            fit.order_next()

    def epoch_ended(self, fit: Any, *, ends: bool) -> None:
        """Write the file after an epoch, if it is due or training `ends`; not where the loss is not finite."""
        records, stopping, history = fit.records, fit.records.stopping, fit.history
        is_over = ends or records.n_iter >= fit.epochs
        if self.checkpoint is None or not (is_over or self.checkpoint.due(records.n_iter)):
            return
        if records.loss is None or not np.isfinite(records.loss):
            return
        best = records.best_parameters if stopping.early_stopping else None
        estimator = self.earlier | {
            "random_state": self.random_state,
            "learning_rate": float(fit.rule.learning_rate),
            "t": records.t,
            "worse_epochs": int(stopping.worse_epochs),
            "best_loss": _number(stopping.best_loss),
            "best_watched": float(stopping.best_watched),
            "best_score": _number(stopping.best_score),
            "has_best": best is not None,
        }
        self.checkpoint.save(Position(records.n_iter), history, best, None, ended=ends, estimator=estimator)


def _classes(mlp: Any) -> str | None:
    """Return a digest of the labels of a classifier, whose order the targets keep, but not their names."""
    classes = getattr(mlp, "classes_", None)
    if classes is None:
        return None
    return hashlib.sha256(repr(np.asarray(classes).tolist()).encode()).hexdigest()[:32]


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
