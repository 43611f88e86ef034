"""The random numbers of dropout in NumPy; the twin of ``kernels/shared/philox.cuh``."""

from __future__ import annotations

import numpy as np

from deltaprop.backends.array_types import Floats, Indices
from deltaprop.backends.base import philox_key

#: 32-bit numbers that Philox makes at a time.
BLOCK = 8


class PhiloxStream:
    """Philox 4x64-10: the key of the generator, and how many 32-bit numbers have been drawn.

    Parameters
    ----------
    key : array of uint64, (2,)
    """

    def __init__(self, key: Indices) -> None:
        self.key = key
        self.drawn = 0
        self._at = 0  # where the generator stands
        self._generator = np.random.Generator(np.random.Philox(key=key))

    def draw(self, out: Floats) -> None:
        """Write the next numbers, uniform in [0, 1), into `out`, (n,) of float32."""
        if self._at != self.drawn:
            blocks, rest = divmod(self.drawn, BLOCK)
            self._generator = np.random.Generator(np.random.Philox(key=self.key).advance(blocks))
            self._generator.random(rest, dtype=np.float32)
        self._generator.random(out=out, dtype=np.float32)
        self.drawn += len(out)
        self._at = self.drawn

    def skip(self, count: int) -> None:
        """Leave out the next `count` numbers, which have been drawn elsewhere."""
        self.drawn += count


def random_stream(key: tuple[int, ...]) -> PhiloxStream:
    """Return a stream with a key of its own for every tuple."""
    return PhiloxStream(philox_key(key))


def draw_kept(stream: PhiloxStream, keep: float, out: Floats) -> None:
    """1 with probability `keep`, else 0, into `out`, (n,) of float32: the next numbers of `stream` decide."""
    # floor(u + keep) is 1 where u ≥ 1 − keep: no comparison, whose result would be another array.
    stream.draw(out)
    out += np.float32(keep)
    np.floor(out, out=out)
