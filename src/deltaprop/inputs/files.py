"""Files of data: CSV, Parquet, ``.npy``, ``.npz``, folders of idx files as MNIST comes, and scikit-learn's digits."""

from __future__ import annotations

import gzip
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from deltaprop.backends import get_backend
from deltaprop.backends.array_types import Floats, HostArray
from deltaprop.errors import listing
from deltaprop.inputs import cells
from deltaprop.inputs.arrays import first_not_finite
from deltaprop.inputs.byte_source import ByteSource
from deltaprop.inputs.csv_file import CsvFile
from deltaprop.inputs.numpy_files import UNPACKED_LIMIT, load_numpy, members
from deltaprop.inputs.parquet_file import ParquetFile
from deltaprop.inputs.typed_blocks import NotPlainError, TypedColumn, typed_blocks

Matrix = HostArray

#: Elements of an array that are moved together.
BLOCK = 2**18
#: Bytes of the columns that are read in one pass over a Parquet file; every pass parses the metadata of all columns.
BYTES_OF_A_PASS = 2 * 2**20
#: Files of text, and all files whose columns have names.
TEXT_FILES = (".csv", ".tsv", ".txt")
TABLES = (*TEXT_FILES, ".parquet")
#: Pairs of names that an .npz file may give its training data and its test data.
NPZ_TRAIN = (("X", "y"), ("x", "y"), ("data", "target"), ("X_train", "y_train"), ("x_train", "y_train"))
NPZ_TEST = (("X_test", "y_test"), ("x_test", "y_test"))


@dataclass(frozen=True)
class Dataset:
    """Samples and, if the source has them, targets.

    Parameters
    ----------
    X : array, (m, n)
        Features: floating point or whole numbers.
    y : array, (m,) or None
        Targets as they are in the source: numbers or text. Text from tables is an array of objects that share equal
        texts.
    feature_names : list of str
        One a column of X.
    target_name : str
        The name of the target.
    test : (X, y) or None
        The test set, if the source has one.
    common_range : bool
        Whether all features are of one kind and range, as pixels are.
    labels : array, (m,) or None
        The targets as they are written, if they are numbers and some are not written as usual: "007" is 7 as a
        quantity, but another class than "7".
    """

    X: Matrix
    y: Matrix | None
    feature_names: list[str]
    target_name: str = "target"
    test: tuple[Matrix, Matrix] | None = None
    common_range: bool = False
    labels: Matrix | None = None


def load_dataset(source: str, target: str | None = None, *, features: Sequence[str] | None = None) -> Dataset:
    """Read a data set.

    Parameters
    ----------
    source : str
        "digits"; "-" for CSV from standard input; or the path of a ``.csv``, ``.tsv`` or ``.txt`` file, each also with
        ``.gz``, of a ``.parquet``, ``.npy`` or ``.npz`` file, or of a folder with idx files
        (``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, the same with ``t10k``; ``.gz`` or not).
    target : str, optional
        The column with the targets, by name or, in ``.npy`` files, by number. The last column by default.
    features : sequence of str, optional
        Take exactly these columns as features and need no target: data to predict. Only tables have column names; other
        sources need the same number of columns.

    Returns
    -------
    Dataset
        The samples, and the targets unless `features` is given.

    Raises
    ------
    ValueError
        If the content is wrong; one line names the file and the place.
    OSError
        If it cannot be read.
    """
    path, ending = Path(source), ending_of(source)
    if source == "-":
        return _from_csv(ByteSource(source), target, features)
    if target is not None and ending not in (*TABLES, ".npy"):
        raise ValueError(f"{source}: has no columns to choose the target from, got target {target!r}")
    if source == "digits":
        return _digits()
    if path.is_dir():
        return _idx_folder(path)
    if not path.exists():
        raise FileNotFoundError(f"{source}: no such file or folder ('digits' is the data set that needs none)")
    match ending:
        case ".csv" | ".tsv" | ".txt":
            return _from_csv(path, target, features)
        case ".parquet":
            return _from_parquet(path, target, features)
        case ".npy":
            return _npy(path, target, features)
        case ".npz":
            return _npz(path)
    raise ValueError(
        f"{source}: expected .csv, .tsv or .txt (or these with .gz), .parquet, .npy, .npz or a folder of idx files"
    )


def ending_of(source: str) -> str:
    """Return the ending of a file's name in small letters, without ".gz" for files of text."""
    path = Path(source.lower())
    unpacked = Path(path.stem).suffix if path.suffix == ".gz" else ""
    return unpacked if unpacked in TEXT_FILES else path.suffix


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return Dataset(digits.data, digits.target, list(digits.feature_names), "digit", common_range=True)


# -- tables -----------------------------------------------------------------------------------------------------


def _from_csv(source: Path | ByteSource, target: str | None, features: Sequence[str] | None) -> Dataset:
    """Read a CSV file: features as float64; the target as numbers if every cell is one, else as text."""
    file = CsvFile(source)
    target, features = _choose(file.path, file.names, target, features)
    try:
        return _from_blocks(file, typed_blocks(file, set(features)), target, features)
    except NotPlainError:
        return _from_blocks(file, file.blocks(), target, features)


def _from_blocks(
    file: CsvFile,
    blocks: Iterable[tuple[Sequence[TypedColumn], float]],
    target: str | None,
    features: Sequence[str],
) -> Dataset:
    """Collect the blocks of a CSV file."""
    path, position = file.path, {name: place for place, name in enumerate(file.names)}
    places = [position[name] for name in features]
    X, y, labels, written = Grown(len(places)), Grown(1), None, cells.WrittenNumbers(path, target or "")
    for block, share in blocks:
        rows = X.extend(len(block[0]), share)
        for j, (name, place) in enumerate(zip(features, places, strict=True)):
            X.array[rows, j] = cells.finite_numbers(path, name, block[place], rows.start)
        if target is None:
            continue
        column = block[position[target]]
        values = cells.numbers(column) if labels is None else None
        if values is not None:
            y.array[y.extend(len(values), share), 0] = values
            written.add(column)
            continue
        if labels is None:  # all cells so far were numbers, and are text as well
            labels = cells.Labels(path, target)
            for earlier in _first_rows(file, position[target], rows.start):
                labels.add(earlier)
        labels.add(column)
    if target is None:
        return Dataset(X.whole(), None, list(features), "")
    if labels is not None:
        return Dataset(X.whole(), labels.array(), list(features), target)
    values = y.whole().reshape(-1)
    _check_finite(f"{path}: column {target!r}", values)
    return Dataset(X.whole(), values, list(features), target, labels=written.labels())


def _first_rows(file: CsvFile, place: int, rows: int) -> Iterator[Sequence[str]]:
    """Yield the first `rows` cells of a column, as they are written, block by block."""
    if not rows:
        return
    for block, _ in file.blocks():
        yield block[place][:rows]
        rows -= len(block[place])
        if rows <= 0:
            return


class Grown:
    """Rows of float64, (m, n), that become more as a file is read; keep no view of `array` between calls."""

    array: Floats
    rows: int

    def __init__(self, columns: int) -> None:
        self.array, self.rows = np.empty((0, columns)), 0

    def extend(self, rows: int, share: float) -> slice:
        """Make room for more rows and return their slice; `share` of all rows has been seen after them."""
        self.rows += rows
        if self.rows > len(self.array):
            # In place, where the memory behind is free or can be moved by its pages.
            expected = min(int(1.02 * self.rows / share), 2 * self.rows) if share < 1.0 else self.rows
            self.array.resize((max(self.rows, expected), self.array.shape[1]), refcheck=False)
        return slice(self.rows - rows, self.rows)

    def whole(self) -> Matrix:
        """Return all rows."""
        self.array.resize((self.rows, self.array.shape[1]), refcheck=False)
        return self.array


def _from_parquet(path: Path, target: str | None, features: Sequence[str] | None) -> Dataset:
    """Read a Parquet file, as `_from_csv`, some columns at a time."""
    file = ParquetFile(path)
    if not sum(file.sizes) or not file.names:
        raise ValueError(f"{path}: has no rows")
    target, features = _choose(path, file.names, target, features)
    file.check_size(len(features) + (target is not None))
    X = np.empty((sum(file.sizes), len(features)))
    at_once = max(1, BYTES_OF_A_PASS // (X.itemsize * len(X)))
    for first in range(0, len(features), at_once):
        names, start = features[first : first + at_once], 0
        for pieces in file.pieces(names):
            for j, (name, piece) in enumerate(zip(names, pieces, strict=True), start=first):
                X[start : start + len(piece), j] = cells.finite_numbers(path, name, piece, start)
            start += len(pieces[0])
    y, labels = (None, None) if target is None else _parquet_target(file, target)
    return Dataset(X, y, list(features), target or "", labels=labels)


def _parquet_target(file: ParquetFile, name: str) -> tuple[Matrix, Matrix | None]:
    """Read the target column: numbers if every cell is one, and how they are written; else text."""
    y, start, written = np.empty(sum(file.sizes)), 0, cells.WrittenNumbers(file.path, name)
    for (piece,) in file.pieces([name]):
        cells.check_no_gap(file.path, name, piece, start)
        values = cells.numbers(piece)
        if values is None:
            break
        y[start : start + len(values)] = values
        start += len(values)
        written.add(piece)
    else:
        _check_finite(f"{file.path}: column {name!r}", y)
        return y, written.labels()
    labels = cells.Labels(file.path, name)
    for (piece,) in file.pieces([name]):
        labels.add(piece)
    return labels.array(), None


def _choose(
    path: object, names: list[str], target: str | None, features: Sequence[str] | None
) -> tuple[str | None, Sequence[str]]:
    """Choose the target and the features among the columns `names` of a table."""
    known = set(names)
    if len(known) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(f"{path}: two columns are called {twice!r}")
    if target is not None and target not in known:
        raise ValueError(f"{path}: no column {target!r}; the columns are {listing(names)}")
    if features is None:
        target = target if target is not None else names[-1]
        features = [name for name in names if name != target]
    elif missing := [name for name in features if name not in known]:
        raise ValueError(f"{path}: no column {missing[0]!r}, which the model was trained on; it has {listing(names)}")
    if not features:
        raise ValueError(f"{path}: expected at least one column besides the target {target!r}")
    return target, features


# -- arrays -----------------------------------------------------------------------------------------------------


def _npy(path: Path, target: str | None, features: Sequence[str] | None) -> Dataset:
    with path.open("rb") as file:
        table = load_numpy(path, file)
    if not isinstance(table, np.ndarray) or table.ndim != 2 or 0 in table.shape:
        raise ValueError(f"{path}: expected a 2-D array with rows, got shape {getattr(table, 'shape', '?')}")
    _check_finite(path, table)
    names = [f"column {i + 1}" for i in range(table.shape[1])]
    if features is not None and table.shape[1] == len(features):
        return Dataset(table, None, list(features))
    try:
        column = range(table.shape[1])[-1 if target is None else int(target)]
    except (ValueError, IndexError):
        raise ValueError(f"{path}: no column {target!r}; there are {table.shape[1]}, numbered from 0") from None
    if table.shape[1] < 2:
        raise ValueError(f"{path}: expected at least one column besides the target")
    y = table[:, column].copy()
    for rows in _row_blocks(table):  # in place, since the array may take most of the memory
        rows[:, column:-1] = rows[:, column + 1 :]
    return Dataset(table[:, :-1], y, names[:column] + names[column + 1 :], names[column])


def _npz(path: Path) -> Dataset:
    with path.open("rb") as file:
        archive = load_numpy(path, file)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError(f"{path}: expected an .npz archive")
        pair = next((pair for pair in NPZ_TRAIN if set(pair) <= set(archive.files)), None)
        if pair is None:
            wanted = ", ".join(f"{x!r} and {y!r}" for x, y in NPZ_TRAIN)
            raise ValueError(f"{path}: expected arrays {wanted}; it holds {listing(archive.files)}")
        X, y = _samples(path, pair, *members(path, archive, pair))
        test = None
        for pair in NPZ_TEST:
            if set(pair) <= set(archive.files):
                test = _samples(path, pair, *members(path, archive, pair, UNPACKED_LIMIT - X.nbytes - y.nbytes))
                if test[0].shape[1] != X.shape[1]:
                    raise ValueError(f"{path}: {pair[0]!r} has {test[0].shape[1]} features, expected {X.shape[1]}")
                break
    names = [f"column {i + 1}" for i in range(X.shape[1])]
    return Dataset(X, y, names, test=test, common_range=X.dtype == np.uint8)


def _samples(path: Path, names: tuple[str, str], X: Matrix, y: Matrix) -> tuple[Matrix, Matrix]:
    """Return X with its samples as rows, and y as a vector of the same length."""
    if X.ndim < 2 or 0 in X.shape or X.shape[0] != len(y) or y.size != len(y):
        raise ValueError(
            f"{path}: expected {names[0]!r} of shape (m, …) and {names[1]!r} of shape (m,), got {X.shape} and {y.shape}"
        )
    _check_finite(f"{path}: {names[0]!r}", X)
    if y.dtype.kind not in "US":
        _check_finite(f"{path}: {names[1]!r}", y)
    return X.reshape(X.shape[0], -1), y.reshape(-1)


def _check_finite(what: object, array: Matrix) -> None:
    """Refuse an array that holds anything but finite numbers."""
    if array.dtype.kind not in "iubf":
        raise ValueError(f"{what}: expected numbers, got dtype {array.dtype}")
    if array.dtype.kind != "f":
        return
    place = first_not_finite(array, get_backend("reference"))
    if place is not None:
        where = ", ".join(map(str, place))
        raise ValueError(f"{what}: expected finite numbers, got {array[place]} at [{where}]")


def _row_blocks(array: Matrix) -> Iterator[Matrix]:
    """Yield views of a few rows at a time."""
    at_once = max(1, BLOCK * len(array) // max(1, array.size))
    return (array[start : start + at_once] for start in range(0, len(array), at_once))


# -- idx --------------------------------------------------------------------------------------------------------


def _idx_folder(folder: Path) -> Dataset:
    """Read a folder of MNIST's files: ``train-…`` and, for the test set, ``t10k-…``."""
    X, y = _idx_pair(folder, "train")
    test = _idx_pair(folder, "t10k") if _idx_path(folder, "t10k", "images-idx3-ubyte") else None
    if test is not None and test[0].shape[1] != X.shape[1]:
        raise ValueError(f"{folder}: test images have {test[0].shape[1]} pixels, training images {X.shape[1]}")
    names = [f"pixel {i}" for i in range(X.shape[1])]
    return Dataset(X, y, names, "label", test=test, common_range=True)


def _idx_path(folder: Path, part: str, kind: str) -> Path | None:
    # Some copies are called train-images.idx3-ubyte.
    names = (f"{part}-{spelling}{end}" for spelling in (kind, kind.replace("-idx", ".idx")) for end in ("", ".gz"))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _idx_pair(folder: Path, part: str) -> tuple[Matrix, Matrix]:
    arrays = []
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
        path = _idx_path(folder, part, kind)
        if path is None:
            raise FileNotFoundError(f"{folder}: expected {part}-{kind} or {part}-{kind}.gz in it")
        arrays.append(_read_idx(path))
    images, labels = arrays
    if images.ndim < 2 or labels.ndim != 1 or len(images) != len(labels) or images.size == 0:
        raise ValueError(f"{folder}: {part} images of shape {images.shape} do not go with labels {labels.shape}")
    return images.reshape(len(images), -1), labels


def _read_idx(path: Path) -> Matrix:
    """Read an idx file of unsigned bytes: 0, 0, type 8, number of dimensions; each dimension in 4 bytes; the data."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 4:
                raise ValueError(f"{path}: not an idx file of unsigned bytes")
            sizes = file.read(4 * head[3])
            if len(sizes) < 4 * head[3]:
                raise ValueError(f"{path}: ends within its header")
            shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4))
            expected = math.prod(shape)
            if expected > UNPACKED_LIMIT:
                raise ValueError(f"{path}: declares shape {shape}, over the limit of {UNPACKED_LIMIT} bytes")
            data = _read_at_most(file, expected + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not a gzip file, or a damaged one ({error})") from error
    if len(data) != expected:
        more = "more" if len(data) > expected else f"{len(data)}"
        raise ValueError(f"{path}: declares shape {shape}, {expected} bytes, but holds {more}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_at_most(file: BinaryIO, count: int) -> bytearray:
    """Read at most this many bytes, and take memory only for those that are there."""
    data = bytearray()
    while len(data) < count:
        part = file.read(min(2**20, count - len(data)))
        if not part:
            break
        data += part
    return data
