"""MLPRegressor: scikit-learn's estimator of that name, and what its users have asked for besides."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import xlogy
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from deltaprop.backends import Array
from deltaprop.estimators.inputs import checked_data, on_host
from deltaprop.estimators.multilayer_perceptron import HeldOut, MultilayerPerceptron


class MLPRegressor(RegressorMixin, MultilayerPerceptron):
    """doc"""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **MultilayerPerceptron._parameter_constraints,
        "loss": [StrOptions({"squared_error", "poisson", "huber", "absolute_error"}), tuple],
    }

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        output_activation: str | None = None,
        scoring: Any = None,
        callbacks: Any = None,
        progress: bool = False,
        backend: Any = "auto",
        dtype: Any = None,
    ) -> None:
        self._store(locals())

    # -- fitting ------------------------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None) -> Self:
        """fit"""
        return self._fit(X, y, sample_weight, validation_data, incremental=False)

    @available_if(lambda estimator: estimator._is_stochastic())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """partial fit"""
        return self._fit(X, y, sample_weight, incremental=True)

    def _validate_input(self, X: Any, y: Any, *, incremental: bool, reset: bool) -> tuple[Any, Any, Any]:
        options = {"multi_output": True, "y_numeric": True}
        X, y = checked_data(self, X, on_host(y), dtype=self.dtype, reset=reset, **options)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if self.loss == "poisson" and np.any(y < 0):
            raise ValueError("Some value(s) of y are out of the valid range of the loss 'poisson': it needs y >= 0.")
        return X, y, y.reshape(len(y), -1)

    def _network_loss(self) -> tuple[Any, str]:
        return self.loss, self.output_activation or ("exp" if self.loss == "poisson" else "identity")

    def _outputs_averaged(self) -> int:
        return self.n_outputs_ if self.loss == "squared_error" else 1

    def _constant_costs(self, targets: Any) -> np.ndarray[Any, Any] | None:
        # h − y log h, less its least value: half of the Poisson deviance, as scikit-learn reports it.
        return np.asarray((xlogy(targets, targets) - targets).sum(axis=1)) if self.loss == "poisson" else None

    def _targets_as_predicted(self, targets: Any) -> Any:
        return targets[:, 0] if self.n_outputs_ == 1 else targets

    # -- predictions --------------------------------------------------------------------------------------------

    def _validation_score(self, held_out: HeldOut, prediction: Array) -> float:
        if self.scoring is not None:
            return self._custom_score(held_out)
        if not self._network.backend.all_finite(prediction):
            return float("nan")
        predicted = self._targets_as_predicted(self._network.backend.to_numpy(prediction))
        return float(r2_score(held_out.y, predicted, sample_weight=held_out.sample_weight))

    def predict(self, X: Any) -> Array:
        """predict"""
        outputs = self._outputs(X)
        return outputs[:, 0] if self.n_outputs_ == 1 else outputs

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """score"""
        return float(r2_score(on_host(y), on_host(self.predict(X)), sample_weight=on_host(sample_weight)))
