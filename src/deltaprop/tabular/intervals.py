"""Intervals that hold a quantity with a given probability, from the residuals of rows held out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from deltaprop.backends.array_types import Floats

#: Predictions are split into at most this number of ranges, each with at least so many residuals.
MOST_RANGES, LEAST_RESIDUALS = 10, 50
#: So many residuals of a range weigh as much in its mean as the mean of all does.
PRIOR_RESIDUALS = 10.0
#: By so much a rank may fall short of a whole number by rounding: of 20 · 0.05 for a share of 0.9.
ROUNDING = 1e-9


@dataclass(frozen=True)
class ResidualIntervals:
    """How large residuals are, by the prediction, and how they are distributed once they are divided by that.

    This is normalised conformal prediction (Papadopoulos et al., Inductive Confidence Machines for Regression, 2002)
    with residuals from cross-validation.

    Parameters
    ----------
    centres : array, (r,)
        The mean prediction of each range, in ascending order.
    sizes : array, (r,)
        The mean absolute residual there; between the centres, sizes lie on straight lines.
    residuals : array, (n,)
        Divided by their sizes, and sorted.
    weights : array, (n,), or None
        How many rows each residual counts for, where it is not one for all.
    """

    centres: Floats
    sizes: Floats
    residuals: Floats
    weights: Floats | None = None

    @classmethod
    def fit(cls, values: Floats, y: Floats, weights: Floats | None = None) -> ResidualIntervals:
        """Find the sizes and the residuals of predictions for rows held out.

        Parameters
        ----------
        values : array, (n,)
            The predictions.
        y : array, (n,)
            The quantities.
        weights : array, (n,), optional
            How much each row counts, above 0. Only their ratios matter: the rows count for (Σ w)² / Σ w² rows of equal
            weight (Kish, Survey Sampling, 1965).

        Returns
        -------
        ResidualIntervals
            With weights that have this sum.
        """
        residuals = y - values
        equal = weights is None or bool((weights == weights[0]).all())
        counts = np.ones(len(values)) if equal or weights is None else weights * (weights.sum() / (weights @ weights))
        order = np.argsort(values, kind="stable")
        ranges = np.array_split(order, max(1, min(MOST_RANGES, len(values) // LEAST_RESIDUALS)))
        overall = float(np.average(np.abs(residuals), weights=counts))
        if not overall > 0.0:
            return cls(np.zeros(1), np.ones(1), np.zeros(len(values)), None if equal else counts)
        means = np.array([np.average(values[own], weights=counts[own]) for own in ranges])
        centres = np.maximum.accumulate(means)  # means of equal predictions may differ by rounding
        sums = np.array([(counts[own] * np.abs(residuals[own])).sum() for own in ranges])
        sizes = (sums + PRIOR_RESIDUALS * overall) / (np.array([counts[own].sum() for own in ranges]) + PRIOR_RESIDUALS)
        residuals = residuals / np.interp(values, centres, sizes)
        order = np.argsort(residuals, kind="stable")
        return cls(centres, sizes, residuals[order], None if equal else counts[order])

    def around(self, values: Floats, share: float) -> Floats:
        """Compute the intervals, (m, 2), around predictions, (m,), that hold the quantity with probability `share`."""
        sizes = np.interp(values, self.centres, self.sizes)
        return values[:, np.newaxis] + sizes[:, np.newaxis] * residual_range(self.residuals, share, self.weights)


def residual_range(residuals: Floats, share: float, weights: Floats | None = None) -> Floats:
    """Find the range that holds a residual with probability `share`, by the residuals of rows held out.

    The ends are order statistics: of n residuals and a further one each rank is as likely, so that the k-th and the
    (n + 1 − k)-th hold it with probability (n + 1 − 2k)/(n + 1) (Vovk et al., Algorithmic Learning in a Random World,
    2005). With weights, a residual is found as often as it counts for rows (Tibshirani et al., Conformal Prediction
    Under Covariate Shift, 2019).

    Parameters
    ----------
    residuals : array, (n,)
        Sorted.
    share : float
        In (0, 1).
    weights : array, (n,), optional
        How many rows each counts for, by default one; the further one counts for one.

    Returns
    -------
    array, (2,)
        The ends; infinite where n is too small for the share.
    """
    rows = len(residuals) if weights is None else float(weights.sum())
    most = (rows + 1) * (1 - share) / 2 + ROUNDING - 1  # so much lies beyond each end, besides the further one
    if most < 0:
        return np.array([-np.inf, np.inf])
    if weights is None:
        lower = upper = math.floor(most) + 1
    else:
        below, above = (np.cumsum(np.append(0.0, each[:-1])) for each in (weights, weights[::-1]))
        lower, upper = (int(np.searchsorted(beyond, most, side="right")) for beyond in (below, above))
    return np.array([residuals[lower - 1], residuals[-upper]])
