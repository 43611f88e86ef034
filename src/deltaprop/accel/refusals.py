"""What ours leaves to scikit-learn's own code, and why: each function returns the reason, or None."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from sklearn.neural_network import _base
from sklearn.neural_network import _multilayer_perceptron as perceptrons
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from sklearn.utils._param_validation import InvalidParameterError, validate_parameter_constraints

CLASSES: tuple[Any, Any] = (perceptrons.MLPClassifier, perceptrons.MLPRegressor)
#: Parameters whose values are checked here; the layers and the generator are made when ours begins.
CHECKED = {
    kind: tuple(name for name in kind._parameter_constraints if name not in ("hidden_layer_sizes", "random_state"))
    for kind in CLASSES
}
#: Functions of scikit-learn's that its own code calls and ours does not, by what is done.
NOT_CALLED: dict[str, tuple[str, ...]] = {
    "stochastic": (
        "_forward_pass",
        "_forward_pass_fast",
        "_backprop",
        "_compute_loss_grad",
        "_update_no_improvement_count",
        "_score",
        "_score_with_function",
        "_predict",
    ),
    "lbfgs": ("_forward_pass", "_backprop", "_compute_loss_grad", "_loss_grad_lbfgs", "_unpack"),
    "predict": (),
}
#: These functions by class, and the tables of functions, as scikit-learn has them.
THEIR_OWN: dict[Any, dict[str, Any]] = {
    kind: {name: getattr(kind, name, None) for names in NOT_CALLED.values() for name in names} for kind in CLASSES
}
TABLES = tuple(
    (getattr(_base, name), dict(getattr(_base, name))) for name in ("ACTIVATIONS", "DERIVATIVES", "LOSS_FUNCTIONS")
)
LOSSES: dict[Any, tuple[str, ...]] = {
    perceptrons.MLPClassifier: ("log_loss",),
    perceptrons.MLPRegressor: ("squared_error", "poisson"),
}
#: The activations of the output for which the error of the output is what a network has predicted less what it should.
OUT_ACTIVATIONS = {"log_loss": ("softmax", "logistic"), "squared_error": ("identity",), "poisson": ("exp",)}
ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
FLOATS = ("float32", "float64")


def of_object(theirs: Any, what: str, patched: dict[str, Any]) -> str | None:
    """Say why `theirs` is not an estimator as scikit-learn makes it; `patched` holds functions that we have put in."""
    kind = next((kind for kind in CLASSES if isinstance(theirs, kind)), None)
    if kind is None:
        return "it is neither an MLPClassifier nor an MLPRegressor"
    for name in NOT_CALLED[what]:
        if name in vars(theirs) or getattr(type(theirs), name) not in (THEIR_OWN[kind][name], patched.get(name)):
            return f"{name} is not scikit-learn's own, and ours would not call it"
    if any(table != own for table, own in TABLES):
        return "somebody has changed scikit-learn's activations or losses"
    if theirs.activation not in ACTIVATIONS:
        return f"activation={theirs.activation!r} is not known"
    if theirs.loss not in LOSSES[kind]:
        return f"loss={theirs.loss!r} is not known"
    return None


def of_training(
    theirs: Any, X: Any, y: Any, sample_weight: Any, layer_units: list[int], *, incremental: bool = False
) -> str | None:
    """Say why a training on checked data is left to scikit-learn."""
    stochastic = theirs.solver != "lbfgs"
    if stochastic and theirs.early_stopping and incremental:
        return "partial_fit with early stopping is an error"
    shapes = [coef.shape for coef in theirs.coefs_]
    if len(layer_units) != len(shapes) + 1 or shapes[-1][1] != y.shape[1]:
        return "the layers are not those of the last fit"
    if theirs.out_activation_ not in OUT_ACTIVATIONS[theirs.loss]:
        return f"the output has the activation {theirs.out_activation_!r}, which is not the one of the loss"
    if stochastic and vars(theirs).get("best_validation_score_" if theirs.early_stopping else "best_loss_") is None:
        return "the last fit has kept no records of the kind that early_stopping asks for"
    reason = _of_parameters(theirs)
    if reason is not None:
        return reason
    if stochastic and any(array.dtype != X.dtype for array in (*theirs.coefs_, *theirs.intercepts_)):
        return f"the parameters are not of the dtype of X, {X.dtype}"
    if stochastic and not all(array.flags.writeable for array in (*theirs.coefs_, *theirs.intercepts_)):
        return "the parameters are read-only"
    if (
        stochastic
        and incremental
        and type(getattr(theirs, "_optimizer", None))
        not in (
            AdamOptimizer,
            SGDOptimizer,
            type(None),
        )
    ):
        return "its optimizer is not scikit-learn's"
    if not stochastic and theirs.verbose:
        return "with verbose, scipy prints lines of its own"
    if theirs.loss == "poisson" and np.any(y < 0):
        return "loss='poisson' with negative targets"
    if sample_weight is not None and not (sample_weight.any() and (sample_weight >= 0).all()):
        return "weights that are negative, or all 0"
    return None


def _of_parameters(theirs: Any) -> str | None:
    """Say which parameter scikit-learn would refuse, had it not been told to check none, or gone on with a fit."""
    kind = next(kind for kind in CLASSES if isinstance(theirs, kind))
    try:
        return _first_error(kind, *(getattr(theirs, name) for name in CHECKED[kind]))
    except TypeError as error:  # a list where there should be a number, say
        return f"a parameter was not checked: {error}"


@lru_cache(maxsize=256, typed=True)
def _first_error(kind: Any, *values: Any) -> str | None:
    """Return what scikit-learn says against these values of the parameters in `CHECKED`, or None."""
    names = CHECKED[kind]
    own = {name: kind._parameter_constraints[name] for name in names}
    try:
        validate_parameter_constraints(own, dict(zip(names, values, strict=True)), kind.__name__)
    except InvalidParameterError as error:
        return f"a parameter was not checked: {error}"
    return None


def of_prediction(theirs: Any, X: Any) -> str | None:
    """Say why a prediction for checked inputs is left to scikit-learn."""
    kinds = {array.dtype.name for array in (*theirs.coefs_, *theirs.intercepts_)}
    if len(kinds) != 1 or not kinds <= set(FLOATS):
        return "the parameters have several dtypes, or none of float32 and float64"
    if X.ndim != 2 or not (type(X) is np.ndarray or hasattr(X, "tocsr")):
        return f"inputs of type {type(X).__name__}"
    if np.result_type(X.dtype, theirs.coefs_[0].dtype) != theirs.coefs_[0].dtype:
        return f"inputs of dtype {X.dtype} for parameters of {kinds.pop()}"
    return None
