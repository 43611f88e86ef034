"""Costs and their slopes in NumPy; the twin of ``kernels/shared/loss.cuh``.

Costs come from z, never from log(a), and as sums in which nothing cancels: they stay right where a rounds to 0 or 1.
Every cost writes one entry a sample and output into `out`. Arrays are (…, m, s_L), contiguous and of one dtype. Scratch
is `spare`, of that shape, `mask`, of that shape and bool, and `rows`, two of shape (…, m, 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from deltaprop.backends.array_types import Floats
from deltaprop.backends.numpy.activation import minus_abs

Matrix: TypeAlias = Floats
Rows: TypeAlias = tuple[Matrix, Matrix]
Cost: TypeAlias = Callable[[Matrix, Matrix, Matrix, Matrix, Matrix, Matrix, Rows], None]
#: −log ε.
HIGHEST = {np.dtype(dtype): -float(np.log(np.finfo(dtype).eps)) for dtype in (np.float32, np.float64)}


def difference(a: Matrix, y: Matrix, out: Matrix) -> None:
    """The residual a − y: ∂cost/∂a of the squared error, ∂cost/∂z of every loss under its canonical link."""
    np.subtract(a, y, out=out)


def clipped_difference(a: Matrix, y: Matrix, out: Matrix) -> None:
    """∂cost/∂a of the Huber loss: a − y clipped to [−1, 1]."""
    np.subtract(a, y, out=out)
    np.clip(out, -1.0, 1.0, out=out)


def sign_of_difference(a: Matrix, y: Matrix, out: Matrix) -> None:
    """∂cost/∂a of the absolute error: the sign of a − y, 0 where they are equal."""
    np.subtract(a, y, out=out)
    np.sign(out, out=out)


def same(a: Matrix, y: Matrix, da: Matrix, out: Matrix) -> None:
    """How a − y moves as a moves by da: as a does."""
    np.copyto(out, da)


def same_unless_clipped(a: Matrix, y: Matrix, da: Matrix, out: Matrix) -> None:
    """How a − y clipped to [−1, 1] moves as a moves by da: not at all where it is clipped."""
    np.subtract(a, y, out=out)
    np.abs(out, out=out)
    np.subtract(1.0, out, out=out)
    np.heaviside(out, 1.0, out=out)
    out *= da


def unmoved(a: Matrix, y: Matrix, da: Matrix, out: Matrix) -> None:
    """How the sign of a − y moves as a moves by da: not at all."""
    out.fill(0.0)


def squared_error(z: Matrix, a: Matrix, y: Matrix, out: Matrix, spare: Matrix, mask: Matrix, rows: Rows) -> None:
    """½ (a − y)²."""
    np.subtract(a, y, out=out)
    np.square(out, out=out)
    out *= 0.5


def huber(z: Matrix, a: Matrix, y: Matrix, out: Matrix, spare: Matrix, mask: Matrix, rows: Rows) -> None:
    """½ r² where |r| ≤ 1, |r| − ½ elsewhere, r = a − y. With c = min(|r|, 1) both are c (|r| − c/2)."""
    np.subtract(a, y, out=out)
    np.abs(out, out=out)
    np.minimum(out, 1.0, out=spare)
    spare *= 0.5
    out -= spare
    spare *= 2.0
    out *= spare


def absolute_error(z: Matrix, a: Matrix, y: Matrix, out: Matrix, spare: Matrix, mask: Matrix, rows: Rows) -> None:
    """|a − y|."""
    np.subtract(a, y, out=out)
    np.abs(out, out=out)


def binary_cross_entropy(z: Matrix, a: Matrix, y: Matrix, out: Matrix, spare: Matrix, mask: Matrix, rows: Rows) -> None:
    """−y log a − (1−y) log(1−a) with a = σ(z): softplus(z) − y z, which is log1p(e^−|z|) + z ([z > 0] − y)."""
    np.greater(z, 0.0, out=mask)
    np.copyto(out, mask)
    out -= y
    out *= z
    minus_abs(z, spare)
    np.exp(spare, out=spare)
    np.log1p(spare, out=spare)
    out += spare


def categorical_cross_entropy(
    z: Matrix, a: Matrix, y: Matrix, out: Matrix, spare: Matrix, mask: Matrix, rows: Rows
) -> None:
    """−y log a with a = softmax(z): y_j (log Σ_k e^(z_k − max z) + (max z − z_j)).

    The logarithm is log1p of the exponentials of all z except one largest, whose own is 1 and would drown small ones.
    """
    all_of_them, others = rows
    np.max(z, axis=-1, keepdims=True, out=others)
    np.copyto(spare, others)
    np.subtract(z, spare, out=out)
    np.exp(out, out=spare)
    np.sum(spare, axis=-1, keepdims=True, out=all_of_them)
    np.equal(out, 0.0, out=mask)
    np.copyto(spare, 0.0, where=mask)
    np.sum(spare, axis=-1, keepdims=True, out=others)
    np.subtract(all_of_them, others, out=all_of_them)
    np.rint(all_of_them, out=all_of_them)  # how many are largest
    all_of_them -= 1.0
    others += all_of_them
    np.log1p(others, out=others)
    np.copyto(spare, others)
    np.subtract(spare, out, out=out)
    out *= y


def poisson(z: Matrix, a: Matrix, y: Matrix, out: Matrix, spare: Matrix, mask: Matrix, rows: Rows) -> None:
    """a − y log a with a = e^z, which is a − y z: the negative log-likelihood less the constant log y!."""
    np.multiply(y, z, out=out)
    np.subtract(a, out, out=out)


def clipped(cost: Cost) -> Cost:
    """The same cost, of each output at most −log ε of the dtype: scikit-learn's log_loss clips probabilities."""

    def clipped_cost(z: Matrix, a: Matrix, y: Matrix, out: Matrix, spare: Matrix, mask: Matrix, rows: Rows) -> None:
        cost(z, a, y, out, spare, mask, rows)
        np.minimum(out, HIGHEST[out.dtype], out=out)

    return clipped_cost


class Targets(NamedTuple):
    """What a loss asks of the targets: their range, and whether a sample's are a probability distribution.

    `classifies` says whether the outputs of the network are probabilities of classes.
    """

    lowest: float = float("-inf")
    highest: float = float("inf")
    rows_sum_to_one: bool = False
    classifies: bool = False


ANY_NUMBER, COUNTS = Targets(), Targets(0.0)
PROBABILITIES = Targets(0.0, 1.0, classifies=True)
DISTRIBUTION = Targets(0.0, 1.0, rows_sum_to_one=True, classifies=True)


class Loss(NamedTuple):
    """A cost, and its slope: ∂cost/∂a where `slope_is_of_a`, to be multiplied by g′(z), else ∂cost/∂z itself.

    `slope_tangent` is how the slope moves along a direction in which a moves by da. `output` is the output activation
    that the loss goes with, or "any": every one that acts on one element at a time.
    """

    cost: Cost
    slope: Callable[[Matrix, Matrix, Matrix], None]
    slope_tangent: Callable[[Matrix, Matrix, Matrix, Matrix], None]
    slope_is_of_a: bool
    output: str
    targets: Targets


#: All losses. ``kernels/shared/loss.cuh`` has the same names and output activations.
LOSS_FORMULAS = {
    "squared_error": Loss(squared_error, difference, same, True, "any", ANY_NUMBER),
    "binary_cross_entropy": Loss(binary_cross_entropy, difference, same, False, "sigmoid", PROBABILITIES),
    "categorical_cross_entropy": Loss(categorical_cross_entropy, difference, same, False, "softmax", DISTRIBUTION),
    # Their costs are at most −log ε an output, as scikit-learn has them; the two above have the same gradients.
    "clipped_binary_cross_entropy": Loss(
        clipped(binary_cross_entropy), difference, same, False, "sigmoid", PROBABILITIES
    ),
    "clipped_categorical_cross_entropy": Loss(
        clipped(categorical_cross_entropy), difference, same, False, "softmax", DISTRIBUTION
    ),
    "poisson": Loss(poisson, difference, same, False, "exp", COUNTS),
    "huber": Loss(huber, clipped_difference, same_unless_clipped, True, "any", ANY_NUMBER),
    "absolute_error": Loss(absolute_error, sign_of_difference, unmoved, True, "any", ANY_NUMBER),
}
