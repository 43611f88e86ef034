"""benches.tabular: errors and ranks by hand, splits without overlap, and a run on a table that comes with scikit-learn."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pandas", reason="benches.tabular needs pandas")

from deltaprop.benches import tabular
from deltaprop.benches.tabular_parts.contestants import as_categorical, with_none
from deltaprop.benches.tabular_parts.summary import measure, normalised, summarise
from deltaprop.benches.tabular_parts.tables import BenchTable, split, tables


def run(table, contestant, error, log_loss, seconds=1.0):
    return {
        "table": table,
        "seed": 0,
        "contestant": contestant,
        "error": error,
        "log_loss": log_loss,
        "seconds": seconds,
    }


RUNS = [
    run("one", "constant", 0.5, 1.0),
    run("one", "a", 0.1, 0.2, 3.0),
    run("one", "b", 0.2, 0.4, 5.0),
    run("two", "constant", 10.0, 10.0),
    run("two", "a", 4.0, 4.0, 1.0),
    run("two", "b", 2.0, 2.0, 2.0),
    run("two", "only here", 3.0, 3.0),
]


def test_the_best_is_0_and_the_constant_1():
    scale = normalised(RUNS, "log_loss")
    assert scale["constant"] == {"one": [1.0], "two": [1.0]}
    assert scale["a"] == {"one": [0.0], "two": [pytest.approx(0.25)]}
    assert scale["b"] == {"one": [pytest.approx(0.25)], "two": [0.0]}


def test_a_summary_has_those_that_were_there_everywhere():
    rows = summarise(RUNS, ["one", "two"])
    assert {row["contestant"] for row in rows} == {"a", "b"}
    a = next(row for row in rows if row["contestant"] == "a")
    assert (a["mean_rank"], a["median_seconds"]) == (1.5, 2.0)
    assert a["normalised_error"] == pytest.approx(0.125)
    assert [row["contestant"] for row in summarise(RUNS, ["two"])] == ["b", "only here", "a"]


def test_log_loss_and_error_by_hand():
    probabilities = np.array([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]])
    found = measure(SimpleNamespace(y_test=np.array([0, 1, 0]), classifies=True), probabilities)
    assert found["error"] == 0
    assert found["log_loss"] == pytest.approx((np.log(2) + np.log(4 / 3)) / 3)
    found = measure(SimpleNamespace(y_test=np.array([1.0, 3.0]), classifies=False), np.array([1.0, 1.0]))
    assert found == {"error": pytest.approx(np.sqrt(2)), "log_loss": pytest.approx(np.sqrt(2))}


def test_no_row_is_trained_on_and_tested():
    import pandas as pd

    table = BenchTable("made", "classification", pd.DataFrame({"x": np.arange(200)}), np.arange(200) % 2)
    data = split(table, 3)
    assert len(data.X) == 160
    assert sorted([*data.X["x"], *data.X_test["x"]]) == list(range(200))
    assert np.bincount(data.y_test).tolist() == [20, 20]


def test_levels_of_the_test_rows_alone_become_gaps():
    import pandas as pd

    X, X_test = pd.DataFrame({"c": ["a", "b", None]}), pd.DataFrame({"c": ["b", "z", None]})
    data: Any = SimpleNamespace(X=X, X_test=X_test)
    _, changed = as_categorical(data)
    assert changed["c"].isna().tolist() == [False, True, True]
    assert with_none(X)["c"].tolist() == ["a", "b", None]


def test_a_folder_of_tables_names_targets_and_tasks(tmp_path):
    (tmp_path / "t.csv").write_text("x,y\n1,no\n2,yes\n")
    (tmp_path / "origins.tsv").write_text("file\ttarget\ttask\nt.csv\ty\tclassification\n")
    first = next(iter(tables(tmp_path)))
    assert (first.name, first.task, first.X["x"].tolist(), first.y.tolist()) == ("t", "classification", [1, 2], [0, 1])


def test_the_command_runs_and_writes(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib")
    monkeypatch.setattr(tabular, "RESULTS", tmp_path)
    names = "deltaprop,HistGradientBoosting,RandomForest,scikit-learn MLP"
    arguments = ["tabular", "--only", "iris", "--splits", "1", "--contestants", names, "--write"]
    monkeypatch.setattr("sys.argv", arguments)
    tabular.main()
    assert "mean rank" in capsys.readouterr().out
    written = json.loads((tmp_path / "tabular.json").read_text())
    assert len(written["runs"]) == 5
    assert {row["contestant"] for row in written["summary"]["all tables"]} == set(names.split(","))
    assert (tmp_path / "tabular.png").stat().st_size > 10_000
