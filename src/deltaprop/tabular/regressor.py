"""`TabularRegressor`: a quantity from a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from deltaprop.arguments import check_number
from deltaprop.backends import Backend
from deltaprop.backends.array_types import ArrayLike, Floats, HostArray
from deltaprop.backends.choices import BackendName, LossName
from deltaprop.files.model_file import Tensors
from deltaprop.ranks.choice import RanksArgument
from deltaprop.tabular.estimator import DTYPE, RandomState, TabularEstimator
from deltaprop.tabular.intervals import ResidualIntervals
from deltaprop.tabular.mixture import HeldOutCost
from deltaprop.tabular.table import Column
from deltaprop.tabular.targets import QuantityTargets, given_quantities, quantities_of


class TabularRegressor(RegressorMixin, TabularEstimator):
    """A quantity from a table with text, dates and gaps: several networks, each stopped by a fold of its own.

    Whether a column holds numbers, categories or dates is found out from its cells, and cells may be missing. Each
    network is trained until it predicts the rows of a fold best that it is not trained on; the prediction is the mean
    over networks.

    Parameters
    ----------
    n_members : int, default 16
        How many networks, whose predictions are averaged. They see numbers in up to 32 bins, but of 16 or more the
        second half sees them in up to 8; rows held out decide how much each kind counts.
    hidden_layer_sizes : int, sequence of int, or None, default None
        Widths of the hidden layers of each; by default two of 64.
    categorical : sequence of str or int, default ()
        Columns to take for categories, by name or, where they have none, by place.
    numerical : sequence of str or int, default ()
        Columns to take for numbers.
    drop : sequence of str or int, default ()
        Columns to leave out.
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
    stack_ : NetworkStack
        The members' networks.
    member_weights_ : array, (n_members,)
        How much each network counts in the mean, the same for all of a kind; their sum is 1.
    encoding_ : TableEncoding
        How rows become inputs.
    oof_predictions_ : array, (m,)
        For each row of training, the prediction by the members that were not trained on it; NaN where all were. Rows of
        weight 0 are not among them.
    oof_score_ : float
        R² of these.
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
    TabularClassifier : The same for classes.
    deltaprop.MLPRegressor : One network, for numbers only.

    Notes
    -----
    Predictions do not leave the range of the targets of training.

    Examples
    --------
    >>> import deltaprop as dp
    >>> from sklearn.datasets import load_diabetes
    >>> frame = load_diabetes(as_frame=True).frame
    >>> model = dp.TabularRegressor(random_state=0).fit(frame, "target")
    >>> model.oof_score_ > 0.4
    True
    """

    _loss: ClassVar[LossName] = "squared_error"
    _rise: ClassVar[str] = "rise of the mean squared error / variance"

    oof_score_: float
    _targets: QuantityTargets
    _intervals: ResidualIntervals

    def __init__(
        self,
        n_members: int = 16,
        hidden_layer_sizes: int | Sequence[int] | None = None,
        *,
        categorical: Sequence[str | int] = (),
        numerical: Sequence[str | int] = (),
        drop: Sequence[str | int] = (),
        time_limit: float | None = None,
        random_state: RandomState = None,
        backend: BackendName | Backend = "auto",
        progress: bool = False,
        ranks: RanksArgument = None,
    ) -> None:
        self.n_members, self.hidden_layer_sizes = n_members, hidden_layer_sizes
        self.categorical, self.numerical, self.drop = categorical, numerical, drop
        self.time_limit, self.random_state = time_limit, random_state
        self.backend, self.progress, self.ranks = backend, progress, ranks

    def predict(self, X: Any, return_interval: float | None = None) -> Any:
        """Predict the quantity.

        Parameters
        ----------
        X : DataFrame, array_like, dict of columns, list of dicts, or path, (m, n_features)
            The table. Columns are found by their names; gaps and levels that training has not seen are no errors.
        return_interval : float, optional
            Also return an interval that holds the quantity with this probability, in (0, 1). Intervals are as wide as
            the errors for rows held out ask for, each counted by its weight, and wider where predictions of that size
            are less exact; they have no ends where training had too few rows to tell (19 suffice for 0.9).

        Returns
        -------
        values : array, (m,)
            Predictions.
        interval : array, (m, 2)
            Only with `return_interval`: the lower and the upper end.

        Raises
        ------
        NotFittedError
            If `fit` has not been called.
        ValueError
            If a column that the model predicts from is missing, or `return_interval` is no probability.

        Warns
        -----
        UserWarning
            If there are columns that training did not have.

        Examples
        --------
        >>> import deltaprop as dp
        >>> from sklearn.datasets import load_diabetes
        >>> X, y = load_diabetes(return_X_y=True)
        >>> model = dp.TabularRegressor(n_members=4, random_state=0).fit(X, y)
        >>> values, interval = model.predict(X[:5], return_interval=0.9)
        >>> values.shape, interval.shape, bool((interval[:, 0] < values).all())
        ((5,), (5, 2), True)
        """
        outputs = self._outputs(X)[:, 0]  # before `_targets`, which an estimator that is not fitted lacks
        values = self._targets.values(outputs)
        if return_interval is None:
            return values
        share = check_number("return_interval", return_interval, above=0.0, below=1.0)
        return values, self._intervals.around(values, share)

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Compute R², the share of the variance that the predictions explain.

        Parameters
        ----------
        X : DataFrame, array_like, dict of columns, list of dicts, or path, (m, n_features)
            The table, as of `predict`.
        y : array_like, (m,), or str
            The quantities, or the name of the column of X that holds them. Rows of a file without one are left out.
        sample_weight : array_like, (m,), optional
            How much each row counts.

        Returns
        -------
        float
            R².

        Raises
        ------
        NotFittedError
            If `fit` has not been called.
        ValueError
            If a column that the model predicts from is missing.

        Examples
        --------
        >>> import deltaprop as dp
        >>> from sklearn.datasets import load_diabetes
        >>> X, y = load_diabetes(return_X_y=True)
        >>> model = dp.TabularRegressor(n_members=4, random_state=0).fit(X[:350], y[:350])
        >>> model.score(X[350:], y[350:]) > 0.3
        True
        """
        table, values, weights = self._table_and_truth(X, y, sample_weight)
        return float(super().score(table, values, weights))

    # -- training -----------------------------------------------------------------------------------------------

    def _target_of_column(self, column: Column) -> HostArray:
        return quantities_of(column)

    def _checked_target(self, y: Any, rows: int) -> HostArray:
        return given_quantities(y, rows)

    def _fit_target(self, y: HostArray, weights: Floats) -> tuple[Floats, HostArray]:
        self._targets = QuantityTargets.fit(y, weights)
        return self._targets.scaled(y), y

    def _network_targets(self, y: HostArray) -> HostArray:
        return self._targets.scaled(y).astype(DTYPE)

    def _held_out_cost(self, y: HostArray, weights: Floats) -> HeldOutCost:
        scaled = self._targets.scaled(y)[:, 0]
        return lambda outputs, rows: float(np.average(self._row_loss(outputs, scaled[rows]), weights=weights[rows]))

    def _record(
        self, outputs: Floats, seen: HostArray, y: HostArray, weights: Floats, own_weights: Floats
    ) -> HostArray:
        self.oof_predictions_: HostArray = self._targets.values(outputs[:, 0])
        self._intervals = ResidualIntervals.fit(self.oof_predictions_[seen], y[seen], weights[seen])
        scaled, predicted = (self._targets.scaled(values)[:, 0] for values in (y, self.oof_predictions_))
        self.oof_score_ = float(r2_score(scaled[seen], predicted[seen], sample_weight=weights[seen]))
        return scaled

    def _row_loss(self, outputs: Floats, targets: HostArray) -> Floats:
        return (outputs[:, 0] - targets) ** 2

    # -- files --------------------------------------------------------------------------------------------------

    def _target_to_file(self) -> tuple[dict[str, Any], Tensors]:
        fields = {name: float(value) for name, value in asdict(self._targets).items()}
        arrays = asdict(self._intervals)
        counts = {"ranges": len(arrays["centres"]), "residuals": len(arrays["residuals"])}
        weighted = arrays["weights"] is not None
        tensors = {f"intervals.{name}": array for name, array in arrays.items() if array is not None}
        return {"kind": "quantity", **fields, **counts, "weighted": weighted}, tensors

    def _add_outputs(self, graph: Any, mean: str) -> None:
        from deltaprop.tabular.onnx_model import add_quantity  # not at start-up, for those who do without

        add_quantity(graph, mean, self._targets)

    def _take_target(self, saved: Any, tensors: Tensors) -> None:
        self._targets = QuantityTargets(saved.mean, saved.spread, saved.lowest, saved.highest)
        names = ("centres", "sizes", "residuals", *(("weights",) if saved.weighted else ()))
        arrays = {name: tensors[f"intervals.{name}"] for name in names}
        for name in ("centres", "residuals"):
            if (arrays[name][1:] < arrays[name][:-1]).any():
                raise ValueError(f"the {name} of intervals are not sorted")
        self._intervals = ResidualIntervals(**arrays)
