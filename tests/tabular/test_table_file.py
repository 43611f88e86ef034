"""Tables in files, as people have them: the cells that come out are written here by hand."""

import gzip
import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deltaprop.inputs import byte_source, csv_file
from deltaprop.tabular.frames import as_table
from deltaprop.tabular.table_file import read_table

DATA = Path(os.environ.get("DELTAPROP_DATA", Path(__file__).parents[3] / "shared" / "data")) / "tables"
#: The rows, columns and gaps of the real tables (the target included), as their list says.
REAL = {
    "titanic": (891, 14, 869),
    "adult": (32561, 15, 4262),
    "credit_g": (1000, 21, 0),
    "telco": (7043, 20, 11),
    "phoneme": (5404, 6, 0),
    "letter": (20000, 17, 0),
    "sonar": (208, 61, 0),
    "california": (20640, 10, 207),
    "diamonds": (53940, 10, 0),
    "abalone": (4177, 9, 0),
    "ames": (2930, 80, 15749),
    "bike_hour": (17379, 13, 0),
    "mpg": (398, 8, 6),
}


@pytest.fixture
def write(tmp_path):
    def write(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def cells_of(column):
    """The cells as Python objects; None is a gap."""
    if column.kind == "text":
        return [None if code < 0 else column.levels[code] for code in column.values]
    return [None if gap else value for value, gap in zip(column.values.tolist(), column.gaps(), strict=True)]


def contents(table):
    return {name: cells_of(column) for name, column in table.columns.items()}


@pytest.mark.parametrize("name", REAL)
def test_real_tables(name):
    path = DATA / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    table = read_table(path)
    rows, columns, gaps = REAL[name]
    assert (len(table), len(table.columns)) == (rows, columns)
    assert sum(int(column.gaps().sum()) for column in table.columns.values()) == gaps


def test_semicolons_with_decimal_commas(write):
    table = read_table(write("Größe;Preis;Art\n1,5;1.234;a\n-2,25;;b\n3;7;a,b\n"))
    assert contents(table) == {"Größe": [1.5, -2.25, 3.0], "Preis": [1.234, None, 7.0], "Art": ["a", "b", "a,b"]}
    assert contents(read_table(write("1,5;2,5\n3,5;4,5\n"))) == {"column 1": [1.5, 3.5], "column 2": [2.5, 4.5]}


def test_byte_order_mark_and_lines_of_windows(write):
    table = read_table(write(b"\xef\xbb\xbfa,b\r\n1,x\r\n\r\n2,y\r\n"))
    assert contents(table) == {"a": [1.0, 2.0], "b": ["x", "y"]}


def test_quoted_commas_and_lines(write):
    table = read_table(write('name,"size, in cm"\n"Smith, J.",1\n"two\nlines",2\n"a ""b""",3\n'))
    assert contents(table) == {"name": ["Smith, J.", "two\nlines", 'a "b"'], "size, in cm": [1.0, 2.0, 3.0]}


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
def test_separators(sep, write):
    text = "\n".join(sep.join(row) for row in [("a", "b b", "c"), ("1", "x y", "2.5"), ("2", "z", "3")])
    assert contents(read_table(write(text))) == {"a": [1.0, 2.0], "b b": ["x y", "z"], "c": [2.5, 3.0]}


def test_a_comma_in_text_does_not_separate(write):
    table = read_table(write("a|b\nx, y|1\nz|2\n"))
    assert contents(table) == {"a": ["x, y", "z"], "b": [1.0, 2.0]}
    table = read_table(write("place;when\nBonn, Rhein;1\nKöln, Rhein;2\n"))
    assert contents(table)["place"] == ["Bonn, Rhein", "Köln, Rhein"]


def test_one_column(write):
    assert contents(read_table(write("a\n1\n2\n"))) == {"a": [1.0, 2.0]}


def test_the_user_names_separator_and_decimal_mark(write):
    path = write("a:b\n1,5:x\n2:y\n")
    assert contents(read_table(path, sep=":")) == {"a": [1.5, 2.0], "b": ["x", "y"]}
    assert contents(read_table(path, sep=":", decimal=".")) == {"a": ["1,5", "2"], "b": ["x", "y"]}
    assert contents(read_table(write("a;b\n1.5;2\n"), decimal=",")) == {"a": ["1.5"], "b": [2.0]}
    assert contents(read_table(write("a\tb\n1\t2\n"), sep="\\t")) == {"a": [1.0], "b": [2.0]}
    with pytest.raises(ValueError, match=r"^sep: expected one character between cells"):
        read_table(path, sep="::")
    with pytest.raises(ValueError, match=r"^decimal: expected '\.' or ',', got ';'"):
        read_table(path, decimal=";")


def test_commas_before_thousands_are_no_decimals(write):
    assert contents(read_table(write('a,b\n"1,234",1\n"5,678",2\n')))["a"] == ["1,234", "5,678"]
    assert contents(read_table(write('a,b\n"1,234",1\n"5,6",2\n')))["a"] == [1.234, 5.6]
    assert contents(read_table(write('a,b\n"1,234.5",1\n2,2\n')))["a"] == ["1,234.5", "2"]


def test_gaps_and_spaces(write):
    lines = ["a,b,c", "1,x ,2020-01-05", " ,NA,null", "NaN,?,-", " 3 , y,None", "nan,-1 x,N/A"]
    assert contents(read_table(write("\n".join(lines)))) == {
        "a": [1.0, None, None, 3.0, None],
        "b": ["x", None, None, "y", "-1 x"],
        "c": ["2020-01-05", None, None, None, None],
    }


def test_a_column_of_gaps_and_a_constant(write):
    table = read_table(write("a,b,c\n1,,0.1\n2,,0.1\n"))
    assert contents(table) == {"a": [1.0, 2.0], "b": [None, None], "c": [0.1, 0.1]}


def test_booleans_stay_as_they_are_written(write):
    table = read_table(write("a,b\nTrue,yes\nFalse,no\n"))
    assert contents(table) == {"a": ["True", "False"], "b": ["yes", "no"]}


def test_labels_stay_as_they_are_written(write):
    path = write("x,y\n1,007\n2,01\n3,1\n")
    assert contents(read_table(path))["y"] == [7.0, 1.0, 1.0]
    choices: list[list[str | int]] = [["y"], [-1], ["y", "elsewhere", 5]]
    for chosen in choices:
        column = read_table(path, text=chosen).columns["y"]
        assert cells_of(column) == ["007", "01", "1"]
        assert column.says_numbers()
        assert not column.is_written_as_numbers()
        assert column.numbers().tolist() == [7, 1, 1]
    column = read_table(write("x,y\n1,None\n2,-\n3,+\n4,\n"), text=["y"]).columns["y"]
    assert cells_of(column) == ["None", "-", "+", None]  # labels, though they are gaps in other columns
    column = read_table(write("x;y\n1;1,5\n2;2\n"), text=["y"]).columns["y"]
    assert cells_of(column) == ["1,5", "2"]
    assert column.numbers().tolist() == [1.5, 2.0]


def test_names(write):
    table = read_table(write(",a,,b\n0,1,2,3\n1,4,5,6\n"))
    assert list(table.columns) == ["Unnamed: 0", "a", "column 3", "b"]
    with pytest.raises(ValueError, match=r"table\.csv: two columns are called 'a'$"):
        read_table(write("a,b,a\n1,2,3\n"))


def test_no_header(write):
    assert contents(read_table(write("1,2\n3,4\n"))) == {"column 1": [1.0, 3.0], "column 2": [2.0, 4.0]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_that_the_first_bytes_tell(encoding, write):
    assert contents(read_table(write("é,b\n1,ö\n".encode(encoding)))) == {"é": [1.0], "b": ["ö"]}


def test_other_encodings(write):
    path = write("é,b\n1,ö\n".encode("cp1252"))
    with pytest.raises(ValueError, match=r"expected UTF-8 text .* at byte 0\); .*try --encoding cp1252"):
        read_table(path)
    assert contents(read_table(path, encoding="cp1252")) == {"é": [1.0], "b": ["ö"]}
    with pytest.raises(ValueError, match=r"name its encoding by --encoding"):
        read_table(write(b"a,b\n1,\xff\x81\n"))  # no byte 0x81 in cp1252
    for unknown in ("klingon", "zip", "a\0b"):
        with pytest.raises(ValueError, match=r"^encoding: expected one that Python knows"):
            read_table(path, encoding=unknown)


def test_text_in_utf_16_without_a_mark(write):
    path = write("é,b\n1,ö\n".encode("utf-16-le"))
    with pytest.raises(ValueError, match=r"expected text, got bytes that are zero; .*--encoding utf-16-le"):
        read_table(path)
    assert contents(read_table(path, encoding="utf-16-le")) == {"é": [1.0], "b": ["ö"]}


@pytest.mark.parametrize("name", ["t.csv.gz", "t.tsv.gz", "t.csv"])
def test_gzip_is_known_by_its_first_bytes(name, write):
    assert contents(read_table(write(gzip.compress(b"a\tb\n1\tx\n", mtime=0), name))) == {"a": [1.0], "b": ["x"]}


def test_a_file_without_gzip_may_end_in_gz(write):
    assert contents(read_table(write("a,b\n1,x\n", "t.csv.gz"))) == {"a": [1.0], "b": ["x"]}


@pytest.mark.parametrize("packed", [False, True])
def test_standard_input(packed, monkeypatch):
    content = b"a,b\n1,x\nz,y\n"
    raw = io.BytesIO(gzip.compress(content, mtime=0) if packed else content)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(raw))
    assert contents(read_table("-")) == {"a": ["1", "z"], "b": ["x", "y"]}


def test_a_column_may_turn_out_to_be_text_late(write, monkeypatch):
    monkeypatch.setattr(csv_file, "CELLS", 8)  # blocks of two rows
    rows = [(str(n), "x", "01", f'"{n},{500 + n}"', "5") for n in range(1, 8)]
    rows[4] = ("many", "1", "02", '"9,123"', "?")
    lines = ["a,b,c,d,e", *(",".join(row) for row in rows)]
    table = read_table(write("\n".join(lines)))
    assert contents(table) == {
        "a": ["1", "2", "3", "4", "many", "6", "7"],
        "b": ["x", "x", "x", "x", "1", "x", "x"],
        "c": [1.0, 1.0, 1.0, 1.0, 2.0, 1.0, 1.0],
        "d": ["1,501", "2,502", "3,503", "4,504", "9,123", "6,506", "7,507"],
        "e": [5.0, 5.0, 5.0, 5.0, None, 5.0, 5.0],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,b\n", "has a header but no rows"),
        ("a,b\n1,2\n3\n", "line 3: expected 2 cells as in the first line, got 1"),
        ('a,b\n1,"2\n', "not a CSV file"),
        ("a,b\n1,2\n1,inf\n", r"row 2, column 'b': expected a finite number, got 'inf' \(infinity\)"),
        ("a,b\n1,2\n-1e999,1\n", r"row 2, column 'a': expected a finite number, got '-1e999'"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0)[:-3], "a damaged gzip file"),
        (gzip.compress(b"a,b\n" + b"1,2\n" * 5000, mtime=0)[:50] + b"\xff" * 20, "a damaged gzip file"),
    ],
)
def test_refused(content, message, write):
    with pytest.raises(ValueError, match=message):
        read_table(write(content))


def test_refused_by_name(write, tmp_path):
    with pytest.raises(ValueError, match=r"expected a table in \.csv"):
        read_table(write("a,b\n1,2\n", "t.xlsx"))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv: no such file"):
        read_table("nowhere.csv")
    with pytest.raises(ValueError, match="expected a file with a table, got a folder"):
        read_table(tmp_path)


def test_a_small_file_that_unpacks_to_too_much(write, monkeypatch):
    monkeypatch.setattr(byte_source, "UNPACKED_LIMIT", 10_000)
    content = b"a,b\n" + b"1,2\n" * 3000
    assert len(read_table(write(content))) == 3000
    with pytest.raises(ValueError, match="unpacks to more than the limit of 10000 bytes"):
        read_table(write(gzip.compress(content, mtime=0)))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    with pytest.raises(ValueError, match="standard input: holds more than the limit of 10000 bytes"):
        read_table("-")


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    moments = np.array(["2020-01-01T10:00", "NaT"], "datetime64[us]")
    columns = {
        "a": [1.5, None],
        "b": ["x", None],
        "c": [True, False],
        "d": pyarrow.array(moments),
        "__index_level_0__": [0, 1],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    table = as_table(tmp_path / "t.parquet")
    assert [column.kind for column in table.columns.values()] == ["number", "text", "boolean", "date", "number"]
    assert cells_of(table.columns["a"]) == [1.5, None]
    assert cells_of(table.columns["b"]) == ["x", None]
    np.testing.assert_array_equal(table.columns["d"].values, moments)


def test_an_index_that_is_no_column_is_told_of(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"a": [1, 2], "b": [3, 4]})
    frame.to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").written == ""
    frame.set_index(pandas.DatetimeIndex(["2020", "2021"], name="day")).to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert list(table.columns) == ["a", "b"]
    assert table.written == "without 'day', the index of the stored frame"


def test_a_categorical_column_stays_one_in_parquet(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    codes = pyarrow.array(["7", "1", "7"]).dictionary_encode()
    parquet.write_table(pyarrow.table({"a": codes, "b": [1, 2, 3]}), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert [column.is_category for column in table.columns.values()] == [True, False]
    assert cells_of(table.columns["a"]) == ["7", "1", "7"]


def test_numpy_files(tmp_path):
    np.save(tmp_path / "t.npy", np.array([[1.0, np.nan], [2.0, 3.0]]))
    assert contents(read_table(tmp_path / "t.npy")) == {"column 1": [1.0, 2.0], "column 2": [None, 3.0]}
    np.save(tmp_path / "t.npy", np.ones(3))
    with pytest.raises(ValueError, match=r"expected a 2-D array with rows, got shape \(3,\)"):
        read_table(tmp_path / "t.npy")


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
CELLS = st.one_of(st.integers().map(str), st.floats(allow_infinity=False).map(repr), WORDS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1), sep=st.sampled_from(",;|\t"))
def test_what_was_written_is_read(rows, sep, tmp_path):
    """Each cell comes back: as the number that it says, as its text without spaces around it, or as a gap."""
    quoted = [sep.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in [("a", "b", "c"), *rows]]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(quoted), encoding="utf-8", newline="")
    gaps = {"", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "?", "-"}
    table = read_table(path, sep=sep, decimal=".", text=["c"])
    for place, name in enumerate("abc"):
        own = gaps - ({"None", "-"} if name == "c" else set())
        for row, cell in zip(rows, cells_of(table.columns[name]), strict=True):
            text = row[place].strip()
            expected = None if text in own else text
            assert cell == (float(expected) if isinstance(cell, float) and expected is not None else expected)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=200), ending=st.sampled_from([".csv", ".csv.gz", ".tsv"]))
def test_no_bytes_raise_anything_but_a_refusal(content, ending, tmp_path):
    path = tmp_path / f"t{ending}"
    path.write_bytes(content)
    try:
        table = read_table(path)
    except ValueError as error:
        message = str(error)
        assert "\n" not in message.strip()
        return
    assert len(table) > 0
