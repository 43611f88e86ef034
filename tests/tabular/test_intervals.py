"""Intervals from residuals of rows held out: order statistics, sizes that follow the prediction, coverage."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_tables import QUICK, QuickRegressor

import deltaprop as dp
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


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.9, 0.95, 0.99])
def test_whole_numbers_as_weights_are_repeated_rows(share: float) -> None:
    """Of n residuals the ends are the k-th smallest and the k-th largest, with k = ⌊(n + 1)(1 − share)/2⌋."""
    rng = np.random.default_rng(0)
    for rows in (1, 2, 7, 40):
        residuals, weights = np.sort(rng.normal(size=rows)), rng.integers(1, 6, rows).astype(float)
        repeated = [residual for residual, times in zip(residuals, weights, strict=True) for _ in range(int(times))]
        k = math.floor((len(repeated) + 1) * (1 - share) / 2 + 1e-9)
        expected = [repeated[k - 1], repeated[-k]] if k else [-np.inf, np.inf]
        np.testing.assert_array_equal(residual_range(residuals, share, weights), expected)
        np.testing.assert_array_equal(residual_range(np.array(repeated), share), expected)


def test_weights_of_rows_decide_the_ends() -> None:
    """100 rows with residuals of ±1 to ±50: those of ±1 to ±10 weigh 9 times as much; sizes are all the same."""
    residuals = np.concatenate([np.arange(1.0, 51.0), -np.arange(1.0, 51.0)])
    weights = np.where(np.abs(residuals) <= 10, 9.0, 1.0)
    values = np.zeros(100)
    for scale in (1.0, 0.1):  # only ratios matter
        intervals = ResidualIntervals.fit(values, residuals, scale * weights)
        assert intervals.weights is not None
        assert intervals.weights.sum() == pytest.approx((20 * 9 + 80) ** 2 / (20 * 81 + 80))
        # Of the weight 260 and the further row, of 1700 / 260, at most a quarter may lie beyond each end.
        t = (260 + 1700 / 260) / 4 - 1700 / 260
        lower = max(r for r in residuals if weights[residuals < r].sum() <= t)
        upper = min(r for r in residuals if weights[residuals > r].sum() <= t)
        np.testing.assert_allclose(intervals.around(np.zeros(1), 0.5), [[lower, upper]], rtol=1e-12)
    assert upper == 8.0
    same = ResidualIntervals.fit(values, residuals, np.full(100, 0.1))
    plain = ResidualIntervals.fit(values, residuals)
    assert same.weights is None
    np.testing.assert_array_equal(same.residuals, plain.residuals)
    np.testing.assert_array_equal(same.around(np.zeros(1), 0.5), plain.around(np.zeros(1), 0.5))


def test_sizes_are_weighted_means() -> None:
    """Residuals of ±1 for small predictions; for large ones of ±3 with weight 1 and ±1 with weight 3."""
    values = np.concatenate([np.zeros(50), np.full(50, 10.0)])
    large = np.where(np.arange(50) % 2, 3.0, 1.0)
    sizes, weights = np.concatenate([np.ones(50), large]), np.concatenate([np.ones(50), 4 - large])
    intervals = ResidualIntervals.fit(values, values + sizes * np.tile([1, 1, -1, -1], 25), weights)
    scale = weights.sum() / (weights @ weights)
    overall = (50 + 25 * 3 * 1 + 25 * 1 * 3) / 150
    expected = [(scale * 50 + 10 * overall) / (scale * 50 + 10), (scale * 150 + 10 * overall) / (scale * 100 + 10)]
    np.testing.assert_allclose(intervals.sizes, expected)
    np.testing.assert_allclose(intervals.centres, [0, 10])


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
    wrongs: list[Any] = [0, 1, -0.5, 2.0, "wide"]
    for wrong in wrongs:
        with pytest.raises((ValueError, TypeError), match="return_interval"):
            model.predict(X[:2], return_interval=wrong)


def test_weights_of_rows_decide_the_intervals_of_an_estimator(tmp_path: Path) -> None:
    """Noise is ten times as large in a tenth of the rows; with next to no weight these hardly widen the intervals."""
    rng = np.random.default_rng(0)
    X, noisy = rng.uniform(0, 1, (1000, 2)), np.arange(1000) % 10 == 0
    y = X[:, 0] + np.where(noisy, 1.0, 0.1) * rng.normal(size=1000)
    model = QuickRegressor(**QUICK).fit(X, y, np.where(noisy, 1e-6, 1.0))
    inside = []
    for each in (model, QuickRegressor(**QUICK).fit(X, y)):
        intervals = each._intervals.around(each.oof_predictions_, 0.9)
        seen = ~noisy & ~np.isnan(each.oof_predictions_)
        inside.append(((intervals[:, 0] <= y) & (y <= intervals[:, 1]))[seen].mean())
    assert 0.9 <= inside[0] < 0.92  # by a row or two at each end more than 0.9 of some 225
    assert inside[1] > 0.94
    model.save(tmp_path / "model")
    again = dp.load(tmp_path / "model").predict(X, return_interval=0.9)[1]
    np.testing.assert_array_equal(again, model.predict(X, return_interval=0.9)[1])
