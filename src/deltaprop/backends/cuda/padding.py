"""Pads 16-bit operands of matrix products with zeros, so that their rows begin at multiples of 16 bytes.

The kernels of cublasLt for Hopper load tiles by the tensor memory accelerator, which takes no other rows; without them
a product takes two to four times as long. Zeros add nothing to a sum, so widths are simply taken to be larger: weights
are filled up in both directions, all else in its columns. What the caller holds in float32 stays as it is.
"""

from __future__ import annotations

#: Widths are filled up to a multiple of so many entries, which are 16 bytes.
ENTRIES = 8


def padded(size: int) -> int:
    """Return the width with padding."""
    return -(-size // ENTRIES) * ENTRIES


def padded_shape(shape: tuple[int, ...], *, weights: bool) -> tuple[int, ...]:
    """Return the shape of a 16-bit copy of (…, rows, columns)."""
    *lead, rows, columns = shape
    return (*lead, padded(rows) if weights else rows, padded(columns))
