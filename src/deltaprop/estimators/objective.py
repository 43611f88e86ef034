"""The cost that scikit-learn minimises, in which each minibatch has its own m."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from deltaprop.backends.array_types import Floats
from deltaprop.derivation.backprop import Objective

#: A number, or an array with an entry for each of several fits.
Each = TypeVar("Each", float, Floats)


@dataclass(frozen=True)
class MinibatchObjective(Objective):
    """Each minibatch has a cost of its own; the cost of an epoch is their mean, weighted by numbers of samples.

    A minibatch b of n_b samples, whose weights w sum to m_b, out of an epoch of n samples::

        J_b = (1/m_b) Σ w cost + λ/(2 m_b) Σ W²
        J   = Σ (n_b/n) J_b

    The weights are scaled by n_b/m_b here, so that the weights of a minibatch sum to n_b. The cost is then
    J = (1/n) Σ w cost + Σ (n_b/n) λ/(2 m_b) Σ W², and its first term needs one sum for all minibatches.
    """

    def terms(self, n: int, m_b: float, m: float) -> tuple[float, float, float]:
        """Return the terms of J_b: 1/n_b for scaled weights, λ/m_b, and n_b λ/(2 m_b)."""
        penalty = self.penalty(m_b) if m_b else 0.0
        return 1.0 / n, penalty, 0.5 * penalty * n

    def weights(self, sample_weight: Floats, sizes: Sequence[int], sums: Sequence[float]) -> Floats:
        """Scale the weights of each minibatch so that they sum to its number of samples."""
        factors = [n / m if m else 0.0 for n, m in zip(sizes, sums, strict=True)]
        scaled: Floats = sample_weight * np.repeat(factors, sizes)
        return scaled.astype(sample_weight.dtype)

    @staticmethod
    def of_epoch(cost: Each, decay: Each, n: Any) -> tuple[Each, Each]:
        """Return the two terms of J over an epoch of n samples, from the sums over its minibatches."""
        return cost / n, decay / n


def constant_cost(costs: Floats | None, weights: Floats | None) -> float:
    """Compute the part of J that does not depend on the network: the mean of `costs`, (m,), by scaled weights."""
    if costs is None:
        return 0.0
    return float(np.mean(costs)) if weights is None else float(weights @ costs) / len(costs)
