"""Training as it stands between two steps, in a file from which it goes on to the bit.

The file is a model file, see `deltaprop.model_file`: `Network.load` reads the parameters of the last checkpoint.
Besides them it holds what the next step depends on: the state of the optimizer, the place in the epoch, the cost of the
epoch so far, the history, the best parameters under early stopping. Orders of samples and dropout's random numbers
depend on the seed and the epoch alone, so that they need not be kept.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deltaprop.history import History
from deltaprop.losses import CustomLoss
from deltaprop.model_file import Tensors, read_model, write_model
from deltaprop.network import NetworkState
from deltaprop.sources import CheckedSource
from deltaprop.trainer import Trainer

#: Rows of the data that its fingerprint is taken of, evenly apart.
SAMPLED_ROWS = 1000


@dataclass
class Position:
    """Where training stands.

    Attributes
    ----------
    epoch : int
        Epochs done.
    batch : int
        Minibatches of the next one done.
    """

    epoch: int = 0
    batch: int = 0


class Checkpoint:
    """Writes training to a file, and finds it there.

    Parameters
    ----------
    path : path
    every : int
        After how many epochs.
    network, trainer
        Whose state it is; restored in place.
    configuration : dict
        What has to be the same for a run to be the same, JSON types only.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        every: int,
        network: NetworkState,
        trainer: Trainer,
        configuration: Mapping[str, Any],
    ) -> None:
        self.path, self.every, self.network, self.trainer = Path(path), every, network, trainer
        self.configuration = dict(configuration)

    def due(self, epoch: int) -> bool:
        """Whether one is to be written after so many epochs."""
        return epoch % self.every == 0

    def save(self, position: Position, history: History, best: Any, epoch_start: Any, *, ended: bool) -> None:
        """Write everything, all or nothing; the file there was stays until the new one is whole.

        What cannot be written is no reason to lose what has been trained: it is warned of, and training goes on.

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
        """
        backend, state = self.network.backend, self.trainer.state
        tensors: Tensors = self.network.by_layer()
        arrays = {name: value for name, value in state.items() if backend.owns(value)}
        tensors |= {f"optimizer.{name}": backend.to_numpy(value) for name, value in arrays.items()}
        for name, value in (("best", best), ("epoch_start", epoch_start)):
            if value is not None:
                tensors[name] = backend.to_numpy(value)
        training = {
            "configuration": self.configuration,
            "position": asdict(position),
            "counters": {name: value for name, value in state.items() if name not in arrays},
            "cost": float(self.trainer.cost) if position.batch else 0.0,
            "history": asdict(history),
            "ended": ended,
        }
        network = {"network": plain(self.network.configuration), "epochs_trained": self.network.epochs_trained}
        try:
            write_model(self.path, network | {"training": training}, tensors)
        except OSError as error:
            warnings.warn(f"checkpoint: {self.path} is not written ({error})", RuntimeWarning, stacklevel=5)

    def load(self) -> tuple[Position, History, Any, Any, bool] | None:
        """What `save` wrote, as it was handed it; None where there is no file. Network and optimizer are restored.

        Raises
        ------
        ValueError
            If the file is damaged, or of another network, other data or another configuration; nothing is changed then.
        OSError
            If it cannot be read.
        """
        if not self.path.exists():
            return None
        content, tensors = read_model(self.path)
        if "training" not in content:
            raise ValueError(f"checkpoint: {self.path} holds a network, but no training to go on with")
        try:
            training = content["training"]
            self._compare({"network": content["network"]} | training["configuration"])
            network, backend = self.network, self.network.backend
            parameters = _vector(network, tensors)
            restored = {}
            for name, value in self.trainer.state.items():
                if backend.owns(value):
                    restored[name] = _like(tensors[f"optimizer.{name}"], value, name)
            counters = {name: int(value) for name, value in training["counters"].items()}
            history = History(**training["history"])
            position = Position(**{name: int(value) for name, value in training["position"].items()})
            kept = [
                _like(tensors[name], network.parameters, name) if name in tensors else None
                for name in ("best", "epoch_start")
            ]
            cost, ended, trained = float(training["cost"]), bool(training["ended"]), int(content["epochs_trained"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"checkpoint: {self.path} does not describe a training ({type(error).__name__}: {error})"
            ) from error
        network.parameters = parameters
        for name, array in restored.items():
            self.trainer.state[name][...] = backend.asarray(array, network.dtype)
        self.trainer.state.update(counters)
        self.trainer.cost[...] = cost
        network.epochs_trained = trained
        best, epoch_start = (None if x is None else backend.asarray(x, network.dtype).copy() for x in kept)
        return position, history, best, epoch_start, ended

    def _compare(self, there: Mapping[str, Any]) -> None:
        """Refuse a file of another network, other data or another configuration."""
        here = {"network": plain(self.network.configuration)} | self.configuration
        for name in here:
            if there.get(name) != here[name]:
                ours, theirs = here[name], there.get(name)
                if isinstance(ours, dict) and isinstance(theirs, dict):
                    name = next(key for key in ours if theirs.get(key) != ours[key])
                    ours, theirs = ours[name], theirs.get(name)
                raise ValueError(f"checkpoint: {self.path} is of another run: {name} {theirs!r} there, {ours!r} here")


def describe_run(
    network: NetworkState, X: Any, Y: Any, sample_weight: Any, held_out: Any, plan: Mapping[str, Any]
) -> dict[str, Any]:
    """What has to be the same for a run to be the same, JSON types only: data, first parameters, and `plan`."""
    backend = network.backend
    arrays = {"X": X, "Y": Y, "sample_weight": sample_weight, "initial parameters": network.parameters}
    arrays |= dict(zip(("validation X", "validation Y"), held_out or (None, None), strict=True))
    data = {name: None if x is None else _fingerprint(x, backend) for name, x in arrays.items()}
    return {"data": data, "plan": {name: plain(value) for name, value in plan.items()}}


def plain(value: Any) -> Any:
    """`value` in JSON types, alike in every process: dataclasses by their fields, functions by their names."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__} | {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, CustomLoss):
        return [plain(function) for function in value]
    if isinstance(value, Mapping):
        return {str(name): plain(own) for name, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(own) for own in value]
    if isinstance(value, Callable):  # type: ignore[arg-type]
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    return value


def _fingerprint(array: Any, backend: Any) -> str:
    """Shape and a digest of as many rows as can be read in no time."""
    if isinstance(array, CheckedSource):
        return array.source.describe()
    array = getattr(array, "array", array)
    step = max(1, array.shape[0] // SAMPLED_ROWS)
    rows = array[::step]
    sampled = np.ascontiguousarray(backend.to_numpy(rows) if backend.owns(array) else rows)
    digest = hashlib.sha256(sampled.tobytes()).hexdigest()[:16]
    return f"{tuple(array.shape)} {digest}"


def _vector(network: NetworkState, tensors: Tensors) -> np.ndarray[Any, Any]:
    """The flat vector that these tensors are of."""
    parts = []
    for kind, arrays in (("weights", network.weights), ("biases", network.biases)):
        parts += [_like(tensors[f"{kind}.{l}"], array, f"{kind}.{l}").ravel() for l, array in enumerate(arrays)]
    return np.concatenate(parts)


def _like(array: np.ndarray[Any, Any], other: Any, name: str) -> np.ndarray[Any, Any]:
    if array.shape != other.shape or array.dtype != other.dtype:
        raise TypeError(f"{name} is {array.dtype} of shape {array.shape}, not {other.dtype} of shape {other.shape}")
    return array
