"""Data that are read part by part: Parquet files, folders of chunks, iterables of batches; and how to tell which."""

from __future__ import annotations

import copy
import hashlib
import math
import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deltaprop.arguments import refuse_masked
from deltaprop.backends.array_types import ArrayLike
from deltaprop.inputs.cells import finite_numbers
from deltaprop.inputs.numpy_files import DAMAGED, UNPACKED_LIMIT, check_declared_size, load_numpy, members_in_pieces
from deltaprop.inputs.parquet_file import ParquetFile
from deltaprop.inputs.sources import Pair, Parts, Source

#: Rows of an iterable by which ranks tell that they have the same.
ROWS_OF_SAMPLE = 8


class ParquetParts(Parts):
    """A Parquet file; its row groups are the parts.

    Parameters
    ----------
    path : path
        The file.
    target : str, optional
        The column with the targets; the last one by default.

    Raises
    ------
    ValueError
        If it is damaged, has no rows or no such column.
    """

    path: Path
    file: ParquetFile

    def __init__(self, path: str | os.PathLike[str], target: str | None = None) -> None:
        self.path, self.file = Path(path), ParquetFile(Path(path))
        names = self.file.names
        if not names or len(set(names)) < len(names):
            raise ValueError(f"{path}: expected columns with different names, got {', '.join(map(repr, names[:12]))}")
        self.target: Any | str = names[-1] if target is None else target
        if self.target not in names:
            raise ValueError(f"{path}: no column {target!r}; the columns are {', '.join(map(repr, names[:12]))}")
        self.features: list[Any] = [name for name in names if name != self.target]
        if not sum(self.file.sizes) or not self.features:
            raise ValueError(f"{path}: expected rows, and a column besides the target {self.target!r}")
        self._measure(self.file.sizes, len(self.features))

    def name(self, number: int) -> str:
        """Name a row group by its number."""
        return f"row group {number} of {self.path.name}"

    def part(self, number: int) -> Iterator[Pair]:
        """Read one row group."""
        names, start = [*self.features, self.target], sum(self.sizes[:number])
        for piece in self.file.pieces(names, number):
            columns = [
                cells if isinstance(cells, np.ndarray) else finite_numbers(self.path, name, cells, start)
                for name, cells in zip(names, piece, strict=True)
            ]
            start += len(columns[-1])
            yield np.column_stack(columns[:-1]), columns[-1]

    def sample(self) -> str:
        """Say how many bytes the file has."""
        return f"{self.path.stat().st_size} bytes"

    def describe(self) -> str:
        """Say its name and size."""
        return f"{self.path.name}, {self.shape[0]} × {self.shape[1]}, target {self.target!r}"


class FolderParts(Parts):
    """A folder of ``.npz`` files with arrays X and y; each file is a part, in the order of their names.

    Parameters
    ----------
    folder : path
        The folder.

    Raises
    ------
    ValueError
        If there is no such file, or one is damaged or has another number of features.
    """

    digest_of_wholes = True

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder: Path = Path(folder)
        self.files: list[Path] = sorted(self.folder.glob("*.npz"))
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
        """Name a file."""
        return self.files[number].name

    def part(self, number: int) -> Iterator[Pair]:
        """Read one file."""
        path = self.files[number]
        with path.open("rb") as file:
            archive = load_numpy(path, file)
            for X, y in members_in_pieces(path, archive, ("X", "y"), self.sizes[number]):
                yield X.reshape(len(X), -1) if X.ndim > 1 and len(X) else X, y

    def sample(self) -> str:
        """Say what the files are called, and how many bytes each has: the beginning, and a digest of all."""
        files = " ".join(f"{path.name}: {path.stat().st_size} bytes" for path in self.files)
        return f"{files[:60]} {hashlib.sha256(files.encode()).hexdigest()[:16]}"

    def describe(self) -> str:
        """Say how many files and samples there are."""
        return f"{self.folder.name}, {len(self.files)} files, {self.shape[0]} × {self.shape[1]}"


class BatchParts(Parts):
    """An iterable of batches (X, Y) with a length, iterated once an epoch, in its own order.

    It is iterated once more at the beginning, to count the samples.

    Parameters
    ----------
    batches : iterable of (X, Y)
        The batches.

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
            if not sum(sizes):
                self._first = [copy.copy(array[:ROWS_OF_SAMPLE]) for array in (X, Y)]
            sizes.append(len(X))
        if not sum(sizes):
            raise ValueError("X: expected batches with samples, got none")
        self._measure(sizes, columns)

    def part(self, number: int) -> Iterator[Pair]:
        """Refuse, since batches cannot be read by number."""
        raise NotImplementedError

    def name(self, number: int) -> str:
        """Name a batch by its number."""
        return f"batch {number}"

    def _read(self, order: Sequence[int]) -> Iterator[Iterable[Pair]]:
        """Yield all batches as they come; `order` is their own."""
        count = 0
        for pair in self._pairs():
            count += 1
            if count > len(order):
                break
            yield [pair]
        if count != len(order):
            more = " or more" if count > len(order) else ""
            raise ValueError(
                f"X: expected {len(order)} batches in every pass over them, as in the first, got {count}{more}; "
                "pass an iterable that starts again in every pass, not an iterator"
            )

    def _pairs(self) -> Iterator[Pair]:
        for number, batch in enumerate(self.batches):
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise TypeError(f"X: expected batches to be pairs (X, Y), got {type(batch).__name__} as batch {number}")
            for name, array in zip(("X", "Y"), batch, strict=True):
                refuse_masked(array, f"{name} of batch {number}")
            yield batch[0], batch[1]

    def sample(self) -> str:
        """Say what the first rows of the first batch are: a digest of them."""
        rows = [np.asarray(array) for array in self._first]
        content = repr([(str(array.dtype), array.tolist()) for array in rows])
        return f"digest {hashlib.sha256(content.encode()).hexdigest()[:16]}"

    def describe(self) -> str:
        """Say how many there are."""
        return f"{len(self.sizes)} batches, {self.shape[0]} × {self.shape[1]}"


def find_source(X: ArrayLike, Y: ArrayLike) -> Source | None:
    """Find out what `X` and `Y` are if they are read part by part; None for arrays.

    A path is a Parquet file, and `Y` is then the name of the target column or None; or it is a folder of chunks. An
    object that has a length and can be iterated, but is not an array, holds batches if `Y` is None.

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
            raise ValueError(
                f"X: expected a .parquet file or a folder of .npz files, got {str(path)!r}; dp.TabularClassifier and "
                "dp.TabularRegressor read CSV as well"
            )
        return ParquetParts(path, Y)
    if Y is None and hasattr(X, "__len__") and hasattr(X, "__iter__") and not hasattr(X, "__array__"):
        return BatchParts(X)
    return None


def _shape_in_archive(path: Path) -> tuple[int, int]:
    """Read the rows and features of the X in an ``.npz`` file from its header."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("X.npy") as file:
            shape, _ = check_declared_size(file, UNPACKED_LIMIT)
    except DAMAGED as error:
        raise ValueError(f"{path}: expected an .npz file with arrays X and y ({error})") from error
    if len(shape) < 2 or 0 in shape:
        raise ValueError(f"{path}: expected X of shape (n, features), got {shape}")
    return shape[0], math.prod(shape[1:])
