"""Data larger than memory: memory-mapped arrays, Parquet files, folders of chunks, iterables of batches.

A source is read part by part, again in every epoch. What can be asked for rows by number is shuffled truly: every order
of all samples is as likely as any other. The others are shuffled in windows: parts that can be asked for by number are
taken in a random order, and the samples within so many bytes of them are permuted.
"""

from __future__ import annotations

import math
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from deltaprop.arguments import refuse_masked
from deltaprop.backends import Array, Backend
from deltaprop.inputs.cells import finite_numbers
from deltaprop.inputs.numpy_files import DAMAGED, UNPACKED_LIMIT, check_declared_size, load_numpy, members
from deltaprop.inputs.parquet_file import ParquetFile

Pair = tuple[Any, Any]
#: Bytes of a chunk that is held at a time: enough for a disk or a bus to be at its speed, and little of any memory.
CHUNK_BYTES = 64 * 2**20


class Chunk(NamedTuple):
    """Some samples of a source.

    Attributes
    ----------
    X, Y : array
    place : callable
        From a row of the two to the row of the data that it is, and what names the part that this is a row of.
    """

    X: Any
    Y: Any
    place: Callable[[int], tuple[int, str]]


class Piece(NamedTuple):
    """Some samples of a part of a source.

    Attributes
    ----------
    X, Y : array_like
    number : int
        Of the part.
    first : int
        Which of the part's samples the first is.
    """

    X: Any
    Y: Any
    number: int
    first: int


class Source(ABC):
    """Samples and targets that are read part by part.

    Attributes
    ----------
    shape : (int, int)
        How many samples, and features of each.
    """

    shape: tuple[int, int]

    @abstractmethod
    def describe(self) -> str:
        """What tells it from another, in words."""


@dataclass(frozen=True)
class CheckedSource:
    """A source, and what makes trusted arrays of a chunk of it.

    Attributes
    ----------
    source : Source
    check : callable
        From X and Y of a chunk to arrays of the network's backend.
    """

    source: Source
    check: Callable[[Any, Any], tuple[Array, Array]]

    @property
    def shape(self) -> tuple[int, int]:
        """How many samples, and features of each."""
        return self.source.shape


class Rows(Source):
    """Arrays whose rows can be had by number, on disk for the most part (`numpy.memmap`).

    Parameters
    ----------
    X, Y : array_like, (m, n) and (m, …)
    """

    def __init__(self, X: Any, Y: Any) -> None:
        self.X, self.Y = X, Y
        self.shape = (X.shape[0], X.shape[1])

    def rows(self, which: np.ndarray[Any, Any] | slice) -> Pair:
        """Some rows, in the order asked for; they are read in the order in which they lie."""
        if isinstance(which, slice):
            return self.X[which], self.Y[which]
        order = np.argsort(which, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return self.X[which[order]][place], self.Y[which[order]][place]

    def chunks(self, rows: int, order: np.ndarray[Any, Any] | None) -> Iterator[Chunk]:
        """All samples, so many rows at a time, in `order` or as they lie."""
        samples = self.shape[0]
        for start in range(0, samples, rows):
            which = slice(start, min(start + rows, samples)) if order is None else order[start : start + rows]
            yield Chunk(*self.rows(which), partial(_row, start, order))

    def describe(self) -> str:
        """Shapes and dtypes."""
        return f"rows {self.X.shape} {self.X.dtype}, targets {self.Y.shape} {self.Y.dtype}"


def converted_rows(inputs: Any, targets: Any, backend: Backend, dtype: DTypeLike) -> CheckedSource:
    """Rows that stay as they are until a chunk of them is trained on; both are `HostData` that have been checked."""

    def convert(X: Any, Y: Any) -> tuple[Array, Array]:
        return inputs.converted(X, backend, dtype), targets.converted(Y, backend, dtype)

    return CheckedSource(Rows(inputs.array, targets.array), convert)


def _row(start: int, order: np.ndarray[Any, Any] | None, row: int) -> tuple[int, str]:
    return start + row if order is None else int(order[start + row]), ""


class Parts(Source):
    """What comes in parts, as many and of the same sizes in every pass.

    Attributes
    ----------
    sizes : list of int
        Samples in each part.
    by_number : bool
        Whether parts can be had in any order.
    """

    sizes: list[int]
    by_number = True

    @abstractmethod
    def part(self, number: int) -> Iterator[Pair]:
        """X and Y of one part, where they can be had by number; in pieces, where it may be large."""

    @abstractmethod
    def name(self, number: int) -> str:
        """What a part is called."""

    def parts(self, order: Sequence[int]) -> Iterator[Piece]:
        """All parts, in `order`, the large ones in pieces.

        Raises
        ------
        ValueError
            If one is not as it was when it was measured.
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

    def _changed(self, number: int, seen: str) -> ValueError:
        """That a part is not as it was when it was measured."""
        return ValueError(
            f"X: expected {self.name(number)} to hold {self.sizes[number]} samples of {self.shape[1]} features, as "
            f"counted when training began, and as many targets, got {seen}"
        )

    def _read(self, order: Sequence[int]) -> Iterator[Iterable[Pair]]:
        """The pieces of all parts, in `order`, as they are found."""
        return (self.part(number) for number in order)

    def _measure(self, sizes: list[int], columns: int) -> None:
        self.sizes, self.shape = sizes, (sum(sizes), columns)


class ParquetParts(Parts):
    """A Parquet file, its row groups being the parts.

    Parameters
    ----------
    path : path
    target : str, optional
        The column with the targets; the last one by default.

    Raises
    ------
    ValueError
        If it is damaged, has no rows or no such column.
    """

    def __init__(self, path: str | os.PathLike[str], target: str | None = None) -> None:
        self.path, self.file = Path(path), ParquetFile(Path(path))
        names = self.file.names
        if not names or len(set(names)) < len(names):
            raise ValueError(f"{path}: expected columns, each of another name, got {', '.join(map(repr, names[:12]))}")
        self.target = names[-1] if target is None else target
        if self.target not in names:
            raise ValueError(f"{path}: no column {target!r}; the columns are {', '.join(map(repr, names[:12]))}")
        self.features = [name for name in names if name != self.target]
        if not sum(self.file.sizes) or not self.features:
            raise ValueError(f"{path}: expected rows, and a column besides the target {self.target!r}")
        self._measure(self.file.sizes, len(self.features))

    def name(self, number: int) -> str:
        """The number of a row group."""
        return f"row group {number} of {self.path.name}"

    def part(self, number: int) -> Iterator[Pair]:
        """One row group."""
        names, start = [*self.features, self.target], sum(self.sizes[:number])
        for piece in self.file.pieces(names, number):
            columns = [
                cells if isinstance(cells, np.ndarray) else finite_numbers(self.path, name, cells, start)
                for name, cells in zip(names, piece, strict=True)
            ]
            start += len(columns[-1])
            yield np.column_stack(columns[:-1]), columns[-1]

    def describe(self) -> str:
        """Its name and size."""
        return f"{self.path.name}, {self.shape[0]} × {self.shape[1]}, target {self.target!r}"


class FolderParts(Parts):
    """A folder of ``.npz`` files with arrays X and y, each a part, in the order of their names.

    Raises
    ------
    ValueError
        If there is none, or one is damaged or has another number of features.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.files = sorted(self.folder.glob("*.npz"))
        if not self.files:
            raise ValueError(f"{folder}: expected .npz files in it, each with arrays X and y")
        sizes, columns = [], 0
        for path in self.files:
            rows, width = _shape_in_archive(path)
            columns = columns or width
            if width != columns:
                raise ValueError(f"{path}: has {width} features, {self.files[0].name} has {columns}")
            sizes.append(rows)
        self._measure(sizes, columns)

    def name(self, number: int) -> str:
        """The name of a file."""
        return self.files[number].name

    def part(self, number: int) -> Iterator[Pair]:
        """One file."""
        path = self.files[number]
        with path.open("rb") as file:
            archive = load_numpy(path, file)
            X, y = members(path, archive, ("X", "y"))
        yield X.reshape(len(X), -1) if X.ndim > 1 and len(X) else X, y

    def describe(self) -> str:
        """How many files and samples."""
        return f"{self.folder.name}, {len(self.files)} files, {self.shape[0]} × {self.shape[1]}"


class BatchParts(Parts):
    """An iterable of batches (X, Y) with a length, iterated once an epoch, in its own order.

    It is iterated once more to begin with, to count the samples.

    Raises
    ------
    ValueError, TypeError
        If it is empty, or does not hold pairs.
    """

    by_number = False

    def __init__(self, batches: Any) -> None:
        self.batches = batches
        sizes: list[int] = []
        columns = 0
        for X, Y in self._pairs():
            if np.ndim(X) != 2 or np.shape(Y)[:1] != (len(X),):
                raise ValueError(
                    f"X: expected batches (X, Y) with X of shape (n, features) and as many targets, got shapes "
                    f"{np.shape(X)} and {np.shape(Y)} in batch {len(sizes)}"
                )
            columns = columns or np.shape(X)[1]
            if np.shape(X)[1] != columns:
                raise ValueError(f"X: batch {len(sizes)} has {np.shape(X)[1]} features, those before had {columns}")
            sizes.append(len(X))
        if not sum(sizes):
            raise ValueError("X: expected batches with samples, got none")
        self._measure(sizes, columns)

    def part(self, number: int) -> Iterator[Pair]:
        """Not by number."""
        raise NotImplementedError

    def name(self, number: int) -> str:
        """The number of a batch."""
        return f"batch {number}"

    def _read(self, order: Sequence[int]) -> Iterator[Iterable[Pair]]:
        """All batches as they come: `order` is that."""
        count = 0
        for pair in self._pairs():
            count += 1
            if count > len(order):
                break
            yield [pair]
        if count != len(order):
            more = " or more" if count > len(order) else ""
            raise ValueError(
                f"X: expected {len(order)} batches in every pass over them, as in the first, got {count}{more}; what "
                "yields batches has to begin anew whenever it is iterated, which an iterator does not"
            )

    def _pairs(self) -> Iterator[Pair]:
        for number, batch in enumerate(self.batches):
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise TypeError(f"X: expected batches to be pairs (X, Y), got {type(batch).__name__} as batch {number}")
            for name, array in zip(("X", "Y"), batch, strict=True):
                refuse_masked(array, f"{name} of batch {number}")
            yield batch[0], batch[1]

    def describe(self) -> str:
        """How many there are."""
        return f"{len(self.sizes)} batches, {self.shape[0]} × {self.shape[1]}"


def find_source(X: Any, Y: Any) -> Source | None:
    """What `X` and `Y` are, where they are to be read part by part; None for arrays.

    A path is a Parquet file, `Y` then being the name of the target column or None, or a folder of chunks; what has a
    length and is iterable, but is no array and no list of numbers, is batches, where Y is None.

    Raises
    ------
    ValueError, TypeError
        If a path is neither.
    """
    if isinstance(X, Source):
        return X
    if isinstance(X, (str, os.PathLike)):
        path = Path(X)
        if Y is not None and not isinstance(Y, str):
            raise TypeError(f"Y: expected the name of a column, or None, with a path as X, got {type(Y).__name__}")
        if path.is_dir():
            if Y is not None:
                raise ValueError(f"Y: expected None with a folder, whose files hold X and y, got {Y!r}")
            return FolderParts(path)
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
        if path.suffix.lower() != ".parquet":
            raise ValueError(f"X: expected a .parquet file or a folder of .npz files, got {str(path)!r}")
        return ParquetParts(path, Y)
    if Y is None and hasattr(X, "__len__") and hasattr(X, "__iter__") and not hasattr(X, "__array__"):
        return BatchParts(X)
    return None


def windows(source: Parts, rows: int, rng: np.random.Generator | None) -> Iterator[Chunk]:
    """All samples in windows of so many rows, the last of those that are left; each permuted by `rng`, if any.

    With it, parts that can be had by number come in a random order.
    """
    count = len(source.sizes)
    order = np.arange(count) if rng is None or not source.by_number else rng.permutation(count)
    held: list[Piece] = []
    size = 0
    for piece in source.parts(order.tolist()):
        held.append(piece._replace(X=np.asarray(piece.X), Y=np.asarray(piece.Y)))
        size += len(piece.X)
        del piece
        while size >= rows:
            yield _window(source, _cut(held, rows), rng)
            size -= rows
            if size < rows:  # what is left of a piece goes into the next window, and must not keep all of it
                held[-1:] = [piece._replace(X=piece.X.copy(), Y=piece.Y.copy()) for piece in held[-1:]]
    if size:
        yield _window(source, _cut(held, size), rng)


def _cut(held: list[Piece], rows: int) -> list[Piece]:
    """The first `rows` samples of some pieces, which are taken from these."""
    taken: list[Piece] = []
    while rows:
        X, Y, number, first = held.pop(0)
        taken.append(Piece(X[:rows], Y[:rows], number, first))
        if len(X) > rows:
            held.insert(0, Piece(X[rows:], Y[rows:], number, first + rows))
        rows -= len(taken[-1].X)
    return taken


def _window(source: Parts, taken: list[Piece], rng: np.random.Generator | None) -> Chunk:
    """Some pieces as one chunk, permuted; they are let go."""
    pairs = [(piece.X, piece.Y) for piece in taken]
    ends = np.cumsum([len(piece.X) for piece in taken])
    parts = [(piece.number, piece.first) for piece in taken]
    taken.clear()
    X, Y = (np.concatenate(arrays) if len(pairs) > 1 else arrays[0] for arrays in zip(*pairs, strict=True))
    del pairs
    order = None if rng is None else rng.permutation(len(X))

    def place(row: int) -> tuple[int, str]:
        row = row if order is None else int(order[row])
        which = int(np.searchsorted(ends, row, side="right"))
        number, first = parts[which]
        return first + row - (int(ends[which - 1]) if which else 0), f" of {source.name(number)}"

    return Chunk(X, Y, place) if order is None else Chunk(X[order], Y[order], place)


def _shape_in_archive(path: Path) -> tuple[int, int]:
    """Rows and features of the X in an ``.npz`` file, from its header."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("X.npy") as file:
            shape, _ = check_declared_size(file, UNPACKED_LIMIT)
    except DAMAGED as error:
        raise ValueError(f"{path}: expected an .npz file with arrays X and y ({error})") from error
    if len(shape) < 2 or 0 in shape:
        raise ValueError(f"{path}: expected X of shape (n, features), got {shape}")
    return shape[0], math.prod(shape[1:])
