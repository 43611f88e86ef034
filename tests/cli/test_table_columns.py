"""Columns of tables, typed at the command line: what each is taken for, what is left out, labels, and quantities."""

import re

import numpy as np
import pytest
from typed_tables import FAST, ROWS, Terminal, check_round_trip, rows_of, shown_roles, sizes_and_kinds, write

import deltaprop as dp


@pytest.fixture
def typed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    return Terminal(capsys)


def test_dates_and_booleans(tmp_path, rng, typed):
    sizes, _ = sizes_and_kinds(rng)
    rows = [
        (f"2021-{1 + k % 12:02}-{1 + k % 28:02}", k % 3 == 0, "yes" if k % 2 else "no", size > 10)
        for k, size in enumerate(sizes)
    ]
    path, model = write(tmp_path / "t.csv", ["day", "flag", "answer", "big"], rows), tmp_path / "model"
    told = typed("train", path, *FAST, "--out", model)
    roles = shown_roles(told)
    assert [roles[name][0] for name in ("day", "flag", "answer")] == ["date", "category", "category"]
    assert set(check_round_trip(typed, model, path, "big", [str(row[3]) for row in rows])) <= {"True", "False"}


def test_what_should_not_be_predicted_from_is_left_out(tmp_path, rng, typed):
    sizes, kinds = sizes_and_kinds(rng, 240)
    codes = [f"K{number}" for number in rng.permutation(9000)[:240]]
    header = ["", "customer_id", "size", "constant", "nothing", "kind", "copy"]
    rows = [
        (k, code, size, 7, "", kind, f"is {kind}")
        for k, (code, size, kind) in enumerate(zip(codes, sizes, kinds, strict=True))
    ]
    path, model = write(tmp_path / "t.csv", header, rows), tmp_path / "model"
    told = typed("train", path, "--target", "kind", *FAST, "--out", model)
    roles = shown_roles(told)
    assert {name for name, (role, _) in roles.items() if role == "left out"} == set(roles) - {"size"}
    assert re.search(r"^importance  size [\d.]+: so much the log loss rises", told, re.M)
    warned = re.findall(r"^warning +'(.*?)' is left out: (.*?)\. To use it: (.*)$", told, re.M)
    assert [(name, how) for name, _, how in warned] == [
        ("Unnamed: 0", "--numerical 'Unnamed: 0', or --features with all columns to use"),
        ("customer_id", "--categorical customer_id, or --features with all columns to use"),
        ("copy", "--categorical copy, or --features with all columns to use"),
    ]
    assert "1 of 6 are used to predict" in told
    new = write(tmp_path / "new.csv", ["size"], [(3,), (17,)])  # what is left out need not be there
    assert [row["kind"] for row in rows_of(typed("predict", model, new))] == ["small", "big"]
    check_round_trip(typed, model, path, "kind", kinds)
    kept = shown_roles(
        typed("train", path, "--target", "kind", *FAST, "--features", "size,copy,customer_id", "--drop", "size")
    )
    assert {name: role for name, (role, _) in kept.items()} == {
        "size": "left out",
        "copy": "category",
        "customer_id": "category",
    }
    assert (
        "categorical"
        in shown_roles(typed("train", path, "--target", "kind", *FAST, "--categorical", "size"))["size"][1]
    )


def test_parquet_with_the_index_of_a_frame(tmp_path, rng, typed):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    sizes, kinds = sizes_and_kinds(rng)
    columns = {
        "flag": pyarrow.array((sizes > 11).tolist()),
        "plan": pyarrow.array(["a", "b", None, "c"] * (ROWS // 4)).dictionary_encode(),
        "size": pyarrow.array(sizes),
        "kind": pyarrow.array(kinds.tolist()),
        "__index_level_0__": pyarrow.array(rng.permutation(ROWS)),
    }
    path, model = tmp_path / "t.parquet", tmp_path / "model"
    parquet.write_table(pyarrow.table(columns), path)
    told = typed("train", path, "--target", "kind", *FAST, "--out", model)
    taken = {name: role for name, (role, _) in shown_roles(told).items()}
    assert taken == {"flag": "category", "plan": "category", "size": "number", "__index_level_0__": "left out"}
    assert "warning     '__index_level_0__' is left out" in told
    check_round_trip(typed, model, path, "kind", kinds)


def test_a_quantity_that_nearly_copies_the_target(tmp_path, rng, typed):
    sizes = rng.normal(10, 3, ROWS)
    rows = [(f"{x + rng.normal():.2f}", f"{2.54 * x + 1e-6 * rng.normal():.6f}", f"{x:.6f}") for x in sizes]
    told = typed("train", write(tmp_path / "t.csv", ["noisy", "inches", "cm"], rows), *FAST)
    assert {name: role for name, (role, _) in shown_roles(told).items()} == {"noisy": "number", "inches": "left out"}
    assert "To use it: --numerical inches, or --features" in told


def test_columns_that_are_not_there_or_twice(tmp_path, typed):
    twice = write(tmp_path / "twice.csv", ["a", "a", "y"], [(1, 2, "u"), (2, 3, "v")])
    assert "two columns are called 'a'" in typed.refused("train", twice)
    path = write(tmp_path / "t.csv", ["a", "b", "y"], [(k, k * k, "uv"[k % 2]) for k in range(20)])
    for options, message in [
        (["--target", "z"], "no column 'z'; the columns are 'a', 'b', 'y'"),
        (["--drop", "z"], "--drop: no column 'z'"),
        (["--features", "a,y"], "--features: 'y' is the target"),
        (["--drop", "a,b"], "expected a column to predict 'y' from, got none"),
        (["--drop", "a", "--categorical", "a"], "--drop: column 'a' is in --categorical as well"),
        (["--numerical", ","], "--numerical: expected names of columns"),
        (["--class-weight", "equal"], "--class-weight: expected balanced"),
        (["--target", "b", "--class-weight", "balanced"], "--class-weight: expected classes"),
        (["--members", "0"], "--members: expected from 1 to 10000, got 0"),
        (["--time-limit", "0"], "--time-limit: expected seconds above 0"),
        (["--task", "regression"], "--task: regression needs numbers as targets, got text such as 'u'"),
    ]:
        assert message in typed.refused("train", path, *FAST, *options)
    assert "no such file" in typed.refused("train", tmp_path / "nowhere.csv")
    # Before the file, which is no table, is read.
    (tmp_path / "empty.csv").write_text("")
    message = "--members: expected from 1 to 10000, got 10000000000"
    assert message in typed.refused("train", tmp_path / "empty.csv", "--members", "10000000000")
    assert "expected a column besides the target" in typed.refused(
        "train", write(tmp_path / "one.csv", ["y"], [("a",), ("b",)])
    )


def test_missing_columns_and_labels_are_named(tmp_path, rng, typed):
    sizes, kinds = sizes_and_kinds(rng)
    path, model = (
        write(tmp_path / "t.csv", ["size", "w", "kind"], zip(sizes, sizes**2, kinds, strict=True)),
        tmp_path / "m",
    )
    typed("train", path, *FAST, "--out", model)
    new = write(tmp_path / "new.csv", ["other", "kind"], [(1, "big")])
    assert (
        "no columns 'size', 'w' (which the model predicts from; their cells may be empty); it has 'other', 'kind'"
        in typed.refused("predict", model, new)
    )
    new = write(tmp_path / "new.csv", ["size", "w"], [(1, 1)])
    assert "no column 'kind' (which is the target)" in typed.refused("evaluate", model, new)
    assert "no column 'id' (--keep)" in typed.refused("predict", model, new, "--keep", "id")
    new = write(tmp_path / "new.csv", ["size", "w", "kind"], [(1, 1, "big"), (1, 1, "huge")])
    assert "row 2: 'huge' is no class of the training data" in typed.refused("evaluate", model, new)
    assert "--interval: expected a model of a quantity" in typed.refused("predict", model, new, "--interval", "0.9")


def test_labels_stay_as_they_are_written(tmp_path, rng, typed):
    sizes = rng.normal(10, 3, 120).round(2)
    labels = np.select([sizes < 9, sizes < 11], ["007", "01"], "7")
    path, model = write(tmp_path / "t.csv", ["size", "code"], zip(sizes, labels, strict=True)), tmp_path / "model"
    told = typed("train", path, *FAST, "--task", "classification", "--out", model)
    matrix = told[told.index("predicted as") :]
    assert re.findall(r"^ +(\d+)  (?: *\d+ +)+[\d.]+ %$", matrix, re.M) == ["007", "01", "7"]
    assert set(check_round_trip(typed, model, path, "code", labels)) == {"007", "01", "7"}
    assert typed("predict", model, path, "--proba").startswith("code,code=007,code=01,code=7\n")


@pytest.mark.parametrize(("rows", "distinct", "task", "word"), [
    (200, 9, "auto", "classes; --task regression"),
    (200, 10, "auto", "a quantity; --task classification"),  # 10 of 200 are 5 %
    (1000, 20, "auto", "classes; --task regression"),
    (1000, 21, "auto", "a quantity; --task classification"),
    (30, 2, "auto", "classes; --task regression"),
    (200, 9, "regression", "a quantity, by --task"),
    (200, 10, "classification", "classes, by --task"),
])  # fmt: skip
def test_whole_numbers_are_classes_or_quantities(rows, distinct, task, word, tmp_path, rng, typed):
    y = np.arange(rows) % distinct
    path = write(tmp_path / "t.csv", ["a", "y"], zip(rng.normal(size=rows).round(3), y, strict=True))
    told = typed("train", path, *FAST, "--task", task, "--time-limit", "0.2")
    assert f"whole numbers, {distinct} different in {rows} rows" in told
    assert word in told
    assert ("accuracy" in told) == word.startswith("classes")


def test_quantities_are_no_classes(tmp_path, rng, typed):
    numbers = rng.normal(size=60).round(3)
    path = write(tmp_path / "t.csv", ["a", "price"], zip(numbers, numbers + 0.5, strict=True))
    told = typed.refused("train", path, *FAST, "--task", "classification")
    assert "--task: classification needs labels as targets" in told
    assert "in 'price' that are not all whole" in told
    assert "--task regression" in told


@pytest.mark.parametrize("written", ["1.0", "1"])
def test_classes_that_are_floats_in_python_are_found_in_files(written, tmp_path, rng, typed):
    sizes, _ = sizes_and_kinds(rng)
    labels = np.where(sizes > np.median(sizes), 2.0, 1.0)
    model = dp.TabularClassifier(2, 8, random_state=0).fit({"size": sizes, "label": labels}, "label")
    model.save(tmp_path / "model")
    other = written.replace("1", "2")
    rows = [(size, other if label == 2 else written) for size, label in zip(sizes, labels, strict=True)]
    told = typed("evaluate", tmp_path / "model", write(tmp_path / "t.csv", ["size", "label"], rows))
    right = (model.predict({"size": sizes}) == labels).mean()
    assert f"accuracy {right:.3f} on {ROWS} rows" in told
