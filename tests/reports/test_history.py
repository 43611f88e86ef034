"""A history is a DataFrame, a dictionary of plain numbers and a table of a notebook, with the numbers it recorded."""

import dataclasses
import json
import sys
from typing import Any

import numpy as np
import pytest
from html_tables import read_html

import deltaprop as dp


@pytest.fixture(scope="module")
def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((40, 3)), rng.integers(0, 2, 40)


@pytest.fixture(scope="module")
def history(data: Any) -> dp.History:
    """Of a training with one metric of numpy's own numbers."""

    def cost(prediction: Any, targets: Any) -> Any:
        return np.float32(prediction[0, 0])

    net = dp.Network([3, 4, 2], loss="categorical_cross_entropy", backend="numpy")
    return net.fit(*data, epochs=4, validation=data, metrics=["accuracy", cost])


def test_a_frame_has_one_row_an_epoch(history: dp.History) -> None:
    pytest.importorskip("pandas")
    frame = history.frame()
    assert (frame.index.name, list(frame.index)) == ("epoch", [1, 2, 3, 4])
    assert list(frame) == ["cost", "validation_cost", "accuracy", "metric_cost", "learning_rate", "seconds"]
    assert frame["metric_cost"].tolist() == history.metrics["cost"]
    assert frame["accuracy"].tolist() == history.metrics["accuracy"]
    for name in ("cost", "validation_cost", "learning_rate", "seconds"):
        assert frame[name].tolist() == getattr(history, name)
    assert set(frame.dtypes) == {np.dtype("float64")}


def test_only_what_was_recorded_is_in_the_frame(data: Any) -> None:
    pytest.importorskip("pandas")
    X, y = data
    full = dp.Network([3, 2], backend="numpy").fit_full_batch(X, y, max_iter=3).frame()
    assert (full.index.name, list(full)) == ("iteration", ["cost", "seconds"])
    assert dp.History().frame().shape == (0, 0)


def test_names_of_metrics_never_hide_a_column() -> None:
    pytest.importorskip("pandas")
    metrics = {"seconds": [1.0], "metric_cost": [2.0], "cost": [3.0], "metric_metric_cost": [4.0]}
    frame = dp.History(cost=[5.0], seconds=[6.0], metrics=metrics).frame()
    assert frame.iloc[0].to_dict() == {
        "cost": 5.0,
        "metric_seconds": 1.0,
        "metric_cost": 2.0,
        "metric_metric_metric_cost": 3.0,
        "metric_metric_cost": 4.0,
        "seconds": 6.0,
    }


def test_a_column_that_ends_early_ends_in_nan() -> None:
    pytest.importorskip("pandas")
    frame = dp.History(cost=[5.0, 4.0], validation_cost=[3.0]).frame()
    assert frame["cost"].tolist() == [5.0, 4.0]
    assert frame["validation_cost"].isna().tolist() == [False, True]


def test_a_missing_pandas_is_named(history: dp.History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"History.frame needs pandas: pip install pandas"):
        history.frame()


def numbers(value: Any) -> list[Any]:
    """Return every leaf of lists and dictionaries."""
    if isinstance(value, dict | list):
        return [leaf for each in (value.values() if isinstance(value, dict) else value) for leaf in numbers(each)]
    return [value]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_history_is_plain_numbers(history: dp.History, data: Any, dtype: str) -> None:
    X, y = data
    options: dict[str, Any] = {"loss": "categorical_cross_entropy", "dtype": dtype, "backend": "numpy"}
    stack = dp.NetworkStack(2, [3, 4, 2], **options)
    net = dp.Network([3, 4, 2], **options)
    stopping = dp.EarlyStopping(2)
    each = [
        history,
        *stack.fit(X, y, epochs=3, validation=data, early_stopping=stopping),
        net.fit(X, y, epochs=3, validation=data, optimizer=dp.SGD(dp.StepDecay(0.1, 1)), early_stopping=stopping),
        net.fit_full_batch(X, y, max_iter=3, validation=data),
    ]
    for one in each:
        written = dataclasses.asdict(one)
        assert {type(leaf) for leaf in numbers(written)} <= {float, int, bool, str, type(None)}
        assert dp.History(**json.loads(json.dumps(written))) == one


def test_a_notebook_shows_the_numbers(history: dp.History) -> None:
    reader = read_html(history._repr_html_())
    facts, rows = reader.tables
    assert facts[0] == ["ended", history.message]
    assert rows[0] == ["epoch", "cost", "validation cost", "accuracy", "metric cost", "learning rate", "seconds"]
    for epoch, row in enumerate(rows[1:]):
        assert row[0] == str(epoch + 1)
        shown = [float(cell) for cell in row[1:]]
        columns = (history.cost, history.validation_cost, *history.metrics.values(), history.learning_rate)
        assert shown[:5] == pytest.approx([column[epoch] for column in columns], rel=5e-6)
    assert len(rows) == 5


def test_a_long_history_shows_its_ends_and_the_best_epoch() -> None:
    costs = [1.0 / (1 + k) for k in range(100)]
    reader = read_html(dp.History(cost=costs, best_epoch=42)._repr_html_())
    rows = reader.tables[1]
    epochs = [row[0] for row in rows[1:]]
    assert epochs == ["1", "2", "3", "4", "5", "…", "42", "…", "96", "97", "98", "99", "100"]
    assert reader.strong == ["42"]
    assert [float(row[1]) for row in rows[1:] if row[0] != "…"] == pytest.approx(
        [costs[int(epoch) - 1] for epoch in epochs if epoch != "…"], rel=5e-6
    )
    eleven = read_html(dp.History(cost=costs[:11])._repr_html_()).tables[0]
    assert [row[0] for row in eleven[1:]] == [str(epoch) for epoch in range(1, 12)]


def test_the_repr_is_one_short_line() -> None:
    nan = float("nan")
    long = dp.History(cost=[9.0] * 999 + [0.125], validation_cost=[nan, *[3.0] * 500, 2.5, *[3.0] * 498])
    assert repr(long) == "<History of 1000 epochs: cost 0.125, best validation cost 2.5 in epoch 502>"
    long.best_epoch, long.diverged = 501, True
    assert repr(long).endswith("in epoch 502, parameters of epoch 501, diverged>")
    assert repr(dp.History(cost=[1 / 3], converged=True)) == "<History of 1 iteration: cost 0.333333>"
    assert repr(dp.History()) == "<History of 0 epochs>"
    assert repr(dp.History(cost=[nan], validation_cost=[nan])) == "<History of 1 epoch: cost nan>"
    assert dataclasses.replace(long) == long
    assert dataclasses.asdict(long)["cost"] == long.cost


def test_names_and_messages_are_text() -> None:
    bad = "<script>alert('&')</script>"
    html = dp.History(cost=[1.0], metrics={bad: [2.0]}, message=bad)._repr_html_()
    facts, rows = read_html(html).tables
    assert facts[0] == ["ended", bad]
    assert rows[0] == ["epoch", "cost", bad]
    assert read_html(dp.History()._repr_html_()).tables == [[["epoch"]]]
