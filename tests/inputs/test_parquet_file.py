"""Parquet files are read as pandas does, in little memory; damaged files give errors of ours, not of pyarrow."""

import datetime
import io
import random
import struct
import sys
from decimal import Decimal
from typing import Any

import fuzz
import numpy as np
import pytest
from cases import target

import deltaprop as dp
from deltaprop.inputs import parquet_file
from deltaprop.inputs.files import load_dataset
from deltaprop.inputs.parts import ParquetParts

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def write(path, table, **options):
    parquet.write_table(pyarrow.table(table), path, **options)
    return str(path)


def rows_of(path, target=None):
    """Return all rows of a source."""
    source = ParquetParts(path, target)
    pieces = list(source.parts(range(len(source.sizes))))
    return np.concatenate([piece.X for piece in pieces]), np.concatenate([piece.Y for piece in pieces])


def test_columns_of_every_type(tmp_path):
    """Each equals Python's float or str of its cells."""
    numbers = {
        "int8": pyarrow.array([1, -2, 3], pyarrow.int8()),
        "uint64": pyarrow.array([1, 2**63, 3], pyarrow.uint64()),
        "half": pyarrow.array(np.array([1, 0.5, 3], np.float16)),
        "float": pyarrow.array([1, 0.1, 3], pyarrow.float32()),
        "bool": [True, False, True],
        "decimal": [Decimal("1.5"), Decimal("-2"), Decimal("3")],
        "text": ["1.5", " 2", "3e2"],
        "category": pyarrow.array([7, 8, 7]).dictionary_encode(),
        "bytes": [b"1", b"2.5", b"3"],
    }
    expected = {name: [float(cell) for cell in pyarrow.array(cells).to_pylist()] for name, cells in numbers.items()}
    path = write(tmp_path / "d.parquet", numbers | {"kind": ["a", "b", "a"]})
    data = load_dataset(path)
    assert data.feature_names == list(numbers)
    for j, name in enumerate(numbers):
        assert data.X[:, j].tolist() == expected[name], name
        assert target(load_dataset(path, name, features=["int8"])).tolist() == expected[name]
    X, y = rows_of(write(tmp_path / "e.parquet", numbers), "int8")
    assert np.array_equal(X, np.column_stack([expected[name] for name in numbers if name != "int8"]))
    assert y.tolist() == [1, -2, 3]
    day = datetime.date(2024, 2, 29)
    labels = {"a": [1, 2, 3], "kind": [day, day, datetime.date(2024, 3, 1)]}
    assert target(load_dataset(write(tmp_path / "d.parquet", labels))).tolist() == [
        "2024-02-29",
        "2024-02-29",
        "2024-03-01",
    ]


@pytest.mark.parametrize(("column", "message"), [
    ([1.0, None, 3.0], "row 2, column 'b': expected a finite number, got nothing"),
    ([1.0, 2.0, np.nan], "row 3, column 'b': expected a finite number, got nan"),
    (["1", "1_0", "3"], "row 2, column 'b': expected a finite number, got '1_0'"),
    (["1", "", "3"], "row 2, column 'b': expected a finite number, got nothing"),
    ([datetime.date(2024, 2, 29)] * 3, r"row 1, column 'b': expected a finite number, got datetime\.date"),
    ([[1], [2], [3]], "column 'b': expected numbers or text, got list"),
    ([{"x": 1}] * 3, "column 'b': expected numbers or text, got struct"),
    (pyarrow.array([b"ab"] * 3, pyarrow.binary(2)), "column 'b': expected numbers or text, got fixed_size_binary"),
    (pyarrow.nulls(3), "row 1, column 'b': expected a finite number, got nothing"),
    (pyarrow.array(["x", None, "x"]).dictionary_encode(), "row 1, column 'b': expected a finite number, got 'x'"),
])  # fmt: skip
def test_columns_that_are_no_features(column, message, tmp_path):
    path = write(tmp_path / "d.parquet", {"a": [1, 2, 3], "b": column, "y": [0, 1, 0]})
    with pytest.raises(ValueError, match=message):
        load_dataset(path)


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "dictionary"])
def test_text_of_every_type(kind, tmp_path):
    texts = pyarrow.array(["u", "größe", "u"])
    if kind == "dictionary":
        texts = texts.dictionary_encode()
    elif not hasattr(pyarrow, kind):
        pytest.skip(f"this pyarrow has no {kind}")
    else:
        texts = texts.cast(getattr(pyarrow, kind)())
    assert target(load_dataset(write(tmp_path / "d.parquet", {"a": [1, 2, 3], "y": texts}))).tolist() == [
        "u",
        "größe",
        "u",
    ]


def test_columns_of_odd_names(tmp_path):
    path = write(tmp_path / "d.parquet", {"a": [{"b": 1}, {"b": 2}], "a.b": [3, 4], "": [5, 6], "y": [0, 1]})
    data = load_dataset(path, features=["a.b", ""])
    assert data.X.tolist() == [[3, 5], [4, 6]]
    twice = pyarrow.Table.from_arrays([pyarrow.array([1, 2])] * 3, ["a", "a", "y"])
    parquet.write_table(twice, tmp_path / "e.parquet")
    with pytest.raises(ValueError, match="two columns are called 'a'"):
        load_dataset(str(tmp_path / "e.parquet"))
    with pytest.raises(ValueError, match="expected columns with different names"):
        ParquetParts(tmp_path / "e.parquet")


def test_the_index_that_pandas_stored_is_no_column(tmp_path, rng):
    """As in `pandas.read_parquet`: for an index without a name, with names, with several levels, or a range."""
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "t.parquet"
    frame = pandas.DataFrame({"a": rng.standard_normal(40), "b": rng.standard_normal(40), "y": rng.integers(0, 2, 40)})
    for indexed in (
        frame,
        frame[frame.a > 0],
        frame.set_index(pandas.Index(range(100, 140), name="id")),
        frame.set_index(pandas.MultiIndex.from_product([range(4), range(10)], names=["u", None])),
        frame.set_index(pandas.Index(list("abcd") * 10)),
    ):
        indexed.to_parquet(path)
        expected = pandas.read_parquet(path)
        data = load_dataset(str(path))
        assert data.feature_names == ["a", "b"]
        assert np.array_equal(data.X, expected[["a", "b"]])
        X, y = rows_of(path, "y")
        assert np.array_equal(X, expected[["a", "b"]])
        assert np.array_equal(y, expected["y"])
        net = dp.Network([2, 3, 1], backend="numpy")
        net.fit(path, "y", epochs=1)
        net.fit(str(path), epochs=1)


@pytest.mark.parametrize("said", [
    b"", b"{", b"[]", b"7", b'{"index_columns": 7}', b'{"index_columns": [{"kind": "range"}, ["a"], null, 3]}', b"\xff\xfe",
    b"[" * 200_000, b'{"index_columns": ' + b"9" * 10_000 + b"}", b'{"index_columns": "a"}',
])  # fmt: skip
def test_what_pandas_is_said_to_have_stored_may_be_anything(said, tmp_path):
    table = pyarrow.table({"abc": [1, 2], "b": [3, 4], "y": [0, 1]}).replace_schema_metadata({b"pandas": said})
    parquet.write_table(table, tmp_path / "d.parquet")
    assert load_dataset(str(tmp_path / "d.parquet")).feature_names == ["abc", "b"]


def seeds():
    """Return files of every compression and several encodings, with and without pandas' metadata."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300, 3)), rng.integers(0, 3, 300)
    tables: list[tuple[dict[str, Any], dict[str, Any]]] = [({"a": X[:, 0], "b": X[:, 1].round(1), "kind": y}, {"compression": name}) for name in (
        "snappy", "gzip", "zstd", "none", "brotli", "lz4"
    )]  # fmt: skip
    tables.append(({"a": pyarrow.array(y).dictionary_encode(), "kind": ["u", "v", "w"] * 100}, {"row_group_size": 50}))
    encodings = {"a": "BYTE_STREAM_SPLIT", "b": "DELTA_BINARY_PACKED", "c": "PLAIN", "kind": "DELTA_BYTE_ARRAY"}
    of_other_kinds = {"a": X[:, 0].astype("f4"), "b": y, "c": y > 1, "kind": ["u", "v", None] * 100}
    options: dict[str, Any] = {"data_page_version": "2.0", "use_dictionary": False, "write_page_checksum": True}
    tables.append((of_other_kinds, options | {"column_encoding": encodings}))
    for table, how in tables:
        buffer = io.BytesIO()
        parquet.write_table(pyarrow.table(table), buffer, **how)
        yield buffer.getvalue()


def damaged(content, generator):
    """Damage bytes anywhere, or in the footer, which describes the file."""
    if generator.random() < 0.5:
        return fuzz.mutated(content, generator)
    length = struct.unpack("<I", content[-8:-4])[0]
    footer = bytearray(content[-8 - length : -8])
    for _ in range(generator.choice((1, 2, 4))):
        footer[generator.randrange(length)] = generator.randrange(256)
    return content[: -8 - length] + footer + content[-8:]


def error_of(read, path):
    try:
        read(path)
    except ValueError as error:
        return error
    return None


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by Linux's means")
@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_refused_as_such(seed, tmp_path):
    """Both readers refuse 300 of them within a GiB of memory."""
    generator, files, path, refused = random.Random(seed), list(seeds()), tmp_path / "d.parquet", []
    restore = fuzz.limit_memory()
    try:
        for _ in range(75):
            path.write_bytes(damaged(generator.choice(files), generator))
            refused += [error for read in (load_dataset, rows_of) if (error := error_of(read, str(path))) is not None]
    finally:
        restore()
    assert len(refused) > 60
    for error in refused:
        assert type(error) is ValueError
        assert str(error).startswith(str(path))
        assert "\n" not in str(error)


def test_a_file_that_says_other_numbers_of_rows_than_it_holds(tmp_path, monkeypatch):
    path = write(tmp_path / "d.parquet", {"a": [1.0, 2.0], "y": [0, 1]})
    opened = parquet_file.ParquetFile(tmp_path / "d.parquet")
    opened.sizes = [3]
    with pytest.raises(
        ValueError, match=r"expected row group 0 of d\.parquet to hold 3 samples, as it did at first, got 2"
    ):
        list(opened.pieces(["a"]))
    monkeypatch.setattr(opened, "_check_still_the_same", lambda file, columns: None)
    for declared, held in ((5, "holds 2"), (1, "holds more")):
        opened.sizes = [declared]
        with pytest.raises(ValueError, match=rf"declares {declared} rows, but {held}"):
            list(opened.pieces(["a"]))
    with pytest.raises(FileNotFoundError):
        parquet_file.ParquetFile(tmp_path / "no.parquet")
    assert load_dataset(path).X.tolist() == [[1], [2]]


def test_too_little_memory_is_no_damage(tmp_path, monkeypatch):
    """pyarrow raises the same error for too little memory and for a damaged file that asks for 1000 TB."""
    path = write(tmp_path / "d.parquet", {"a": [1.0, 2.0], "y": [0, 1]})
    for size, kind in ((2**20, MemoryError), (2**50, ValueError)):

        def fail(*arguments, size=size, **options):
            raise pyarrow.ArrowMemoryError(f"malloc of size {size} failed")

        with monkeypatch.context() as patch:
            patch.setattr(parquet, "ParquetFile", fail)
            with pytest.raises(kind, match=f"malloc of size {size} failed") as caught:
                load_dataset(path)
            assert type(caught.value) is kind


def test_row_groups_are_read_in_pieces(tmp_path, monkeypatch, rng):
    monkeypatch.setattr(parquet_file, "PIECE_BYTES", 3 * 8 * 10)
    X, y = rng.standard_normal((75, 2)), rng.integers(0, 3, 75)
    path = write(tmp_path / "d.parquet", {"a": X[:, 0], "b": X[:, 1], "y": y}, row_group_size=50)
    source = ParquetParts(path)
    assert source.sizes == [50, 25]
    pieces = list(source.parts([1, 0]))
    assert [len(piece.Y) for piece in pieces] == [10, 10, 5, 10, 10, 10, 10, 10]
    assert np.array_equal(np.concatenate([piece.X for piece in pieces]), np.concatenate([X[50:], X[:50]]))
    assert np.array_equal(np.concatenate([piece.Y for piece in pieces]), np.concatenate([y[50:], y[:50]]))
    assert np.array_equal(load_dataset(path).X, X)


def test_a_table_of_many_columns_is_opened_a_few_times(tmp_path, monkeypatch, rng):
    """Every opening parses the metadata of all columns."""
    X = rng.standard_normal((3, 300))
    path = write(tmp_path / "d.parquet", {f"f{j}": X[:, j] for j in range(300)} | {"y": [0.0, 1.0, 0.0]})
    opened = []
    real = parquet_file.ParquetFile._open
    monkeypatch.setattr(
        parquet_file.ParquetFile, "_open", lambda self, *texts: opened.append(texts) or real(self, *texts)
    )
    assert np.array_equal(load_dataset(path).X, X)
    assert len(opened) < 10
