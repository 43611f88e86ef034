"""Tables as people have them, typed at the command line: train, predict, evaluate."""

import csv
import io
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from deltaprop.cli import run

TABLES = Path(__file__).parents[3] / "shared" / "data" / "tables"
#: Two small networks: what they know does not matter here.
FAST = ["--members", "2", "--hidden", "8", "--no-progress"]
ROWS = 80


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")


@pytest.fixture
def typed(capsys):
    """Run a command that has to end well, and return what it prints."""

    def command(*arguments):
        status = run([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        assert status == 0, shown.err
        return shown.out

    return command


@pytest.fixture
def refused(capsys):
    """Run a command that has to be refused, and return the error."""

    def command(*arguments):
        assert run([str(argument) for argument in arguments]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    return command


def write(path, header, rows, *, sep=",", end="\n", encoding="utf-8"):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=sep, lineterminator=end)
    writer.writerow(header)
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode(encoding))
    return path


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def check_round_trip(typed, model, path, target, truth, *options):
    """Predict and evaluate a file, and compare the score with that of the predictions."""
    predicted = [row[target] for row in rows_of(typed("predict", model, path, *options))]
    assert len(predicted) == len(truth)
    said = typed("evaluate", model, path, *options)
    if "accuracy" in said:
        right = np.mean([one == other for one, other in zip(predicted, truth, strict=True)])
        assert f"accuracy {right:.3f} on {len(truth):,} rows" in said
    else:
        values, wanted = np.array(predicted, float), np.array([text.replace(",", ".") for text in truth], float)
        explained = 1 - ((values - wanted) ** 2).sum() / ((wanted - wanted.mean()) ** 2).sum()
        assert f"R² {explained:.4f} on {len(truth):,} rows" in said
    return predicted


def sizes_and_kinds(rng, rows=ROWS):
    sizes = rng.normal(10, 3, rows).round(2)
    return sizes, np.where(sizes > 10, "big", "small")


def shown_roles(text):
    """Return, by name, what each column is said to be taken for."""
    found = re.findall(r"^  (\S+|\S.*?\S) +(number|category|date|left out) +(\S.*)$", text, re.M)
    return {name: (role, reason) for name, role, reason in found}


# -- the tables of the benchmark --------------------------------------------------------------------------------


def origins():
    file = TABLES / "origins.tsv"
    if not file.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"there is no folder {TABLES.name} with tables"))]
    rows = csv.DictReader(file.read_text().splitlines(), delimiter="\t")
    return [pytest.param(row, id=row["file"].partition(".")[0]) for row in rows]


@pytest.mark.parametrize("origin", origins())
def test_real_tables(origin, tmp_path, typed):
    path, model = TABLES / origin["file"], tmp_path / "model"
    told = typed("train", path, "--target", origin["target"], *FAST, "--time-limit", "0.5", "--out", model)
    assert f"{int(origin['rows']):,} rows, {int(origin['columns']) + 1} columns" in told
    assert ("accuracy" in told) == (origin["task"] == "classification")
    assert ("predicted as" in told) == (origin["classes"] == "2")
    kept = rows_of(typed("predict", model, path, "--keep", origin["target"]))
    assert len(kept) == int(origin["rows"])
    truth, predicted = ([row[name] for row in kept] for name in (origin["target"], f"predicted {origin['target']}"))
    said = typed("evaluate", model, path)
    if origin["task"] == "classification":
        right = np.mean([one == other for one, other in zip(truth, predicted, strict=True)])
        assert f"accuracy {right:.3f}" in said
    else:
        error = np.array(predicted, float) - np.array(truth, float)
        assert f"root mean squared error {np.sqrt((error**2).mean()):.4g}" in said


# -- ways of writing --------------------------------------------------------------------------------------------


def test_semicolons_and_decimal_commas(tmp_path, rng, typed):
    sizes = rng.normal(10, 3, ROWS).round(2)
    rows = [(f"{size}".replace(".", ","), f"{3 * size + 0.25}".replace(".", ",")) for size in sizes]
    path, model = write(tmp_path / "t.csv", ["size", "price"], rows, sep=";"), tmp_path / "model"
    told = typed("train", path, *FAST, "--out", model)
    assert "cells separated by ';', decimal commas" in told
    assert shown_roles(told)["size"][0] == "number"
    assert "R² " in told
    check_round_trip(typed, model, path, "price", [row[1] for row in rows])


@pytest.mark.parametrize(("encoding", "end"), [("utf-8-sig", "\n"), ("utf-8", "\r\n"), ("utf-16", "\r\n")])
def test_byte_order_marks_and_line_ends(encoding, end, tmp_path, rng, typed):
    sizes, kinds = sizes_and_kinds(rng)
    rows = list(zip(sizes, kinds, strict=True))
    path, model = write(tmp_path / "t.csv", ["größe", "art"], rows, encoding=encoding, end=end), tmp_path / "model"
    told = typed("train", path, *FAST, "--out", model)
    assert list(shown_roles(told)) == ["größe"]
    assert ("(utf-16)" in told) == (encoding == "utf-16")
    assert set(check_round_trip(typed, model, path, "art", kinds)) <= {"big", "small"}


def test_an_encoding_a_separator_and_a_mark_that_are_named(tmp_path, rng, typed, refused):
    sizes, kinds = sizes_and_kinds(rng)
    rows = [(f"{size}".replace(".", ","), f"{kind}é") for size, kind in zip(sizes, kinds, strict=True)]
    path, model = write(tmp_path / "t.csv", ["size", "kind"], rows, sep="|", encoding="cp1252"), tmp_path / "model"
    assert "--encoding cp1252" in refused("train", path, *FAST)
    written = ["--sep", "|", "--encoding", "cp1252", "--decimal", ","]
    assert "cp1252" in typed("train", path, *FAST, *written, "--out", model)
    check_round_trip(typed, model, path, "kind", [row[1] for row in rows], *written)
    assert "sep: expected one character between cells" in refused("train", path, *FAST, "--sep", "||")


def test_quoted_commas(tmp_path, rng, typed):
    sizes, kinds = sizes_and_kinds(rng)
    labels = [f"{kind}, or so" for kind in kinds]
    rows = [(size, 'say "x, y"' if size > 9 else "z", label) for size, label in zip(sizes, labels, strict=True)]
    path, model = write(tmp_path / "t.csv", ["size", "a, b", "kind"], rows), tmp_path / "model"
    told = typed("train", path, *FAST, "--out", model)
    assert list(shown_roles(told)) == ["size", "a, b"]
    check_round_trip(typed, model, path, "kind", labels)
    only = typed("train", path, *FAST, "--features", '"a, b"')
    assert list(shown_roles(only)) == ["a, b"]
    kept = rows_of(typed("predict", model, path, "--keep", '"a, b",size'))
    assert [(row["a, b"], row["size"]) for row in kept] == [(row[1], str(row[0])) for row in rows]


def test_standard_input(tmp_path, rng, typed, monkeypatch):
    """The training is a process of its own, whose input is a pipe."""
    program = Path(sys.executable).with_name("deltaprop")
    sizes, kinds = sizes_and_kinds(rng)
    path, model = write(tmp_path / "t.csv", ["size", "kind"], zip(sizes, kinds, strict=True)), tmp_path / "model"
    command = [program, "train", "-", "--members", "2", "--hidden", "8", "--out", model]
    result = subprocess.run(command, input=path.read_bytes(), capture_output=True, check=True)
    assert "reading     standard input\ndata        80 rows, 2 columns\n" in result.stdout.decode()
    assert "trained" in result.stderr.decode()
    said = []
    for name in (path, "-"):
        with path.open() as file:
            monkeypatch.setattr("sys.stdin", file)
            said.append(typed("predict", model, name))
        with path.open() as file:
            monkeypatch.setattr("sys.stdin", file)
            said.append(typed("evaluate", model, name))
    assert said[:2] == said[2:]


# -- columns ----------------------------------------------------------------------------------------------------


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
    warned = re.findall(r"^warning +'(.*?)' is left out: (.*?)\. To use it: (.*), or --features$", told, re.M)
    assert [(name, how) for name, _, how in warned] == [
        ("Unnamed: 0", '--numerical "Unnamed: 0"'),
        ("customer_id", "--categorical customer_id"),
        ("copy", "--categorical copy"),
    ]
    assert "1 of 6 are used to predict" in told
    new = write(tmp_path / "new.csv", ["size"], [(3,), (17,)])  # what is left out need not be there
    assert [row["kind"] for row in rows_of(typed("predict", model, new))] == ["small", "big"]
    check_round_trip(typed, model, path, "kind", kinds)
    kept = shown_roles(typed("train", path, "--target", "kind", *FAST, "--features", "size,copy", "--drop", "size"))
    assert {name: role for name, (role, _) in kept.items()} == {"size": "left out", "copy": "category"}
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


def test_columns_that_are_not_there_or_twice(tmp_path, refused):
    twice = write(tmp_path / "twice.csv", ["a", "a", "y"], [(1, 2, "u"), (2, 3, "v")])
    assert "two columns are called 'a'" in refused("train", twice)
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
        (["--members", "0"], "--members: expected at least 1"),
        (["--time-limit", "0"], "--time-limit: expected seconds above 0"),
        (["--task", "regression"], "--task: regression needs numbers as targets, got text such as 'u'"),
    ]:
        assert message in refused("train", path, *FAST, *options)
    assert "no such file" in refused("train", tmp_path / "nowhere.csv")
    assert "expected a column besides the target" in refused(
        "train", write(tmp_path / "one.csv", ["y"], [("a",), ("b",)])
    )


def test_missing_columns_and_labels_are_named(tmp_path, rng, typed, refused):
    sizes, kinds = sizes_and_kinds(rng)
    path, model = (
        write(tmp_path / "t.csv", ["size", "w", "kind"], zip(sizes, sizes**2, kinds, strict=True)),
        tmp_path / "m",
    )
    typed("train", path, *FAST, "--out", model)
    new = write(tmp_path / "new.csv", ["other", "kind"], [(1, "big")])
    assert "no columns 'size', 'w' (which the model was trained on); it has 'other', 'kind'" in refused(
        "predict", model, new
    )
    new = write(tmp_path / "new.csv", ["size", "w"], [(1, 1)])
    assert "no column 'kind' (which is the target)" in refused("evaluate", model, new)
    assert "no column 'id' (--keep)" in refused("predict", model, new, "--keep", "id")
    new = write(tmp_path / "new.csv", ["size", "w", "kind"], [(1, 1, "big"), (1, 1, "huge")])
    assert "row 2: 'huge' is no class of the training data" in refused("evaluate", model, new)
    assert "--interval: expected a model of a quantity" in refused("predict", model, new, "--interval", "0.9")


# -- rows -------------------------------------------------------------------------------------------------------


def test_a_level_and_a_gap_that_only_prediction_sees(tmp_path, rng, typed):
    sizes, kinds = sizes_and_kinds(rng)
    rows = [(size, "red" if k % 2 else "blue", kind) for k, (size, kind) in enumerate(zip(sizes, kinds, strict=True))]
    path, model = write(tmp_path / "t.csv", ["size", "color", "kind"], rows), tmp_path / "model"
    typed("train", path, *FAST, "--out", model)
    new = write(tmp_path / "new.csv", ["color", "size"], [("green", 3), ("", 17), ("red", ""), ("NA", "?")])
    predicted = rows_of(typed("predict", model, new, "--proba"))
    assert [row["kind"] for row in predicted[:2]] == ["small", "big"]
    for row in predicted:
        assert float(row["kind=big"]) + float(row["kind=small"]) == pytest.approx(1.0)
        assert row["kind"] == max(("big", "small"), key=lambda kind: float(row[f"kind={kind}"]))


def test_two_rows_a_class_and_one_row_to_predict(tmp_path, typed):
    rows = [(k, 10 * (k // 2) + k % 2, f"class {k // 2}") for k in range(12)]
    path, model = write(tmp_path / "t.csv", ["a", "b", "y"], rows), tmp_path / "model"
    told = typed("train", path, *FAST, "--out", model)
    assert "6 classes" in told
    check_round_trip(typed, model, path, "y", [row[2] for row in rows])
    one = write(tmp_path / "one.csv", ["a", "b"], [(3, 11)])
    assert len(rows_of(typed("predict", model, one))) == 1
    of_one = write(tmp_path / "one.csv", ["a", "b", "y"], [(3, 11, "class 1")])
    assert "on 1 rows" in typed("evaluate", model, of_one)


def test_two_hundred_thousand_rows(tmp_path, rng, typed):
    rows = 200_000
    a, b = rng.normal(size=rows).round(3), rng.integers(0, 5, rows)
    labels = np.where(a + b > 2, "high", "low")
    path, model = tmp_path / "t.csv", tmp_path / "model"
    path.write_text("a,b,y\n" + "\n".join(map("{},{},{}".format, a.tolist(), b.tolist(), labels.tolist())))
    told = typed("train", path, *FAST, "--time-limit", "2", "--out", model)
    assert "200,000 rows, 3 columns" in told
    found = re.search(r"accuracy ([\d.]+) on", told)
    assert found is not None
    assert float(found[1]) > 0.9
    check_round_trip(typed, model, path, "y", labels.tolist())


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


def test_rows_without_a_target_are_left_out(tmp_path, rng, typed):
    sizes, kinds = sizes_and_kinds(rng)
    kinds[:5] = ""
    path, model = write(tmp_path / "t.csv", ["size", "kind"], zip(sizes, kinds, strict=True)), tmp_path / "model"
    assert "5 rows without a target are left out" in typed("train", path, *FAST, "--out", model)
    assert "5 rows without a target are left out" in typed("evaluate", model, path)
    assert len(rows_of(typed("predict", model, path))) == ROWS


def test_intervals_and_kept_columns(tmp_path, rng, typed):
    sizes = rng.normal(10, 3, ROWS).round(2)
    rows = [(f"0{k}", size, size**2) for k, size in enumerate(sizes)]
    path, model = write(tmp_path / "t.csv", ["id", "size", "area"], rows), tmp_path / "model"
    typed("train", path, *FAST, "--drop", "id", "--out", model)
    predicted = rows_of(typed("predict", model, path, "--interval", "0.5", "--keep", "id,area"))
    assert list(predicted[0]) == ["id", "area", "predicted area", "area low", "area high"]
    assert [row["id"] for row in predicted] == [row[0] for row in rows]  # as they are written
    for row in predicted:
        assert float(row["area low"]) <= float(row["area high"])
    plain = rows_of(typed("predict", model, path))
    assert [row["area"] for row in plain] == [row["predicted area"] for row in predicted]


def test_classes_that_count_the_same(tmp_path, rng, typed):
    """Of the rare class more rows are found if it counts as much: the best threshold moves from 12.26 to 11."""
    sizes = np.concatenate([rng.normal(10, 1, 370), rng.normal(12, 1, 30)]).round(2)
    path = write(tmp_path / "t.csv", ["size", "kind"], zip(sizes, ["usual"] * 370 + ["rare"] * 30, strict=True))
    found = []
    for options in ([], ["--class-weight", "balanced"]):
        told = typed("train", path, "--hidden", "8", "--no-progress", *options)
        recall = re.search(r"^ +rare .* ([\d.]+) %$", told, re.M)
        assert recall is not None
        found.append(float(recall[1]))
    assert found[1] > found[0] + 15


# -- the two ways -----------------------------------------------------------------------------------------------


def test_options_of_the_other_way_are_refused(tmp_path, refused):
    path = write(tmp_path / "t.csv", ["a", "y"], [(k, "uv"[k % 2]) for k in range(20)])
    assert "--epochs: belongs to a single network; expected --plain with it" in refused("train", path, "--epochs", "3")
    assert "--members: belongs to tables; expected no --plain" in refused("train", path, "--plain", "--members", "3")
    message = "--time-limit: belongs to tables, and digits is none: a single network learns it"
    assert message in refused("train", "digits", "--time-limit", "3")
    assert "--class-weight: belongs" in refused("train", tmp_path / "x.npz", "--class-weight", "balanced")


def test_a_plain_network_predicts_and_keeps(tmp_path, rng, typed, refused):
    sizes, kinds = sizes_and_kinds(rng)
    path, model = write(tmp_path / "t.csv", ["size", "kind"], zip(sizes, kinds, strict=True)), tmp_path / "model"
    told = typed("train", path, "--plain", "--epochs", "2", "--no-progress", "--out", model)
    assert "2-100-2" not in told
    assert "1-100-2, relu, softmax" in told
    kept = rows_of(typed("predict", model, path, "--keep", "size,kind"))
    assert list(kept[0]) == ["size", "kind", "predicted kind"]
    assert [row["kind"] for row in kept] == list(kinds)
    assert "--interval: expected a model of a quantity" in refused("predict", model, path, "--interval", "0.9")
    assert "--sep: belongs to models of tables" in refused("predict", model, path, "--sep", ";")
    assert "--decimal: belongs to models of tables" in refused("evaluate", model, path, "--decimal", ",")
    assert "--keep: digits has no columns" in refused("predict", model, "digits", "--keep", "size")


# -- Ctrl-C -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("saved", [True, False])
def test_ctrl_c_keeps_the_best_so_far(saved, tmp_path, rng, typed, capsys, monkeypatch):
    """The signal comes in the third epoch; training ends with it."""
    epochs = []

    @contextmanager
    def bar(*arguments):
        def moved(event):
            epochs.append(event.epoch)
            if event.epoch == 3:
                signal.raise_signal(signal.SIGINT)

        yield moved

    monkeypatch.setattr("deltaprop.cli.train_table.members_bar", bar)
    sizes, kinds = sizes_and_kinds(rng)
    path, model = write(tmp_path / "t.csv", ["size", "kind"], zip(sizes, kinds, strict=True)), tmp_path / "model"
    out = ["--out", str(model)] if saved else []
    assert run(["train", str(path), *FAST, *out]) == 130
    shown = capsys.readouterr()
    assert epochs == [1, 2, 3]
    assert shown.err == "deltaprop: error: interrupted\n"
    assert "accuracy" in shown.out
    assert "epochs 3, the best" in shown.out
    assert "go on       the same command trains from the start again" in shown.out
    if saved:
        assert f"model       {model} (training was ended early" in shown.out
        check_round_trip(typed, model, path, "kind", kinds)
    else:
        assert "model       not kept: with --out FILE" in shown.out
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
