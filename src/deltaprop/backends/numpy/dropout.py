"""The random numbers of dropout in NumPy; the twin of ``kernels/cuda/dropout_mask.cu``."""

from __future__ import annotations

import numpy as np

from deltaprop.backends.array_types import Floats
from deltaprop.backends.base import philox_key


def random_stream(key: tuple[int, ...]) -> np.random.Generator:
    """Philox 4x64-10 with a key of its own for every tuple."""
    return np.random.Generator(np.random.Philox(key=philox_key(key)))


def draw_kept(stream: np.random.Generator, keep: float, out: Floats) -> None:
    """1 with probability `keep`, else 0, into `out`, (n,) of float32: the next numbers of `stream` decide."""
    # floor(u + keep) is 1 where u ≥ 1 − keep: no comparison, whose result would be another array.
    stream.random(out=out, dtype=np.float32)
    out += np.float32(keep)
    np.floor(out, out=out)
