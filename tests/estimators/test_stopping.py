"""scikit-learn's stopping rule equals its definition, epoch by epoch, for one fit and for many."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deltaprop.estimators.objective import MinibatchObjective, constant_cost
from deltaprop.estimators.stopping import StoppingRule

TOL, PATIENCE, RATE = 0.05, 2, 0.1


def told(values, *, falls, adaptive):
    """Return epochs, last learning rate and best value of one fit, by plain loops."""
    best, count, rate = (math.inf if falls else -math.inf), 0, RATE
    for epoch, value in enumerate(values, 1):
        if falls:
            count = count + 1 if value > best - TOL else 0
            best = value if value < best else best
        else:
            count = 0 if value >= best + TOL else count + 1
            best = value if value > best else best
        if count > PATIENCE:
            if not adaptive or rate <= 1e-6:
                return epoch, rate, best
            rate, count = rate / 5, 0
    return len(values), rate, best


@pytest.fixture
def curves(rng):
    """Return losses or scores of six fits: falling, level, rising, noisy, and two with some nan."""
    falling = np.linspace(1, -8, 60)
    noisy = rng.uniform(0, 1, (3, 60))
    noisy[1, ::7] = noisy[2, 1::2] = np.nan
    return np.stack([falling, np.zeros(60), -falling, *noisy])


@pytest.mark.parametrize("falls", [True, False])
@pytest.mark.parametrize("adaptive", [True, False])
def test_one_fit_stops_where_the_definition_says(curves, falls, adaptive):
    for values in curves:
        rule, rate = StoppingRule(TOL, PATIENCE, adaptive=adaptive, early_stopping=not falls), RATE
        epoch = 0
        for value in values.tolist():
            epoch += 1
            rule.count(rule.by_loss(value, value) if falls else rule.by_score(value)[0])
            if rule.gives_up:
                rate, goes_on = rule.slow_down(rate)
                if not goes_on:
                    break
        expected = told(values, falls=falls, adaptive=adaptive)
        assert (epoch, rate, rule.best_watched if falls else rule.best_score) == expected


@pytest.mark.parametrize("falls", [True, False])
def test_many_fits_stop_as_each_does_alone(curves, falls):
    k = len(curves)
    adaptive = np.arange(k) % 2 == 0
    falling, rising = np.full(k, np.inf), np.full(k, -np.inf)
    every = StoppingRule(
        np.full(k, TOL),
        np.full(k, PATIENCE),
        adaptive,
        np.full(k, not falls),
        np.zeros(k, int),
        falling,
        falling.copy(),
        rising,
        np.zeros(k, bool),
    )
    rates, epochs, active = np.full(k, RATE), np.zeros(k, int), np.arange(k)
    for values in curves.T:
        rule = every.of(active)
        rule.count(rule.by_loss(values[active], values[active]) if falls else rule.by_score(values[active])[0])
        rates[active], goes_on = rule.slow_down(rates[active])
        epochs[active] += 1
        every.put(active, rule)
        active = active[goes_on]
    for fit, values in enumerate(curves):
        best = every.best_watched[fit] if falls else every.best_score[fit]
        assert (epochs[fit], rates[fit], best) == told(values, falls=falls, adaptive=adaptive[fit])


def test_the_first_score_that_is_a_number_is_the_best_so_far():
    rule = StoppingRule(TOL, PATIENCE, early_stopping=True)
    assert [bool(rule.by_score(score)[1]) for score in (math.nan, -math.inf, math.nan, -math.inf, 0.5, 0.5)] == [
        False,
        True,
        False,
        False,
        True,
        False,
    ]


def test_it_does_not_give_up_within_its_patience():
    rule = StoppingRule(TOL, PATIENCE)
    for _ in range(10):
        epochs = rule.patience
        for _ in range(epochs):
            assert not rule.gives_up
            rule.count(True)
        assert rule.gives_up
        rule.worse_epochs = 0


def test_the_cost_of_an_epoch_is_the_mean_of_its_minibatches(rng):
    """J = Σ (n_b/n) J_b with J_b = (1/m_b) Σ w cost + λ/(2 m_b) Σ W², minibatch by minibatch, sample by sample."""
    sizes, l2 = (4, 4, 3), 0.7
    costs, constants, w = rng.uniform(0, 2, 11), rng.uniform(-1, 1, 11), rng.uniform(0.2, 3, 11)
    w[4:8] = 0  # a minibatch without weight costs nothing
    squares = [5.0, 4.0, 3.0]  # Σ W² changes from step to step
    expected, expected_constant, start, sums = 0.0, 0.0, 0, []
    for n_b, W2 in zip(sizes, squares, strict=True):
        m_b = math.fsum(w[start : start + n_b])
        sums.append(m_b)
        if m_b:
            J_b = sum(w[i] * costs[i] for i in range(start, start + n_b)) / m_b + l2 / (2 * m_b) * W2
            expected += n_b / 11 * J_b
            expected_constant += n_b / 11 * sum(w[i] * constants[i] for i in range(start, start + n_b)) / m_b
        start += n_b
    objective = MinibatchObjective(l2=l2)
    scaled = objective.weights(w, sizes, sums)
    decay = sum(objective.terms(n_b, m_b, sum(sums))[2] * W2 for n_b, m_b, W2 in zip(sizes, sums, squares, strict=True))
    assert sum(objective.of_epoch(scaled @ costs, decay, 11)) == pytest.approx(expected, rel=1e-13)
    assert constant_cost(constants, scaled) == pytest.approx(expected_constant, rel=1e-13)
    assert constant_cost(constants, None) == pytest.approx(math.fsum(constants) / 11, rel=1e-13)
    assert constant_cost(None, scaled) == 0.0


def test_the_gradient_of_a_minibatch_is_that_of_its_own_cost():
    """∂J_b/∂W = (1/n_b) Σ δ aᵀ by scaled weights + (λ/m_b) W, and the penalty of the step is (n_b/2) (λ/m_b) Σ W²."""
    assert MinibatchObjective(l2=0.6).terms(4, 3.0, 100.0) == pytest.approx((1 / 4, 0.6 / 3, 4 * 0.6 / (2 * 3)))
    assert MinibatchObjective(l2=0.6).terms(4, 0.0, 100.0) == (1 / 4, 0.0, 0.0)
