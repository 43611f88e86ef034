"""The files of a folder are read some rows at a time: the same rows as in one piece, and the same errors."""

import tracemalloc

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.epochs import chunked
from deltaprop.files.fingerprints import fingerprint
from deltaprop.inputs import numpy_files
from deltaprop.inputs.parts import FolderParts
from deltaprop.inputs.sources import CheckedSource

X = np.random.default_rng(2).standard_normal((50, 2, 3))
Y = np.arange(50) % 3


def rows_of(folder):
    """Return all rows of the only file of a folder, and how many pieces there are."""
    pieces = list(FolderParts(folder).parts([0]))
    return np.concatenate([piece.X for piece in pieces]), np.concatenate([piece.Y for piece in pieces]), len(pieces)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(numpy_files, "PIECE_BYTES", 7 * (6 * 8 + 8))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["float64", ">f4", "int8", "bool"])
def test_rows_in_pieces(dtype, save, tmp_path):
    data = (X > 0 if dtype == "bool" else 10 * X).astype(dtype)
    save(tmp_path / "a.npz", X=data, y=Y)
    found, targets, pieces = rows_of(tmp_path)
    np.testing.assert_array_equal(found, data.reshape(50, 6))
    np.testing.assert_array_equal(targets, Y)
    assert pieces == {"float64": 8, ">f4": 5}.get(dtype, 2)  # of ⌊392/56⌋, ⌊392/32⌋ or ⌊392/14⌋ rows


def test_arrays_that_lie_column_by_column_are_read_whole(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.asfortranarray(X), y=Y)
    found, _, pieces = rows_of(tmp_path)
    np.testing.assert_array_equal(found, X.reshape(50, 6))
    assert pieces == 1


def test_other_targets_than_rows_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", X=X, y=Y[:49])
    with pytest.raises(ValueError, match=r"expected a\.npz to hold 50 samples of 6 features.*\(50, 6\) and \(49,\)"):
        rows_of(tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    long = np.tile(X, (100, 1, 1))
    np.savez(tmp_path / "a.npz", X=long, y=np.tile(Y, 100))
    source, whole = FolderParts(tmp_path), (tmp_path / "a.npz").read_bytes()
    place = whole.index(long.tobytes()) + 200 * 48 + 3
    (tmp_path / "a.npz").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(ValueError, match=r"a\.npz: rows from \d+ on cannot be read \(Bad CRC-32"):
        list(source.parts([0]))


def test_the_digest_does_not_depend_on_pieces(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", X=X, y=Y)
    np.savez(tmp_path / "b.npz", X=X[:9].astype(">f4"), y=Y[:9])
    checked = CheckedSource(FolderParts(tmp_path), lambda X, Y: (X, Y))
    in_pieces = fingerprint(checked, dp.get_backend("numpy"))
    monkeypatch.setattr(numpy_files, "PIECE_BYTES", 2**20)
    assert fingerprint(checked, dp.get_backend("numpy")) == in_pieces


def test_memory_is_not_that_of_a_file(tmp_path, monkeypatch):
    """A file of 16 MB is read in windows of 1 MB."""
    monkeypatch.setattr(numpy_files, "PIECE_BYTES", 2**18)
    monkeypatch.setattr(chunked, "CHUNK_BYTES", 2**20)
    np.savez(tmp_path / "a.npz", X=np.zeros((20_000, 100)), y=np.zeros(20_000, int))
    net = dp.Network([100, 4, 3], loss="categorical_cross_entropy", backend="numpy")
    net.fit(np.zeros((64, 100)), np.zeros(64, int), epochs=1, batch_size=64)
    tracemalloc.start()
    net.fit(tmp_path, epochs=1, batch_size=64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 2**20
