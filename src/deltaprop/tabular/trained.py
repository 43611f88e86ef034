"""One network for columns of numbers, with their scaling and the names of its classes: what `deltaprop train` keeps."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from deltaprop.backends import Backend
from deltaprop.backends.array_types import HostArray
from deltaprop.files.file_schema import network_content
from deltaprop.files.model_file import read_model, write_model
from deltaprop.inputs.arrays import HostData, as_inputs, is_above_limit
from deltaprop.inputs.files import TABLES, Dataset, load_dataset
from deltaprop.inputs.raw_rows import RawRows
from deltaprop.network import Network
from deltaprop.training.evaluation import largest
from deltaprop.training.metrics import mean_squared_error, r2

Matrix = HostArray
#: A class as the file names it.
Label: TypeAlias = str | int | float


@dataclass(frozen=True)
class Trained:
    """A network and how its data are prepared.

    Parameters
    ----------
    network : Network
        The network.
    input_offset, input_scale : array, (s_1,)
        Inputs are (x − offset)/scale.
    target_offset, target_scale : float
        In regression, targets are (y − offset)/scale; 0 and 1 in classification.
    classes : list of str or int, or None
        Labels in the order of the outputs; None in regression.
    feature_names : list of str
        The names of the features.
    target_name : str
        The name of the target.
    """

    network: Network
    input_offset: Matrix
    input_scale: Matrix
    target_offset: float
    target_scale: float
    classes: list[Label] | None
    feature_names: list[str]
    target_name: str

    def inputs(self, X: Matrix, rows: Matrix | None = None) -> Any:
        """Make the network's inputs, (m, s_1), from raw features: from all rows or from some.

        Many rows are scaled chunk by chunk as they are used. A device needs all of them at once.
        """
        raw = RawRows(X, rows)
        if self.network.backend.on_host and is_above_limit(*raw.shape, self.network.dtype):
            return HostData(raw, convert=lambda part: self._scaled(RawRows(part)))
        return self._scaled(raw)

    def _scaled(self, raw: RawRows) -> Matrix:
        return raw.scaled(self.input_offset, self.input_scale, self.network.dtype)

    def targets(self, y: Matrix) -> Matrix:
        """Make the network's targets from raw ones: (m,) class numbers, or (m, 1) scaled values.

        Raises
        ------
        ValueError
            If a label is not one of `classes`.
        """
        if self.classes is None:
            if y.dtype.kind not in "iubf":
                raise ValueError(f"target {self.target_name!r}: expected numbers, got text such as {str(y[0])!r}")
            with np.errstate(over="ignore"):
                return ((y.astype(np.float64) - self.target_offset) / self.target_scale)[:, None]
        numbers = class_numbers(y, self.classes)
        if numbers.min() < 0:
            row = int(numbers.argmin())
            label = plain_label(y[row])
            raise ValueError(f"target {self.target_name!r}: row {row + 1}: {label!r} is no class of the training data")
        return numbers

    def predict(self, X: Matrix) -> Sequence[Label]:
        """Predict labels or values, one a row of raw features."""
        if self.classes is None:
            values: list[float] = self._values(X).tolist()
            return values
        return [self.classes[i] for i in self._numbers(X)]

    def outputs(self, X: Matrix) -> Matrix:
        """Compute a^(L), (m, s_L), for raw features."""
        outputs: Matrix = self.network.predict(self.inputs(X))
        return outputs

    def score(self, X: Matrix, y: Matrix, rows: Matrix | None = None) -> str:
        """Say how good the predictions for raw features, or for some rows of them, are: accuracy or R², in words."""
        y = y if rows is None else y[rows]
        targets = self.targets(y)
        if self.classes is not None:
            right = int((self._numbers(X, rows) == targets).sum())
            return f"accuracy {100 * right / len(y):.2f} % ({right} of {len(y)})"
        values, truth = self._values(X, rows)[:, None], y.astype(np.float64)[:, None]
        with np.errstate(over="ignore", invalid="ignore"):
            root, share = math.sqrt(mean_squared_error(values, truth)), r2(values, truth)
        explained = "not defined" if math.isnan(share) else f"{share:.4f}"
        return f"R² {explained}, root mean squared error {root:.6g} ({len(y)} samples)"

    def _values(self, X: Matrix, rows: Matrix | None = None) -> Matrix:
        """Predict quantities, (m,)."""
        outputs = self.network.predict(self.inputs(X, rows))
        with np.errstate(over="ignore"):
            values: Matrix = outputs[:, 0].astype(np.float64) * self.target_scale + self.target_offset
        return values

    def _numbers(self, X: Matrix, rows: Matrix | None = None) -> Matrix:
        """Predict the numbers of classes, (m,); inputs and outputs are held for a few rows at a time."""
        return largest(self.network, HostData(RawRows(X, rows), convert=self._checked_inputs))

    def _checked_inputs(self, X: Matrix) -> Any:
        """Scale some rows of raw features and check the result, which may be too large for the network's dtype."""
        network = self.network
        scaled = self._scaled(RawRows(X))
        return as_inputs(scaled, "X", columns=network.layer_sizes[0], backend=network.backend, dtype=network.dtype)

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
        """Read a file that `save` wrote.

        Raises
        ------
        ValueError
            If the file is damaged, or holds a network without the preparation of its data.
        """
        configuration, tensors = read_model(path)
        content = network_content(path, configuration, tensors)
        network, data = Network.from_file_content(path, content, tensors, backend), content.data
        if data is None:
            raise ValueError(
                f"{path}: expected a model of 'deltaprop train', got a network without the preparation of its data"
            )
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
        """Read data from `source`, with the features on which this network was trained.

        Raises
        ------
        ValueError, OSError
            If it cannot be read, or has other features.
        """
        if source.lower().endswith(TABLES):
            dataset = load_dataset(source, self.target_name if with_targets else None, features=self.feature_names)
        else:
            dataset = load_dataset(source, features=None if with_targets else self.feature_names)
        if dataset.X.shape[1] != len(self.feature_names):
            raise ValueError(f"{source}: expected {len(self.feature_names)} features, got {dataset.X.shape[1]}")
        return dataset


def class_numbers(y: Matrix, classes: list[Label]) -> Matrix:
    """Find the number of each label in `classes`, (m,) of int64; −1 for a label that is not there."""
    number = {label: i for i, label in enumerate(classes)}
    values, place = np.unique(y, return_inverse=True)
    return np.array([number.get(plain_label(value), -1) for value in values], np.int64)[place]


def plain_label(label: Any) -> Label:
    """Return a label as JSON knows it: text, or a whole number if it is one, else a number."""
    if isinstance(label, (str, np.str_)):
        return str(label)
    return int(label) if float(label).is_integer() else float(label)
