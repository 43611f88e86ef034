"""Large files of plain numbers are read by pyarrow or NumPy, with the numbers and the errors of the reader of cells."""

import csv
import gzip
import io

import numpy as np
import pytest

from deltaprop.inputs import typed_blocks
from deltaprop.inputs.csv_file import CsvFile
from deltaprop.inputs.files import load_dataset
from deltaprop.tabular.table_file import read_table


@pytest.fixture(params=["pyarrow", "numpy"])
def way(request, monkeypatch):
    """Read files of every size by one of the two libraries, a few rows at a time."""
    if request.param == "pyarrow":
        pytest.importorskip("pyarrow")
        monkeypatch.setattr(typed_blocks, "_by_numpy", None)
        monkeypatch.setattr(typed_blocks, "LEAST_FOR_PYARROW", 0)
    else:
        monkeypatch.setattr(typed_blocks, "_by_pyarrow", None)
        monkeypatch.setattr(typed_blocks, "sys", type("NoModules", (), {"modules": {}}))
        monkeypatch.setattr(typed_blocks, "find_spec", lambda name: None)
    monkeypatch.setattr(typed_blocks, "LEAST", 0)
    monkeypatch.setattr(typed_blocks, "BLOCK_ROWS", 7)
    monkeypatch.setattr(typed_blocks, "BLOCK_BYTES", 256)
    return request.param


@pytest.fixture
def not_cell_by_cell(monkeypatch):
    def refuse(file):
        raise AssertionError(f"{file.path} was read cell by cell")

    monkeypatch.setattr(CsvFile, "blocks", refuse)


def numbers_as_text(rng, rows, columns):
    """Write numbers in many ways, and what Python reads in them."""
    forms = ("{:.17g}", "{:.3f}", "{:e}", "{:.0f}.", "{:E}", " {:.6g}", "{:.6g} ", "0{:.0f}", "{:.30f}")
    texts = [
        [forms[rng.integers(len(forms))].format(abs(x)) for x in row] for row in rng.standard_normal((rows, columns))
    ]
    for row in texts:
        if rng.random() < 0.3:
            row[rng.integers(columns)] = rng.choice(
                ["-0", "1e-320", "-1.7976931348623157e308", ".5", "-.25e+3", "1e-400"]
            )
    return texts, np.array([[float(cell) for cell in row] for row in texts])


def texts_of(column):
    codes, levels = column.texts()
    return [None if code < 0 else levels[code] for code in codes]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("separator", [",", "\t"])
def test_the_numbers_are_pythons(separator, end, way, not_cell_by_cell, tmp_path, rng):
    texts, values = numbers_as_text(rng, 50, 6)
    kinds = rng.choice(["a", "b", "ä ö"], 50)
    rows = [separator.join([*row, kind]) for row, kind in zip(texts, kinds, strict=True)]
    rows.insert(20, "")  # lines without cells are no rows
    path = tmp_path / "d.csv"
    for names in (["a", "b", "c", "d", "e", "f", "kind"], ['\ufeff"a"', "b", "c", "d", "e", '"f\n"', "kind"]):
        path.write_bytes((separator.join(names) + end + end.join(rows) + end).encode())
        data = load_dataset(str(path))
        assert np.array_equal(data.X, values)
        assert data.y is not None
        assert data.y.tolist() == kinds.tolist()


def test_a_file_without_names_and_a_numeric_target(way, not_cell_by_cell, tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("\ufeff1,2,007\n" + "".join(f"{i},0.5,{i:03d}\n" for i in range(40)) + "3,4,5")
    data = load_dataset(str(path))
    assert data.X.tolist() == [[1, 2], *([i, 0.5] for i in range(40)), [3, 4]]
    assert data.y is not None
    assert data.y.tolist() == [7, *range(40), 5]
    assert data.labels is not None
    assert data.labels.tolist() == ["007", *(f"{i:03d}" for i in range(40)), "5"]
    read = load_dataset(str(path), features=["column 3", "column 1"])
    assert read.X[:3].tolist() == [[7, 1], [0, 0], [1, 1]]


@pytest.mark.parametrize("content", [
    "a,b,y\n1,2,0\n3,oops,1\n",
    "a,b,y\n1,,0\n",
    "a,b,y\n1,nan,0\n",
    "a,b,y\n1,inf,0\n",
    "a,b,y\n1,1e999,0\n",
    "a,b,y\n1,2,\n",
    "a,b,y\n1,2,0\n3,4\n",
    "a,b,y\n1,2,0\n3,4,5,6\n",
    "a,b,y\n1,1_000,0\n",
    "a,b,y\n1,\u0661,0\n",
    "a,b,y\n1,0x10,0\n",
    "a,b,y\n1,2,0\n \n",
    "a,b,y\n1,True,0\n",
    'a,b,y\n1,"2,0\n3,4,5\n',
    'a,b,y\n1,2"3,0\n',
    "a,b,y\n1,2\x00,0\n",
    "a,b,y\n",
    "a,b,y\n\n\n",
    b"a,b,y\n1,2,\xff\n",
    gzip.compress(b"a,b,y\n" + b"1,2,0\n" * 999, mtime=0)[:-9],
])  # fmt: skip
def test_files_that_are_wrong_are_wrong_in_the_same_words(content, way, tmp_path, monkeypatch):
    path = tmp_path / "d.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"d\.csv: ") as found:
        load_dataset(str(path))
    monkeypatch.setattr(typed_blocks, "LEAST", 2**62)
    with pytest.raises(ValueError, match=r"d\.csv: ") as expected:
        load_dataset(str(path))
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("content", [
    'a,b,y\n1,"2",0\n3,"4",1\n',
    "a,b,y\n1,+2,0\n3,4,1\n",
    "a,b,y\r1,2,0\r3,4,1\r",
    "a,b,y\n1,2 ,0\n3,4\t,1\n\n",
    "a;b;y\n1;2;0\n3;4;1",
])  # fmt: skip
def test_other_files_are_read_as_well(content, way, tmp_path):
    path = tmp_path / "d.csv"
    path.write_bytes(content.encode())
    data = load_dataset(str(path))
    assert data.X.tolist() == [[1, 2], [3, 4]]
    assert data.y is not None
    assert data.y.tolist() == [0, 1]


def test_a_target_that_turns_out_to_be_text(way, tmp_path, monkeypatch):
    # Rows that are read once more are few at a time: a block ends in the middle of what is wanted.
    monkeypatch.setattr("deltaprop.inputs.csv_file.CELLS", 26)
    path = tmp_path / "d.csv"
    path.write_text("a,y\n" + "".join(f"{i}.5,{i % 3}\n" for i in range(99)) + "1,x\n" + "2,1\n" * 9)
    data = load_dataset(str(path))
    assert data.X[:, 0].tolist() == [*(i + 0.5 for i in range(99)), 1, *[2] * 9]
    assert data.y is not None
    assert data.y.tolist() == [*(str(i % 3) for i in range(99)), "x", *["1"] * 9]


def test_tables_with_text_and_gaps(way, tmp_path, monkeypatch):
    rows = [[f"{i}.5", "" if i % 4 == 0 else i, "NA" if i % 5 == 0 else f"k{i % 3}", f"{i:02d}"] for i in range(60)]
    rows.append(["?", "-", "nan", "x"])
    out = io.StringIO()
    csv.writer(out).writerows([["number", "whole", "kind", "late"], *rows])
    path = tmp_path / "t.csv"
    path.write_text(out.getvalue())
    seen = []
    original = typed_blocks._by_pyarrow if way == "pyarrow" else typed_blocks._by_numpy
    monkeypatch.setattr(typed_blocks, original.__name__, lambda *a: (seen.append(a[2]), original(*a))[1])
    table = read_table(path, text=["late"])
    assert seen == [{"number", "whole"}]
    number, whole, kind, late = table.columns.values()
    assert np.array_equal(number.values, [*(i + 0.5 for i in range(60)), np.nan], equal_nan=True)
    expected = [*(np.nan if i % 4 == 0 else i for i in range(60)), np.nan]
    assert np.array_equal(whole.values, expected, equal_nan=True)
    assert texts_of(kind) == [*(None if i % 5 == 0 else f"k{i % 3}" for i in range(60)), None]
    assert texts_of(late) == [*(f"{i:02d}" for i in range(60)), "x"]


@pytest.mark.parametrize("cell", ["word", "1,5"])
def test_a_column_that_is_plain_only_at_its_beginning(cell, way, tmp_path, monkeypatch):
    monkeypatch.setattr("deltaprop.inputs.csv_file.CELLS", 20)
    path = tmp_path / "t.csv"
    path.write_text("a;b\n" + "1.5;2\n" * 50 + f"{cell};3\n")
    found = read_table(path)
    assert texts_of(found.columns["a"]) == [*["1.5"] * 50, cell]
    assert found.columns["b"].values.tolist() == [*[2] * 50, 3]
    path.write_text("a;b\n" + "1.5;2\n" * 50 + "inf;3\n")
    with pytest.raises(ValueError, match="row 51, column 'a': expected a finite number, got 'inf'"):
        read_table(path)
