"""MLPClassifier: scikit-learn's estimator of that name, and what its users have asked for besides."""

from __future__ import annotations

import sys
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d, compute_sample_weight
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

from deltaprop import evaluation
from deltaprop.backends import Array, backend_of
from deltaprop.estimators.inputs import checked_data, on_host
from deltaprop.estimators.multilayer_perceptron import HeldOut, MultilayerPerceptron

#: For each loss, by our name: that for one choice among several classes, and that for a yes or no (or several of them).
LOSSES = {
    "log_loss": ("clipped_categorical_cross_entropy", "clipped_binary_cross_entropy"),
    "binary_cross_entropy": ("clipped_binary_cross_entropy", "clipped_binary_cross_entropy"),
    "squared_error": ("squared_error", "squared_error"),
}


class MLPClassifier(ClassifierMixin, MultilayerPerceptron):
    """doc"""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **MultilayerPerceptron._parameter_constraints,
        "loss": [StrOptions(set(LOSSES))],
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
    }

    def __init__(
        self,
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
        loss: str = "log_loss",
        class_weight: Any = None,
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
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """partial fit"""
        y = on_host(y)
        if _check_partial_fit_first_call(self, classes):
            labels = y if type_of_target(y).startswith("multilabel") else classes
            self._label_binarizer = LabelBinarizer().fit(labels)
        return self._fit(X, y, sample_weight, incremental=True)

    def _validate_input(self, X: Any, y: Any, *, incremental: bool, reset: bool) -> tuple[Any, Any, Any]:
        X, y = checked_data(self, X, on_host(y), dtype=self.dtype, reset=reset, multi_output=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            self._check_classes(unique_labels(y), incremental)
        return X, y, self._label_binarizer.transform(y).astype(bool)

    def _check_classes(self, classes: Any, incremental: bool) -> None:
        """Refuse labels that the network has no output for."""
        if self.warm_start and not incremental:
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                    f"Previously got {self.classes_}, `y` has {classes}"
                )
        elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {classes}."
            )

    def _network_loss(self) -> tuple[str, str]:
        of_several = self._label_binarizer.y_type_ == "multiclass"
        loss = LOSSES[self.loss][0 if of_several else 1]
        default = "softmax" if loss == "clipped_categorical_cross_entropy" else "logistic"
        return loss, self.output_activation or default

    def _class_weights(self, y: Any, *, incremental: bool) -> Any:
        if self.class_weight is None:
            return None
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight: 'balanced' is not supported by partial_fit, which does not know how often each class "
                "will occur; pass a dict, or sample_weight"
            )
        return compute_sample_weight(self.class_weight, y)

    def _strata(self, targets: Any) -> Any:
        return targets if self.n_outputs_ == 1 else None

    def _targets_as_predicted(self, targets: Any) -> Any:
        return self._label_binarizer.inverse_transform(targets)

    # -- predictions --------------------------------------------------------------------------------------------

    def _labels(self, outputs: Any) -> Any:
        """The classes that a^(L), (m, n_outputs) on the host, speaks for."""
        return self._label_binarizer.inverse_transform(outputs.ravel() if self.n_outputs_ == 1 else outputs)

    def _validation_score(self, held_out: HeldOut, prediction: Array) -> float:
        if self.scoring is not None:
            return self._custom_score(held_out)
        predicted = self._labels(self._network.backend.to_numpy(prediction))
        return float(accuracy_score(held_out.y, predicted, sample_weight=held_out.sample_weight))

    def predict(self, X: Any) -> Any:
        """predict"""
        outputs = self._outputs(X)
        labels = self._labels(on_host(outputs))
        backend = backend_of(outputs)
        if backend is None or backend.name == "numpy" or labels.dtype.kind not in "iubf":
            return labels
        return backend.asarray(labels, labels.dtype)

    def predict_proba(self, X: Any) -> Array:
        """proba"""
        return self._probabilities(self._outputs(X))

    def _probabilities(self, outputs: Array) -> Array:
        if self.n_outputs_ == 1:
            result = outputs.repeat(2, axis=1)
            result[:, 0] = 1.0 - result[:, 1]
            return result
        if self._label_binarizer.y_type_ == "multiclass" and self._network.output_activation != "softmax":
            return outputs / outputs.sum(axis=1, keepdims=True)
        return outputs

    def predict_log_proba(self, X: Any) -> Array:
        """log proba"""
        network, inputs, checked = self._inputs(X)
        outputs = self._like(evaluation.predict(network, inputs), checked)
        xp = _functions(outputs)
        probabilities = self._probabilities(outputs)
        with np.errstate(divide="ignore"):
            result = xp.log(probabilities)
        if network.loss == "squared_error":
            return result
        # Small ones from z: no probability is too small to have a logarithm.
        z = self._like(evaluation.layer(network, inputs, lambda work: work.Z[-1]), checked)
        if network.output_activation == "softmax":
            z -= z.max(axis=1, keepdims=True)
            from_z = z - xp.log(xp.exp(z).sum(axis=1, keepdims=True))
        elif self.n_outputs_ == 1:
            from_z = -xp.logaddexp(0, xp.concatenate([z, -z], axis=1))
        else:
            from_z = -xp.logaddexp(0, -z)
            if self._label_binarizer.y_type_ == "multiclass":
                from_z -= xp.log(xp.exp(from_z).sum(axis=1, keepdims=True))
        return xp.where(probabilities < 0.5, from_z, result)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """score"""
        return float(accuracy_score(on_host(y), on_host(self.predict(X)), sample_weight=on_host(sample_weight)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _functions(array: Array) -> Any:
    """The library whose functions take this kind of array: NumPy or CuPy."""
    return sys.modules[type(array).__module__.partition(".")[0]]
