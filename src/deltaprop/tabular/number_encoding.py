"""A column of numbers as inputs: its gap, the number squashed, and the number in bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deltaprop.backends.array_types import Floats, HostArray
from deltaprop.inputs.cells import rounding_of
from deltaprop.inputs.encoded_rows import LARGEST, Binned, Copied, Piece, Squashed

#: Below this share of the bins that are allowed, ties have left too few: more edges are taken among distinct numbers.
FEW = 0.75


@dataclass(frozen=True)
class NumberEncoding:
    """How a number x becomes inputs, after (x − centre)/scale.

    Parameters
    ----------
    centre, scale : float
        The median of the numbers to train on, and a quarter of their interquartile range (of half their range where
        that is 0). In such small units the number itself weighs as much as its many bins together.
    has_gaps : bool
        Whether there were gaps: one input says so, and a gap counts as the median.
    edges : array, (n + 1,)
        Of the bins, scaled as the numbers are; empty where there are none.
    """

    centre: float
    scale: float
    has_gaps: bool
    edges: Floats

    @classmethod
    def fit(cls, numbers: Floats, bins: int) -> NumberEncoding | None:
        """Find the median, the scale and the edges of the bins; None if there are no two different numbers.

        Parameters
        ----------
        numbers : array, (m,)
            With NaN for a gap.
        bins : int
            How many bins there may be.

        Returns
        -------
        NumberEncoding or None
            None also where the numbers differ only by rounding.
        """
        known = np.sort(numbers[~np.isnan(numbers)])
        if not len(known):
            return None
        with np.errstate(over="ignore"):
            lower, centre, upper = np.quantile(known, [0.25, 0.5, 0.75])
            rounding = rounding_of(known[0], known[-1])
            spread = next((s for s in (upper - lower, (known[-1] - known[0]) / 2) if s > rounding), 0.0)
        scale = spread / 4
        if not 0.0 < scale < np.inf:
            return None
        scaled = np.unique(np.clip((known - centre) / scale, -LARGEST, LARGEST).astype(np.float32)).astype(np.float64)
        edges = edges_of(np.clip((known - centre) / scale, -LARGEST, LARGEST), scaled, bins)
        # Of two edges the one bin would say what the number itself says.
        return cls(float(centre), float(scale), len(known) < len(numbers), edges if len(edges) > 2 else edges[:0])

    @property
    def columns(self) -> int:
        """How many columns of a stored row this takes."""
        return 1 + self.has_gaps

    def pieces(self, first: int) -> list[Piece]:
        """Return the pieces of the encoding, whose stored columns begin with `first`."""
        gap: list[Piece] = [Copied(first + 1)] if self.has_gaps else []
        bins: list[Piece] = [Binned(first, self.edges)] if len(self.edges) else []
        return [Squashed(first), *gap, *bins]

    def store(self, numbers: Floats, out: HostArray) -> None:
        """Write the stored columns of the numbers, (m,), to `out`, (m, columns)."""
        gaps = np.isnan(numbers)
        with np.errstate(over="ignore"):
            out[:, 0] = np.clip(np.where(gaps, 0.0, (numbers - self.centre) / self.scale), -LARGEST, LARGEST)
        if self.has_gaps:
            out[:, 1] = gaps


def edges_of(numbers: Floats, distinct: Floats, bins: int) -> Floats:
    """Choose the edges of at most `bins` bins: the distinct numbers if they are that few, else quantiles.

    Parameters
    ----------
    numbers : array, (m,)
        Sorted.
    distinct : array, (n,)
        The same numbers, each once.
    bins : int
        At least 1.

    Returns
    -------
    array
        They increase, also as float32.
    """
    if len(distinct) <= bins + 1:
        return distinct
    edges = _unique(np.quantile(numbers, np.linspace(0.0, 1.0, bins + 1)))
    if len(edges) <= FEW * bins:
        edges = _unique(np.concatenate([edges, np.quantile(distinct, np.linspace(0.0, 1.0, bins - len(edges) + 2))]))
    return edges


def _unique(edges: Floats) -> Floats:
    """Sort edges and leave out those that float32 cannot tell from another."""
    return np.unique(edges.astype(np.float32)).astype(np.float64)
