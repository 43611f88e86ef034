"""Data larger than memory: memory-mapped arrays, Parquet files, folders of chunks, iterables of batches.

A source is read part by part, again in every epoch. What can be asked for rows by number is shuffled truly: every order
of all samples is as likely as any other. The others are shuffled in windows: parts that can be asked for by number are
taken in a random order, and the samples within so many bytes of them are permuted.
"""

from __future__ import annotations

import itertools
import math
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deltaprop.backends import Array
from deltaprop.cells import finite_numbers
from deltaprop.numpy_files import DAMAGED, UNPACKED_LIMIT, check_declared_size, load_numpy, members
from deltaprop.parquet_file import ParquetFile

Pair = tuple[Any, Any]
#: Bytes of a chunk that is held at a time: enough for a disk or a bus to be at its speed, and little of any memory.
CHUNK_BYTES = 64 * 2**20


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

    def describe(self) -> str:
        """Shapes and dtypes."""
        return f"rows {self.X.shape} {self.X.dtype}, targets {self.Y.shape} {self.Y.dtype}"


class Parts(Source):
    """What comes in parts.

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

    def parts(self, order: Sequence[int]) -> Iterator[Pair]:
        """All parts, in `order`."""
        return itertools.chain.from_iterable(self.part(number) for number in order)

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

    def part(self, number: int) -> Iterator[Pair]:
        """One file."""
        path = self.files[number]
        with path.open("rb") as file:
            archive = load_numpy(path, file)
            X, y = members(path, archive, ("X", "y"))
        if len(X) != self.sizes[number] or len(y) != len(X):
            raise ValueError(f"{path}: expected X and y of {self.sizes[number]} samples, got {len(X)} and {len(y)}")
        yield X.reshape(len(X), -1), y

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
        for X, Y in self.parts(()):
            if np.ndim(X) != 2 or len(X) != len(Y):
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

    def parts(self, order: Sequence[int]) -> Iterator[Pair]:
        """All batches as they come."""
        for number, batch in enumerate(self.batches):
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise TypeError(f"X: expected batches to be pairs (X, Y), got {type(batch).__name__} as batch {number}")
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


def windows(source: Parts, rows: int, rng: np.random.Generator | None) -> Iterator[Pair]:
    """All samples in windows of so many rows, the last of those that are left; each permuted by `rng`, if any.

    With it, parts that can be had by number come in a random order.
    """
    count = len(source.sizes)
    order = np.arange(count) if rng is None or not source.by_number else rng.permutation(count)
    held: list[Pair] = []
    size = 0
    for part in source.parts(order.tolist()):
        held.append((np.asarray(part[0]), np.asarray(part[1])))
        size += len(held[-1][0])
        del part
        while size >= rows:
            yield _permuted(_cut(held, rows), rng)
            size -= rows
        # What is left of a part goes into the next window, and must not keep all of it.
        held[-1:] = [(X.copy(), Y.copy()) for X, Y in held[-1:]]
    if size:
        yield _permuted(_cut(held, size), rng)


def _cut(held: list[Pair], rows: int) -> Pair:
    """The first `rows` samples of some parts, which are taken from these."""
    taken: list[Pair] = []
    while rows:
        X, Y = held.pop(0)
        taken.append((X[:rows], Y[:rows]))
        if len(X) > rows:
            held.insert(0, (X[rows:], Y[rows:]))
        rows -= len(taken[-1][0])
    X, Y = (np.concatenate(arrays) if len(arrays) > 1 else arrays[0] for arrays in zip(*taken, strict=True))
    return X, Y


def _permuted(window: Pair, rng: np.random.Generator | None) -> Pair:
    if rng is None:
        return window
    order = rng.permutation(len(window[0]))
    return window[0][order], window[1][order]


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
