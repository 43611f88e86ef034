"""Stored rows, of few columns, that stand for the many inputs of a network: bins of numbers, indicators of levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import DTypeLike

from deltaprop.backends.array_types import DType, Floats, HostArray, Indices

#: The largest number that a row may hold, with either sign.
LARGEST = 1e15
#: No squashed number leaves (−12, 12).
LIMIT = 12.0
#: Stored numbers that are checked together: 16 MiB of float32.
BLOCK = 2**22


@dataclass(frozen=True)
class Copied:
    """One input: the stored number x itself."""

    source: int

    @property
    def width(self) -> int:
        """How many inputs this is."""
        return 1

    def fill(self, x: HostArray, out: HostArray) -> None:
        """Write the inputs of the numbers x, (m,), to `out`, (m, 1)."""
        out[:, 0] = x


@dataclass(frozen=True)
class Squashed:
    """One input: x/√(1 + (x/12)²), which is x near 0 and never leaves (−12, 12)."""

    source: int

    @property
    def width(self) -> int:
        """How many inputs this is."""
        return 1

    def fill(self, x: HostArray, out: HostArray) -> None:
        """Write the inputs of the numbers x, (m,), to `out`, (m, 1)."""
        share = x / x.dtype.type(LIMIT)
        out[:, 0] = x / np.sqrt(1 + share * share)


@dataclass(frozen=True)
class Binned:
    """One input a bin: clip((x − b₀)/(b₁ − b₀), 0, 1) − ½, between neighbouring edges b₀ < b₁.

    Their sum is piecewise linear in x (Gorishniy et al., On Embeddings for Numerical Features in Tabular Deep Learning,
    2022).

    Parameters
    ----------
    source : int
        The column of the stored rows.
    edges : array, (n + 1,)
        They increase.
    """

    source: int
    edges: Floats

    @property
    def width(self) -> int:
        """How many inputs this is."""
        return len(self.edges) - 1

    def fill(self, x: HostArray, out: HostArray) -> None:
        """Write the inputs of the numbers x, (m,), to `out`, (m, n)."""
        lows = self.edges[:-1].astype(x.dtype)
        widths = self.edges[1:].astype(x.dtype) - lows
        np.subtract(x[:, np.newaxis], lows, out=out)
        np.divide(out, widths, out=out)
        np.clip(out, 0, 1, out=out)
        out -= out.dtype.type(0.5)


@dataclass(frozen=True)
class OneHot:
    """One input a level: 1 for the level whose number x is, 0 for the others; all 0 for any x that is no number of one.

    Parameters
    ----------
    source : int
        The column of the stored rows.
    levels : int
        How many there are, numbered from 0.
    """

    source: int
    levels: int

    @property
    def width(self) -> int:
        """How many inputs this is."""
        return self.levels

    def fill(self, x: HostArray, out: HostArray) -> None:
        """Write the inputs of the numbers x, (m,), to `out`, (m, levels)."""
        out[:] = x[:, np.newaxis] == np.arange(self.levels, dtype=x.dtype)


Piece = Copied | Squashed | Binned | OneHot


@dataclass(frozen=True)
class InputEncoding:
    """How stored rows become inputs: each piece makes some inputs of one stored column, and the pieces lie in a row.

    Parameters
    ----------
    columns : int
        How many columns a stored row has.
    pieces : sequence of Piece
        In the order of the inputs.

    Attributes
    ----------
    width : int
        How many inputs there are.
    starts : list of int
        The number of each piece's first input.
    """

    columns: int
    pieces: Sequence[Piece]
    width: int = field(init=False)
    starts: list[int] = field(init=False)

    def __post_init__(self) -> None:
        ends = np.cumsum([0, *(piece.width for piece in self.pieces)]).tolist()
        object.__setattr__(self, "starts", ends[:-1])
        object.__setattr__(self, "width", ends[-1])

    def inputs(self, rows: HostArray, dtype: DTypeLike) -> HostArray:
        """Form the inputs, (m, width), of stored rows, (m, columns)."""
        result = np.empty((len(rows), self.width), dtype)
        for start, piece in zip(self.starts, self.pieces, strict=True):
            x = np.ascontiguousarray(rows[:, piece.source], dtype)
            piece.fill(x, result[:, start : start + piece.width])
        return result


class EncodedRows:
    """Samples as stored rows; ``X[rows]`` forms the inputs of some of them.

    Parameters
    ----------
    stored : array, (m, columns)
        C-contiguous, in the network's dtype; none is larger than `LARGEST`, so that its square is finite.
    encoding : InputEncoding
        What they stand for.

    Attributes
    ----------
    shape : (int, int)
        Of the inputs: (m, encoding.width).
    ndim : int
        Of the inputs: 2.
    dtype : dtype
        Of `stored` and of the inputs.
    """

    stored: HostArray
    encoding: InputEncoding
    shape: tuple[int, int]
    ndim: int
    dtype: DType

    def __init__(self, stored: HostArray, encoding: InputEncoding) -> None:
        self.stored, self.encoding = stored, encoding
        self.shape, self.ndim, self.dtype = (len(stored), encoding.width), 2, stored.dtype

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, rows: slice | Indices) -> HostArray:
        """Form the inputs of some rows, (n, encoding.width)."""
        return self.encoding.inputs(self.stored[rows], self.dtype)

    def take(self, rows: Indices) -> EncodedRows:
        """Return some rows, still as stored."""
        return EncodedRows(np.ascontiguousarray(self.stored[rows]), self.encoding)


def check_encoded_rows(X: EncodedRows, name: str, *, columns: int, dtype: DTypeLike) -> None:
    """Check that encoded rows are what a network of `columns` inputs can take.

    Raises
    ------
    TypeError
        If the stored rows are no NumPy array of `dtype`.
    ValueError
        If a shape is wrong, a stored number is not finite or larger than `LARGEST`, or a piece of the encoding names a
        column that is not there, or has edges that do not increase.
    """
    stored, encoding = X.stored, X.encoding
    if not isinstance(stored, np.ndarray) or stored.dtype != dtype:
        seen = stored.dtype if isinstance(stored, np.ndarray) else type(stored).__name__
        raise TypeError(f"{name}: expected stored rows in a NumPy array of {np.dtype(dtype)}, got {seen}")
    if stored.ndim != 2 or stored.shape[1] != encoding.columns or not len(stored) or not stored.flags.c_contiguous:
        order = "C-contiguous" if stored.flags.c_contiguous else "not C-contiguous"
        raise ValueError(
            f"{name}: expected C-contiguous stored rows of shape (m, {encoding.columns}), got {stored.shape}, {order}"
        )
    if encoding.width != columns:
        raise ValueError(f"{name}: expected {columns} inputs, got an encoding of {encoding.width}")
    for number, piece in enumerate(encoding.pieces):
        _check_piece(piece, f"{name}: piece {number}", encoding.columns, dtype)
    at_once = max(1, BLOCK // max(1, encoding.columns))
    for start in range(0, len(stored), at_once):
        good = np.abs(stored[start : start + at_once]) <= LARGEST  # False for nan
        if not good.all():
            row, column = (int(index) for index in np.argwhere(~good)[0])
            seen = stored[start + row, column]
            raise ValueError(
                f"{name}: expected stored numbers from {-LARGEST:g} to {LARGEST:g}, got {seen} in row {start + row}, "
                f"column {column}"
            )


def _check_piece(piece: Piece, name: str, columns: int, dtype: DTypeLike) -> None:
    if not 0 <= piece.source < columns:
        raise ValueError(f"{name}: expected a source from 0 to {columns - 1}, got {piece.source}")
    if isinstance(piece, OneHot) and piece.levels < 1:
        raise ValueError(f"{name}: expected at least 1 level, got {piece.levels}")
    if isinstance(piece, Binned):
        edges = np.asarray(piece.edges).astype(dtype)
        increase = edges.ndim == 1 and len(edges) >= 2 and bool((edges[1:] > edges[:-1]).all())
        if not increase or np.abs(edges).max() > LARGEST:
            raise ValueError(
                f"{name}: expected at least 2 edges from {-LARGEST:g} to {LARGEST:g}, which increase in "
                f"{np.dtype(dtype)}, got {edges}"
            )
