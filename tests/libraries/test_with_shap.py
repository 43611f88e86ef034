"""SHAP: its values of our models add up to what they predict."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.preprocessing import scale

import deltaprop as dp

pytestmark = pytest.mark.filterwarnings("default")  # those of another library are its own


def test_values_of_a_classifier_add_up_to_its_probabilities():
    shap = pytest.importorskip("shap")
    X, y = load_iris(return_X_y=True)
    mlp = dp.MLPClassifier((6,), max_iter=50, random_state=0).fit(X, y)
    values = shap.Explainer(mlp.predict_proba, X[::10], algorithm="exact")(X[:5])
    np.testing.assert_allclose(values.base_values[0], mlp.predict_proba(X[::10]).mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(values.base_values + values.values.sum(axis=1), mlp.predict_proba(X[:5]), atol=1e-6)


def test_values_of_a_regressor_without_hidden_layers_are_those_of_a_line():
    shap = pytest.importorskip("shap")
    X, y = load_diabetes(return_X_y=True)
    X = scale(X)[:, :4]
    mlp = dp.MLPRegressor(hidden_layer_sizes=(), solver="lbfgs", max_iter=200, random_state=0).fit(X, y)
    values = shap.Explainer(mlp.predict, X[::20], algorithm="exact")(X[:5])
    slopes = np.linalg.lstsq(np.c_[X, np.ones(len(X))], y, rcond=None)[0][:4]
    np.testing.assert_allclose(values.values, (X[:5] - X[::20].mean(axis=0)) * slopes, atol=0.1)
