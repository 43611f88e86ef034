"""Probabilities that hold: a temperature, found by rows that were held out."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

from deltaprop.backends.array_types import Floats, HostArray

#: No probability is below this before its logarithm is taken.
LEAST = 1e-12
#: Temperatures from the reciprocal of this number to the number itself are looked at.
MOST = 4.0


def tempered(probabilities: Floats, temperature: float) -> Floats:
    """Compute softmax(log p / T), (m, k)."""
    logs = np.log(np.maximum(probabilities, LEAST)) / temperature
    powers: Floats = np.exp(logs - logs.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def log_losses(probabilities: Floats, numbers: HostArray) -> Floats:
    """Compute −log p, (m,), with the probability p of each row's class."""
    return -np.log(np.maximum(probabilities[np.arange(len(numbers)), numbers], LEAST))


def log_loss(probabilities: Floats, numbers: HostArray, weights: Floats) -> float:
    """Compute the mean of `log_losses`, Σ w (−log p) / Σ w."""
    return float(np.average(log_losses(probabilities, numbers), weights=weights))


def best_temperature(probabilities: Floats, numbers: HostArray, weights: Floats) -> float:
    """Find the temperature that gives the least log loss (Guo et al., On Calibration of Modern Neural Networks, 2017).

    Parameters
    ----------
    probabilities : array, (m, k)
        Of rows held out.
    numbers : array, (m,)
        The number of each row's class.
    weights : array, (m,)
        How much each row counts.

    Returns
    -------
    float
        The temperature, from 1 / `MOST` to `MOST`.
    """

    def loss_at(log_temperature: float) -> float:
        return log_loss(tempered(probabilities, float(np.exp(log_temperature))), numbers, weights)

    found = minimize_scalar(loss_at, bounds=(-np.log(MOST), np.log(MOST)), method="bounded")
    return float(np.exp(found.x))
