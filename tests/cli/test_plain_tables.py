"""What a table says is kept: labels as they are written, and constants that are no scale."""

from typing import Any

import numpy as np
import pytest

from deltaprop.cli import run
from deltaprop.cli.train_network import scaling
from deltaprop.inputs.files import load_dataset
from deltaprop.inputs.raw_rows import RawRows
from deltaprop.tabular.trained import Trained


def write(path, header, rows):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]))
    return str(path)


@pytest.mark.parametrize("rows", [60, 3000])
def test_a_constant_feature_is_divided_by_one(rows):
    """The standard deviation of 0.1, 0.1, … is about 1e-17 where its mean is rounded."""
    X = np.column_stack([np.full(rows, 0.1), np.linspace(1, 3, rows), np.full(rows, 1e9 / 3)])
    X[::2, 2] = np.nextafter(1e9 / 3, 0)
    offset, spread = scaling(RawRows(X), "standard", common_range=False)
    np.testing.assert_allclose(offset, [0.1, 2.0, 1e9 / 3])
    np.testing.assert_allclose(spread, [1.0, X[:, 1].std(), 1.0])


def test_a_new_value_of_a_constant_feature_stays_small(tmp_path, rng, capsys):
    a = rng.standard_normal(60)
    rows = [(0.1, x, "up" if x > 0 else "down") for x in a]
    table, model = write(tmp_path / "t.csv", "constant,a,y", rows), str(tmp_path / "m")
    assert run(["train", "--plain", table, "--epochs", "1", "--out", model, "--no-progress"]) == 0
    trained = Trained.load(model, "numpy")
    inputs = trained.inputs(np.array([[0.2, 0.0]]))
    assert abs(inputs[0, 0]) == pytest.approx(0.1)  # not 2.5e14, by the rounding error of the mean


def test_labels_stay_as_they_are_written(tmp_path, rng, capsys):
    a = rng.standard_normal(120)
    rows = [(x, "007" if x < -0.5 else "01" if x < 0.5 else "1") for x in a]
    table, model = write(tmp_path / "t.csv", "a,y", rows), str(tmp_path / "m")
    assert run(["train", "--plain", table, "--epochs", "200", "--lr", "0.01", "--out", model, "--no-progress"]) == 0
    assert "(3 classes)" in capsys.readouterr().out
    assert Trained.load(model, "numpy").classes == ["007", "01", "1"]
    new = write(tmp_path / "new.csv", "a", [(-2.0,), (0.0,), (2.0,)])
    assert run(["predict", model, new]) == 0
    assert capsys.readouterr().out == "y\n007\n01\n1\n"
    ones = write(tmp_path / "ones.csv", "a,y", [(2.0, "1"), (3.0, "1"), (-2.0, "1")])  # all are written as usual here
    assert run(["evaluate", model, ones]) == 0
    assert "(2 of 3)" in capsys.readouterr().out
    assert run(["sweep", table, "--grid", "lr=0.001,0.01", "--epochs", "1", "--cv", "2", "--no-progress"]) == 0


def test_whole_numbers_stay_numbers(tmp_path):
    usual = load_dataset(write(tmp_path / "a.csv", "a,y", [(1, "1"), (2, "2"), (3, " 10")]))
    assert usual.y is not None
    assert usual.y.tolist() == [1, 2, 10]
    assert usual.labels is None
    other = load_dataset(write(tmp_path / "b.csv", "a,y", [(1, "1.50"), (2, "2"), (3, " 010")]))
    assert other.y is not None
    assert other.labels is not None
    assert other.y.tolist() == [1.5, 2, 10]  # as quantities
    assert other.labels.tolist() == ["1.50", "2", "010"]  # as labels
    assert load_dataset(write(tmp_path / "c.csv", "a,y", [(1, "x"), (2, "01")])).labels is None


def test_quantities_may_be_written_in_any_way(tmp_path, rng, capsys):
    rows = [(x, f"{1000 * x:.2f}") for x in rng.standard_normal(100)]
    table, model = write(tmp_path / "t.csv", "a,y", rows), str(tmp_path / "m")
    assert run(["train", "--plain", table, "--epochs", "1", "--out", model, "--no-progress"]) == 0
    assert "(regression)" in capsys.readouterr().out
    assert run(["evaluate", model, table]) == 0


def test_labels_in_parquet(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"a": [1.0, 2.0], "y": ["007", "1"]}), tmp_path / "t.parquet")
    data = load_dataset(str(tmp_path / "t.parquet"))
    assert data.labels is not None
    assert data.labels.tolist() == ["007", "1"]


def test_standard_input(tmp_path, rng, capsys, monkeypatch):
    """The same network as from the file, and the same predictions and report."""
    rows = [(x, "up" if x > 0 else "down", round(2 * x)) for x in rng.standard_normal(80).round(3)]
    path = write(tmp_path / "t.csv", "a,y,b", rows)
    said: list[list[Any]] = []

    def typed(*arguments):
        with open(path) as file:  # noqa: PTH123
            monkeypatch.setattr("sys.stdin", file)
            status = run(list(arguments))
        shown = capsys.readouterr()
        return status, shown.out or shown.err

    for source in (path, "-"):
        model = str(tmp_path / f"model{len(said)}")
        options = ["--plain", "--target", "y", "--epochs", "5", "--no-progress", "--out", model]
        status, told = typed("train", source, *options)
        assert status == 0
        assert ("data        standard input: " in told) == (source == "-")
        said.append([Trained.load(model, "numpy").network.parameters.tolist(), typed("predict", model, source)])
        said[-1].append(typed("evaluate", model, source))
    assert said[0] == said[1]
    assert [shown[0] for shown in said[0][1:]] == [0, 0]
    assert typed("predict", model, "-", "--keep", "b") == (
        2,
        "deltaprop: error: --keep: expected a file, which a single network reads twice, got standard input\n",
    )
    status, told = typed("sweep", "-", "--grid", "lr=0.1")
    assert status == 2
    assert "data: expected a file" in told
    status, told = typed("train", "-", "--plain", "--target", "z")
    assert status == 2
    assert "standard input: no column 'z'; the columns are 'a', 'y', 'b'" in told
