"""Softmax and its tangent in NumPy; arrays are (…, m, s), contiguous and of one dtype, `row` is (…, m, 1)."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from deltaprop.backends.array_types import Floats

Matrix: TypeAlias = Floats


def softmax(z: Matrix, out: Matrix, spread: Matrix, row: Matrix) -> None:
    """Softmax(z) = e^(z − max z)/Σ e^(z − max z) over the last axis; `spread`, of the shape of z, is scratch."""
    np.max(z, axis=-1, keepdims=True, out=row)
    np.copyto(spread, row)
    np.subtract(z, spread, out=out)
    np.exp(out, out=out)
    np.sum(out, axis=-1, keepdims=True, out=row)
    np.copyto(spread, row)
    out /= spread


def softmax_tangent(a: Matrix, tangent: Matrix, out: Matrix, spread: Matrix, row: Matrix) -> None:
    """∂a/∂z applied to a tangent t: a ⊙ (t − Σ a t); `out` may be `tangent`."""
    np.multiply(a, tangent, out=spread)
    np.sum(spread, axis=-1, keepdims=True, out=row)
    np.copyto(spread, row)
    np.subtract(tangent, spread, out=out)
    out *= a
