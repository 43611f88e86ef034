"""Damaged and hostile files are refused in one line, fast, in little memory, and run no code; `fuzz.py` makes more."""

import gzip
import json
import pickle
import re
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import fuzz
import numpy as np
import pytest
from processes import python

import deltaprop as dp
from deltaprop.inputs.files import load_dataset

#: The largest peak of memory of a small run, with NumPy, scikit-learn and all.
PEAK = 700 * 2**20


@pytest.mark.parametrize("seed", [11, 12])
def test_a_share_of_the_fuzzing(seed, tmp_path):
    counts = fuzz.run(800, seed, tmp_path)
    assert sum(refused for _, refused in counts.values()) > 500


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "net.safetensors"
    dp.Network([5, 7, 2], backend="numpy").save(path)
    return path


def test_a_model_cut_off_anywhere_is_refused(model):
    whole = model.read_bytes()
    for length in range(0, len(whole), 64):
        model.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"net\.safetensors"):
            dp.Network.load(model)


def test_every_flipped_bit_is_found(model):
    """The exceptions are bits in the header that do not change its meaning, such as in a space."""
    whole, expected = model.read_bytes(), dp.Network.load(model, backend="numpy").parameters
    generator, taken = np.random.default_rng(0), 0
    for place in generator.integers(0, 8 * len(whole), 600):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << (place % 8)
        model.write_bytes(damaged)
        try:
            loaded = dp.Network.load(model, backend="numpy")
        except ValueError:
            continue
        taken += 1
        assert np.array_equal(loaded.parameters, expected)
    assert taken < 10


class Boom:
    def __reduce__(self):
        return (pytest.fail, ("code in a file was run",))


def header(tensors, **metadata):
    text = json.dumps(tensors | {"__metadata__": metadata}).encode()
    return struct.pack("<Q", len(text)) + text


def test_models_that_would_harm(tmp_path):
    path = tmp_path / "net.safetensors"
    huge = {"weights.0": {"dtype": "F64", "shape": [2**31, 2**20], "data_offsets": [0, 2**54]}}
    negative = {"weights.0": {"dtype": "F64", "shape": [-1, 4], "data_offsets": [0, 32]}}
    outside = {"weights.0": {"dtype": "F64", "shape": [4], "data_offsets": [-32, 0]}}
    for content in (
        pickle.dumps(Boom()),
        struct.pack("<Q", 2**63 - 1) + b"{}",
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        header(huge, format="deltaprop-network", version="1"),
        header(negative, format="deltaprop-network", version="1"),
        header(outside, format="deltaprop-network", version="1"),
        header({}, format="deltaprop-network", version="1", configuration="[" * 50_000, sha256="0"),
        header({"../../etc/passwd": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}, format="deltaprop-network"),
        b"PK\3\4" + b"\0" * 60,
    ):
        path.write_bytes(content)
        began = time.perf_counter()
        with pytest.raises(ValueError, match=r"net\.safetensors"):
            dp.Network.load(path)
        assert time.perf_counter() - began < 20.0  # no loop over what the header claims


def test_arrays_that_would_harm(tmp_path):
    path = tmp_path / "data.npy"
    np.save(path, np.array([Boom()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"data\.npy"):
        load_dataset(str(path))
    text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 4), }"
    path.write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text)
    with pytest.raises(ValueError, match="declares float64 of shape"):
        load_dataset(str(path))
    path.write_bytes(b"\x93NUMPY\2\0" + struct.pack("<I", 2**32 - 1) + text)
    with pytest.raises(ValueError, match="a header longer than any"):
        load_dataset(str(path))


BOMB = """
import sys
from deltaprop.inputs.files import load_dataset
try:
    load_dataset(sys.argv[1])
except ValueError as error:
    print("refused:", error)
with open("/proc/self/status") as status:  # not getrusage, which remembers who this process was before it began
    print(next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM")))
"""


def peak_of_reading(source):
    said, peak = python("-c", BOMB, source).splitlines()
    assert said.startswith("refused:")
    return said, int(peak)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_bombs_take_no_memory(tmp_path):
    """A megabyte of gzip unpacks to a gigabyte, which its header does not say; so does a zip archive."""
    zeros = gzip.compress(b"\0" * 2**20)
    labels = b"\0\0\x08\1" + struct.pack(">I", 4) + bytes(4)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(labels)
    images = tmp_path / "train-images-idx3-ubyte.gz"
    for declared in ((4, 2, 2), (2**16, 2**10, 2**10)):
        images.write_bytes(gzip.compress(b"\0\0\x08\3" + struct.pack(">III", *declared)) + zeros * 1024)
        said, peak = peak_of_reading(tmp_path)
        assert "declares shape" in said
        assert peak < PEAK
    archive = tmp_path / "data.npz"
    text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000000, 10), }"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("X.npy", "y.npy"):
            file.writestr(name, b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + b"\0" * 2**20)
    said, peak = peak_of_reading(archive)
    assert "more than it holds" in said
    assert peak < PEAK


COMMAND = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
from deltaprop.cli import run
status = run(sys.argv[2:])
with open("/proc/self/status") as file:
    print(next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM")))
sys.exit(status)
"""


def command(limit, *arguments):
    """Run the command line with so much address space; return exit status, outputs and peak of memory."""
    whole = [sys.executable, "-c", COMMAND, limit, *arguments]
    done = subprocess.run(list(map(str, whole)), capture_output=True, text=True, check=False)
    *said, peak = done.stdout.splitlines()
    assert done.stderr.count("\n") == (done.returncode != 0), done.stderr
    return done.returncode, "\n".join(said), done.stderr, int(peak)


needs_limits = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and measured by Linux's means")


@needs_limits
def test_a_parquet_bomb(tmp_path):
    """3 MB hold 5 GiB of zeros; the file's own metadata are enough to refuse it."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    zeros = pyarrow.table({name: np.zeros(2**20) for name in "abcd"})
    with parquet.ParquetWriter(tmp_path / "bomb.parquet", zeros.schema, compression="zstd") as writer:
        for _ in range(160):
            writer.write_table(zeros)
    assert (tmp_path / "bomb.parquet").stat().st_size < 4e6
    status, said, error, peak = command(3 * 2**30, "train", tmp_path / "bomb.parquet", "--plain", "--no-progress")
    assert (status, said) == (2, "")
    assert "unpacks to 5368709120 bytes (167772160 rows, 4 columns), over the limit of 4294967296 bytes" in error
    assert peak < 300 * 2**20


@needs_limits
def test_a_long_text_many_times(tmp_path):
    """Two texts of 100 kB stand 50 000 times each: they would be 10 GB with a copy for each cell."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    texts = pyarrow.DictionaryArray.from_arrays(np.arange(100_000) % 2, pyarrow.array(["x" * 100_000, "y" * 100_000]))
    parquet.write_table(pyarrow.table({"a": np.arange(100_000) % 7, "kind": texts}), tmp_path / "d.parquet")
    options = ["--plain", "--epochs", 1, "--hidden", 2, "--batch-size", 500, "--no-progress", "--backend", "numpy"]
    status, said, _, peak = command(3 * 2**30, "train", tmp_path / "d.parquet", *options)
    assert status == 0
    assert "target 'kind' (2 classes)" in said
    assert peak < 500 * 2**20


@needs_limits
def test_an_npz_of_bytes_is_scaled_chunk_by_chunk(tmp_path):
    """Half a megabyte unpacks to 220 MB, or 880 MB in float32, which a scaling at once would hold three times."""
    X = np.zeros((220_000, 1000), np.uint8)
    X[::2, :3] = 1
    np.savez_compressed(tmp_path / "bomb.npz", X=X, y=(np.arange(len(X)) % 2).astype(np.uint8))
    options = ["--plain", "--epochs", 1, "--hidden", 4, "--batch-size", 512, "--no-progress", "--backend", "numpy"]
    model = tmp_path / "model"
    status, said, _, peak = command(2**31, "train", tmp_path / "bomb.npz", *options, "--out", model)
    assert status == 0
    assert "158400 samples to train on, 17600 to validate on, 1000 features" in said
    assert peak < 2**30
    status, said, _, peak = command(2**31, "evaluate", model, tmp_path / "bomb.npz", "--backend", "numpy")
    assert status == 0
    assert "of 220000" in said
    assert peak < 2**30


@needs_limits
def test_labels_that_are_no_classes_and_very_many_that_are(tmp_path):
    path = tmp_path / "labels.csv"
    options = ["--plain", "--epochs", 1, "--hidden", 2, "--no-progress", "--backend", "numpy"]
    path.write_text("\n".join(["a,kind", *(f"{i % 7},label{i:06d}" for i in range(50_000))]))
    status, _, error, peak = command(2**31, "train", path, *options)
    assert status == 2
    assert "classes with several rows each, got 50000 different values in 50000 rows" in error
    assert peak < 300 * 2**20
    path.write_text("\n".join(["a,kind", *(f"{i % 7},label{i % 8000:06d}" for i in range(32_000))]))
    status, said, _, peak = command(
        2**31, "train", path, *options, "--batch-size", 256
    )  # one-hot, they would be 820 MB in float32
    assert status == 0
    assert "1-2-8000" in said
    assert peak < 900 * 2**20


@needs_limits
def test_too_little_memory_is_told_in_one_line(tmp_path):
    np.lib.format.open_memmap(tmp_path / "d.npy", "w+", np.uint8, (600, 2**20))  # a sparse file of zeros
    status, said, error, _ = command(600 * 2**20, "train", tmp_path / "d.npy", "--no-progress", "--backend", "numpy")
    assert (status, said) == (2, "")
    found = re.fullmatch(r"deltaprop: error: not enough memory: (\d+) bytes needed at once, (\d+) bytes free\n", error)
    assert found is not None
    assert int(found[1]) == 600 * 2**20
    assert int(found[2]) < 600 * 2**20


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"a,b,c\n", "has a header but no rows"),
        (b"a,b\n1,2\n3\n", "line 3: expected 2 cells as in the first line, got 1"),
        (b"a,b\n1,2\n3,4,5\n", "line 3: expected 2 cells as in the first line, got 3"),
        ("größe,b\n1,2\n".encode("latin-1"), "expected UTF-8 text"),
        (b"a,b\n1,2\n\x003,4\n", "expected text, got bytes that are zero"),
        (b"a,b\nnan,2\n", "row 1, column 'a': expected a finite number, got 'nan'"),
        (b"a,b\n1e400,2\n", "expected a finite number, got '1e400'"),
        (b'a,b\n"1,2\n', "not a CSV file"),
        (b"a,b\n1," + b"x" * 200_000 + b"\n", "not a CSV file"),
    ],
)
def test_tables_are_refused_in_one_line(content, message, tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as refused:
        load_dataset(str(path))
    assert "\n" not in str(refused.value)


def test_a_hundred_thousand_columns(tmp_path):
    path, columns = tmp_path / "data.csv", 100_000
    names = [f"c{i}" for i in range(columns)]
    path.write_text("\n".join([",".join(names), *(",".join(["1"] * columns) for _ in range(3))]))
    began = time.perf_counter()
    assert load_dataset(str(path)).X.shape == (3, columns - 1)
    names[-1] = names[-2]
    path.write_text("\n".join([",".join(names), ",".join(["1"] * columns)]))
    with pytest.raises(ValueError, match="two columns are called 'c99998'"):
        load_dataset(str(path))
    assert time.perf_counter() - began < 30


def test_parquet_with_nulls(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "data.parquet"
    for column, message in (("a", "row 2, column 'a': expected a finite number"), ("kind", "expected a target")):
        table: dict[str, list[Any]] = {"a": [1.0, 2.0], "kind": ["x", "y"]}
        table[column] = [table[column][0], None]
        parquet.write_table(pyarrow.table(table), path)
        with pytest.raises(ValueError, match=message):
            load_dataset(str(path))


def test_files_are_left_as_they_are(model):
    """Reading changes no file, not even a refused one."""
    damaged = model.read_bytes()[:-5]
    model.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"net\.safetensors"):
        dp.Network.load(model)
    assert model.read_bytes() == damaged
    assert [path.name for path in Path(model.parent).iterdir()] == [model.name]
