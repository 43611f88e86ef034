"""Convert fitted estimators of scikit-learn to ours and back, with the state of their optimizers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

# From their modules: a name in `sklearn.neural_network` may stand for something else, put there by somebody.
import sklearn.neural_network._multilayer_perceptron as perceptrons
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from sklearn.utils.validation import check_is_fitted

from deltaprop.backends import Array
from deltaprop.backends.array_types import AnyArray
from deltaprop.derivation.optimizers import SGD, Adam
from deltaprop.derivation.parameters import Parameters
from deltaprop.estimators.hyperparameters import Hyperparameters
from deltaprop.estimators.step_rule import StepRule
from deltaprop.network import Network

#: scikit-learn's classes by name.
THEIR_CLASSES: dict[str, Any] = {
    "MLPClassifier": perceptrons.MLPClassifier,
    "MLPRegressor": perceptrons.MLPRegressor,
}

#: The weights of every layer, (n_in, n_out), and the biases, as scikit-learn has them.
Layers: TypeAlias = tuple[list[AnyArray], list[AnyArray]]
#: Attributes that the two libraries hold in forms of their own.
OF_THEIRS = (
    "coefs_",
    "intercepts_",
    "_optimizer",
    "_best_coefs",
    "_best_intercepts",
    "_coef_indptr",
    "_intercept_indptr",
)
OF_OURS = ("coefs_", "intercepts_", "_optimizer", "_best_parameters", "_best_watched", "validation_loss_curve_")
OF_OUR_NETWORK = ("_network", "_handed_out", "_fitted_configuration")
#: What scikit-learn can say: losses by estimator, and hidden activations by our names.
THEIR_LOSSES: dict[str, tuple[str, ...]] = {
    "MLPClassifier": ("log_loss",),
    "MLPRegressor": ("squared_error", "poisson"),
}
THEIR_ACTIVATIONS = {"sigmoid": "logistic", "identity": "identity", "tanh": "tanh", "relu": "relu"}


def from_sklearn(cls: type[Any], fitted: Any, options: dict[str, Any]) -> Any:
    """Make an estimator of `cls` from `fitted`, scikit-learn's estimator of the same name."""
    theirs = THEIR_CLASSES[cls.__name__]
    if not isinstance(fitted, theirs):
        raise TypeError(f"fitted: expected scikit-learn's {cls.__name__}, got {type(fitted).__name__}")
    check_is_fitted(fitted)
    parameters = fitted.get_params(deep=False)
    mlp = cls(**parameters, **options)
    for name, value in vars(fitted).items():
        if name not in parameters and name not in OF_THEIRS:
            setattr(mlp, name, copy.deepcopy(value))
    mlp.coefs_ = [coef.copy() for coef in fitted.coefs_]
    mlp.intercepts_ = [intercept.copy() for intercept in fitted.intercepts_]
    network = mlp._connect()
    if getattr(fitted, "best_loss_", None) is not None:
        mlp._best_watched = fitted.best_loss_
    if fitted.early_stopping and hasattr(fitted, "_best_coefs"):
        mlp._best_parameters = flat_of(network, fitted._best_coefs, fitted._best_intercepts)
    if hasattr(fitted, "_optimizer"):
        mlp._optimizer = rule_of(fitted._optimizer, network)
    return mlp


def to_sklearn(mlp: Any) -> Any:
    """Make scikit-learn's estimator of the same name from `mlp`."""
    check_is_fitted(mlp)
    network, name = mlp.network_, type(mlp).__name__
    theirs = THEIR_CLASSES[name]
    parameters = {parameter: getattr(mlp, parameter) for parameter in theirs().get_params(deep=False)}
    parameters["activation"] = _their_activation(network)
    if mlp.loss not in THEIR_LOSSES[name]:
        raise ValueError(f"loss: scikit-learn's {name} knows {THEIR_LOSSES[name]}, got {mlp.loss!r}")
    if mlp.output_activation is not None:
        raise ValueError(
            f"output_activation: scikit-learn's {name} takes the one of its loss, got {mlp.output_activation!r}"
        )
    result = theirs(**parameters)
    for attribute, value in mlp.__dict__.items():
        if attribute not in mlp.get_params(deep=False) and attribute not in (*OF_OURS, *OF_OUR_NETWORK):
            setattr(result, attribute, copy.deepcopy(value))
    if mlp.__dict__.get("best_validation_score_") is not None and np.isnan(mlp.best_validation_score_):
        result.best_validation_score_ = -np.inf  # there, too, every number is better than this
    result.coefs_, result.intercepts_ = copied_layers(network, network.parameters)
    best = mlp.__dict__.get("_best_parameters", network.parameters)
    result._best_coefs, result._best_intercepts = copied_layers(network, best)
    if "_optimizer" in mlp.__dict__:
        result._optimizer = their_optimizer(result, mlp._optimizer, result.coefs_ + result.intercepts_)
        tell_optimizer(result._optimizer, mlp._optimizer, lambda flat: copied_layers(network, flat))
    return result


def _their_activation(network: Network) -> str:
    """Return the activation of all hidden layers by scikit-learn's name."""
    hidden = set(network.activations[:-1]) or {"relu"}
    if len(hidden) > 1 or not hidden <= set(THEIR_ACTIVATIONS):
        raise ValueError(
            f"activation: scikit-learn knows {sorted(THEIR_ACTIVATIONS.values())}, one for all hidden layers, got "
            f"{list(network.activations[:-1])}"
        )
    return THEIR_ACTIVATIONS[hidden.pop()]


def rule_of(optimizer: Any, network: Network) -> StepRule:
    """Make our optimizer with a copy of the state of scikit-learn's, an `AdamOptimizer` or an `SGDOptimizer`."""
    layers = len(network.weights)

    def flat(arrays: list[AnyArray]) -> Array:
        return flat_of(network, arrays[:layers], arrays[layers:])

    if isinstance(optimizer, AdamOptimizer):
        adam = Adam(optimizer.learning_rate_init, optimizer.beta_1, optimizer.beta_2, optimizer.epsilon)
        rule = StepRule(adam, network, "constant", 0.5)
        rule.state |= {
            "first_moment": flat(optimizer.ms),
            "second_moment": flat(optimizer.vs),
            "step": int(optimizer.t),
        }
        return rule
    momentum = optimizer.momentum
    sgd = SGD(optimizer.learning_rate_init, momentum, optimizer.nesterov and momentum > 0)
    rule = StepRule(sgd, network, optimizer.lr_schedule, optimizer.power_t)
    rule.learning_rate = float(optimizer.learning_rate)
    if "velocity" in rule.state:
        rule.state["velocity"] = flat(optimizer.velocities)
    return rule


def their_optimizer(settings: Hyperparameters, rule: StepRule, parameters: list[AnyArray]) -> Any:
    """Make scikit-learn's optimizer of the kind of `rule`; `tell_optimizer` gives it the state."""
    if isinstance(rule.optimizer, Adam):
        return AdamOptimizer([], settings.learning_rate_init, settings.beta_1, settings.beta_2, settings.epsilon)
    return SGDOptimizer(
        [] if "velocity" in rule.state else parameters,  # without momentum, its velocities stay 0
        settings.learning_rate_init,
        settings.learning_rate,
        settings.momentum,
        settings.nesterovs_momentum,
        settings.power_t,
    )


def tell_optimizer(optimizer: Any, rule: StepRule, layers_of: Callable[[Array], Layers]) -> None:
    """Write the state of `rule` into scikit-learn's optimizer; `layers_of` splits a flat vector into two lists."""
    if isinstance(optimizer, AdamOptimizer):
        optimizer.t = step = int(rule.state["step"])
        for name, moment in (("ms", "first_moment"), ("vs", "second_moment")):
            coefs, intercepts = layers_of(rule.state[moment])
            setattr(optimizer, name, coefs + intercepts)
        if step:
            corrections = np.sqrt(1 - optimizer.beta_2**step) / (1 - optimizer.beta_1**step)
            optimizer.learning_rate = optimizer.learning_rate_init * corrections
        return
    optimizer.learning_rate = rule.learning_rate
    if "velocity" in rule.state:
        coefs, intercepts = layers_of(rule.state["velocity"])
        optimizer.velocities = coefs + intercepts


def flat_of(network: Network, coefs: list[AnyArray], intercepts: list[AnyArray]) -> Array:
    """Write scikit-learn's two lists into one flat vector, as the network has its parameters."""
    vector = Parameters(network.backend, network.layer_sizes, network.dtype)
    for W, b, coef, intercept in zip(vector.weights, vector.biases, coefs, intercepts, strict=True):
        W[...] = network.backend.asarray(coef.T, network.dtype)
        b[...] = network.backend.asarray(intercept, network.dtype)
    return vector.flat


def copied_layers(network: Network, flat: Array) -> Layers:
    """Split a flat vector into scikit-learn's two lists of NumPy arrays, which are copies."""
    vector = Parameters(network.backend, network.layer_sizes, network.dtype, flat=flat)
    coefs = [np.array(network.backend.to_numpy(W).T, order="C") for W in vector.weights]
    return coefs, [np.array(network.backend.to_numpy(b)) for b in vector.biases]


def shared_layers(network: Network, flat: Array) -> Layers:
    """Split a flat vector into scikit-learn's two lists of NumPy arrays; on the host, they share its memory."""
    if not network.backend.on_host:
        return copied_layers(network, flat)
    vector = Parameters(network.backend, network.layer_sizes, network.dtype, flat=flat)
    return [W.swapaxes(0, 1) for W in vector.weights], list(vector.biases)
