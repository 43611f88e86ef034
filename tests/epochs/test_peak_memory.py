"""The peak of memory of each reader of data, relative to the data, in a process of its own."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from processes import python

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")

READ = """
import sys
import numpy as np
import deltaprop as dp
from deltaprop.inputs import typed_blocks
from deltaprop.inputs.files import load_dataset
from deltaprop.inputs.parts import find_source
from deltaprop.inputs.sources import windows

def peak():
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))

def read(kind, source):
    if kind == "dataset":
        data = load_dataset(source)
        return sum(array.nbytes for array in (data.X, data.y, *(data.test or ())))
    # As training reads it: in windows, of 1 MiB here.
    source = find_source(source, None)
    rows = 2**20 // (8 * source.shape[1])
    return sum(window.X.nbytes + window.Y.nbytes for window in windows(source, rows, np.random.default_rng(0)))

typed_blocks.LEAST = typed_blocks.LEAST_FOR_PYARROW = 0  # small CSV files, too, load the library that reads large ones
kind, small, large = sys.argv[1:]
read(kind, small)  # so that everything is loaded
before = peak()
print(read(kind, large), peak() - before)
"""


def csv(path, X, y):
    path.write_text("\n".join(",".join(map(str, row)) for row in np.column_stack([X, y]).tolist()))


def csv_with_labels(path, X, y):
    lines = (",".join([*map(str, row), f"class {label}"]) for row, label in zip(X.tolist(), y.tolist(), strict=True))
    path.write_text("\n".join(lines))


def parquet(path, X, y, **options):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {f"f{j}": X[:, j] for j in range(X.shape[1])} | {"y": y}
    parquet.write_table(pyarrow.table(columns), path, **options)


def parquet_with_labels(path, X, y):
    parquet(path, X, np.array([f"class {label}" for label in y]))


def parquet_in_groups(path, X, y):
    parquet(path, X, y, row_group_size=5000)


def npy(path, X, y):
    np.save(path, np.column_stack([X, y]))


def npz(path, X, y):
    np.savez(path, X=X, y=y, X_test=X[:100], y_test=y[:100])


def npz_compressed(path, X, y):
    np.savez_compressed(path, X=X, y=y)


def idx(path, X, y):
    path.mkdir()
    X, y = (255 * X / X.max()).astype(np.uint8), y.astype(np.uint8)
    header = b"\0\0\x08\3" + struct.pack(">III", len(X), 1, X.shape[1])
    (path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + X.tobytes(), 1))
    (path / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\1" + struct.pack(">I", len(y)) + y.tobytes())


def folder(path, X, y):
    path.mkdir()
    for part, rows in enumerate(np.array_split(np.arange(len(X)), 8)):
        np.savez_compressed(path / f"{part}.npz", X=X[rows], y=y[rows])


#: The way to read, the function that writes, the file's name, and the largest peak relative to the data.
READERS = {
    "CSV": ("dataset", csv, "d.csv", 1.8),  # 15 MB are pyarrow's, however large the file is
    "CSV with labels": ("dataset", csv_with_labels, "d.csv", 1.8),
    "Parquet": ("dataset", parquet, "d.parquet", 1.6),
    "Parquet with labels": ("dataset", parquet_with_labels, "d.parquet", 1.7),
    "npy": ("dataset", npy, "d.npy", 1.2),
    "npz": ("dataset", npz, "d.npz", 1.2),
    "npz, compressed": ("dataset", npz_compressed, "d.npz", 1.2),
    "idx": ("dataset", idx, "d", 1.4),
    "folder of npz": ("source", folder, "d", 0.6),
    "Parquet, in parts": ("source", parquet_in_groups, "d.parquet", 0.8),
}


@pytest.mark.parametrize("name", READERS)
def test_peak_over_unpacked_size(name, tmp_path, rng):
    how, write, called, most = READERS[name]
    rows = 400_000 if name == "idx" else 60_000
    X, y = rng.integers(1, 10_000, (rows, 50)) / 1000, rng.integers(0, 3, rows)
    for which, count in (("small", 500), ("large", rows)):
        (tmp_path / which).mkdir()
        write(tmp_path / which / called, X[:count], y[:count])
    sources = [tmp_path / which / called for which in ("small", "large")]
    size, peak = map(int, python("-c", READ, how, *sources).split())
    print(f"{name}: {peak / 1e6:.1f} MB at the peak for {size / 1e6:.1f} MB, {peak / size:.2f}")
    assert size > 20e6
    assert peak < most * size
