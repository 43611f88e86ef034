"""`TabularRegressor`: a quantity from a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.validation import check_consistent_length

from deltaprop.arguments import check_number
from deltaprop.backends import Backend
from deltaprop.backends.array_types import Floats, HostArray
from deltaprop.files.model_file import Tensors
from deltaprop.inputs.encoded_rows import EncodedRows
from deltaprop.tabular.estimator import DTYPE, RandomState, TabularEstimator
from deltaprop.tabular.members import Members
from deltaprop.tabular.table import Column
from deltaprop.tabular.targets import QuantityTargets, quantities_of


class TabularRegressor(RegressorMixin, TabularEstimator):
    """A quantity from a table with text, dates and gaps: several networks, each stopped by a fold of its own.

    Parameters
    ----------
    n_members : int, default 8
        How many networks. Their predictions are averaged.
    hidden_layer_sizes : int or sequence of int, default (128, 128)
        Widths of the hidden layers of each.
    categorical : sequence of str or int, default ()
        Columns to take for categories, by name or, where they have none, by place.
    numerical : sequence of str or int, default ()
        Columns to take for numbers.
    drop : sequence of str or int, default ()
        Columns to leave out.
    time_limit : float or None, default None
        Seconds that `fit` may take. Results then depend on the speed of the machine.
    random_state : int, RandomState or None, default None
        Deals the rows out to folds, and draws initial parameters and orders of the rows.
    backend : str or Backend, default "auto"
        Where to compute, as of `Network`.
    progress : bool, default False
        Draw a progress bar on standard error.

    Attributes
    ----------
    stack_ : NetworkStack
        The members' networks.
    encoding_ : TableEncoding
        How rows become inputs.
    oof_predictions_ : array, (m,)
        For each row of training, the prediction by the members that were not trained on it; NaN where all were. Rows of
        weight 0 are not among them.
    oof_score_ : float
        R² of these.
    n_features_in_ : int
        Columns of the table.
    feature_names_in_ : array of str
        Their names, where they had names.

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

    _loss: ClassVar[str] = "squared_error"

    oof_score_: float
    _targets: QuantityTargets
    _residuals: Floats

    def __init__(
        self,
        n_members: int = 8,
        hidden_layer_sizes: int | Sequence[int] = (128, 128),
        *,
        categorical: Sequence[str | int] = (),
        numerical: Sequence[str | int] = (),
        drop: Sequence[str | int] = (),
        time_limit: float | None = None,
        random_state: RandomState = None,
        backend: str | Backend = "auto",
        progress: bool = False,
    ) -> None:
        self.n_members, self.hidden_layer_sizes = n_members, hidden_layer_sizes
        self.categorical, self.numerical, self.drop = categorical, numerical, drop
        self.time_limit, self.random_state = time_limit, random_state
        self.backend, self.progress = backend, progress

    def predict(self, X: Any, return_interval: float | None = None) -> Any:
        """Predict the quantity.

        Parameters
        ----------
        X : DataFrame, array_like, dict of columns, or path, (m, n_features)
            The table. Columns are found by their names; gaps and levels that training has not seen are no errors.
        return_interval : float, optional
            Also return an interval that holds the quantity with this probability, in (0, 1).

        Returns
        -------
        values : array, (m,)
            Predictions.
        interval : array, (m, 2)
            Only with `return_interval`: the lower and the upper end.

        Raises
        ------
        ValueError
            If a column of training is missing.

        Warns
        -----
        UserWarning
            If there are columns that training did not have.
        """
        values = self._targets.values(self._outputs(X)[:, 0]) if return_interval is None else None
        if return_interval is None:
            return values
        share = check_number("return_interval", return_interval, above=0.0, below=1.0)
        values = self._targets.values(self._outputs(X)[:, 0])
        return values, values[:, np.newaxis] + residual_range(self._residuals, share)

    # -- training -----------------------------------------------------------------------------------------------

    def _target_of_column(self, column: Column) -> HostArray:
        return quantities_of(column)

    def _checked_target(self, y: Any, rows: int) -> HostArray:
        values: HostArray = check_array(column_or_1d(y, warn=True), ensure_2d=False, dtype=np.float64, input_name="y")
        check_consistent_length(np.empty(rows), values)
        return values

    def _fit_target(self, y: HostArray, weights: Floats) -> tuple[Floats, HostArray]:
        self._targets = QuantityTargets.fit(y, weights)
        return self._targets.scaled(y), y

    def _network_targets(self, y: HostArray) -> HostArray:
        return self._targets.scaled(y).astype(DTYPE)

    def _weights(self, y: HostArray, weights: Floats) -> Floats:
        return weights

    def _record(self, members: Members, rows: EncodedRows, y: HostArray, weights: Floats) -> None:
        outputs, count = members.held_out_outputs(rows)
        seen = count > 0
        self.oof_predictions_ = self._targets.values(outputs[:, 0])
        self._residuals = np.sort((y - self.oof_predictions_)[seen])
        self.oof_score_ = float(r2_score(y[seen], self.oof_predictions_[seen], sample_weight=weights[seen]))

    # -- files --------------------------------------------------------------------------------------------------

    def _target_to_file(self) -> tuple[dict[str, Any], Tensors]:
        fields = {name: float(value) for name, value in asdict(self._targets).items()}
        return {"kind": "quantity", **fields, "residuals": len(self._residuals)}, {"residuals": self._residuals}

    def _take_target(self, saved: Any, tensors: Tensors) -> None:
        self._targets = QuantityTargets(saved.mean, saved.spread, saved.lowest, saved.highest)
        self._residuals = tensors["residuals"]
        if (self._residuals[1:] < self._residuals[:-1]).any():
            raise ValueError("the residuals are not sorted")


def residual_range(residuals: Floats, share: float) -> Floats:
    """Find the range that holds a residual with probability `share`, by the residuals of rows held out.

    The ends are order statistics: of n residuals and a further one each rank is as likely, so that the k-th and the
    (n + 1 − k)-th hold it with probability (n + 1 − 2k)/(n + 1) (Vovk et al., Algorithmic Learning in a Random World,
    2005).

    Parameters
    ----------
    residuals : array, (n,)
        Sorted.
    share : float
        In (0, 1).

    Returns
    -------
    array, (2,)
        The ends; infinite where n is too small for the share.
    """
    n = len(residuals)
    k = int(np.floor((n + 1) * (1 - share) / 2))
    return np.array([residuals[k - 1], residuals[n - k]]) if k else np.array([-np.inf, np.inf])
