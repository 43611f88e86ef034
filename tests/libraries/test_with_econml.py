"""EconML: our regressors are the nuisance models of an effect that is known."""

import numpy as np
import pytest

import deltaprop as dp

pytestmark = pytest.mark.filterwarnings("default")  # those of another library are its own


def network():
    return dp.MLPRegressor(hidden_layer_sizes=(16,), solver="lbfgs", alpha=1.0, max_iter=200, random_state=0)


def test_double_machine_learning_finds_the_effect():
    dml = pytest.importorskip("econml.dml")
    draw = np.random.default_rng(0)
    W = draw.normal(size=(1500, 4))
    T = np.sin(W[:, 0]) + 0.5 * draw.normal(size=1500)
    Y = 2.0 * T + np.cos(W[:, 0]) + 0.3 * draw.normal(size=1500)
    model = dml.LinearDML(model_y=network(), model_t=network(), random_state=0, cv=2).fit(Y, T, X=None, W=W)
    assert model.const_marginal_ate() == pytest.approx(2.0, abs=0.1)
    low, high = model.const_marginal_ate_interval(alpha=0.001)
    assert low < 2.0 < high


def test_a_treatment_of_two_classes_takes_our_classifier():
    dml = pytest.importorskip("econml.dml")
    draw = np.random.default_rng(1)
    W = draw.normal(size=(1500, 3))
    T = (draw.uniform(size=1500) < 1 / (1 + np.exp(-W[:, 0]))).astype(int)
    Y = 1.5 * T + W[:, 0] ** 2 + 0.3 * draw.normal(size=1500)
    classifier = dp.MLPClassifier((16,), max_iter=60, random_state=0, early_stopping=True)
    model = dml.LinearDML(model_y=network(), model_t=classifier, discrete_treatment=True, random_state=0, cv=2)
    assert model.fit(Y, T, X=None, W=W).ate() == pytest.approx(1.5, abs=0.15)
