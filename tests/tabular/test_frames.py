"""Tables of every library become the same columns; what is no table is refused."""

import datetime as dt
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse

from deltaprop.tabular.frames import as_column, as_table

UTC = dt.UTC
MOMENT = dt.datetime(2020, 1, 2, 3, 4, 5)
DAY = dt.date(2020, 1, 2)


def cells_of(column):
    """The kind of a column, and its cells as Python objects; None is a gap."""
    if column.kind == "text":
        return "text", [None if code < 0 else column.levels[code] for code in column.values]
    return column.kind, [
        None if gap else value for value, gap in zip(column.values.tolist(), column.gaps(), strict=True)
    ]


def check(X, expected):
    table = as_table(X)
    assert {name: cells_of(column) for name, column in table.columns.items()} == expected
    assert len(table) == len(next(iter(expected.values()))[1])
    return table


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([1, None, 2.5], ("number", [1.0, None, 2.5])),
        ([1, "x", None, 2.0, 0.5], ("text", ["1", "x", None, "2", "0.5"])),
        ([True, None, False], ("boolean", [1.0, None, 0.0])),
        ([np.True_, float("nan"), False], ("boolean", [1.0, None, 0.0])),
        ([True, 1, "x"], ("text", ["True", "1", "x"])),
        ([True, 2], ("text", ["True", "2"])),
        ([Decimal("1.5"), Fraction(1, 4), np.float32(2), np.int8(3), Decimal("nan")], ("number", [1.5, 0.25, 2.0, 3.0, None])),
        (["a", " a ", "", "  ", None, float("nan")], ("text", ["a", "a", None, None, None, None])),
        ([b"a", b"\xff", None], ("text", ["a", "\ufffd", None])),
        ([DAY, MOMENT, None], ("date", [dt.datetime(2020, 1, 2), MOMENT, None])),
        ([MOMENT.replace(tzinfo=dt.timezone(dt.timedelta(hours=1)))], ("date", [MOMENT - dt.timedelta(hours=1)])),
        ([np.datetime64("2020-01-02"), np.datetime64("NaT", "D")], ("date", [dt.datetime(2020, 1, 2), None])),
        ([dt.timedelta(minutes=1), dt.time(0, 0, 30), np.timedelta64(5, "ms")], ("number", [60.0, 30.0, 0.005])),
        ([MOMENT, "x"], ("text", ["2020-01-02T03:04:05", "x"])),
        ([[1], {"a": 1}, None], ("text", ["[1]", "{'a': 1}", None])),
        ([None, None], ("number", [None, None])),
    ],
)  # fmt: skip
def test_cells_of_any_kind(cells, expected):
    assert cells_of(as_column(cells, "x")) == expected
    array = np.empty(len(cells), object)
    array[:] = cells
    assert cells_of(as_column(array, "x")) == expected
    assert cells_of(as_table({"x": cells}).columns["x"]) == expected


@pytest.mark.parametrize("dtype", ["?", "i1", "u8", "f2", "f4", "f8", "longdouble"])
def test_arrays(dtype):
    X = np.array([[1, 0], [0, 1], [1, 1]], dtype)
    kind = "boolean" if dtype == "?" else "number"
    table = check(X, {"column 1": (kind, [1.0, 0.0, 1.0]), "column 2": (kind, [0.0, 1.0, 1.0])})
    X[:] = 0
    assert table.columns["column 1"].values.tolist() == [1, 0, 1]  # a copy
    assert list(as_table(X, names=["a", "b"]).columns) == ["a", "b"]
    with pytest.raises(ValueError, match=r"^names: expected 2 names, one a column, got 1"):
        as_table(X, names=["a"])


def test_other_arrays():
    check(np.array([["a", "1"], ["", "2"]]), {"column 1": ("text", ["a", None]), "column 2": ("text", ["1", "2"])})
    check(np.array([["2020-01-02", "NaT"]], "datetime64[D]").T, {"column 1": ("date", [dt.datetime(2020, 1, 2), None])})
    check(np.array([[90, "NaT"]], "timedelta64[s]").T, {"column 1": ("number", [90.0, None])})
    pairs = np.array([(1, "x"), (2, "y")], [("a", "i4"), ("b", "U1")])
    check(pairs, {"a": ("number", [1.0, 2.0]), "b": ("text", ["x", "y"])})


def test_rows_in_lists():
    expected = {
        "column 1": ("number", [1.0, None]),
        "column 2": ("text", ["a", "b"]),
        "column 3": ("boolean", [1.0, 0.0]),
    }
    check([[1, "a", True], [None, "b", False]], expected)
    check(([1, "a", True], (None, "b", False)), expected)


def test_array_likes():
    class ArrayLike:
        def __array__(self, dtype=None, copy=None):
            return np.array([[1.0, 2.0]])

    check(ArrayLike(), {"column 1": ("number", [1.0]), "column 2": ("number", [2.0])})
    table = as_table({"a": range(2), 3: (1, 2)})
    assert list(table.columns) == ["a", "3"]
    assert as_table(table) is table


def test_labels_are_left_as_they_are():
    table = as_table({"x": [" a ", "a", " "], "y": [" a ", "a", " "]}, text=["y", "elsewhere"])
    assert cells_of(table.columns["x"]) == ("text", ["a", "a", None])
    assert cells_of(table.columns["y"]) == ("text", [" a ", "a", None])
    assert cells_of(as_column([" a ", "a"], "y", strip=False)) == ("text", [" a ", "a"])


def test_pandas():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "int": [1, 2],
            "Int64": pandas.array([1, None], dtype="Int64"),
            "Float32": pandas.array([0.5, None], dtype="Float32"),
            "boolean": pandas.array([True, None], dtype="boolean"),
            "bool": [True, False],
            "string": pandas.array(["a", None], dtype="string"),
            "object": pandas.Series(["a", float("nan")], dtype=object),
            "mixed": pandas.Series([1, "a"], dtype=object),
            "categorical": pandas.Categorical([3.0, None]),
            "codes": pandas.Categorical(["b", "a"], categories=["c", "b", "a"]),
            "moment": pandas.to_datetime(["2020-01-02", None]),
            "zone": pandas.to_datetime(["2020-01-02", None]).tz_localize("Europe/Berlin"),
            "span": pandas.to_timedelta([90, None], unit="s"),
            "period": pandas.PeriodIndex(["2020-01", "NaT"], freq="M"),
            "interval": pandas.interval_range(0, 2),
            "sparse": pandas.arrays.SparseArray([0.0, 1.0]),
        }
    )
    table = check(
        frame,
        {
            "int": ("number", [1.0, 2.0]),
            "Int64": ("number", [1.0, None]),
            "Float32": ("number", [0.5, None]),
            "boolean": ("boolean", [1.0, None]),
            "bool": ("boolean", [1.0, 0.0]),
            "string": ("text", ["a", None]),
            "object": ("text", ["a", None]),
            "mixed": ("text", ["1", "a"]),
            "categorical": ("text", ["3", None]),
            "codes": ("text", ["b", "a"]),
            "moment": ("date", [dt.datetime(2020, 1, 2), None]),
            "zone": ("date", [dt.datetime(2020, 1, 1, 23), None]),
            "span": ("number", [90.0, None]),
            "period": ("date", [dt.datetime(2020, 1, 1), None]),
            "interval": ("text", ["(0, 1]", "(1, 2]"]),
            "sparse": ("number", [0.0, 1.0]),
        },
    )
    assert [name for name, column in table.columns.items() if column.is_category] == ["categorical", "codes"]
    assert list(as_table(pandas.DataFrame([[1, 2]], columns=[0, ("a", 1)])).columns) == ["0", "('a', 1)"]
    with pytest.raises(ValueError, match="two that are called 'a'"):
        as_table(pandas.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(ValueError, match="Reshape your data"):
        as_table(pandas.Series([1.0]))
    with pytest.raises(ValueError, match=r"column 'a', row 1: expected finite numbers or gaps, got infinity \(-inf\)"):
        as_table(pandas.DataFrame({"a": [1.0, -np.inf]}))
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        as_table(pandas.DataFrame({"a": []}))


ARROW = {
    "int": [1, None],
    "float": [0.5, float("nan")],
    "bool": [True, None],
    "text": ["a", None],
    "day": [DAY, None],
    "moment": [MOMENT, None],
    "time": [dt.time(0, 1), None],
    "span": [dt.timedelta(seconds=90), None],
    "decimal": [Decimal("1.50"), None],
    "nothing": [None, None],
    "bytes": [b"a", None],
    "list": [[1], [2]],
}
ARROW_CELLS = {
    "int": ("number", [1.0, None]),
    "float": ("number", [0.5, None]),
    "bool": ("boolean", [1.0, None]),
    "text": ("text", ["a", None]),
    "day": ("date", [dt.datetime(2020, 1, 2), None]),
    "moment": ("date", [MOMENT, None]),
    "time": ("number", [60.0, None]),
    "span": ("number", [90.0, None]),
    "decimal": ("number", [1.5, None]),
    "nothing": ("number", [None, None]),
    "bytes": ("text", ["a", None]),
    "list": ("text", ["[1]", "[2]"]),
}


def test_pyarrow():
    pyarrow = pytest.importorskip("pyarrow")
    zone = pyarrow.array([MOMENT.replace(tzinfo=UTC), None], pyarrow.timestamp("ns", "Europe/Berlin"))
    dictionary = pyarrow.array(["b", None]).dictionary_encode()
    table = pyarrow.table(ARROW | {"zone": zone, "dictionary": dictionary})
    expected = ARROW_CELLS | {"zone": ("date", [MOMENT, None]), "dictionary": ("text", ["b", None])}
    assert check(table, expected).columns["dictionary"].is_category
    with pytest.raises(ValueError, match="two that are called 'a'"):
        as_table(pyarrow.table([[1], [2]], names=["a", "a"]))


def test_polars():
    polars = pytest.importorskip("polars")
    more = {
        "zone": polars.Series([MOMENT.replace(tzinfo=UTC), None]).dt.convert_time_zone("Europe/Berlin"),
        "categorical": polars.Series(["b", None], dtype=polars.Categorical),
        "enum": polars.Series(["b", None], dtype=polars.Enum(["a", "b"])),
    }
    expected = {"zone": ("date", [MOMENT, None]), "categorical": ("text", ["b", None]), "enum": ("text", ["b", None])}
    table = check(polars.DataFrame(ARROW | more), ARROW_CELLS | expected)
    assert [name for name, column in table.columns.items() if column.is_category] == ["categorical", "enum"]
    with pytest.raises(TypeError, match=r"expected a table in memory, got LazyFrame; pass X\.collect\(\)"):
        as_table(polars.LazyFrame({"a": [1]}))


def test_cupy_arrays_are_refused():
    class OnDevice:
        __cuda_array_interface__ = None

        def __array__(self):
            raise TypeError("implicit copy")

    with pytest.raises(TypeError, match=r"^X: expected data on the host, got a OnDevice on a CUDA device"):
        as_table(OnDevice())


@pytest.mark.parametrize(
    ("X", "kind", "message"),
    [
        (np.zeros(3), ValueError, r"^Expected 2D array, got 1D array instead:\n.*\nReshape your data"),
        ([1, 2], ValueError, "Reshape your data"),
        (3, ValueError, "Expected 2D array, got scalar array instead"),
        (None, ValueError, "Expected 2D array, got scalar array instead"),
        (np.zeros((2, 2, 2)), ValueError, "Found array with dim 3"),
        (np.zeros((2, 2, 2)).tolist(), ValueError, "Found array with dim 3"),
        (np.zeros((0, 3)), ValueError, r"^Found array with 0 sample\(s\) \(shape=\(0, 3\)\) while a minimum of 1 is required"),
        (np.zeros((3, 0)), ValueError, r"^Found array with 0 feature\(s\) \(shape=\(3, 0\)\) while a minimum of 1 is required"),
        ({}, ValueError, r"0 feature\(s\)"),
        ({"a": []}, ValueError, r"0 sample\(s\)"),
        ({"a": [1], "b": [1, 2]}, ValueError, "expected columns of one length, got 1 cells in 'a' and 2 in 'b'"),
        ({1: [1], "1": [2]}, ValueError, "two that are called '1'"),
        ({"a": 1}, TypeError, "column 'a': expected a sequence of cells, got int"),
        ({"a": "text"}, TypeError, "column 'a': expected a sequence of cells, got str"),
        ({"a": np.zeros((2, 2))}, ValueError, r"column 'a': expected a 1-D array .*, got shape \(2, 2\)"),
        ([[1, 2], [3]], ValueError, "expected 2 cells in each row as in row 0, got 1 in row 1"),
        (np.array([[1j]]), ValueError, "^Complex data not supported"),
        ([[1j]], ValueError, "^Complex data not supported"),
        (np.array([[1.0], [np.inf]]), ValueError, r"column 'column 1', row 1: .*infinity"),
        ([[10**400]], ValueError, "infinity"),
        (scipy.sparse.eye(3, format="csr"), TypeError, "expected a dense array, got a sparse"),
        (np.ma.masked_array([[1.0]], mask=[[True]]), ValueError, "masked"),
        (b"bytes", TypeError, "expected a table, got bytes"),
    ],
)  # fmt: skip
def test_refused(X, kind, message):
    with pytest.raises(kind, match=message):
        as_table(X)


def test_no_library_of_tables_is_imported(tmp_path):
    """Tables are recognised without the libraries that make them: an array and a CSV file need none."""
    (tmp_path / "t.csv").write_text("a,b\n1,x\n2,y\n")
    script = f"""
import sys
import numpy as np
from deltaprop.tabular.column_roles import choose_roles
from deltaprop.tabular.frames import as_table
for X in (np.ones((3, 2)), [[1, "a"]], {{"a": [1]}}, {str(tmp_path / "t.csv")!r}):
    choose_roles(as_table(X))
print([name for name in ("pandas", "polars", "pyarrow") if name in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
