"""MLPRegressor: scikit-learn's estimator of that name, and what its users have asked for besides."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import xlogy
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from deltaprop.backends import Array
from deltaprop.backends.device_scope import methods_on_its_device
from deltaprop.estimators.fit_data import HeldOut
from deltaprop.estimators.inputs import checked_data, on_host
from deltaprop.estimators.multilayer_perceptron import MultilayerPerceptron
from deltaprop.training.exclusive import training_of


@methods_on_its_device
class MLPRegressor(RegressorMixin, MultilayerPerceptron):
    """A multi-layer perceptron for quantities: scikit-learn's estimator of that name, by deltaprop's engine.

    Parameters up to `max_fun` are scikit-learn's, with its defaults, and lead to its numbers: in float64 on NumPy, the
    same ``coefs_`` to rounding. Those after it are additions whose defaults change nothing.

    Parameters
    ----------
    loss : {"squared_error", "poisson", "huber", "absolute_error"} or (cost, gradient), default "squared_error"
        ½ ‖h − y‖²; half the Poisson deviance under an exponential output, for y ≥ 0; the Huber loss with its bend at
        1; |h − y|. Or two functions of the outputs and the targets, (m, n_outputs) each and of the kind that the
        backend computes with: the cost, (m,) or (m, n_outputs), and its gradient ∂cost/∂h, (m, n_outputs).
    hidden_layer_sizes, activation, ..., dtype
        As of `MLPClassifier`, `class_weight` apart.

    Attributes
    ----------
    coefs_, intercepts_, ..., feature_names_in_
        As of `MLPClassifier`, ``classes_`` apart. For several outputs, scikit-learn reports the squared error as the
        mean over them while its gradient is that of the sum; here ``loss_``, ``best_loss_`` and ``loss_curve_`` are
        that sum, and training stops where scikit-learn's does.

    See Also
    --------
    MLPClassifier, deltaprop.Network

    Examples
    --------
    >>> from deltaprop import MLPRegressor
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> reg = MLPRegressor(solver="lbfgs", max_iter=1000, alpha=1.0, random_state=0).fit(X, y / 100)
    >>> reg.score(X, y / 100) > 0.5
    True
    """

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
        """Train the network.

        Parameters
        ----------
        X : array_like, sparse matrix or DataFrame, (m, n_features)
        y : array_like, (m,) or (m, n_outputs)
        sample_weight : array_like, (m,), optional
        validation_data : (X, y) or (X, y, sample_weight), optional
            Scored after every epoch into ``validation_scores_`` and ``validation_loss_curve_``; with `early_stopping`,
            in place of a share of the training data.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If a parameter or the data are not as described, or the parameters are no longer finite.

        Warns
        -----
        ConvergenceWarning
            If `max_iter` ended training.
        UserWarning
            If the validation score was nan in every epoch.
        """
        with training_of(self):
            return self._fit(X, y, sample_weight, validation_data, incremental=False)

    @available_if(lambda estimator: estimator._is_stochastic())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """One epoch over the data given, from the parameters there are; not with solver "lbfgs".

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            As `fit`; also with early stopping.
        """
        with training_of(self):
            return self._fit(X, y, sample_weight, incremental=True)

    def _validate_input(self, X: Any, y: Any, *, incremental: bool, reset: bool) -> tuple[Any, Any, Any]:
        X, y = checked_data(self, X, y, dtype=self.dtype, reset=reset, y_numeric=True)
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

    def _validation_score(self, held_out: HeldOut, prediction: Array | None) -> float:
        if self.scoring is not None:
            return self._custom_score(held_out)
        assert prediction is not None
        if not self._network.backend.all_finite(prediction):
            return float("nan")
        predicted = self._targets_as_predicted(self._network.backend.to_numpy(prediction))
        return float(r2_score(held_out.y, predicted, sample_weight=held_out.sample_weight))

    def predict(self, X: Any) -> Array:
        """The value predicted for each sample.

        Parameters
        ----------
        X : array_like, sparse matrix or DataFrame, (m, n_features)

        Returns
        -------
        array, (m,) or (m, n_outputs)
            Of the kind that `X` is.
        """
        outputs = self._outputs(X)
        return outputs[:, 0] if self.n_outputs_ == 1 else outputs

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The coefficient of determination R², by weight.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Returns
        -------
        float
        """
        return float(
            r2_score(on_host(y, "y"), on_host(self.predict(X)), sample_weight=on_host(sample_weight, "sample_weight"))
        )
