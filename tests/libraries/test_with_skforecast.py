"""skforecast: our regressor forecasts a series from its own lags."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import deltaprop as dp

pytestmark = pytest.mark.filterwarnings("default")  # those of another library are its own


def test_a_recursive_forecast_is_the_loop_over_its_steps():
    recursive = pytest.importorskip("skforecast.recursive")
    pd = pytest.importorskip("pandas")
    steps = np.arange(240)
    series = pd.Series(np.sin(2 * np.pi * steps / 12) + 0.01 * steps, name="y")
    network = make_pipeline(
        StandardScaler(),
        dp.MLPRegressor(hidden_layer_sizes=(12,), activation="tanh", solver="lbfgs", max_iter=60, random_state=0),
    )
    forecaster = recursive.ForecasterRecursive(estimator=network, lags=12)
    forecaster.fit(y=series)
    forecast = forecaster.predict(steps=6).to_numpy()

    rows = np.lib.stride_tricks.sliding_window_view(series.to_numpy(), 13)
    lags, following = pd.DataFrame(rows[:, :12][:, ::-1], columns=[f"lag_{lag}" for lag in range(1, 13)]), rows[:, 12]
    fitted = make_pipeline(
        StandardScaler(),
        dp.MLPRegressor(hidden_layer_sizes=(12,), activation="tanh", solver="lbfgs", max_iter=60, random_state=0),
    ).fit(lags, following)
    known = series.tolist()
    for _ in range(6):
        known.append(float(fitted.predict(pd.DataFrame([known[:-13:-1]], columns=lags.columns))[0]))
    np.testing.assert_allclose(forecast, known[-6:], rtol=1e-6)
    truth = np.sin(2 * np.pi * np.arange(240, 246) / 12) + 0.01 * np.arange(240, 246)
    assert np.abs(forecast - truth).max() < 0.2
