"""A column of categories as inputs: one a level, and, of columns with many levels, means of the target."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from deltaprop.backends.array_types import Floats, HostArray, Indices
from deltaprop.inputs.encoded_rows import Copied, OneHot, Piece
from deltaprop.tabular.table import Column

#: A column has an input for each of its most frequent levels, up to this number.
MOST_LEVELS = 64
#: So many rows of a level weigh as much in its mean as the mean of all rows does.
PRIOR_ROWS = 10.0


@dataclass(frozen=True)
class CategoryEncoding:
    """How a level becomes inputs; a level that training has not seen is 0 in all of them.

    Parameters
    ----------
    levels : list of str
        Those with an input of their own.
    has_gaps : bool
        Whether there were gaps in training: a gap is then a level of its own, the last.
    rare : list of str
        The other levels, which only have means.
    means : array, (levels, outputs)
        Of columns with rare levels: the mean of the scaled target over the rows of each level of `levels`, a gap, and
        `rare`, drawn to 0, the mean of all rows.
    """

    levels: list[str]
    has_gaps: bool
    rare: list[str] = field(default_factory=list)
    means: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    @classmethod
    def fit(cls, column: Column, targets: Floats, weights: Floats) -> CategoryEncoding | None:
        """Choose the levels; None if there are no two of them.

        Parameters
        ----------
        column : Column
            Those to train on.
        targets : array, (m, outputs)
            Scaled to mean 0 and spread 1.
        weights : array, (m,)
            How much each row counts.

        Returns
        -------
        CategoryEncoding or None
            With means only where there are more than `MOST_LEVELS` levels.
        """
        codes, texts = column.categories()
        counts = np.bincount(codes[codes >= 0], minlength=len(texts))
        order = [k for k in np.argsort(-counts, kind="stable").tolist() if counts[k]]
        has_gaps = bool((codes < 0).any())
        if len(order) + has_gaps < 2:
            return None
        frequent, rare = sorted(order[:MOST_LEVELS]), sorted(order[MOST_LEVELS:])
        encoding = cls([texts[k] for k in frequent], has_gaps, [texts[k] for k in rare])
        if not rare:
            return encoding
        places = encoding.places(column)
        return cls(encoding.levels, has_gaps, encoding.rare, encoding.means_of(places, targets, weights))

    @property
    def one_hot(self) -> int:
        """How many levels have an input of their own."""
        return len(self.levels) + self.has_gaps

    @property
    def columns(self) -> int:
        """How many columns of a stored row this takes."""
        return 1 + int(self.means.shape[1])

    def pieces(self, first: int) -> list[Piece]:
        """Return the pieces of the encoding, whose stored columns begin with `first`."""
        return [OneHot(first, self.one_hot), *(Copied(first + 1 + j) for j in range(self.means.shape[1]))]

    def places(self, column: Column) -> Indices:
        """Find the place of each cell's level: in `levels`, then a gap, then `rare`; −1 for a level that is new."""
        codes, texts = column.categories()
        place = {text: k for k, text in enumerate(self.levels)}
        place |= {text: self.one_hot + k for k, text in enumerate(self.rare)}
        if place.keys() <= {"True", "False"}:  # the numbers 1 and 0 are truth values too
            place |= {number: place[truth] for number, truth in (("1", "True"), ("0", "False")) if truth in place}
        if column.decimal != ".":  # beside other text, training has not read 1,5 as a number
            place = {text.replace(column.decimal, "."): k for text, k in place.items()} | place
        gap = len(self.levels) if self.has_gaps else -1
        return np.array([*(place.get(text, -1) for text in texts), gap], np.int64)[codes]

    def means_of(self, places: Indices, targets: Floats, weights: Floats) -> Floats:
        """Compute the mean of the targets over the rows of each level, drawn to 0: Σ w t / (Σ w + `PRIOR_ROWS`)."""
        levels, known = self.one_hot + len(self.rare), places >= 0
        count = np.bincount(places[known], weights[known], levels)
        sums = [np.bincount(places[known], (weights * t)[known], levels) for t in targets.T]
        return np.stack(sums, axis=1) / (count + PRIOR_ROWS)[:, np.newaxis]

    def store(self, places: Indices, means: Floats, out: HostArray) -> None:
        """Write the stored columns of some rows to `out`, (m, columns).

        Parameters
        ----------
        places : array, (m,)
            As of `places`.
        means : array, (levels, outputs)
            The means to take: `means`, or others, of other rows, while training.
        out : array, (m, columns)
            Where to write.
        """
        out[:, 0] = np.where(places < self.one_hot, places, -1)
        if means.shape[1]:
            out[:, 1:] = np.where((places >= 0)[:, np.newaxis], means[places], 0.0)
