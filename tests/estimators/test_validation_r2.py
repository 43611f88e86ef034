"""The score of a regressor's validation data after an epoch is scikit-learn's R²."""

import pytest
from sklearn.metrics import r2_score

import deltaprop as dp


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("outputs", [1, 3])
def test_r2(outputs, rng):
    X, y, weight = rng.standard_normal((60, 4)), rng.standard_normal((60, outputs)), rng.uniform(0, 2, 20)
    y = y[:, 0] if outputs == 1 else y
    judged = (X[40:], y[40:], weight)
    model = dp.MLPRegressor(hidden_layer_sizes=8, max_iter=1, random_state=0, backend="numpy")
    model.fit(X[:40], y[:40], validation_data=judged)
    expected = r2_score(judged[1], model.predict(X[40:]), sample_weight=weight)
    assert model.validation_scores_ == pytest.approx([expected], rel=1e-12)
