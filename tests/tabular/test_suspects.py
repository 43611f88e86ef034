"""Row indices, identifiers and copies of the target are found; real columns are not."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from deltaprop.tabular.column_roles import choose_roles
from deltaprop.tabular.frames import as_column, as_table
from deltaprop.tabular.suspects import names_like_cells, suspicious
from deltaprop.tabular.table import Table
from deltaprop.tabular.table_file import read_table

DATA = Path(os.environ.get("DELTAPROP_DATA", Path(__file__).parents[3] / "shared" / "data")) / "tables"
RNG = np.random.default_rng(0)
ROWS = 300
REAL = RNG.standard_normal(ROWS)
CLASSES = np.where(REAL + RNG.standard_normal(ROWS) > 0, "yes", "no")
QUANTITY = np.round(100 * (REAL + RNG.standard_normal(ROWS)))


def reasons(columns, target=CLASSES):
    table = as_table(columns)
    return suspicious(table, choose_roles(table), as_column(target, "goal"))


def found(name, values, target=CLASSES):
    """The reason for one column, which stands first, beside a real one."""
    others = reasons({name: values, "real": REAL[: len(values)]}, target)
    assert set(others) <= {name}
    return others.get(name, "")


def real_table(name, target):
    path = DATA / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    table = read_table(path, text=[target])
    return Table({n: c for n, c in table.columns.items() if n != target}, len(table)), table.columns[target]


def test_nothing_is_suspicious_in_real_tables():
    if not DATA.exists():
        pytest.skip(f"there is no {DATA}")
    rows = list(csv.DictReader((DATA / "origins.tsv").read_text().splitlines(), delimiter="\t"))
    assert len(rows) == 13
    for row in rows:
        table, target = real_table(row["file"].removesuffix(".csv.gz"), row["target"])
        assert suspicious(table, choose_roles(table), target) == {}, row["file"]


def test_what_people_add_to_real_tables_is_found():
    table, target = real_table("titanic", "survived")
    alive = as_column(["yes" if level == "1" else "no" for level in np.array(target.levels)[target.values]], "alive")
    number = as_column(np.arange(1, len(table) + 1), "PassengerId")
    more = Table({"PassengerId": number, **table.columns, "alive": alive}, len(table))
    assert suspicious(more, choose_roles(more), target) == {
        "PassengerId": "it counts the rows from 1 to 891",
        "alive": "a copy of the target 'survived': each of its values goes with one of the target's",
    }
    table, target = real_table("telco", "Churn")
    names = [f"{(7919 * n) % 10000:04d}-{'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[n % 26]}{n}" for n in range(len(table))]
    more = Table({"customerID": as_column(names, "customerID"), **table.columns}, len(table))
    assert suspicious(more, choose_roles(more), target) == {
        "customerID": "an identifier, by its name: it is different in every row"
    }


@pytest.mark.parametrize("name", ["Unnamed: 0", "index", "row", "anything"])
@pytest.mark.parametrize("start", [0, 1])
def test_a_row_index_is_found(name, start):
    assert found(name, np.arange(start, start + ROWS)) == f"it counts the rows from {start} to {start + ROWS - 1}"


def test_a_row_index_by_its_name():
    assert "row index" in found("__index_level_0__", RNG.permutation(10), CLASSES[:10])
    assert "row index" in found("Unnamed: 0", RNG.permutation(1000)[:12], CLASSES[:12])
    assert found("Unnamed: 0", np.arange(10), CLASSES[:10]) == "it counts the rows from 0 to 9"
    assert found("year", np.arange(1700, 1700 + ROWS)) != "it counts the rows from 1700 to 1999"
    assert found("time", np.arange(10), CLASSES[:10]) == ""


@pytest.mark.parametrize("name", ["id", "ID", "user_id", "customerID", "PassengerId", "order key", "uuid", "apiKey"])
def test_an_identifier_is_found_by_its_name(name):
    numbers = RNG.permutation(10**6)[:ROWS] * 7
    for values in (numbers, [f"u{number}" for number in numbers]):
        assert found(name, values) == "an identifier, by its name: it is different in every row"
    assert found(name, numbers[:100], CLASSES[:100]) == ""  # too few rows to tell
    assert found(name, numbers // 10**6) == ""  # it is not different in every row


def test_numbered_rows_in_another_order():
    numbers = RNG.permutation(ROWS + 50)[:ROWS]
    assert "numbers the rows in another order" in found("ticket", numbers)
    rank = np.argsort(np.argsort(QUANTITY + 30 * RNG.standard_normal(ROWS)))  # the rank of a real quantity
    assert found("rank", rank, QUANTITY) == ""


@pytest.mark.parametrize("name", ["width", "paid", "humid", "keyboard", "idle"])
def test_real_columns_are_kept(name):
    assert found(name, RNG.standard_normal(ROWS)) == ""
    assert found(name, RNG.permutation(10**6)[:ROWS]) == ""
    assert found(name, [f"{n % 7}" for n in range(ROWS)]) == ""


def test_copies_of_classes():
    renamed = np.where(CLASSES == "yes", 1, 0)
    assert found("alive", renamed).startswith("a copy of the target 'goal'")
    finer = [f"{label} {n % 3}" for n, label in enumerate(CLASSES)]
    assert found("finer", finer) == "the target 'goal' follows from it in at least 99.9 % of the rows"
    wrong = renamed.copy()
    wrong[:30] = 1 - wrong[:30]  # a very good predictor is no copy
    assert found("good", wrong) == ""
    # If nearly all rows are of one class, a column that says so is right as often, and tells nothing.
    rare = np.array(["no"] * 10_000)
    rare[:5] = "yes"
    assert found_in_many(rare) == {}


def found_in_many(target):
    rows = len(target)
    table = as_table({"a": RNG.integers(0, 3, rows), "b": RNG.standard_normal(rows)})
    return suspicious(table, choose_roles(table), as_column(target, "goal"))


def test_copies_of_a_quantity():
    assert found("log", np.log(QUANTITY - QUANTITY.min() + 1), QUANTITY).startswith("a copy of the target 'goal'")
    assert found("less", -3 * QUANTITY, QUANTITY).endswith("(correlation -1.000000)")
    assert found("near", QUANTITY + 30 * RNG.standard_normal(ROWS), QUANTITY) == ""
    gaps = np.where(RNG.random(ROWS) < 0.1, np.nan, 2 * QUANTITY)
    assert found("with gaps", gaps, QUANTITY).startswith("a copy of the target 'goal'")


def test_what_alone_is_left_is_never_suspicious():
    assert reasons({"x": np.arange(ROWS)}, np.sin(np.arange(ROWS))) == {}
    assert reasons({"x": QUANTITY, "constant": np.ones(ROWS)}, 2 * QUANTITY) == {}


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        ("5.1,3.5,setosa", "4.9,3.0,setosa", ["5.1", "3.5", "setosa"]),  # the iris data, as many sites have them
        ("5,3,setosa", "4,2,setosa", ["5", "3", "setosa"]),
        ("-1,3e2,other", "4,2,setosa", ["-1", "3e2"]),
        ("5,1;3,5;a", "4,9;3,0;b", ["5,1", "3,5"]),
        ("p,x,s", "p,x,s", ["p", "x", "s"]),  # nothing but text, each name a cell of its column
        ("2001,2002,country", "4,2,Chad", []),  # years are names
        ("width,3.5,setosa", "4.9,3.0,setosa", []),
        ("yes,no,answer", "yes,no,yes", []),
        ("width,height,kind", "4.9,3.0,setosa", []),
        ("nan,inf,setosa", "4.9,3.0,setosa", []),
    ],
)
def test_a_first_row_taken_for_names(first, second, names, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("\n".join([first, second, second]) + "\n")
    assert names_like_cells(read_table(path)) == names


@pytest.mark.skipif(not DATA.exists(), reason=f"there is no {DATA}")
def test_real_tables_have_names():
    assert [path.name for path in sorted(DATA.glob("*.csv.gz")) if names_like_cells(read_table(path))] == []
