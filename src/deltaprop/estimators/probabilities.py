"""From the outputs of a classifier to probabilities, to their logarithms, and to their slopes.

One output h is the probability of the second of two classes. Several outputs are probabilities as they are; for one
choice among several classes, logistic outputs are divided by their sum, written as ``divided``.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from deltaprop.backends.array_types import AnyArray


def probabilities(outputs: AnyArray, *, divided: bool) -> AnyArray:
    """Compute the probability of each class, (m, n_classes), from a^(L), (m, n_outputs)."""
    if outputs.shape[1] == 1:
        result = outputs.repeat(2, axis=1)
        result[:, 0] = 1.0 - result[:, 1]
        return result
    return outputs / outputs.sum(axis=1, keepdims=True) if divided else outputs


def log_probabilities(p: AnyArray) -> AnyArray:
    """Compute the logarithm of each probability; −inf where it is 0."""
    with np.errstate(divide="ignore"):
        return _functions(p).log(p)


def log_probabilities_from_z(p: AnyArray, z: AnyArray, *, softmax: bool, divided: bool) -> AnyArray:
    """Compute the same, from z^(L) where a probability is below 1/2: none is too small to have a logarithm."""
    xp = _functions(p)
    if softmax:
        z = z - z.max(axis=1, keepdims=True)
        from_z = z - xp.log(xp.exp(z).sum(axis=1, keepdims=True))
    elif z.shape[1] == 1:
        from_z = -xp.logaddexp(0, xp.concatenate([z, -z], axis=1))
    else:
        from_z = -xp.logaddexp(0, -z)
        if divided:
            from_z -= xp.log(xp.exp(from_z).sum(axis=1, keepdims=True))
    return xp.where(p < 0.5, from_z, log_probabilities(p))


def divided_slope(slope: AnyArray, outputs: AnyArray) -> AnyArray:
    """Compute ∂p_k/∂x = (∂h_k/∂x − p_k Σ_j ∂h_j/∂x)/Σh for p = h/Σh, (m, n_outputs, n_features), from ∂h/∂x."""
    total = outputs.sum(axis=1, keepdims=True)
    shares = outputs / total
    return (slope - shares[:, :, None] * slope.sum(axis=1, keepdims=True)) / total[:, :, None]


def _functions(array: AnyArray) -> Any:
    """Return the library whose functions take this kind of array: NumPy or CuPy."""
    return sys.modules[type(array).__module__.partition(".")[0]]
