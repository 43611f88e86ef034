"""`TabularClassifier`: classes from a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, ClassVar, Literal

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.class_weight import compute_sample_weight

from deltaprop.arguments import check_number
from deltaprop.backends import Backend
from deltaprop.backends.array_types import ArrayLike, Floats, HostArray
from deltaprop.backends.choices import BackendName
from deltaprop.files.model_file import Tensors
from deltaprop.ranks.choice import RanksArgument
from deltaprop.tabular.calibration import best_temperature, log_loss, log_losses, tempered
from deltaprop.tabular.estimator import DTYPE, RandomState, TabularEstimator
from deltaprop.tabular.mixture import HeldOutCost
from deltaprop.tabular.table import Column
from deltaprop.tabular.targets import ClassTargets, given_labels, label_texts, labels_of


class TabularClassifier(ClassifierMixin, TabularEstimator):
    """Classes from a table with text, dates and gaps: several networks, each stopped by a fold of its own.

    Whether a column holds numbers, categories or dates is found out from its cells, and cells may be missing. Each
    network is trained until it predicts the rows of a fold best that it is not trained on; the prediction is the mean
    over networks.

    Parameters
    ----------
    n_members : int, default 16
        How many networks, whose probabilities are averaged. They see numbers in up to 32 bins, but of 16 or more the
        second half sees them in up to 8; rows held out decide how much each kind counts.
    hidden_layer_sizes : int, sequence of int, or None, default None
        Widths of the hidden layers of each; by default two of 64, or 128 for more than 16 classes.
    categorical : sequence of str or int, default ()
        Columns to take for categories, by name or, where they have none, by place.
    numerical : sequence of str or int, default ()
        Columns to take for numbers.
    drop : sequence of str or int, default ()
        Columns to leave out.
    label_smoothing : float, default 0.05
        The share of each training label that is spread over all classes, in [0, 1). The temperature undoes what it does
        to the probabilities.
    class_weight : dict, "balanced" or None, default None
        How much the rows of each class count; `sample_weight` is multiplied by it.
    time_limit : float or None, default None
        Seconds that `fit` may take; compiling the library, once on a machine, does not count. Results then depend on
        the speed of the machine.
    random_state : int, RandomState or None, default None
        Deals the rows out to folds, and draws initial parameters and orders of the rows.
    backend : str or Backend, default "auto"
        Where to compute, as of `Network`.
    progress : bool, default False
        Draw a progress bar on standard error, or in a notebook below the cell, one for each kind of members.
    ranks : "mpi", mpi4py communicator or None, default None
        The processes among which the networks are shared out, each training some of them by itself; "mpi" are all that
        ``mpiexec`` has started. More processes than networks have nothing to do. Every one makes the same estimator,
        and fits it to the same table; rank 0 draws. All end with all networks, to the bit those of one process (but for
        a `time_limit`, which goes further). Pickles leave a communicator behind. It needs
        ``pip install 'deltaprop[mpi]'``.

    Attributes
    ----------
    classes_ : array, (n_classes,)
        The labels, sorted.
    stack_ : NetworkStack
        The members' networks.
    member_weights_ : array, (n_members,)
        How much each network counts in the mean, the same for all of a kind; their sum is 1.
    encoding_ : TableEncoding
        How rows become inputs.
    temperature_ : float
        Logarithms of mean probabilities are divided by it: the number under which the probabilities of rows held out
        have the least log loss.
    oof_predictions_ : array, (m, n_classes)
        For each row of training, the probabilities by the members that were not trained on it; NaN where all were.
        Rows of weight 0 are not among them.
    oof_score_ : float
        The accuracy of these.
    feature_importances_ : array, (n_features,)
        How much each column matters, from at most 2000 rows held out, which are kept for it.
    n_features_in_ : int
        Columns of the table.
    feature_names_in_ : array of str
        Their names; only where they had names.
    target_name_ : str
        The name of the target; "target" where it has none.

    See Also
    --------
    TabularRegressor : The same for quantities.
    deltaprop.MLPClassifier : One network, for numbers only.

    Examples
    --------
    >>> import deltaprop as dp
    >>> from sklearn.datasets import load_iris
    >>> frame = load_iris(as_frame=True).frame
    >>> model = dp.TabularClassifier(random_state=0).fit(frame, "target")
    >>> model.oof_score_ > 0.9
    True
    """

    label_smoothing: float
    class_weight: Literal["balanced"] | Mapping[Any, float] | None
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TabularEstimator._parameter_constraints,
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }
    _loss = "categorical_cross_entropy"
    _rise = "rise of the log loss"

    classes_: HostArray
    temperature_: float
    oof_score_: float
    _targets: ClassTargets

    def __init__(
        self,
        n_members: int = 16,
        hidden_layer_sizes: int | Sequence[int] | None = None,
        *,
        categorical: Sequence[str | int] = (),
        numerical: Sequence[str | int] = (),
        drop: Sequence[str | int] = (),
        label_smoothing: float = 0.05,
        class_weight: Literal["balanced"] | Mapping[Any, float] | None = None,
        time_limit: float | None = None,
        random_state: RandomState = None,
        backend: BackendName | Backend = "auto",
        progress: bool = False,
        ranks: RanksArgument = None,
    ) -> None:
        self.n_members, self.hidden_layer_sizes = n_members, hidden_layer_sizes
        self.categorical, self.numerical, self.drop = categorical, numerical, drop
        self.label_smoothing, self.class_weight, self.time_limit = label_smoothing, class_weight, time_limit
        self.random_state, self.backend, self.progress, self.ranks = random_state, backend, progress, ranks

    def predict_proba(self, X: Any) -> Floats:
        """Predict the probability of each class.

        Parameters
        ----------
        X : DataFrame, array_like, dict of columns, list of dicts, or path, (m, n_features)
            The table. Columns are found by their names; gaps and levels that training has not seen are no errors.

        Returns
        -------
        array, (m, n_classes)
            In the order of ``classes_``.

        Raises
        ------
        NotFittedError
            If `fit` has not been called.
        ValueError
            If a column that the model predicts from is missing.

        Warns
        -----
        UserWarning
            If there are columns that training did not have.

        Examples
        --------
        >>> import deltaprop as dp
        >>> table = {"side": ["north", "south", None] * 20, "rooms": [1, 2, 3, 4] * 15}
        >>> model = dp.TabularClassifier(n_members=4, random_state=0).fit(table, ["cold", "warm", "warm"] * 20)
        >>> P = model.predict_proba({"rooms": [2, 3], "side": ["north", None]})
        >>> model.classes_.tolist(), P.shape, bool(P[0, 0] > 0.8)
        (['cold', 'warm'], (2, 2), True)
        """
        outputs = self._outputs(X)
        return tempered(outputs, self.temperature_)

    def predict(self, X: Any) -> HostArray:
        """Predict the most probable class.

        Parameters
        ----------
        X : DataFrame, array_like, dict of columns, list of dicts, or path, (m, n_features)
            The table, as of `predict_proba`.

        Returns
        -------
        array, (m,)
            Labels.

        Raises
        ------
        NotFittedError
            If `fit` has not been called.
        ValueError
            If a column that the model predicts from is missing.

        Examples
        --------
        >>> import deltaprop as dp
        >>> table = {"side": ["north", "south", None] * 20, "rooms": [1, 2, 3, 4] * 15}
        >>> model = dp.TabularClassifier(n_members=4, random_state=0).fit(table, ["cold", "warm", "warm"] * 20)
        >>> model.predict({"rooms": [2, 3], "side": ["north", "south"]}).tolist()
        ['cold', 'warm']
        """
        numbers = self._outputs(X).argmax(axis=1)  # before `classes_`, which an estimator that is not fitted lacks
        labels: HostArray = self.classes_[numbers]
        return labels

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Compute the accuracy.

        Parameters
        ----------
        X : DataFrame, array_like, dict of columns, list of dicts, or path, (m, n_features)
            The table, as of `predict_proba`.
        y : array_like, (m,), or str
            The labels, or the name of the column of X that holds them. Rows of a file without one are left out.
        sample_weight : array_like, (m,), optional
            How much each row counts.

        Returns
        -------
        float
            The share of the rows whose label is predicted.

        Raises
        ------
        NotFittedError
            If `fit` has not been called.
        ValueError
            If a column that the model predicts from is missing.

        Examples
        --------
        >>> import deltaprop as dp
        >>> table = {"side": ["north", "south", None] * 20, "rooms": [1, 2, 3, 4] * 15}
        >>> model = dp.TabularClassifier(n_members=4, random_state=0).fit(table, ["cold", "warm", "warm"] * 20)
        >>> model.score({"rooms": [2, 3], "side": ["north", "south"]}, ["cold", "cold"])
        0.5
        """
        table, labels, weights = self._table_and_truth(X, y, sample_weight)
        if not isinstance(y, str):
            return float(super().score(table, labels, weights))
        # Whether the labels in a column are numbers depends on which of them are there.
        right = accuracy_score(label_texts(labels), label_texts(self.predict(table)), sample_weight=weights)
        return float(right)

    # -- training -----------------------------------------------------------------------------------------------

    def _target_of_column(self, column: Column) -> HostArray:
        return labels_of(column)

    def _checked_target(self, y: Any, rows: int) -> HostArray:
        return given_labels(y, rows)

    def _find_classes(self, y: HostArray) -> None:
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError(f"y: expected at least two classes, got one class, {self.classes_.tolist()[0]!r}")
        self._targets = ClassTargets(self.classes_)

    def _fit_target(self, y: HostArray, weights: Floats) -> tuple[Floats, HostArray]:
        numbers = self._targets.numbers(y)
        return self._targets.scaled(numbers, weights), numbers

    def _network_targets(self, y: HostArray) -> HostArray:
        return self._targets.probabilities(self._targets.numbers(y), float(self.label_smoothing), DTYPE)

    def _training_weights(self, y: HostArray, weights: Floats) -> Floats:
        if self.class_weight is None:
            return weights
        if isinstance(self.class_weight, Mapping):
            for label, weight in self.class_weight.items():
                check_number(f"class_weight[{label!r}]", weight, least=0.0)
        factors: Floats = compute_sample_weight(self.class_weight, y)
        return weights * factors

    def _held_out_cost(self, y: HostArray, weights: Floats) -> HeldOutCost:
        numbers = self._targets.numbers(y)
        return lambda outputs, rows: log_loss(outputs, numbers[rows], weights[rows])

    def _record(
        self, outputs: Floats, seen: HostArray, y: HostArray, weights: Floats, own_weights: Floats
    ) -> HostArray:
        numbers = self._targets.numbers(y)
        self.temperature_ = best_temperature(outputs[seen], numbers[seen], own_weights[seen])
        self.oof_predictions_: HostArray = tempered(outputs, self.temperature_)
        self.oof_score_ = float(
            accuracy_score(numbers[seen], outputs[seen].argmax(axis=1), sample_weight=weights[seen])
        )
        return numbers

    def _row_loss(self, outputs: Floats, targets: HostArray) -> Floats:
        return log_losses(tempered(outputs, self.temperature_), targets)

    # -- files --------------------------------------------------------------------------------------------------

    def _target_to_file(self) -> tuple[dict[str, Any], Tensors]:
        from deltaprop.tabular.saved_labels import labels_to_file  # not at start-up, for those who do without

        labels, tensors = labels_to_file(self.classes_)
        return {"kind": "classes", **labels, "temperature": self.temperature_}, tensors

    def _add_outputs(self, graph: Any, mean: str) -> None:
        from deltaprop.tabular.onnx_model import add_classes

        add_classes(graph, mean, self.classes_, self.temperature_)

    def _take_target(self, saved: Any, tensors: Tensors) -> None:
        from deltaprop.tabular.saved_labels import labels_from_file

        self.classes_, self.temperature_ = labels_from_file(saved, tensors), saved.temperature
        self._targets = ClassTargets(self.classes_)
