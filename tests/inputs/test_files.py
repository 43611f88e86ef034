"""Readers read right files, and name the place of an error in one line."""

import gzip
import re

import numpy as np
import pytest
from cases import target

from deltaprop.inputs import cells
from deltaprop.inputs.files import load_dataset


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def test_digits():
    digits = load_dataset("digits")
    assert digits.X.shape == (1797, 64)
    assert sorted(set(target(digits))) == list(range(10))


def test_csv_with_a_header(write):
    data = load_dataset(write("d.csv", "a,b,kind\n1,2.5,x\n-3,4e1,y\n"))
    assert data.X.tolist() == [[1, 2.5], [-3, 40]]
    assert target(data).tolist() == ["x", "y"]
    assert (data.feature_names, data.target_name) == (["a", "b"], "kind")
    data = load_dataset(write("d.csv", "\ufeffa;b;c\r\n1;2;3\r\n\r\n4;5;6\r\n"), "a")
    assert data.X.tolist() == [[2, 3], [5, 6]]
    assert target(data).tolist() == [1, 4]


def test_csv_without_a_header(write):
    data = load_dataset(write("d.csv", '1,"2",3\n4,5,6\n'))
    assert data.X.tolist() == [[1, 2], [4, 5]]
    assert data.feature_names == ["column 1", "column 2"]


def test_columns_by_name_for_prediction(write):
    data = load_dataset(write("d.csv", "b,junk,a\n1,x,2\n"), features=["a", "b"])
    assert data.X.tolist() == [[2, 1]]
    assert data.y is None


@pytest.mark.parametrize(("content", "message"), [
    ("a,b,y\n1,2,0\n3,oops,1\n", r"row 2, column 'b': expected a finite number, got 'oops'"),
    ("a,b,y\n1,,0\n", r"row 1, column 'b': expected a finite number, got nothing"),
    ("a,b,y\n1,nan,0\n", r"row 1, column 'b': expected a finite number, got 'nan'"),
    ("a,b,y\n1,2,\n", r"row 1, column 'y': expected a target, got nothing"),
    ("a,b,y\n1,2,0\n3,4\n", r"line 3: expected 3 cells as in the first line, got 2"),
    ("a,b,y\n", "has a header but no rows"),
    ("", "is empty"),
    ("\n\n", "is empty"),
    ("a,a,y\n1,2,3\n", "two columns are called 'a'"),
    ("y\n1\n", "expected at least one column besides the target"),
    (b"a,b\n1,\xff\n", "expected UTF-8 text"),
    ('a,b\n"1,2\n', "not a CSV file"),
])  # fmt: skip
def test_bad_csv(write, content, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(write("d.csv", content))


def test_unknown_columns_are_named(write):
    path = write("d.csv", "a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"no column 'c'; the columns are 'a', 'b'"):
        load_dataset(path, "c")
    with pytest.raises(ValueError, match="no column 'z', which the model was trained on"):
        load_dataset(path, features=["a", "z"])


def test_parquet(tmp_path, write):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "d.parquet"
    parquet.write_table(pyarrow.table({"a": [1, 2], "b": [0.5, 1.5], "y": ["u", "v"]}), path)
    data = load_dataset(str(path))
    assert data.X.tolist() == [[1, 0.5], [2, 1.5]]
    assert target(data).tolist() == ["u", "v"]
    parquet.write_table(pyarrow.table({"a": [1, None], "y": [0, 1]}), path)
    with pytest.raises(ValueError, match="row 2, column 'a': expected a finite number, got nothing"):
        load_dataset(str(path))
    with pytest.raises(ValueError, match="not a Parquet file"):
        load_dataset(write("e.parquet", "PAR1 nonsense"))


@pytest.mark.parametrize(
    "cell", ["1_0", "١٢", "１２", "\u00a03", "0x10", "1d5", "−3", "1 2", "TRUE", "1e", "1,5", "\x1c3", "1.5f"]
)
def test_cells_that_are_no_numbers(cell, write):
    """As in pandas.read_csv and pyarrow.csv, numbers are in ASCII and have no underscores."""
    with pytest.raises(ValueError, match="row 2, column 'a': expected a finite number, got "):
        load_dataset(write("d.csv", f'a,y\n1,2\n"{cell}",1\n'))
    data = load_dataset(write("d.csv", f'a,y\n1,2\n2,"{cell}"\n'))
    assert target(data).tolist() == ["2", cell]
    data = load_dataset(write("d.csv", f'"{cell}",2\n2,1\n'))
    assert data.feature_names == [cell]


@pytest.mark.parametrize(("cell", "value"), [
    ("1e5", 1e5), ("1E+5", 1e5), ("+3", 3), ("-3", -3), (" 3", 3), ("3 ", 3), ("\t3", 3), ("1.", 1), (".5", 0.5), ("00012", 12),
    ("1e-400", 0),
])  # fmt: skip
def test_cells_that_are_numbers(cell, value, write):
    data = load_dataset(write("d.csv", f'a,y\n"{cell}","{cell}"\n2,1\n'))
    assert data.X[0, 0] == target(data)[0] == value


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "nan", "NaN", "1e400", "+inf"])
def test_cells_that_are_numbers_but_not_finite(cell, write):
    with pytest.raises(ValueError, match=rf"row 1, column 'a': expected a finite number, got '{re.escape(cell)}'"):
        load_dataset(write("d.csv", f"a,y\n{cell},1\n"))
    with pytest.raises(ValueError, match=r"column 'y': expected finite numbers, got .* at "):
        load_dataset(write("d.csv", f"a,y\n1,1\n2,{cell}\n"))


@pytest.mark.parametrize("rows", [3, 50, 20_000])
def test_a_target_that_turns_out_to_be_text(rows, write):
    """Text begins in the first row, or far below; all cells then keep their text."""
    y = [f"0{i % 3}.0" for i in range(rows)]
    for at in {0, rows // 2, rows - 1}:
        labels = [*y[:at], "none", *y[at + 1 :]]
        lines = [f"{i},{label},{-i}" for i, label in enumerate(labels)]
        data = load_dataset(write("d.csv", "\n".join(["a,kind,b", *lines])), "kind")
        assert target(data).tolist() == labels
        assert np.array_equal(data.X, np.column_stack([np.arange(rows), -np.arange(rows)]))
    lines = [f"{i},{label},{-i}" for i, label in enumerate(y)]
    assert np.array_equal(
        target(load_dataset(write("d.csv", "\n".join(["a,kind,b", *lines])), "kind")), np.arange(rows) % 3
    )


def test_texts_too_many_to_be_classes(write, monkeypatch):
    monkeypatch.setattr(cells, "MOST_LABELS", 100)
    lines = [f"{i},text {i % 100}" for i in range(300)]
    assert len(set(target(load_dataset(write("d.csv", "\n".join(["a,kind", *lines])))))) == 100
    with pytest.raises(ValueError, match="column 'kind': expected numbers or labels of classes, got more than 100"):
        load_dataset(write("d.csv", "\n".join(["a,kind", *lines, "1,one more"])))


def test_a_column_of_the_middle_of_an_array(tmp_path, rng):
    table = rng.standard_normal((3000, 200))
    for column in (0, 77, 199):
        for stored in (table, np.asfortranarray(table)):
            np.save(tmp_path / "d.npy", stored)
            data = load_dataset(str(tmp_path / "d.npy"), str(column))
            assert np.array_equal(data.X, np.delete(table, column, axis=1))
            assert np.array_equal(target(data), table[:, column])
    table[2999, 5] = np.inf
    np.save(tmp_path / "d.npy", table)
    with pytest.raises(ValueError, match=r"expected finite numbers, got inf at \[2999, 5\]"):
        load_dataset(str(tmp_path / "d.npy"))


def test_npy_and_npz(tmp_path, rng):
    X, y = rng.standard_normal((5, 3)), np.arange(5)
    np.save(tmp_path / "d.npy", np.column_stack([X, y]))
    data = load_dataset(str(tmp_path / "d.npy"))
    assert np.array_equal(data.X, X)
    assert np.array_equal(target(data), y)
    assert np.array_equal(target(load_dataset(str(tmp_path / "d.npy"), "0")), X[:, 0])
    images = rng.integers(0, 256, (5, 2, 2)).astype(np.uint8)
    np.savez(tmp_path / "d.npz", x_train=images, y_train=y, x_test=images[:2], y_test=y[:2])
    data = load_dataset(str(tmp_path / "d.npz"))
    assert data.X.shape == (5, 4)
    assert data.common_range
    assert data.test is not None
    assert data.test[0].shape == (2, 4)


@pytest.mark.parametrize(("arrays", "message"), [
    ({"a": np.zeros(3)}, r"expected arrays 'X' and 'y', .* it holds 'a'"),
    ({"X": np.zeros((3, 2)), "y": np.zeros(2)}, r"'X' of shape \(m, …\) and 'y' of shape \(m,\), got \(3, 2\) and \(2,\)"),
    ({"X": np.full((3, 2), np.nan), "y": np.zeros(3)}, r"'X': expected finite numbers, got nan at \[0, 0\]"),
    ({"X": np.array([[None]]), "y": np.zeros(1)}, "'X' cannot be read"),
])  # fmt: skip
def test_bad_npz(tmp_path, arrays, message):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_dataset(str(tmp_path / "d.npz"))


def test_bad_npy(tmp_path, write):
    np.save(tmp_path / "d.npy", np.zeros(3))
    with pytest.raises(ValueError, match="expected a 2-D array with rows"):
        load_dataset(str(tmp_path / "d.npy"))
    for name, content in (("e.npy", b"\x93NUMPY"), ("f.npy", b"\x80\x04N."), ("g.npz", b"PK\x03\x04 nonsense")):
        with pytest.raises(ValueError, match="not a NumPy file of plain numbers"):
            load_dataset(write(name, content))


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return head + array.tobytes()


def test_idx_folder(write, tmp_path, rng):
    images = rng.integers(0, 256, (6, 3, 2)).astype(np.uint8)
    labels = np.arange(6, dtype=np.uint8)
    write("train-images-idx3-ubyte", idx(images))
    write("train-labels-idx1-ubyte.gz", gzip.compress(idx(labels)))
    data = load_dataset(str(tmp_path))
    assert np.array_equal(data.X, images.reshape(6, 6))
    assert np.array_equal(target(data), labels)
    assert data.test is None
    write("t10k-images-idx3-ubyte.gz", gzip.compress(idx(images[:2])))
    with pytest.raises(FileNotFoundError, match="expected t10k-labels-idx1-ubyte"):
        load_dataset(str(tmp_path))
    write("t10k-labels.idx1-ubyte", idx(labels[:2]))
    test = load_dataset(str(tmp_path)).test
    assert test is not None
    assert test[0].shape == (2, 6)


@pytest.mark.parametrize(("content", "message"), [
    (idx(np.zeros((5, 2, 2), np.uint8))[:-1], "declares shape .* but holds 19"),
    (idx(np.zeros((5, 2, 2), np.uint8)) + b"x", "but holds more"),
    (b"\0\0\x08", "not an idx file"),
    (b"\0\0\x0d\x01\0\0\0\1", "not an idx file of unsigned bytes"),
    (b"\0\0\x08\x03\0\0", "ends within its header"),
    (b"\0\0\x08\x03" + b"\xff" * 12, "over the limit"),
    (idx(np.zeros((4, 2, 2), np.uint8)), "do not go with labels"),
])  # fmt: skip
def test_bad_idx(write, tmp_path, content, message):
    write("train-labels-idx1-ubyte", idx(np.zeros(5, np.uint8)))
    write("train-images-idx3-ubyte", content)
    with pytest.raises(ValueError, match=message):
        load_dataset(str(tmp_path))


def test_damaged_gzip(write, tmp_path):
    for content in (b"no gzip", gzip.compress(b"x" * 1000)[:-20]):
        write("train-images-idx3-ubyte.gz", content)
        with pytest.raises(ValueError, match=r"not a gzip file, or a damaged one|not an idx file"):
            load_dataset(str(tmp_path))


def test_a_target_where_there_are_no_columns(tmp_path):
    for source in ("digits", str(tmp_path)):
        with pytest.raises(ValueError, match="has no columns to choose the target from, got target 'a'"):
            load_dataset(source, "a")


def test_unknown_sources(write, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        load_dataset("nowhere")
    with pytest.raises(ValueError, match=r"expected \.csv"):
        load_dataset(write("d.xyz", "1"))
    with pytest.raises(FileNotFoundError, match="expected train-images-idx3-ubyte"):
        load_dataset(str(tmp_path))
