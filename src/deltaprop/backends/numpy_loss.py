"""Costs and their slopes in NumPy; the twin of ``kernels/loss.cuh`` and ``kernels/output_delta.cu``.

Costs come from z (softplus, log-sum-exp), never from log(a): they stay right where a rounds to 0 or 1.
Arrays are (m, s_L), contiguous and of one dtype; `one` and `two` are scratch of that shape, `row` of shape (m, 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from deltaprop.backends.numpy_activation import softplus

Matrix: TypeAlias = np.ndarray[Any, Any]


def difference(a: Matrix, y: Matrix, out: Matrix) -> None:
    """The residual a − y: ∂cost/∂a of the squared error, ∂cost/∂z of every loss under its canonical link."""
    np.subtract(a, y, out=out)


def clipped_difference(a: Matrix, y: Matrix, out: Matrix) -> None:
    """∂cost/∂a of the Huber loss: a − y clipped to [−1, 1]."""
    np.subtract(a, y, out=out)
    np.clip(out, -1.0, 1.0, out=out)


def same(a: Matrix, y: Matrix, da: Matrix, out: Matrix) -> None:
    """How a − y moves as a moves by da: as a does."""
    np.copyto(out, da)


def same_unless_clipped(a: Matrix, y: Matrix, da: Matrix, out: Matrix) -> None:
    """How a − y clipped to [−1, 1] moves as a moves by da: not at all where it is clipped."""
    np.subtract(a, y, out=out)
    np.abs(out, out=out)
    np.copyto(out, out <= 1.0)
    out *= da


def squared_error(z: Matrix, a: Matrix, y: Matrix, one: Matrix, two: Matrix, row: Matrix) -> float:
    """Σ ½ (a − y)²."""
    np.subtract(a, y, out=one)
    return 0.5 * float(np.vdot(one, one))


def huber(z: Matrix, a: Matrix, y: Matrix, one: Matrix, two: Matrix, row: Matrix) -> float:
    """Σ ½ r² where |r| ≤ 1, |r| − ½ elsewhere, r = a − y. With c = min(|r|, 1) both are c (|r| − c/2)."""
    np.subtract(a, y, out=one)
    np.abs(one, out=one)
    np.minimum(one, 1.0, out=two)
    return float(np.vdot(two, one)) - 0.5 * float(np.vdot(two, two))


def binary_cross_entropy(z: Matrix, a: Matrix, y: Matrix, one: Matrix, two: Matrix, row: Matrix) -> float:
    """Σ −y log a − (1−y) log(1−a) with a = σ(z), which is Σ softplus(z) − y z."""
    softplus(z, one, two)
    np.multiply(y, z, out=two)
    one -= two
    return float(one.sum())


def categorical_cross_entropy(z: Matrix, a: Matrix, y: Matrix, one: Matrix, two: Matrix, row: Matrix) -> float:
    """Σ −y log a with a = softmax(z), which is Σ_j y_j (log Σ_k e^z_k − z_j)."""
    np.max(z, axis=1, keepdims=True, out=row)
    np.copyto(two, row)
    np.subtract(z, two, out=one)
    np.exp(one, out=two)
    np.sum(two, axis=1, keepdims=True, out=row)
    np.log(row, out=row)
    np.copyto(two, row)
    one -= two
    return -float(np.vdot(y, one))


def poisson(z: Matrix, a: Matrix, y: Matrix, one: Matrix, two: Matrix, row: Matrix) -> float:
    """Σ a − y log a with a = e^z, which is Σ a − y z: the negative log-likelihood less the constant log y!."""
    np.multiply(y, z, out=one)
    np.subtract(a, one, out=one)
    return float(one.sum())


class Loss(NamedTuple):
    """A cost, and its slope: ∂cost/∂a where `slope_is_of_a`, to be multiplied by g′(z), else ∂cost/∂z itself.

    `slope_tangent` is how the slope moves along a direction in which a moves by da.
    """

    cost: Callable[[Matrix, Matrix, Matrix, Matrix, Matrix, Matrix], float]
    slope: Callable[[Matrix, Matrix, Matrix], None]
    slope_tangent: Callable[[Matrix, Matrix, Matrix, Matrix], None]
    slope_is_of_a: bool


LOSSES = {
    "squared_error": Loss(squared_error, difference, same, True),
    "huber": Loss(huber, clipped_difference, same_unless_clipped, True),
    "binary_cross_entropy": Loss(binary_cross_entropy, difference, same, False),
    "categorical_cross_entropy": Loss(categorical_cross_entropy, difference, same, False),
    "poisson": Loss(poisson, difference, same, False),
}
