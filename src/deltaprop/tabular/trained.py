"""One network for columns of numbers, with their scaling and the names of its classes: what `deltaprop train` keeps."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from deltaprop.backends import Backend
from deltaprop.backends.array_types import HostArray
from deltaprop.backends.choices import BackendName
from deltaprop.files.file_schema import NetworkContent, network_content
from deltaprop.files.model_file import Tensors, read_model, write_model
from deltaprop.inputs.arrays import HostData, as_inputs, is_above_limit
from deltaprop.inputs.cells import written
from deltaprop.inputs.files import TABLES, Dataset, ending_of, load_dataset
from deltaprop.inputs.raw_rows import RawRows
from deltaprop.network import Network
from deltaprop.training.evaluation import largest
from deltaprop.training.metrics import mean_squared_error, r2

Matrix = HostArray
#: A class as the file names it.
Label: TypeAlias = str | int | float


@dataclass(frozen=True)
class Trained:
    """A network and how its data are prepared: raw columns of numbers in, labels or quantities out.

    The command line keeps this of a single network; `deltaprop.load` returns it for such a file.

    Parameters
    ----------
    network : Network
        The network, which knows nothing of the preparation: its inputs are scaled already.
    input_offset : array, (s_1,)
        Inputs are (x − offset)/scale.
    input_scale : array, (s_1,)
        See `input_offset`.
    target_offset : float
        In regression, targets are (y − offset)/scale; 0 in classification.
    target_scale : float
        See `target_offset`; 1 in classification.
    classes : list of str, int or float, or None
        Labels in the order of the outputs; None in regression.
    feature_names : list of str
        The names of the features.
    target_name : str
        The name of the target.

    See Also
    --------
    deltaprop.load : Returns it for a file of the command line.

    Examples
    --------
    >>> import contextlib, io
    >>> import deltaprop as dp
    >>> from deltaprop.cli import run
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> with contextlib.redirect_stdout(io.StringIO()):  # what `deltaprop train …` prints
    ...     status = run(["train", "digits", "--epochs", "5", "--out", "digits.safetensors", "--no-progress"])
    >>> model = dp.load("digits.safetensors")
    >>> model.network.layer_sizes[0], model.predict(X[:3]).tolist()
    (64, [0, 1, 2])
    """

    network: Network
    input_offset: Matrix
    input_scale: Matrix
    target_offset: float
    target_scale: float
    classes: list[Label] | None
    feature_names: list[str]
    target_name: str

    # -- predictions --------------------------------------------------------------------------------------------

    def predict(self, X: Any) -> HostArray:
        """Predict labels or quantities.

        Parameters
        ----------
        X : DataFrame, dict of columns, list of dicts, or array_like, (m, s_1)
            Raw columns, which are not scaled yet. A table's columns are found by their names, and others are left out;
            of an array they are in the order of `feature_names`.

        Returns
        -------
        array, (m,)
            Labels, or quantities in the unit of the target.

        Raises
        ------
        ValueError, TypeError
            If a column is missing, or a cell is no number.
        """
        if self.classes is None:
            return self._values(self._features(X))
        labels = set(map(type, self.classes))
        classes = np.array(self.classes, None if len(labels) == 1 else object)
        return classes[self._numbers(self._features(X))]

    def predict_proba(self, X: Any) -> HostArray:
        """Compute the network's outputs, one a class: probabilities, if the output layer is a softmax.

        Parameters
        ----------
        X : DataFrame, dict of columns, list of dicts, or array_like, (m, s_1)
            Raw columns, as of `predict`.

        Returns
        -------
        array, (m, n_classes)
            In the order of `classes`.

        Raises
        ------
        ValueError, TypeError
            As of `predict`, and for a network of a quantity.
        """
        if self.classes is None:
            raise ValueError("predict_proba: expected a network of classes, but this one predicts a quantity")
        return self.outputs(X)

    def outputs(self, X: Any) -> HostArray:
        """Compute a^(L) for raw features.

        Parameters
        ----------
        X : DataFrame, dict of columns, list of dicts, or array_like, (m, s_1)
            Raw columns, as of `predict`.

        Returns
        -------
        array, (m, s_L)
            On the host.
        """
        outputs: HostArray = self.network.predict(self.inputs(self._features(X)))
        return outputs

    def score(self, X: Any, y: Matrix, rows: Matrix | None = None) -> str:
        """Say in words how good the predictions are: accuracy, or R² and the root mean squared error.

        Parameters
        ----------
        X : DataFrame, dict of columns, list of dicts, or array_like, (m, s_1)
            Raw columns, as of `predict`.
        y : array, (m,)
            Labels, or quantities.
        rows : array, optional
            The numbers of the rows that count; by default all do.

        Returns
        -------
        str
            Such as ``accuracy 97.50 % (39 of 40)``.

        Raises
        ------
        ValueError
            If a label is none of `classes`, or a quantity is text.
        """
        X, y = self._features(X), np.asarray(y)
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

    def _features(self, X: Any) -> Matrix:
        """Return raw features, (m, s_1), of a table or an array."""
        if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "biuf":
            return self._of_right_width(X)
        from deltaprop.tabular.estimator import has_names  # not at start-up: the command line passes arrays
        from deltaprop.tabular.frames import as_table

        table = as_table(X)
        columns = list(table.columns.values())
        if has_names(X):
            columns = list(table.only(self.feature_names).columns.values())
        for column in columns:
            unread = np.isnan(column.numbers())
            if unread.any():
                raise ValueError(f"X: expected numbers in column {column.name!r}, got none in row {unread.argmax()}")
        return self._of_right_width(np.stack([column.numbers() for column in columns], axis=1))

    def _of_right_width(self, X: Matrix) -> Matrix:
        if X.shape[1] != len(self.feature_names):
            raise ValueError(f"X: expected {len(self.feature_names)} columns, got {X.shape[1]}")
        return X

    def _values(self, X: Matrix, rows: Matrix | None = None) -> Matrix:
        """Predict quantities, (m,)."""
        outputs = self.network.predict(self.inputs(X, rows))
        with np.errstate(over="ignore"):
            values: Matrix = outputs[:, 0].astype(np.float64) * self.target_scale + self.target_offset
        return values

    def _numbers(self, X: Matrix, rows: Matrix | None = None) -> Matrix:
        """Predict the numbers of classes, (m,); inputs and outputs are held for a few rows at a time."""
        return largest(self.network, HostData(RawRows(X, rows), convert=self._checked_inputs))

    # -- inputs and targets of the network ----------------------------------------------------------------------

    def inputs(self, X: Matrix, rows: Matrix | None = None) -> Any:
        """Make the network's inputs from raw features.

        Many rows are scaled chunk by chunk as they are used. A device needs all of them at once.

        Parameters
        ----------
        X : array, (m, s_1)
            Raw features.
        rows : array, (n,), optional
            The numbers of the rows to take; by default all.

        Returns
        -------
        array or HostData, (n, s_1)
            In the network's dtype.
        """
        raw = RawRows(X, rows)
        if self.network.backend.on_host and is_above_limit(len(raw), raw.shape[1], self.network.dtype):
            return HostData(raw, convert=lambda part: self._scaled(RawRows(part)))
        return self._scaled(raw)

    def targets(self, y: Matrix) -> Matrix:
        """Make the network's targets from raw ones.

        Parameters
        ----------
        y : array, (m,)
            Labels, or quantities.

        Returns
        -------
        array
            (m,) class numbers, or (m, 1) scaled values.

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

    def _scaled(self, raw: RawRows) -> Matrix:
        return raw.scaled(self.input_offset, self.input_scale, self.network.dtype)

    def _checked_inputs(self, X: Matrix) -> Any:
        """Scale some rows of raw features and check the result, which may be too large for the network's dtype."""
        network = self.network
        scaled = self._scaled(RawRows(X))
        return as_inputs(scaled, "X", columns=network.layer_sizes[0], backend=network.backend, dtype=network.dtype)

    # -- files --------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one safetensors file, all or nothing.

        Parameters
        ----------
        path : path
            A file that is there is replaced. `deltaprop.load` reads it.

        Raises
        ------
        OSError
            If it cannot be written; a file that was there stays whole.
        """
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
    def load(cls, path: str | os.PathLike[str], backend: BackendName | Backend = "auto") -> Trained:
        """Read a file that `save` wrote.

        Parameters
        ----------
        path : path
            The file.
        backend : str or Backend, default "auto"
            As of `Network`.

        Returns
        -------
        Trained
            With the network and the preparation of its data.

        Raises
        ------
        OSError
            If it cannot be read.
        ValueError
            If the file is damaged, or holds a network without the preparation of its data.
        BackendError
            If the backend cannot be had here.
        """
        configuration, tensors = read_model(path)
        return cls.from_file_content(path, network_content(path, configuration, tensors), tensors, backend)

    @classmethod
    def from_file_content(
        cls, path: str | os.PathLike[str], content: NetworkContent, tensors: Tensors, backend: BackendName | Backend
    ) -> Trained:
        """Make what the content of a file describes.

        Parameters
        ----------
        path : path
            The file, for messages.
        content : NetworkContent
            Its configuration, which `network_content` has checked.
        tensors : dict of str to array
            Its tensors, likewise.
        backend : str or Backend
            As of `Network`.

        Returns
        -------
        Trained
            With the network and the preparation of its data.

        Raises
        ------
        ValueError
            If there is no such network, or no preparation of its data; the message begins with `path`.
        """
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
        """Read data from a file, with the features on which this network was trained.

        Parameters
        ----------
        source : str
            A file or a folder, as `deltaprop train` reads it.
        with_targets : bool
            Whether the targets are wanted.

        Returns
        -------
        Dataset
            Raw features, and targets.

        Raises
        ------
        ValueError, OSError
            If it cannot be read, or has other features.
        """
        if source == "-" or ending_of(source) in TABLES:
            dataset = load_dataset(source, self.target_name if with_targets else None, features=self.feature_names)
        else:
            dataset = load_dataset(source, features=None if with_targets else self.feature_names)
        if dataset.X.shape[1] != len(self.feature_names):
            raise ValueError(f"{source}: expected {len(self.feature_names)} features, got {dataset.X.shape[1]}")
        return replace(dataset, y=self._as_labels(dataset), labels=None)

    def _as_labels(self, dataset: Dataset) -> Matrix | None:
        """Return the targets as text where the classes are text."""
        y = dataset.y
        if y is None or self.classes is None or y.dtype.kind not in "iubf":
            return y
        if not all(isinstance(label, str) for label in self.classes):
            return y
        if dataset.labels is not None:
            return dataset.labels
        values, places = np.unique(y, return_inverse=True)
        return np.array([written(value) for value in values.tolist()], object)[places]


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
