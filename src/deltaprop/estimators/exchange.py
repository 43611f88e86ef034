"""Convert fitted estimators of scikit-learn to ours and back, with the state of their optimizers."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import sklearn.neural_network
from sklearn.utils.validation import check_is_fitted

from deltaprop.backends import Array
from deltaprop.backends.array_types import AnyArray
from deltaprop.derivation.parameters import Parameters
from deltaprop.estimators.step_rule import StepRule, step_rule
from deltaprop.network import Network

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
THEIR_LOSSES = {"MLPClassifier": ("log_loss",), "MLPRegressor": ("squared_error", "poisson")}
THEIR_ACTIVATIONS = {"sigmoid": "logistic", "identity": "identity", "tanh": "tanh", "relu": "relu"}


def from_sklearn(cls: type[Any], fitted: Any, options: dict[str, Any]) -> Any:
    """Make an estimator of `cls` from `fitted`, scikit-learn's estimator of the same name."""
    theirs = getattr(sklearn.neural_network, cls.__name__)
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
        mlp._best_parameters = _flat(network, fitted._best_coefs, fitted._best_intercepts)
    if hasattr(fitted, "_optimizer"):
        mlp._optimizer = rule = step_rule(mlp, network)
        optimizer, layers = fitted._optimizer, len(fitted.coefs_)
        if fitted.solver == "adam":
            rule.state["first_moment"] = _flat(network, optimizer.ms[:layers], optimizer.ms[layers:])
            rule.state["second_moment"] = _flat(network, optimizer.vs[:layers], optimizer.vs[layers:])
            rule.state["step"] = optimizer.t
        else:
            rule.learning_rate = optimizer.learning_rate
            if "velocity" in rule.state:
                velocities = optimizer.velocities
                rule.state["velocity"] = _flat(network, velocities[:layers], velocities[layers:])
    return mlp


def to_sklearn(mlp: Any) -> Any:
    """Make scikit-learn's estimator of the same name from `mlp`."""
    check_is_fitted(mlp)
    network, name = mlp.network_, type(mlp).__name__
    theirs = getattr(sklearn.neural_network, name)
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
    result.coefs_, result.intercepts_ = _lists(network, network.parameters)
    best = mlp.__dict__.get("_best_parameters", network.parameters)
    result._best_coefs, result._best_intercepts = _lists(network, best)
    if "_optimizer" in mlp.__dict__:
        result._optimizer = _their_optimizer(result, mlp._optimizer, network)
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


def _their_optimizer(theirs: Any, rule: StepRule, network: Network) -> Any:
    """Make scikit-learn's optimizer with the state of ours."""
    from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

    parameters = [*theirs.coefs_, *theirs.intercepts_]
    if theirs.solver == "adam":
        adam = AdamOptimizer(parameters, theirs.learning_rate_init, theirs.beta_1, theirs.beta_2, theirs.epsilon)
        for name, moment in (("ms", "first_moment"), ("vs", "second_moment")):
            coefs, intercepts = _lists(network, rule.state[moment])
            setattr(adam, name, coefs + intercepts)
        adam.t = rule.state["step"]
        return adam
    sgd = SGDOptimizer(
        parameters,
        theirs.learning_rate_init,
        theirs.learning_rate,
        theirs.momentum,
        theirs.nesterovs_momentum,
        theirs.power_t,
    )
    sgd.learning_rate = rule.learning_rate
    if "velocity" in rule.state:
        coefs, intercepts = _lists(network, rule.state["velocity"])
        sgd.velocities = coefs + intercepts
    return sgd


def _flat(network: Network, coefs: list[AnyArray], intercepts: list[AnyArray]) -> Array:
    """Write scikit-learn's two lists into one flat vector, as the network has its parameters."""
    vector = Parameters(network.backend, network.layer_sizes, network.dtype)
    for W, b, coef, intercept in zip(vector.weights, vector.biases, coefs, intercepts, strict=True):
        W[...] = network.backend.asarray(coef.T, network.dtype)
        b[...] = network.backend.asarray(intercept, network.dtype)
    return vector.flat


def _lists(network: Network, flat: Array) -> tuple[list[AnyArray], list[AnyArray]]:
    """Split a flat vector into scikit-learn's two lists of NumPy arrays."""
    vector = Parameters(network.backend, network.layer_sizes, network.dtype)
    vector.flat[...] = flat
    coefs = [np.ascontiguousarray(network.backend.to_numpy(W).T) for W in vector.weights]
    return coefs, [network.backend.to_numpy(b).copy() for b in vector.biases]
