"""What ours cannot do, or does otherwise, is done by scikit-learn's own code: to the bit, and with a line in the log."""

import logging

import numpy as np
import pytest
import sklearn
from accelerating import accelerated, both_ways, differences
from scikit_learn_versions import LOSSES_IN_FLOAT32, TAKES_WEIGHTS, needs_1_9, needs_their_weights
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.neural_network._base import ACTIVATIONS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore::RuntimeWarning")
X, y = load_iris(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
SMALL = {"hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0}


class Noisy(MLPClassifier):
    """A subclass that changes the gradient."""

    def _backprop(self, *args):
        loss, coef_grads, intercept_grads = super()._backprop(*args)
        return loss, [grad + 0.01 for grad in coef_grads], intercept_grads


class Named(MLPClassifier):
    """A subclass that changes nothing that ours does."""

    def fit(self, X, y):
        self.name_ = "named"
        return super().fit(X, y)


def mixed_dtypes():
    return MLPClassifier(warm_start=True, **SMALL).fit(X.astype(np.float32), y).fit(X, y)


def other_depth():
    mlp = MLPClassifier(warm_start=True, **SMALL).fit(X, y).set_params(hidden_layer_sizes=(8, 8, 8))
    with pytest.raises((IndexError, ValueError, TypeError, AttributeError)):
        mlp.fit(X, y)
    return vars(mlp)["coefs_"]


def instance():
    mlp = MLPClassifier(**SMALL)
    mlp._update_no_improvement_count = lambda *args: None
    mlp.fit(X, y)
    del mlp._update_no_improvement_count
    return mlp


def other_output():
    mlp = MLPRegressor(**SMALL).fit(X, y)
    mlp.out_activation_ = "relu"
    return mlp.partial_fit(X, y)


def read_only():
    mlp = MLPClassifier(**SMALL).fit(X, y)
    mlp.coefs_[1].flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        mlp.partial_fit(X, y)


def negative_alpha():
    return MLPClassifier(**SMALL).fit(X, y).set_params(alpha=-0.5).partial_fit(X, y)  # which checks no parameter


def no_rate():
    with sklearn.config_context(skip_parameter_validation=True):
        return MLPClassifier(nesterovs_momentum=0, solver="sgd", **SMALL).fit(X, y)


def other_records():
    mlp = MLPClassifier(warm_start=True, early_stopping=True, **SMALL).fit(X, y).set_params(early_stopping=False)
    with pytest.raises(TypeError, match="unsupported operand"):
        mlp.fit(X, y)


def last_weights(solver="adam", **options):
    mlp = MLPClassifier(solver=solver, **SMALL, **options)
    with pytest.raises((ValueError, ZeroDivisionError)) as raised:
        mlp.fit(X, y, np.r_[np.zeros(len(y) - 1), 1.0])
    return type(raised.value), str(raised.value), mlp._random_state.get_state()[1]


#: What is done, and a part of the reason why scikit-learn does it.
LEFT = {
    "subclass": (lambda: Noisy(**SMALL).fit(X, y), "_backprop is not scikit-learn's own"),
    "instance": (instance, "_update_no_improvement_count is not"),
    "other depth": (other_depth, "not those of the last fit"),
    "other output": (other_output, "activation 'relu', which is not the one of the loss"),
    "read-only": (read_only, "the parameters are read-only"),
    "negative alpha": (negative_alpha, "The 'alpha' parameter of MLPClassifier must be a float in the range"),
    "unchecked": (no_rate, "The 'nesterovs_momentum' parameter of MLPClassifier must be"),
    "other records": (other_records, "no records of the kind"),
    "verbose lbfgs": (lambda: MLPClassifier(verbose=True, solver="lbfgs", **SMALL).fit(X, y), "scipy prints"),
    "float64 for float32": (
        lambda: MLPClassifier(**SMALL).fit(X.astype(np.float32), y).predict_proba(X),
        "inputs of dtype float64",
    ),
}

if not LOSSES_IN_FLOAT32:
    LEFT["two dtypes"] = mixed_dtypes, "not of the dtype of X, float64"
if TAKES_WEIGHTS:
    LEFT["negative weights"] = lambda: MLPClassifier(**SMALL).fit(X, y, np.linspace(-0.1, 1, len(y))), "negative"
    LEFT["tiny weights"] = lambda: MLPClassifier(**SMALL).fit(X, y, np.full(len(y), 1e-310)), "least normal number"
    LEFT["held out weights"] = (
        lambda: last_weights(early_stopping=True),
        "all samples held out have the weight 0",
    )


@pytest.mark.parametrize("case", LEFT)
def test_it_is_done_by_scikit_learn(case, caplog):
    run, reason = LEFT[case]
    with caplog.at_level(logging.INFO, "deltaprop.accel"):
        theirs, ours, profile = both_ways(run)
    assert any(reason in why for _, _, why in profile.reasons)
    lines = [record.getMessage() for record in caplog.records]
    assert any("by scikit-learn's own code" in line and reason in line for line in lines)
    assert len(lines) == len(set(lines))
    # What another fit before this one has left is ours.
    assert list(differences(theirs, ours, 0.0 if case in ("subclass", "instance", "verbose lbfgs") else 1e-4)) == []


def test_a_subclass_that_changes_nothing_is_ours():
    theirs, ours, profile = both_ways(lambda: Named(**SMALL).fit(X, y))
    assert ours.name_ == "named"
    assert list(differences(theirs, ours, 1e-8)) == []
    assert {who.split(",")[0] for _, _, who in profile.calls} == {"deltaprop"}


def test_activations_that_somebody_has_changed(monkeypatch):
    monkeypatch.setitem(ACTIVATIONS, "relu", ACTIVATIONS["tanh"])
    theirs, ours, profile = both_ways(lambda: MLPClassifier(**SMALL).fit(X, y).predict_proba(X))
    assert np.array_equal(theirs, ours)
    assert {why for _, _, why in profile.reasons} == {"somebody has changed scikit-learn's activations or losses"}


@pytest.mark.parametrize(
    ("run", "error"),
    [
        (lambda: MLPClassifier(alpha=-1).fit(X, y), ValueError),
        (lambda: MLPClassifier(activation="gelu").fit(X, y), ValueError),
        (lambda: MLPClassifier(early_stopping=True).partial_fit(X, y, classes=[0, 1, 2]), ValueError),
        (lambda: MLPClassifier(solver="lbfgs").partial_fit, AttributeError),
        pytest.param(
            lambda: MLPClassifier(early_stopping=True, validation_fraction=0.005).fit(X, y), ValueError, marks=needs_1_9
        ),
        (lambda: MLPClassifier(**SMALL).fit(X, y).predict(X[:, :2]), ValueError),
        (lambda: MLPClassifier().predict(X), NotFittedError),
        (lambda: MLPRegressor(**SMALL).fit(X * np.nan, y), ValueError),
        pytest.param(
            lambda: MLPClassifier(**SMALL).fit(X, y, sample_weight=np.zeros(len(y))),
            ValueError,
            marks=needs_their_weights,
        ),
        (lambda: MLPRegressor(**SMALL).fit(X, np.array(["a", "b", "c"])[y]), TypeError),
    ],
)
def test_errors_are_theirs(run, error):
    def message():
        with pytest.raises(error) as raised:
            run()
        return type(raised.value), str(raised.value)

    theirs, ours, _ = both_ways(message)
    assert theirs == ours


def test_an_error_of_a_fit_comes_back_out():
    with accelerated(), pytest.raises(ValueError, match="inconsistent numbers of samples"):
        MLPClassifier(**SMALL).fit(X, y[:-1])


def test_a_minibatch_whose_weights_are_all_zero_is_their_error():
    theirs, ours, profile = both_ways(lambda: last_weights(batch_size=20))
    assert theirs[0] is ZeroDivisionError
    assert list(differences(theirs, ours, 0.0)) == []
    assert not profile.reasons
