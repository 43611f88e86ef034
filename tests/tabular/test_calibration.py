"""The temperature of probabilities: closed forms for two classes."""

import math

import numpy as np
import pytest

from deltaprop.tabular.calibration import MOST, best_temperature, log_loss, tempered


def test_a_temperature_divides_the_logits() -> None:
    """Of two classes, log(p₁/p₀) is the logit."""
    probabilities = np.array([[0.2, 0.8], [0.5, 0.5]])
    for temperature in (0.5, 1.0, 2.0):
        p = 1 / (1 + math.exp(-math.log(0.8 / 0.2) / temperature))
        np.testing.assert_allclose(tempered(probabilities, temperature), [[1 - p, p], [0.5, 0.5]])
    np.testing.assert_allclose(tempered(np.array([[0.0, 1.0]]), 1.0), [[0.0, 1.0]], atol=1e-11)


def test_log_loss_by_hand() -> None:
    loss = log_loss(np.array([[0.25, 0.75], [0.5, 0.5]]), np.array([1, 0]), np.array([3.0, 1.0]))
    assert loss == pytest.approx(-(3 * math.log(0.75) + math.log(0.5)) / 4)


@pytest.mark.parametrize("right", [0.6, 0.75, 0.9])
def test_the_best_temperature_makes_the_share_of_right_answers_the_probability(right: float) -> None:
    """All rows say 0.8 for class 1, and a share of them is of class 1: the best probability is the share."""
    numbers = np.concatenate([np.ones(round(100 * right), int), np.zeros(100 - round(100 * right), int)])
    probabilities = np.tile([0.2, 0.8], (100, 1))
    found = best_temperature(probabilities, numbers, np.ones(100))
    assert found == pytest.approx(math.log(4) / math.log(right / (1 - right)), rel=1e-3)
    # Weights count like rows: twice as much for each row of class 1.
    weights = np.where(numbers == 1, 2.0, 1.0)
    share = 2 * right / (1 + right)
    expected = math.log(4) / math.log(share / (1 - share))
    assert best_temperature(probabilities, numbers, weights) == pytest.approx(expected, rel=1e-3)


def test_it_stays_in_its_range() -> None:
    probabilities = np.tile([0.4, 0.6], (20, 1))
    assert best_temperature(probabilities, np.ones(20, int), np.ones(20)) == pytest.approx(1 / MOST, rel=1e-3)
    assert best_temperature(probabilities, np.zeros(20, int), np.ones(20)) == pytest.approx(MOST, rel=1e-3)
