"""Data larger than memory: memory-mapped arrays, Parquet files, folders of chunks, iterables of batches.

A source is read part by part, again in every epoch. A source that can return rows by number is shuffled fully: every
order of all samples is equally likely. Other sources are shuffled in windows: parts that can be read by number come in
a random order, and the samples within a window of some bytes are permuted. `deltaprop.inputs.shards` shares sources out
over several processes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from deltaprop.backends import Array, Backend
from deltaprop.backends.array_types import AnyArray, ArrayLike, Indices
from deltaprop.inputs.raw_rows import RawRows

Pair = tuple[AnyArray, AnyArray]
#: Bytes of a chunk: enough for a disk or a bus to reach its full speed, and little of any memory.
CHUNK_BYTES = 64 * 2**20


class ReadChunk(NamedTuple):
    """Some samples of a source.

    Parameters
    ----------
    X, Y : array
        The samples and their targets.
    place : callable
        Takes a row of these two to its row in the data, and to the name of the part that this row belongs to.
    """

    X: ArrayLike
    Y: ArrayLike
    place: Callable[[int], tuple[int, str]]


class Piece(NamedTuple):
    """Some samples of a part of a source.

    Parameters
    ----------
    X, Y : array_like
        The samples and their targets.
    number : int
        The number of the part.
    first : int
        The place of the first of these samples in the part.
    """

    X: ArrayLike
    Y: ArrayLike
    number: int
    first: int


class Source(ABC):
    """Samples and targets that are read part by part.

    Attributes
    ----------
    shape : (int, int)
        How many samples there are, and how many features each has.
    """

    shape: tuple[int, int]

    @abstractmethod
    def describe(self) -> str:
        """Say in words what distinguishes it from another source."""


@dataclass(frozen=True)
class CheckedSource:
    """A source, and the function that makes trusted arrays of a chunk of it.

    Parameters
    ----------
    source : Source
        The source.
    check : callable
        Takes X and Y of a chunk to arrays of the network's backend.
    """

    source: Source
    check: Callable[[AnyArray, AnyArray], tuple[Array, Array]]

    @property
    def shape(self) -> tuple[int, int]:
        """How many samples there are, and how many features each has."""
        return self.source.shape


class Rows(Source):
    """Arrays that return rows by number; most are on disk (`numpy.memmap`).

    Parameters
    ----------
    X, Y : array_like, (m, n) and (m, …)
        The samples and their targets.
    on_disk : bool, default False
        Whether X is read from a disk, so that each of several ranks should read rows of its own.
    """

    def __init__(self, X: ArrayLike, Y: ArrayLike, *, on_disk: bool = False) -> None:
        self.X, self.Y, self.on_disk = X, Y, on_disk
        self.shape: tuple[int, int] = (X.shape[0], X.shape[1])

    def rows(self, which: Indices | slice) -> Pair:
        """Return some rows in the order asked for; they are read in the order in which they lie."""
        if isinstance(which, slice):
            return self.X[which], self.Y[which]
        order = np.argsort(which, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return self.X[which[order]][place], self.Y[which[order]][place]

    def chunks(self, cuts: Sequence[int], order: Indices | None) -> Iterator[ReadChunk]:
        """Yield the samples between one of the `cuts` and the next, places in `order` or among all samples."""
        for start, stop in pairwise(cuts):
            which = slice(start, stop) if order is None else order[start:stop]
            yield ReadChunk(*self.rows(which), partial(self._place, start, order))

    def _place(self, start: int, order: Indices | None, row: int) -> tuple[int, str]:
        row = start + row if order is None else int(order[start + row])
        return self.X.number(row) if isinstance(self.X, RawRows) else row, ""

    def describe(self) -> str:
        """Say their shapes and dtypes."""
        return f"rows {self.X.shape} {self.X.dtype}, targets {self.Y.shape} {self.Y.dtype}"


def converted_rows(inputs: AnyArray, targets: AnyArray, backend: Backend, dtype: DTypeLike) -> CheckedSource:
    """Keep rows as they are until a chunk of them is trained on; both are `HostData` that have been checked."""

    def convert(X: ArrayLike, Y: ArrayLike) -> tuple[Array, Array]:
        return inputs.converted(X, backend, dtype), targets.converted(Y, backend, dtype)

    return CheckedSource(Rows(inputs.array, targets.array), convert)


class Parts(Source):
    """A source in parts; their number and sizes are the same in every pass.

    Attributes
    ----------
    sizes : list of int
        How many samples each part has.
    by_number : bool
        Whether parts can be read in any order.
    digest_of_wholes : bool
        Whether their digest is taken part by part; else it is taken piece by piece.
    """

    shape: tuple[int, int]
    sizes: list[int]
    by_number = True
    digest_of_wholes = False

    @abstractmethod
    def part(self, number: int) -> Iterator[Pair]:
        """Yield X and Y of one part, if parts can be read by number; a large part comes in pieces."""

    @abstractmethod
    def name(self, number: int) -> str:
        """Name a part."""

    def parts(self, order: Sequence[int]) -> Iterator[Piece]:
        """Yield all parts in `order`, the large ones in pieces.

        Raises
        ------
        ValueError
            If a part has changed since it was measured.
        """
        for number, part in zip(order, self._read(order), strict=True):
            rows, columns, seen = self.sizes[number], self.shape[1], 0
            for X, Y in part:
                shapes = f"shapes {np.shape(X)} and {np.shape(Y)}"
                found = np.shape(X)[0] if np.ndim(X) else 0
                if np.shape(X)[1:] != (columns,) or np.shape(Y)[:1] != (found,) or seen + found > rows:
                    raise self._changed(number, f"{shapes} from its sample {seen} on" if seen else shapes)
                yield Piece(X, Y, number, seen)
                seen += found
            if seen != rows:
                raise self._changed(number, f"{seen} samples")

    def sample(self) -> str:
        """Say what tells it from another source of the same shape, as far as that is known without reading it."""
        return ""

    def _changed(self, number: int, seen: str) -> ValueError:
        """Make the error that says that a part has changed since it was measured."""
        return ValueError(
            f"X: expected {self.name(number)} to hold {self.sizes[number]} samples of {self.shape[1]} features, as "
            f"counted when training began, and as many targets, got {seen}"
        )

    def _read(self, order: Sequence[int]) -> Iterator[Iterable[Pair]]:
        """Yield the pieces of all parts, in `order`, as they are found."""
        return (self.part(number) for number in order)

    def _measure(self, sizes: list[int], columns: int) -> None:
        self.sizes, self.shape = sizes, (sum(sizes), columns)


def windows(
    source: Parts, rows: int, rng: np.random.Generator | None, own: Iterable[Indices] | None = None
) -> Iterator[ReadChunk]:
    """Yield all samples in windows of this many rows (the last may have fewer), each permuted by `rng`, if given.

    With `rng`, parts that can be read by number come in a random order. With `own`, only some rows of each window are
    yielded: it has their places in the permuted window.
    """
    count = len(source.sizes)
    order = np.arange(count) if rng is None or not source.by_number else rng.permutation(count)
    return windows_of(source, source.parts(order.tolist()), rows, rng, own)


def windows_of(
    source: Parts,
    pieces: Iterable[Piece],
    rows: int,
    rng: np.random.Generator | None,
    own: Iterable[Indices] | None = None,
) -> Iterator[ReadChunk]:
    """Yield the samples of some pieces of a source as `windows` does."""
    chosen = repeat(None) if own is None else iter(own)
    held: list[Piece] = []
    size = 0
    for piece in pieces:
        held.append(piece._replace(X=np.asarray(piece.X), Y=np.asarray(piece.Y)))
        size += len(piece.X)
        del piece
        while size >= rows:
            yield _window(source, _cut(held, rows), rng, next(chosen))
            size -= rows
            if size < rows:  # the rest of a piece goes into the next window, and a view would keep all of the piece
                held[-1:] = [piece._replace(X=piece.X.copy(), Y=piece.Y.copy()) for piece in held[-1:]]
    if size:
        yield _window(source, _cut(held, size), rng, next(chosen))


def _cut(held: list[Piece], rows: int) -> list[Piece]:
    """Take the first `rows` samples out of some pieces."""
    taken: list[Piece] = []
    while rows:
        X, Y, number, first = held.pop(0)
        taken.append(Piece(X[:rows], Y[:rows], number, first))
        if len(X) > rows:
            held.insert(0, Piece(X[rows:], Y[rows:], number, first + rows))
        rows -= len(taken[-1].X)
    return taken


def _window(source: Parts, taken: list[Piece], rng: np.random.Generator | None, own: Indices | None) -> ReadChunk:
    """Join some pieces to one permuted chunk, or to some rows of it; the pieces are released."""
    pairs = [(piece.X, piece.Y) for piece in taken]
    ends = np.cumsum([len(piece.X) for piece in taken])
    parts = [(piece.number, piece.first) for piece in taken]
    taken.clear()
    X, Y = (np.concatenate(arrays) if len(pairs) > 1 else arrays[0] for arrays in zip(*pairs, strict=True))
    del pairs
    order = own
    if rng is not None:
        permuted = rng.permutation(len(X))
        order = permuted if own is None else permuted[own]

    def place(row: int) -> tuple[int, str]:
        row = row if order is None else int(order[row])
        which = int(np.searchsorted(ends, row, side="right"))
        number, first = parts[which]
        return first + row - (int(ends[which - 1]) if which else 0), f" of {source.name(number)}"

    return ReadChunk(X, Y, place) if order is None else ReadChunk(X[order], Y[order], place)
