"""The scores of estimators, of many networks at once: accuracy and R².

Each takes outputs, (k, m, s_L), targets, (m, s_L), and weights, (m,) or None, all on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from deltaprop.backends.array_types import AnyArray, Floats

#: (outputs, targets, weights) -> (k,): higher is better.
Score: TypeAlias = Callable[[AnyArray, AnyArray, AnyArray | None], Floats]


def accuracy(outputs: AnyArray, targets: AnyArray, weights: AnyArray) -> Floats:
    """Compute the share of samples whose class is the one predicted, by weight, (k,)."""
    if targets.shape[1] == 1:
        right = (outputs[..., 0] > 0.5) == (targets[:, 0] > 0.5)
    else:
        right = outputs.argmax(axis=-1) == targets.argmax(axis=-1)
    return np.average(right, axis=-1, weights=weights)


def subset_accuracy(outputs: AnyArray, targets: AnyArray, weights: AnyArray) -> Floats:
    """Compute the share of samples all of whose labels are predicted right, by weight, (k,)."""
    right = ((outputs > 0.5) == (targets > 0.5)).all(axis=-1)
    return np.average(right, axis=-1, weights=weights)


def r2(outputs: AnyArray, targets: AnyArray, weights: AnyArray) -> Floats:
    """Compute R², the mean over the outputs, by weight, (k,); nan for a member with an output that is not finite."""
    outputs, targets = np.asarray(outputs, np.float64), np.asarray(targets, np.float64)
    w = np.ones(len(targets)) if weights is None else np.asarray(weights, np.float64)
    mean = np.average(targets, axis=0, weights=w)
    spread = (w[:, None] * (targets - mean) ** 2).sum(axis=0)
    error = (w[:, None] * (targets - outputs) ** 2).sum(axis=-2)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(spread != 0, 1.0 - error / spread, np.where(error == 0, 1.0, 0.0))
    each[~np.isfinite(outputs).all(axis=(-1, -2))] = np.nan
    result: Floats = each.mean(axis=-1)
    return result
