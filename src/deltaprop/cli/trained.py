"""What the command line keeps of a training: the network, and how raw columns become its inputs and outputs."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from deltaprop.backends import Backend
from deltaprop.datasets import TABLES, Dataset, load_dataset
from deltaprop.file_schema import network_content
from deltaprop.metrics import mean_squared_error, r2
from deltaprop.model import Network
from deltaprop.model_file import read_model, write_model

Matrix = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Trained:
    """A network with the preparation of its data.

    Attributes
    ----------
    network : Network
    input_offset, input_scale : array, (s_1,)
        Inputs are (x − offset)/scale.
    target_offset, target_scale : float
        In regression, targets are (y − offset)/scale; 0 and 1 in classification.
    classes : list of str or int, or None
        Labels in the order of the outputs; None in regression.
    feature_names : list of str
    target_name : str
    """

    network: Network
    input_offset: Matrix
    input_scale: Matrix
    target_offset: float
    target_scale: float
    classes: list[Any] | None
    feature_names: list[str]
    target_name: str

    def inputs(self, X: Matrix) -> Matrix:
        """Raw features as the network's inputs, (m, s_1); what is too large becomes infinite, which it refuses."""
        with np.errstate(over="ignore", invalid="ignore"):
            return ((X - self.input_offset) / self.input_scale).astype(self.network.dtype)

    def targets(self, y: Matrix) -> Matrix:
        """Raw targets as the network's: (m,) class numbers, or (m, 1) scaled values.

        Raises
        ------
        ValueError
            If a label is none of `classes`.
        """
        if self.classes is None:
            if y.dtype.kind not in "iubf":
                raise ValueError(f"target {self.target_name!r}: expected numbers, got text such as {str(y[0])!r}")
            with np.errstate(over="ignore"):
                return ((y.astype(np.float64) - self.target_offset) / self.target_scale)[:, None]
        number = {label: i for i, label in enumerate(self.classes)}
        labels = [plain_label(label) for label in y]
        for row, label in enumerate(labels):
            if label not in number:
                raise ValueError(
                    f"target {self.target_name!r}: row {row + 1}: {label!r} is no class of the training data"
                )
        return np.array([number[label] for label in labels], np.int64)

    def predict(self, X: Matrix) -> tuple[list[Any], Matrix | None]:
        """Predicted labels or values, one a row of raw features, and in classification the outputs, (m, s_L)."""
        outputs = self.network.predict(self.inputs(X))
        if self.classes is None:
            with np.errstate(over="ignore"):
                values = outputs[:, 0].astype(np.float64) * self.target_scale + self.target_offset
            return values.tolist(), None
        return [self.classes[i] for i in outputs.argmax(axis=1)], outputs

    def score(self, X: Matrix, y: Matrix) -> str:
        """How good the predictions for raw features are, in words: accuracy, or R² and root mean squared error."""
        predicted, outputs = self.predict(X)
        targets = self.targets(y)
        if outputs is not None:
            right = int((outputs.argmax(axis=1) == targets).sum())
            return f"accuracy {100 * right / len(y):.2f} % ({right} of {len(y)})"
        values, truth = np.asarray(predicted)[:, None], y.astype(np.float64)[:, None]
        with np.errstate(over="ignore", invalid="ignore"):
            root, share = math.sqrt(mean_squared_error(values, truth)), r2(values, truth)
        explained = "not defined" if math.isnan(share) else f"{share:.4f}"
        return f"R² {explained}, root mean squared error {root:.6g} ({len(y)} samples)"

    # -- files --------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one safetensors file, which `Network.load` reads as well."""
        configuration = self.network.file_configuration()
        configuration["data"] = {
            "target_offset": self.target_offset,
            "target_scale": self.target_scale,
            "classes": self.classes,
            "feature_names": self.feature_names,
            "target_name": self.target_name,
        }
        tensors = self.network.file_tensors()
        tensors |= {"input.offset": self.input_offset, "input.scale": self.input_scale}
        write_model(path, configuration, tensors)

    @classmethod
    def load(cls, path: str, backend: str | Backend) -> Trained:
        """What `save` wrote.

        Raises
        ------
        ValueError
            If the file is damaged, or holds a network without the preparation of its data.
        """
        configuration, tensors = read_model(path)
        content = network_content(path, configuration, tensors)
        network, data = Network.from_file_content(path, content, tensors, backend), content.data
        if data is None:
            raise ValueError(f"{path}: holds a network only, not how to prepare its data: was it not made by 'train'?")
        return cls(
            network,
            tensors["input.offset"],
            tensors["input.scale"],
            data.target_offset,
            data.target_scale,
            data.classes,
            data.feature_names,
            data.target_name,
        )

    def read(self, source: str, *, with_targets: bool) -> Dataset:
        """Data of `source` with the features this network was trained on.

        Raises
        ------
        ValueError, OSError
            If it cannot be read, or its features are others.
        """
        if source.lower().endswith(TABLES):
            dataset = load_dataset(source, self.target_name if with_targets else None, features=self.feature_names)
        else:
            dataset = load_dataset(source, features=None if with_targets else self.feature_names)
        if dataset.X.shape[1] != len(self.feature_names):
            raise ValueError(f"{source}: expected {len(self.feature_names)} features, got {dataset.X.shape[1]}")
        return dataset


def plain_label(label: Any) -> Any:
    """A label as JSON knows it: text, or a whole number where it is one, else a number."""
    if isinstance(label, (str, np.str_)):
        return str(label)
    return int(label) if float(label).is_integer() else float(label)
