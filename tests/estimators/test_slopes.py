"""A fitted estimator gives hidden features, slopes and probabilities of its inputs."""

from typing import Any

import numpy as np
import pytest
import reference
from cases import relative
from scipy import sparse
from small_fits import classifier, regressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_probabilities_are_right_in_the_tails(rng):
    """log p of a class that has no chance is −|z|, not −inf."""
    X = np.array([[-1.0], [1.0]])
    fitted = classifier(hidden_layer_sizes=(), solver="lbfgs", alpha=0).fit(X, [0, 1])
    fitted.coefs_ = [np.array([[900.0]])]
    fitted.intercepts_ = [np.array([0.0])]
    assert np.array_equal(fitted.predict_proba(X), [[1, 0], [0, 1]])
    assert np.array_equal(fitted.predict_log_proba(X), [[0, -900], [-900, 0]])
    several = classifier(hidden_layer_sizes=(), solver="lbfgs").fit(np.eye(3), [0, 1, 2])
    several.coefs_ = [1000 * np.eye(3)]
    several.intercepts_ = [np.zeros(3)]
    assert np.array_equal(several.predict_log_proba(np.eye(3)), 1000 * np.eye(3) - 1000)


def test_hidden_features_as_a_table(iris):
    pandas = pytest.importorskip("pandas")
    X, y = iris
    fitted = classifier(hidden_layer_sizes=(6, 5)).fit(X, y).set_output(transform="pandas")
    features = fitted.transform(X)
    assert isinstance(features, pandas.DataFrame)
    assert list(features.columns) == [f"mlpclassifier{i}" for i in range(5)]
    for layer in (2, -3):
        with pytest.raises(ValueError, match="layer: expected a hidden layer, -2 … 1, got"):
            fitted.transform(X, layer=layer)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression", "multi-output"])
def test_input_gradient_is_the_slope_of_the_predictions(task, rng):
    X = rng.standard_normal((30, 4))
    z = np.tanh(X @ rng.standard_normal((4, 3)))
    y = {"binary": z[:, 0] > 0, "multiclass": z.argmax(1), "regression": z[:, 0], "multi-output": z}[task]
    build = classifier if task in ("binary", "multiclass") else regressor
    fitted = build(activation="tanh", solver="lbfgs").fit(X, y)
    h = 1e-6
    function = fitted.predict_proba if build is classifier else fitted.predict
    steps = [(function(X + h * e) - function(X - h * e)) / (2 * h) for e in np.eye(4)]
    slopes = np.stack(steps, axis=-1)
    if task == "binary":
        slopes = slopes[:, 1]
    gradient = fitted.input_gradient(X)
    assert gradient.shape == ((30, 4) if task in ("binary", "regression") else (30, 3, 4))
    assert relative(gradient, slopes) < 1e-7
    assert relative(fitted.input_gradient(sparse.csr_array(X)), gradient) < 1e-14


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", ["log_loss", "binary_cross_entropy", "squared_error"])
@pytest.mark.parametrize("task", ["2 classes", "3 classes", "labels"])
def test_input_gradient_is_that_of_the_probabilities_of_the_per_sample_loop(task, loss, dtype, rng):
    """It equals the complex step through the loop, and central differences of `predict_proba`."""
    X = rng.standard_normal((40, 4))
    z = X @ rng.standard_normal((4, 3)) + 0.5 * rng.standard_normal((40, 3))
    y = {"2 classes": z[:, 0] > 0, "3 classes": z.argmax(1), "labels": (z > 0).astype(int)}[task]
    for asked in ({}, {"output_activation": "softplus"} if loss == "squared_error" else {"hidden_layer_sizes": ()}):
        options: dict[str, Any] = {"activation": "tanh", "max_iter": 60, "learning_rate_init": 0.02, **asked}
        fitted = classifier(loss=loss, dtype=dtype, **options).fit(X, y)
        weights = [coef.T.astype(float) for coef in fitted.coefs_]
        biases = [intercept.astype(float) for intercept in fitted.intercepts_]
        activations = fitted.network_.activations

        def probabilities(x, weights=weights, biases=biases, activations=activations):
            h = reference.forward(weights, biases, activations, x)[1][-1]
            return h / h.sum() if task == "3 classes" and activations[-1] != "softmax" else h

        slopes = [[reference.along(probabilities, [x], [e]) for e in np.eye(4)] for x in X]
        expected = np.swapaxes(slopes, 1, 2)
        got = fitted.input_gradient(X)
        assert got.dtype == dtype
        assert relative(got, expected[:, 0] if task == "2 classes" else expected) < (
            1e-5 if dtype == "float32" else 1e-12
        )
        if dtype == "float64":
            step = 1e-6
            moved = [fitted.predict_proba(X + s * step * e) for e in np.eye(4) for s in (1, -1)]
            central = np.stack([(up - down) / (2 * step) for up, down in zip(moved[::2], moved[1::2], strict=True)], -1)
            assert relative(got, central[:, 1] if task == "2 classes" else central) < 1e-7


def test_probabilities_of_outputs_that_are_not_a_distribution(iris):
    X, y = iris
    for loss in ("squared_error", "binary_cross_entropy"):
        fitted = classifier(loss=loss, solver="lbfgs").fit(X, y)
        outputs = fitted.network_.predict(X)
        assert relative(fitted.predict_proba(X), outputs / outputs.sum(1, keepdims=True)) < 1e-15
        assert relative(np.exp(fitted.predict_log_proba(X)), fitted.predict_proba(X)) < 1e-12
        assert fitted.score(X, y) > 0.95
