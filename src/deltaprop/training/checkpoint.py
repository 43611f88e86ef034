"""Training as it stands between two steps, in a file; a run that goes on from it has the same numbers, to the bit.

The file is a model file, see `deltaprop.files.model_file`: `Network.load` reads the parameters that `fit` would leave
if it ended there, which are the best under early stopping. Besides them it holds what the next step depends on: the
last parameters where these are others, the state of the optimizer, the place in the epoch, the cost of the epoch so
far, the history. Orders of samples and dropout's random numbers depend on the seed and the epoch alone, so that they
need not be kept.
"""

from __future__ import annotations

import json
import math
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deltaprop.backends.array_types import ArrayLike, Floats
from deltaprop.derivation.remembered import counters_of
from deltaprop.derivation.state import Configuration, NetworkState
from deltaprop.epochs.trainer import Trainer
from deltaprop.errors import callers_level
from deltaprop.files.fingerprints import fingerprint
from deltaprop.files.model_file import Tensors, in_one_line, read_model, write_model
from deltaprop.files.plain_values import plain
from deltaprop.reports.history import History

if TYPE_CHECKING:
    from deltaprop.files.file_schema import NetworkContent, Training


#: The module before the name of a function of this package.
OUR_MODULES = re.compile(r"^deltaprop\.(\w+\.)*(?=\w+$)")


#: What else an error says of an argument that differs.
ADVICE = {"shards": "; data on disk come in another order with `ranks`, however many there are, than without"}


@dataclass
class Position:
    """Where training stands.

    Attributes
    ----------
    epoch : int
        Epochs that are done.
    batch : int
        Minibatches of the next epoch that are done.
    """

    epoch: int = 0
    batch: int = 0


@dataclass
class Found:
    """What a checkpoint held besides the state of network and optimizer; the fields are arguments of `save`."""

    position: Position
    history: History
    best: Any
    epoch_start: Any
    ended: bool


class Checkpoint:
    """Writes training to a file, and finds it there.

    Parameters
    ----------
    path : path
    every : int
        Epochs between checkpoints.
    network, trainer
        Their state is written, and is restored in place.
    configuration : dict
        Everything that two runs have in common if their numbers are the same, JSON types only.
    """

    path: Path
    every: int
    network: NetworkState
    trainer: Trainer

    def __init__(
        self,
        path: str | os.PathLike[str],
        every: int,
        network: NetworkState,
        trainer: Trainer,
        configuration: Configuration,
    ) -> None:
        self.path, self.every, self.network, self.trainer = Path(path), every, network, trainer
        # What cannot be written says so before anything is trained.
        self.description: dict[str, Any] = json.loads(json.dumps(plain(network.configuration)))
        self.configuration: Any = json.loads(json.dumps(configuration))

    def due(self, epoch: int) -> bool:
        """Tell whether to write a checkpoint after so many epochs."""
        return epoch % self.every == 0

    def save(
        self,
        position: Position,
        history: History,
        best: Any,
        epoch_start: Any,
        *,
        ended: bool,
        estimator: Mapping[str, Any] | None = None,
    ) -> None:
        """Write everything, all or nothing; the file there was stays until the new one is whole.

        What cannot be written is no reason to lose what has been trained: it is warned of, and training goes on. Inside
        an epoch in which numbers have stopped being finite, the file there was is the better one, and stays.

        Parameters
        ----------
        position : Position
        history : History
        best : array or None
            The best parameters so far.
        epoch_start : array or None
            The parameters with which the epoch began, where `position` is inside one.
        ended : bool
            Whether training has ended before its last epoch.
        estimator : dict, optional
            The fields of `EstimatorRun`, where this is the fit of an estimator.
        """
        from deltaprop.files.file_schema import CHECKPOINT_VERSION, Recorded

        network, backend, state = self.network, self.network.backend, self.trainer.state
        cost = float(self.trainer.cost) if position.batch else 0.0
        if not (math.isfinite(cost) and backend.all_finite(network.parameters)):
            return
        arrays = {name: value for name, value in state.items() if backend.owns(value)}
        kept = {f"optimizer.{name}": value for name, value in arrays.items()}
        kept |= {"last": None if best is None else network.parameters, "epoch_start": epoch_start}
        tensors: Tensors = (network if best is None else network.over(best)).by_layer()
        tensors |= {name: backend.to_numpy(value) for name, value in kept.items() if value is not None}
        training = {
            "version": CHECKPOINT_VERSION,
            "configuration": self.configuration,
            "position": asdict(position),
            "counters": counters_of(backend, state),
            "cost": cost,
            "history": {name: _number_by_number(getattr(history, name)) for name in Recorded.__struct_fields__},
            "ended": ended,
        }
        if estimator is not None:
            training["estimator"] = estimator
        content = {"network": self.description, "epochs_trained": network.epochs_trained, "training": training}
        try:
            write_model(self.path, content, tensors)
        except OSError as error:
            warnings.warn(
                f"checkpoint: {self.path} is not written ({error})", RuntimeWarning, stacklevel=callers_level()
            )

    def load(self, epochs: int, name: str = "epochs") -> Found | None:
        """Restore network and optimizer; return what else the file held, None without a file.

        Parameters
        ----------
        epochs : int
            How many epochs the run has in all.
        name : str
            The argument that says so.

        Raises
        ------
        ValueError
            If the file is damaged, or of another network, other data or another configuration, or of more epochs;
            nothing is changed then.
        OSError
            If it cannot be read.
        """
        if not self.path.exists():
            return None
        content, training, configuration, tensors = read_checkpoint(self.path)
        network, backend, state = self.network, self.network.backend, self.trainer.state
        self._compare({"network": configuration["network"]} | training.configuration)
        position = Position(training.position.epoch, training.position.batch)
        self._check(training, set(tensors), content.epochs_trained)
        if position.epoch + (position.batch > 0) > epochs:
            done = f"{position.epoch} epochs" + (f" and {position.batch} minibatches" if position.batch else "")
            raise ValueError(
                f"{name}: expected at least the {done} that are done in the checkpoint {self.path}, got {epochs}"
            )
        saved = _flat(tensors, len(network.weights))
        has_best = "last" in tensors
        network.parameters = tensors["last"] if has_best else saved
        for name, value in state.items():
            if backend.owns(value):
                value[...] = backend.asarray(tensors[f"optimizer.{name}"], network.dtype)
        state.update(training.counters)
        self.trainer.cost[...] = training.cost
        network.epochs_trained = content.epochs_trained
        history = History(**{name: getattr(training.history, name) for name in training.history.__struct_fields__})
        found = (saved if has_best else None, tensors.get("epoch_start"))
        best, epoch_start = (None if x is None else backend.copy(backend.asarray(x, network.dtype)) for x in found)
        return Found(position, history, best, epoch_start, training.ended)

    def _check(self, training: Training, names: set[str], trained: int) -> None:
        """Refuse a file that no run of this trainer could have left."""
        position, state, batches = training.position, self.trainer.state, len(self.trainer.sizes)
        arrays = {name for name, value in state.items() if self.network.backend.owns(value)}
        names = {name.removeprefix("optimizer.") for name in names if name.startswith("optimizer.")}
        plan, data = self.configuration["plan"], self.configuration["data"]
        history, steps = training.history, position.epoch * batches + position.batch
        validated = [] if data["validation X"] is None else history.cost
        for wrong, what in (
            (position.batch >= batches, f"minibatch {position.batch} of {batches}"),
            (position.batch > 0 and self.trainer.chunked is not None, "a place inside an epoch over parts"),
            (names != arrays, "the optimizer's arrays"),
            (training.counters.keys() != state.keys() - arrays, "the optimizer's counters"),
            (training.counters.get("step", steps) != steps, "the steps taken"),
            (history.metrics.keys() != plan["metrics"].keys(), "the metrics recorded"),
            (len(history.validation_cost) != len(validated), "the validation costs recorded"),
            (history.best_epoch is not None and plan["early_stopping"] is None, "a best epoch without early stopping"),
            (trained != self.network.epochs_trained + position.epoch, f"{trained} epochs trained"),
        ):
            if wrong:
                raise ValueError(f"checkpoint: {self.path} does not describe this training ({what})")

    def _compare(self, there: Mapping[str, Any]) -> None:
        """Refuse a file of another network, other data or another configuration."""
        here = {"network": self.description, "plan": self.configuration["plan"]} | self.configuration
        for name, ours in here.items():  # arguments before data, which they may change, as early_stopping does
            theirs = _without_modules(there.get(name), ours)
            if ours == theirs:
                continue
            if isinstance(ours, dict) and isinstance(theirs, dict):
                differ = [key for key in ours | theirs if ours.get(key) != theirs.get(key)]
                if differ:
                    name, ours, theirs = differ[0], ours.get(differ[0]), theirs.get(differ[0])
            raise ValueError(
                f"checkpoint: {self.path} is of another run: {name} {in_one_line(repr(theirs))} there, "
                f"{in_one_line(repr(ours))} here{ADVICE.get(name, '')}"
            )


def read_checkpoint(path: Path) -> tuple[NetworkContent, Training, Configuration, Tensors]:
    """Read and check a checkpoint; return what is declared of it, its training, its configuration and its tensors.

    Raises
    ------
    ValueError
        If the file is damaged, or holds no training.
    OSError
        If it cannot be read.
    """
    from deltaprop.files.file_schema import network_content

    configuration, tensors = read_model(path)
    content = network_content(path, configuration, tensors)
    if content.training is None:
        raise ValueError(f"checkpoint: {path} holds a network, but no training to go on with")
    return content, content.training, configuration, tensors


def _without_modules(theirs: object, ours: object) -> object:
    """Name functions of this package by their last name, as earlier versions wrote the module before it.

    `theirs` comes from a file, which may nest as deep as it likes; it is followed only as far as `ours` goes.
    """
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return {key: _without_modules(own, ours.get(key)) for key, own in theirs.items()}
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        return [_without_modules(*pair) for pair in zip(theirs, ours, strict=True)]
    return OUR_MODULES.sub("", theirs) if isinstance(theirs, str) else theirs


def describe_run(
    network: NetworkState, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike, held_out: Any, plan: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe a run by what decides its numbers, JSON types only: data, first parameters, and `plan`."""
    arrays = {"X": X, "Y": Y, "sample_weight": sample_weight, "initial parameters": network.parameters}
    *validation, weights = held_out or (None, None, None)
    arrays |= dict(zip(("validation X", "validation Y"), validation, strict=True))
    if weights is not None:
        arrays["validation weights"] = weights
    known: dict[int, str] = {}  # a source is X and Y in one
    for array in arrays.values():
        if array is not None and id(array) not in known:
            known[id(array)] = fingerprint(array, network.backend)
    data = {name: known.get(id(array)) for name, array in arrays.items()}
    return {"data": data, "plan": {name: plain(value) for name, value in plan.items()}}


def _number_by_number(recorded: Any) -> Any:
    """Convert what a history records to Python's numbers, for NumPy's are no JSON; nan stays nan."""
    if isinstance(recorded, dict):
        return {str(name): _number_by_number(values) for name, values in recorded.items()}
    return [float(value) for value in recorded] if isinstance(recorded, list) else recorded


def _flat(tensors: Tensors, layers: int) -> Floats:
    """Join the tensors of the layers to the flat vector."""
    return np.concatenate([tensors[f"{kind}.{l}"].ravel() for kind in ("weights", "biases") for l in range(layers)])
