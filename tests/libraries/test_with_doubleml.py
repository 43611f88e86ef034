"""DoubleML: our regressors are the learners of a partially linear regression with a known coefficient."""

import numpy as np
import pytest

import deltaprop as dp

pytestmark = pytest.mark.filterwarnings("default")  # those of another library are its own


def test_a_partially_linear_regression_finds_its_coefficient():
    doubleml = pytest.importorskip("doubleml")
    draw = np.random.default_rng(0)
    x = draw.normal(size=(1200, 5))
    d = np.tanh(x[:, 0]) + 0.5 * draw.normal(size=1200)
    y = 0.5 * d + np.cos(x[:, 0]) + 0.5 * draw.normal(size=1200)
    learner = dp.MLPRegressor(
        hidden_layer_sizes=(16,), max_iter=150, early_stopping=True, learning_rate_init=0.01, random_state=0
    )
    data = doubleml.DoubleMLData.from_arrays(x, y, d)
    np.random.seed(0)  # draws the folds
    model = doubleml.DoubleMLPLR(data, ml_l=learner, ml_m=learner, n_folds=3).fit()
    assert model.coef[0] == pytest.approx(0.5, abs=0.1)
    low, high = model.confint(level=0.999).to_numpy()[0]
    assert low < 0.5 < high
