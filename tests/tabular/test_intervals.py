"""Intervals from residuals of rows held out: order statistics, sizes that follow the prediction, coverage."""

import numpy as np
import pytest
from small_tables import QUICK, QuickRegressor

from deltaprop.tabular.intervals import ResidualIntervals, residual_range


def test_the_ends_are_order_statistics() -> None:
    residuals = np.arange(1.0, 20.0)  # 19 of them: with a further one, 20 ranks
    np.testing.assert_array_equal(residual_range(residuals, 0.9), [1, 19])
    np.testing.assert_array_equal(residual_range(residuals, 0.5), [5, 15])
    np.testing.assert_array_equal(residual_range(residuals, 0.95), [-np.inf, np.inf])  # too few for that


def test_one_size_where_residuals_are_few() -> None:
    intervals = ResidualIntervals.fit(np.arange(19.0), np.arange(19.0) + np.tile([-1.0, 1.0], 10)[:19])
    np.testing.assert_array_equal(intervals.sizes, [1.0])
    np.testing.assert_array_equal(intervals.around(np.array([5.0]), 0.9), [[4.0, 6.0]])


def test_sizes_follow_the_prediction() -> None:
    """Residuals of ±1 for small predictions, of ±3 for large ones: against the mean with ten rows of the overall."""
    values = np.concatenate([np.zeros(50), np.full(50, 10.0)])
    signs = np.tile([-1.0, 1.0], 50)
    intervals = ResidualIntervals.fit(values, values + signs * np.where(values > 0, 3.0, 1.0))
    np.testing.assert_allclose(intervals.centres, [0, 10])
    np.testing.assert_allclose(intervals.sizes, [(50 * 1 + 10 * 2) / 60, (50 * 3 + 10 * 2) / 60])
    narrow, middle, wide = np.diff(intervals.around(np.array([-5.0, 5.0, 50.0]), 0.9))[:, 0]
    assert wide / narrow == pytest.approx(170 / 70)
    assert middle == pytest.approx((narrow + wide) / 2)


def test_exact_predictions_have_intervals_of_no_width() -> None:
    intervals = ResidualIntervals.fit(np.full(40, 0.1), np.full(40, 0.1))
    np.testing.assert_array_equal(intervals.around(np.array([0.1]), 0.9), [[0.1, 0.1]])


@pytest.mark.parametrize(("value", "count"), [(-0.7, 951), (0.1, 130), (0.3, 1000)])
def test_equal_predictions_have_centres_in_order(value: float, count: int) -> None:
    """-0.7 has another mean over 95 rows than over 96."""
    values = np.full(count, value)
    assert np.diff(ResidualIntervals.fit(values, values + np.arange(count)).centres).min() >= 0


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_new_quantities_lie_in_the_intervals_as_often_as_promised(share: float) -> None:
    """Where noise grows with the prediction, also among small and among large predictions alone."""
    rng = np.random.default_rng(0)
    values = rng.uniform(1, 10, 20_000)
    y = values + values * rng.normal(size=len(values))
    intervals = ResidualIntervals.fit(values[:4000], y[:4000]).around(values[4000:], share)
    inside = (intervals[:, 0] <= y[4000:]) & (y[4000:] <= intervals[:, 1])
    for part in (values[4000:] < 3, values[4000:] > 8, values[4000:] > 0):
        assert inside[part].mean() == pytest.approx(share, abs=0.03)


def test_the_estimator_promises_what_it_keeps() -> None:
    """Noise that grows with the quantity; rows are neither trained on nor among the residuals."""
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 1, (5000, 3))
    level = np.exp(2 * X[:, 0])
    y = level * (1 + 0.3 * rng.normal(size=5000))
    model = QuickRegressor(**QUICK | {"n_members": 4}).fit(X[:1500], y[:1500])
    for share in (0.5, 0.8, 0.9):
        values, intervals = model.predict(X[1500:], return_interval=share)
        np.testing.assert_array_equal(values, model.predict(X[1500:]))
        inside = (intervals[:, 0] <= y[1500:]) & (y[1500:] <= intervals[:, 1])
        assert inside.mean() == pytest.approx(share, abs=0.04)
        # Intervals of one width would hold nearly all small quantities and far too few of the large ones.
        assert inside[level[1500:] < 2].mean() == pytest.approx(share, abs=0.1)
        assert inside[level[1500:] > 5].mean() == pytest.approx(share, abs=0.1)
    for wrong in (0, 1, -0.5, 2.0, "wide"):
        with pytest.raises((ValueError, TypeError), match="return_interval"):
            model.predict(X[:2], return_interval=wrong)
