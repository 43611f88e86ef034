"""How the tabular estimators are saved to a file, and made from one."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from deltaprop.backends import Backend
from deltaprop.backends.array_types import Floats
from deltaprop.backends.choices import BackendName
from deltaprop.files.model_file import Tensors, in_one_line, write_model
from deltaprop.ranks.copies import RanksInCopies
from deltaprop.stack import NetworkStack
from deltaprop.tabular.column_roles import ColumnRole, ColumnRoles
from deltaprop.tabular.table_encoding import TableEncoding

if TYPE_CHECKING:  # files are read and written by few
    from deltaprop.files.onnx_file import Graph
    from deltaprop.tabular.saved_schema import Classes, Quantity, Tabular, TabularContent

#: Parameters that are kept in another way than as they are: where to compute is chosen when a file is loaded.
OTHERWISE = ("backend", "class_weight", "ranks")
#: The sum of the members' weights is 1 but for rounding.
ROUNDING = 1e-9


class SavedTabular(RanksInCopies, BaseEstimator):
    """What a tabular estimator can do with files."""

    stack_: NetworkStack
    member_weights_: Floats
    encoding_: TableEncoding
    n_features_in_: int
    oof_score_: float
    target_name_: str
    _importances: Floats | None
    _roles: ColumnRoles
    _names: list[str]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to one safetensors file, all or nothing.

        The file holds the members' networks, and how a table becomes their inputs, as numbers and JSON; no code is in
        it. What `deltaprop.load` makes of it predicts the same, to the bit on the same backend.

        Parameters
        ----------
        path : path
            A file that is there is replaced.

        Raises
        ------
        NotFittedError
            Before `fit`.
        OSError
            If it cannot be written; a file that was there stays whole.
        ValueError
            If a label, or a text in the table, is nothing that a file can hold.

        See Also
        --------
        deltaprop.load : Reads it.
        to_onnx : For other programs.

        Notes
        -----
        No row of training is in the file, nor are ``oof_predictions_``, which belong to them. ``feature_importances_``
        are kept, and computed for that if nobody has asked for them before, which may take seconds, or about a
        twentieth of the `time_limit` if there was one. Of the parameters those are kept that JSON can hold: a
        ``random_state`` that is a generator comes back as None.

        Examples
        --------
        >>> import deltaprop as dp
        >>> table = {"side": ["north", "south", None] * 20, "rooms": [1, 2, 3, 4] * 15}
        >>> model = dp.TabularClassifier(n_members=2, random_state=0).fit(table, ["cold", "warm", "warm"] * 20)
        >>> model.save("sides.safetensors")
        >>> bool((dp.load("sides.safetensors").predict(table) == model.predict(table)).all())
        True
        """
        check_is_fitted(self, "stack_")
        from deltaprop.tabular.saved_encoding import encoding_to_file, refuse_half_characters
        from deltaprop.tabular.saved_schema import TABULAR_VERSION

        encodings, tensors = encoding_to_file(self.encoding_)
        target, own = self._target_to_file()
        tabular = {
            "version": TABULAR_VERSION,
            "parameters": _plain_parameters(self.get_params(deep=False)),
            "class_weight": _pairs(getattr(self, "class_weight", None)),
            "columns": [{"name": r.name, "role": r.role, "reason": r.reason} for r in self._roles],
            "has_names": hasattr(self, "feature_names_in_"),
            "target_name": self.target_name_,
            "encodings": encodings,
            "target": target,
            "oof_score": float(self.oof_score_),
        }
        refuse_half_characters(json.dumps(tabular, ensure_ascii=False))
        configuration = {**self.stack_.file_configuration(), "tabular": tabular}
        tensors |= {"importances": self.feature_importances_, "member_weights": self.member_weights_, **own}
        write_model(path, configuration, self.stack_.file_tensors() | tensors)

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator as an ONNX model that predicts from raw columns.

        Parameters
        ----------
        path : path
            A file that is there is replaced.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ImportError
            If onnx is not installed; the message names the extra that brings it.
        OSError
            If it cannot be written; a file that was there stays whole.

        Notes
        -----
        There is one input for each column of the table that was not left out, of its name and of shape (m, 1):

        - numbers in float64, with NaN for a gap;
        - categories as text without spaces around it, with "" for a gap. Numbers are written without zeros that say
          nothing ("1", not "01" or "1.0"), truth values are "True" and "False", and dates are in ISO 8601;
        - dates in int64, as whole seconds since 1970 in UTC, with the least number of int64 for a gap:
          ``frame[["day"]].to_numpy("datetime64[s]").astype("int64")``.

        The outputs are ``label``, (m,), and ``probabilities``, (m, n_classes), or ``value``, (m,); where a column has
        such a name, the output's name has an underscore at its end. As here, what becomes of numbers and outputs is
        computed in float64, the networks in float32.

        Examples
        --------
        >>> import onnx
        >>> import deltaprop as dp
        >>> table = {"side": ["north", "south", None] * 20, "rooms": [1, 2, 3, 4] * 15}
        >>> model = dp.TabularClassifier(n_members=2, random_state=0).fit(table, ["cold", "warm", "warm"] * 20)
        >>> model.to_onnx("sides.onnx")
        >>> graph = onnx.load("sides.onnx").graph
        >>> [each.name for each in graph.input], [each.name for each in graph.output]
        (['side', 'rooms'], ['label', 'probabilities'])
        """
        check_is_fitted(self, "stack_")
        from deltaprop.tabular.onnx_model import write_estimator

        write_estimator(path, self.stack_, self.member_weights_, self.encoding_, self._roles, self._add_outputs)

    @classmethod
    def from_file_content(
        cls,
        path: str | os.PathLike[str],
        content: TabularContent,
        tensors: Tensors,
        backend: BackendName | Backend = "auto",
    ) -> Self:
        """Make the estimator that the content of a file describes; `tabular_content` has checked it.

        Parameters
        ----------
        path : path
            The file, for messages.
        content : TabularContent
            Its configuration.
        tensors : dict of str to array
            Its tensors.
        backend : str or Backend, default "auto"
            Where to compute, as of `Network`.

        Returns
        -------
        TabularClassifier or TabularRegressor
            Fitted.

        Raises
        ------
        ValueError
            If there is no such estimator; the message begins with `path`.
        """
        from deltaprop.tabular.saved_encoding import encoding_from_file

        saved = content.tabular
        try:
            estimator = cls._with_parameters(saved, backend)
            estimator.encoding_ = encoding_from_file(saved.encodings, tensors)
            estimator._take_target(saved.target, tensors)
            estimator.member_weights_ = tensors["member_weights"]
            if not abs(estimator.member_weights_.sum() - 1) < ROUNDING:
                raise ValueError(f"weights of members whose sum is {estimator.member_weights_.sum()}, expected 1")
            width = estimator.encoding_.inputs.width
            if content.stack.layer_sizes[0] != width:
                raise ValueError(f"networks of {content.stack.layer_sizes[0]} inputs for {width} that are encoded")
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: does not describe a tabular estimator ({in_one_line(error)})") from error
        estimator.stack_ = NetworkStack.from_file_content(path, content, tensors, backend)
        estimator._roles = ColumnRoles(ColumnRole(r.name, r.role, r.reason) for r in saved.columns)
        estimator._names = [column.name for column in saved.columns]
        estimator.n_features_in_ = len(estimator._names)
        estimator._importances = tensors["importances"]
        if saved.has_names:
            estimator.feature_names_in_ = np.array(estimator._names, dtype=object)
        estimator.target_name_, estimator.oof_score_ = saved.target_name, saved.oof_score
        return estimator

    @classmethod
    def _with_parameters(cls, saved: Tabular, backend: BackendName | Backend) -> Self:
        """Make an estimator with the parameters of a file, which it checks itself."""
        parameters: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in saved.parameters.items()
        }
        weights = saved.class_weight
        if weights is not None:
            parameters["class_weight"] = weights if isinstance(weights, str) else dict(weights)
        estimator = cls(**parameters, backend=backend)
        estimator._validate_params()
        return estimator

    @property
    @abstractmethod
    def feature_importances_(self) -> Floats:
        """How much each column of the table matters, (n_features,)."""

    @abstractmethod
    def _target_to_file(self) -> tuple[dict[str, Any], Tensors]:
        """Describe the target, as `saved_schema` has it, in JSON and tensors."""

    @abstractmethod
    def _add_outputs(self, graph: Graph, mean: str) -> None:
        """Add the outputs to an ONNX graph, given the name of the members' mean outputs."""

    @abstractmethod
    def _take_target(self, saved: Classes | Quantity, tensors: Tensors) -> None:
        """Set what belongs to the target from the content of a file."""


def _plain_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that JSON can hold, apart from those that are kept otherwise."""
    plain = {}
    for name, value in parameters.items():
        value = _plain(value)
        with suppress(TypeError, ValueError, RecursionError):
            json.dumps(value, allow_nan=False)
            plain[name] = value
    return {name: value for name, value in plain.items() if name not in OTHERWISE}


def _plain(value: Any) -> Any:
    """Return numbers and arrays of NumPy, also in a sequence, as Python's own."""
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value.tolist() if hasattr(value, "tolist") else value


def _pairs(class_weight: str | Mapping[Any, float] | None) -> Any:
    """Write weights of classes as pairs: the keys of JSON objects are text."""
    if not isinstance(class_weight, Mapping):
        return class_weight
    return [[_plain(label), float(weight)] for label, weight in class_weight.items()]
