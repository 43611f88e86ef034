"""Intervals that hold a quantity with a given probability, from the residuals of rows held out."""

from __future__ import annotations

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
    """

    centres: Floats
    sizes: Floats
    residuals: Floats

    @classmethod
    def fit(cls, values: Floats, y: Floats) -> ResidualIntervals:
        """Find the sizes and the residuals of predictions, (n,), for rows held out whose quantities are y, (n,)."""
        residuals = y - values
        order = np.argsort(values, kind="stable")
        ranges = np.array_split(order, max(1, min(MOST_RANGES, len(values) // LEAST_RESIDUALS)))
        overall = float(np.abs(residuals).mean())
        if not overall > 0.0:
            return cls(np.zeros(1), np.ones(1), np.zeros(len(values)))
        means = np.array([values[own].mean() for own in ranges])
        centres = np.maximum.accumulate(means)  # means of equal predictions may differ by rounding
        sums = np.array([np.abs(residuals[own]).sum() for own in ranges])
        sizes = (sums + PRIOR_RESIDUALS * overall) / (np.array([len(own) for own in ranges]) + PRIOR_RESIDUALS)
        return cls(centres, sizes, np.sort(residuals / np.interp(values, centres, sizes)))

    def around(self, values: Floats, share: float) -> Floats:
        """Compute the intervals, (m, 2), around predictions, (m,), that hold the quantity with probability `share`."""
        sizes = np.interp(values, self.centres, self.sizes)
        return values[:, np.newaxis] + sizes[:, np.newaxis] * residual_range(self.residuals, share)


def residual_range(residuals: Floats, share: float) -> Floats:
    """Find the range that holds a residual with probability `share`, by the residuals of rows held out.

    The ends are order statistics: of n residuals and a further one each rank is as likely, so that the k-th and the
    (n + 1 − k)-th hold it with probability (n + 1 − 2k)/(n + 1) (Vovk et al., Algorithmic Learning in a Random World,
    2005).

    Parameters
    ----------
    residuals : array, (n,)
        Sorted.
    share : float
        In (0, 1).

    Returns
    -------
    array, (2,)
        The ends; infinite where n is too small for the share.
    """
    n = len(residuals)
    k = int(np.floor((n + 1) * (1 - share) / 2 + ROUNDING))
    return np.array([residuals[k - 1], residuals[n - k]]) if k else np.array([-np.inf, np.inf])
