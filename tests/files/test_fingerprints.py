"""Every row of the data changes the digest by which a run recognises them, however they are read."""

import hashlib

import numpy as np
import pytest

from deltaprop.backends import get_backend
from deltaprop.files import fingerprints
from deltaprop.files.fingerprints import fingerprint
from deltaprop.inputs.arrays import HostData
from deltaprop.inputs.parts import BatchParts, FolderParts, ParquetParts
from deltaprop.inputs.sources import CheckedSource, Rows

NUMPY = get_backend("numpy")


def of(data):
    return fingerprint(data, NUMPY)


def of_source(source):
    return of(CheckedSource(source, lambda X, Y: (X, Y)))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Make chunks so small that the tests' arrays have many, the last one short."""
    monkeypatch.setattr(fingerprints, "CHUNK", 1000)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint8, np.bool_, "U3"])
def test_every_row_counts(rng, dtype):
    array = rng.integers(0, 2, (523, 3)).astype(dtype)
    expected, seen = of(array), set()
    for row in range(len(array)):
        changed = array.copy()
        changed[row, row % 3] = not int(array[row, row % 3])
        seen.add(of(changed))
    assert len(seen | {expected}) == 524
    assert of(array.copy()) == expected


def test_chunks_are_hashed_one_by_one(rng):
    """The digest equals the digest of the chunks' digests, computed here."""
    array = rng.standard_normal((130, 4))
    outer = hashlib.sha256(b"float64")
    for start in range(0, 130, 31):
        outer.update(hashlib.sha256(array[start : start + 31].tobytes()).digest())
    assert of(array) == f"(130, 4) {outer.hexdigest()[:32]}"


def test_the_same_numbers_in_another_layout(rng, backend):
    array = rng.standard_normal((200, 6))
    expected = of(array)
    assert of(np.asfortranarray(array)) == expected
    assert of(np.repeat(array, 2, axis=0)[::2]) == expected
    assert of(HostData(array)) == expected
    assert fingerprint(backend.asarray(array, np.float64), backend) == expected
    others = [array.astype(np.float32), array.reshape(100, 12), array[::-1], array[:-1], array.T]
    assert len({of(other) for other in others} | {expected}) == 6


def test_vectors_and_what_is_empty(rng):
    assert of(rng.standard_normal(5000)) != of(rng.standard_normal(5000))
    assert of(np.zeros((0, 3))) != of(np.zeros((0, 4)))


def test_memory_maps(rng, tmp_path):
    X, y = rng.standard_normal((400, 5)), rng.integers(0, 3, 400)
    np.save(tmp_path / "X.npy", X)
    expected = of_source(Rows(np.load(tmp_path / "X.npy", mmap_mode="r"), y))
    assert of_source(Rows(X, y)) == expected
    X[399, 4] += 1e-12
    assert of_source(Rows(X, y)) != expected
    X[399, 4], y[7] = np.load(tmp_path / "X.npy")[399, 4], 5
    assert of_source(Rows(X, y)) != expected


def test_folders_and_parquet(rng, tmp_path):
    X, y = rng.standard_normal((60, 3)), rng.integers(0, 3, 60)

    def write(folder):
        folder.mkdir(exist_ok=True)
        for part in range(3):
            rows = slice(20 * part, 20 * part + 20)
            np.savez(folder / f"{part}.npz", X=X[rows], y=y[rows])
        return of_source(FolderParts(folder))

    expected = write(tmp_path / "one")
    assert write(tmp_path / "other") == expected  # in another folder, later
    X[59, 0] += 1
    assert write(tmp_path / "one") != expected
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def table(path, **options):
        columns = {"a": X[:, 0], "b": X[:, 1], "y": y}
        parquet.write_table(pyarrow.table(columns), path, row_group_size=20, **options)
        return of_source(ParquetParts(path, "y"))

    expected = table(tmp_path / "one.parquet")
    assert table(tmp_path / "other.parquet", compression="gzip") == expected
    y[0] += 1
    assert table(tmp_path / "one.parquet") != expected


class Batches:
    """An iterable that yields given batches, and counts how often it is started."""

    def __init__(self, make):
        self.make, self.begun, self.yielded = make, 0, 0

    def __len__(self):
        return 4

    def __iter__(self):
        self.begun += 1
        for number in range(4):
            self.yielded += 1
            yield self.make(number)


def test_iterables(rng):
    X, y = rng.standard_normal((4, 5, 2)), rng.integers(0, 3, (4, 5))
    batches = Batches(lambda k: (X[k], y[k]))
    expected = of_source(BatchParts(batches))
    assert batches.begun == 3  # once to count the samples, twice for the digest
    assert of_source(BatchParts([(X[k].tolist(), y[k].tolist()) for k in range(4)])) == expected
    X[3, 4, 1] += 1
    assert of_source(BatchParts(batches)) != expected


def test_an_iterable_of_other_samples_every_time(rng):
    """Only its shape can be compared; hashing ends at the first batch that differs."""
    batches = Batches(lambda k: (rng.standard_normal((5, 2)), rng.integers(0, 3, 5)))
    source = BatchParts(batches)
    batches.yielded = 0
    expected = of_source(source)
    assert "others every time" in expected
    assert batches.yielded == len(batches) + 1
    assert of_source(BatchParts(batches)) == expected
