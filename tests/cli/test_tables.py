"""Tables as people have them, typed at the command line: train, predict, evaluate."""

import csv
import gzip
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from typed_tables import FAST, ROWS, Terminal, check_round_trip, rows_of, shown_roles, sizes_and_kinds, write

import deltaprop as dp
from deltaprop.cli import run

TABLES = Path(os.environ.get("DELTAPROP_DATA", Path(__file__).parents[3] / "shared" / "data")) / "tables"


@pytest.fixture
def typed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    return Terminal(capsys)


# -- the tables of the benchmark --------------------------------------------------------------------------------


def origins():
    file = TABLES / "origins.tsv"
    if not file.exists():
        reason = "the tables are not here; DELTAPROP_DATA names the folder with tables/ in it"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason))]
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


def test_an_encoding_a_separator_and_a_mark_that_are_named(tmp_path, rng, typed):
    sizes, kinds = sizes_and_kinds(rng)
    rows = [(f"{size}".replace(".", ","), f"{kind}é") for size, kind in zip(sizes, kinds, strict=True)]
    path, model = write(tmp_path / "t.csv", ["size", "kind"], rows, sep="|", encoding="cp1252"), tmp_path / "model"
    assert "--encoding cp1252" in typed.refused("train", path, *FAST)
    written = ["--sep", "|", "--encoding", "cp1252", "--decimal", ","]
    assert "cp1252" in typed("train", path, *FAST, *written, "--out", model)
    check_round_trip(typed, model, path, "kind", [row[1] for row in rows], *written)
    assert "sep: expected one character between cells" in typed.refused("train", path, *FAST, "--sep", "||")


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
    assert "on 1 row (majority" in typed("evaluate", model, of_one)


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


def test_rows_without_a_target_are_left_out(tmp_path, rng, typed):
    sizes, kinds = sizes_and_kinds(rng)
    kinds[:5] = ""
    path, model = write(tmp_path / "t.csv", ["size", "kind"], zip(sizes, kinds, strict=True)), tmp_path / "model"
    assert "left out: 5 rows without a target" in typed("train", path, *FAST, "--out", model)
    assert "left out: 5 rows without a target" in typed("evaluate", model, path)
    assert len(rows_of(typed("predict", model, path))) == ROWS


def test_a_file_without_a_line_of_names_is_warned_of(tmp_path, rng, typed):
    sizes, kinds = sizes_and_kinds(rng)
    path = tmp_path / "t.csv"
    path.write_text("".join(f"{size},{kind}\n" for size, kind in zip(sizes, kinds, strict=True)))
    said = " ".join(typed("train", path, *FAST, "--out", tmp_path / "model").split())
    assert "warning the first line was taken for names, but looks like a row: if it is one, write a line of" in said


def test_a_dash_among_numbers_is_a_gap_of_the_target(tmp_path, rng, typed):
    """Also with decimal commas. Beside text it is a label."""
    sizes, kinds = sizes_and_kinds(rng)
    texts = [f"{size}".replace(".", ",") for size in sizes]
    prices = ["-", "None", *texts[2:]]
    path, model = write(tmp_path / "t.csv", ["size", "price"], zip(texts, prices, strict=True), sep=";"), tmp_path / "m"
    told = typed("train", path, *FAST, "--features", "size", "--out", model)
    assert "left out: 2 rows without a target" in told
    assert "R²" in told
    assert "left out: 2 rows without a target" in typed("evaluate", model, path)
    kinds[:40] = "-"
    path = write(tmp_path / "u.csv", ["size", "kind"], zip(sizes, kinds, strict=True))
    assert "3 classes: '-', 'big', 'small'" in typed("train", path, *FAST, "--out", model)


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


def test_what_is_kept_does_not_change_predictions(tmp_path, rng, typed):
    """A "-" is a gap in training, and copied as it is."""
    codes = rng.choice(["-", "007", "b"], ROWS)
    numbers = rng.choice(["-", "1,5", "2,5", "3,25"], ROWS)
    rows = [(code, number, "yes" if code == "-" else "no") for code, number in zip(codes, numbers, strict=True)]
    path, model = write(tmp_path / "t.csv", ["code", "number", "y"], rows, sep=";"), tmp_path / "model"
    typed("train", path, *FAST, "--features", "code,number", "--out", model)
    plain = rows_of(typed("predict", model, path, "--proba"))
    kept = rows_of(typed("predict", model, path, "--proba", "--keep", "code,number"))
    assert [(row.pop("code"), row.pop("number")) for row in kept] == [row[:2] for row in rows]
    assert kept == plain


def test_numbers_as_labels_stay_as_they_are_written(tmp_path, rng, typed):
    sizes, _ = sizes_and_kinds(rng)
    labels = np.where(sizes > 10, "0.5", "1")
    path, model = write(tmp_path / "t.csv", ["size", "y"], zip(sizes, labels, strict=True)), tmp_path / "model"
    typed("train", path, *FAST, "--task", "classification", "--out", model)
    predicted = check_round_trip(typed, model, path, "y", labels)
    assert set(predicted) <= {"0.5", "1"}
    assert dp.load(model).score(path, "y") == np.mean(np.array(predicted) == labels)
    assert list(rows_of(typed("predict", model, path, "--proba"))[0]) == ["y", "y=0.5", "y=1"]


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


def test_options_of_the_other_way_are_refused(tmp_path, typed):
    path = write(tmp_path / "t.csv", ["a", "y"], [(k, "uv"[k % 2]) for k in range(20)])
    assert "--epochs: belongs to a single network; expected --plain with it" in typed.refused(
        "train", path, "--epochs", "3"
    )
    message = "expected --plain with it, or rows of the table in another file, for 'deltaprop evaluate'"
    assert f"--test: belongs to a single network; {message}" in typed.refused("train", path, "--test", "0.2")
    assert "--members: belongs to tables; expected no --plain" in typed.refused(
        "train", path, "--plain", "--members", "3"
    )
    message = "--time-limit: belongs to tables, and digits is none: a single network learns it"
    assert message in typed.refused("train", "digits", "--time-limit", "3")
    assert "--class-weight: belongs" in typed.refused("train", tmp_path / "x.npz", "--class-weight", "balanced")


def test_a_plain_network_predicts_and_keeps(tmp_path, rng, typed):
    sizes, kinds = sizes_and_kinds(rng)
    path, model = write(tmp_path / "t.csv", ["size", "kind"], zip(sizes, kinds, strict=True)), tmp_path / "model"
    told = typed("train", path, "--plain", "--epochs", "2", "--no-progress", "--out", model)
    assert "2-100-2" not in told
    assert "1-100-2, relu, softmax" in told
    kept = rows_of(typed("predict", model, path, "--keep", "size,kind"))
    assert list(kept[0]) == ["size", "kind", "predicted kind"]
    assert [row["kind"] for row in kept] == list(kinds)
    assert "--interval: expected a model of a quantity" in typed.refused("predict", model, path, "--interval", "0.9")
    assert "--sep: belongs to models of tables" in typed.refused("predict", model, path, "--sep", ";")
    assert "--decimal: belongs to models of tables" in typed.refused("evaluate", model, path, "--decimal", ",")
    assert "--keep: digits has no columns" in typed.refused("predict", model, "digits", "--keep", "size")


# -- Ctrl-C -----------------------------------------------------------------------------------------------------


def test_a_packed_table_is_read_as_it_is_unpacked(tmp_path, rng, typed):
    sizes, kinds = sizes_and_kinds(rng)
    path = write(tmp_path / "t.csv", ["size", "kind"], zip(sizes, kinds, strict=True))
    packed = tmp_path / "T.CSV.GZ"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for source, name in ((path, "model"), (packed, "other")):
        typed("train", "--plain", source, "--target", "kind", "--epochs", 2, "--no-progress", "--out", tmp_path / name)
    expected = typed("predict", tmp_path / "model", path, "--proba")
    assert typed("predict", tmp_path / "other", packed, "--proba") == expected
    assert typed("evaluate", tmp_path / "model", packed) == typed("evaluate", tmp_path / "model", path)


def test_ctrl_c_before_the_later_networks_says_how_many_are_trained(tmp_path, rng, capsys, monkeypatch):
    @contextmanager
    def bar(*arguments):
        yield lambda event: signal.raise_signal(signal.SIGINT) if event.epoch == 2 else None

    monkeypatch.setattr("deltaprop.cli.train_table.members_bar", bar)
    sizes, kinds = sizes_and_kinds(rng)
    path = write(tmp_path / "t.csv", ["size", "kind"], zip(sizes, kinds, strict=True))
    assert run(["train", str(path), "--members", "16", "--hidden", "8", "--no-progress"]) == 130
    shown = capsys.readouterr().out
    assert "training    16 networks" in shown
    assert "trained     8 of 16 networks in " in shown


def test_a_column_that_says_no_numbers_is_refused_by_the_name_of_the_option(tmp_path, rng, capsys):
    sizes, kinds = sizes_and_kinds(rng)
    path = write(tmp_path / "t.csv", ["kind", "size"], zip(kinds, sizes, strict=True))
    assert run(["train", str(path), "--numerical", "kind", "--no-progress"]) == 2
    assert "error: --numerical: expected numbers in column 'kind'" in capsys.readouterr().err


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
    assert shown.err == "deltaprop: interrupted\n"
    assert "accuracy" in shown.out
    assert "epochs 3, the best" in shown.out
    assert "go on       the same command trains from the start again" in shown.out
    if saved:
        assert f"model       {model} (training was ended early" in shown.out
        check_round_trip(typed, model, path, "kind", kinds)
    else:
        assert "model       not kept: with --out FILE" in shown.out
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_while_the_model_is_saved_waits_for_it(tmp_path, rng, typed, capsys, monkeypatch):
    """Importances, which the file holds, are computed after training, and may take long."""

    def importances(*arguments):
        signal.raise_signal(signal.SIGINT)
        return {"size": 0.5}

    monkeypatch.setattr("deltaprop.tabular.estimator.permutation_importances", importances)
    sizes, kinds = sizes_and_kinds(rng)
    path, model = write(tmp_path / "t.csv", ["size", "kind"], zip(sizes, kinds, strict=True)), tmp_path / "model"
    assert run(["train", str(path), *FAST, "--out", str(model)]) == 130
    shown = capsys.readouterr()
    assert f"model       {model}\n" in shown.out
    assert "ended early" not in shown.out
    check_round_trip(typed, model, path, "kind", kinds)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
