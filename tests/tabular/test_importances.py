"""Importances: a column whose cells matter, one that says nothing, two that say the same, and one that is left out."""

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from small_tables import QUICK, QuickClassifier, QuickRegressor

import deltaprop as dp
from deltaprop.backends.choices import LossName
from deltaprop.inputs.encoded_rows import Binned, Copied, EncodedRows, InputEncoding
from deltaprop.tabular.importances import LEAST_ROWS, MOST_ROWS, HeldOutRows, draw_rows, permutation_importances


def made(rows: int = 600) -> tuple[dict[str, Any], np.ndarray]:
    rng = np.random.default_rng(0)
    useful, twin = rng.normal(size=rows), rng.choice(["a", "b"], rows)
    table = {
        "useless": rng.normal(size=rows),
        "twin": twin.tolist(),
        "useful": useful,
        "same": [1.0] * rows,
        "twin again": twin.tolist(),
    }
    return table, useful + 0.5 * (twin == "a")


@pytest.mark.parametrize("classes", [False, True])
def test_a_useful_column_matters_most(classes: bool) -> None:
    table, y = made()
    model = QuickClassifier(**QUICK) if classes else QuickRegressor(**QUICK)
    model.fit(table, np.where(y > 0, "high", "low") if classes else y)
    names = list(model.feature_names_in_)
    values = dict(zip(names, model.feature_importances_, strict=True))
    assert names == list(table)
    assert max(values, key=values.__getitem__) == "useful"
    assert values["useful"] > 0.3
    assert abs(values["useless"]) < 0.05 * values["useful"]
    assert 0 < values["twin"] < 0.5 * values["useful"]
    assert 0 < values["twin again"] < 0.5 * values["useful"]
    assert values["same"] == 0.0
    again = clone(model).fit(table, np.where(y > 0, "high", "low") if classes else y)
    np.testing.assert_array_equal(again.feature_importances_, model.feature_importances_)


def test_they_belong_to_the_latest_fit() -> None:
    table, y = made(200)
    model = QuickRegressor(**QUICK).fit(table, y)
    first = model.feature_importances_
    model.fit({"other": table["useless"], "useful": table["useful"]}, y)
    assert len(first) == 5
    assert len(model.feature_importances_) == 2


def test_against_a_loop_over_rows() -> None:
    """One member that computes 2·x₀ + x₁, squared error: E(h(permuted) − y)² is known for every pair of rows."""
    rng = np.random.default_rng(1)
    stored: np.ndarray = rng.normal(size=(400, 3)).astype(np.float32)
    edges = np.array([-1.0, 0.0, 1.0])
    rows = EncodedRows(stored, InputEncoding(3, [Copied(0), Copied(1), Copied(2), Binned(1, edges)]))
    stack = dp.NetworkStack(2, [5, 1], loss="squared_error", dtype="float32", backend="numpy")
    for network in stack:
        network.thetas = [np.array([[0.0, 2.0, 0.0, 0.0, 1.0, 0.0]])]
    y = 2 * stored[:, 0] + np.clip(stored[:, 1] + 1, 0, 1) - 0.5
    weights = rng.uniform(1, 2, 400)
    held_out = draw_rows(rows, y, weights, [np.arange(0, 400, 2), np.arange(1, 400, 2)], np.array([0.7, 0.3]), seed=0)
    columns = {"first": np.array([0]), "second": np.array([1]), "third": np.array([2])}
    found = permutation_importances(stack, held_out, columns, lambda outputs, targets: (outputs[:, 0] - targets) ** 2)
    parts: dict[str, np.ndarray] = {
        "first": 2 * stored[:, 0],
        "second": np.clip(stored[:, 1] + 1, 0, 1),
        "third": np.zeros(400),
    }
    for name, part in parts.items():
        # The mean over all ways to give a row the cell of another row of its member.
        total = 0.0
        for share, own in ((0.7, np.arange(0, 400, 2)), (0.3, np.arange(1, 400, 2))):
            total += share * sum(weights[row] * np.mean((part[own] - part[row]) ** 2) for row in own)
        counted = 0.7 * weights[::2].sum() + 0.3 * weights[1::2].sum()
        assert found[name] == pytest.approx(total / counted, rel=0.15, abs=1e-6)


def test_few_rows_are_kept_and_each_with_a_member_that_has_not_seen_it() -> None:
    rows = EncodedRows(np.arange(9000.0)[:, None], InputEncoding(1, [Copied(0)]))
    own = [np.arange(0, 4000), np.arange(4000, 4010), np.arange(5000, 9000)]
    held_out = draw_rows(rows, np.arange(9000), np.ones(9000), own, np.full(3, 1 / 3), seed=3)
    assert np.bincount(held_out.members).tolist() == [MOST_ROWS // 3, 10, MOST_ROWS // 3]
    for k, each in enumerate(own):
        mine = held_out.members == k
        assert np.isin(held_out.targets[mine], each).all()
        np.testing.assert_array_equal(held_out.rows.stored[mine, 0], held_out.targets[mine])
        assert len(set(held_out.targets[mine].tolist())) == mine.sum()


def test_the_picture_has_the_largest_bar_on_top() -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    table, y = made(200)
    model = QuickRegressor(**QUICK).fit(table | {"x" * 60: table["useless"]}, y)
    figure = model.plot_importances(top=3)
    (axis,) = figure.axes
    labels = [text.get_text() for text in axis.get_yticklabels()]
    widths = [bar.get_width() for bar in axis.patches]
    assert len(widths) == 3
    assert labels[0] == "useful"
    assert widths == sorted(model.feature_importances_)[:-4:-1]
    low, high = axis.get_ylim()
    assert low > high  # the first bar, at 0, is on top
    assert "3 of 6 columns" in axis.get_title()
    every = model.plot_importances(top=99)
    assert max(len(text.get_text()) for text in every.axes[0].get_yticklabels()) == 40
    plt.close("all")
    with pytest.raises(ValueError, match="top: expected a whole number of at least 1, got 0"):
        model.plot_importances(0)


def test_there_are_none_before_fit() -> None:
    for model in (dp.TabularClassifier(), dp.TabularRegressor()):
        with pytest.raises(NotFittedError):
            model.plot_importances()
        with pytest.raises(NotFittedError):
            _ = model.feature_importances_


@pytest.mark.parametrize("together", [1, 5000, 10**9])
def test_how_many_columns_are_predicted_together_changes_nothing(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, y = made(200)
    model, other = (QuickRegressor(**QUICK).fit(table, y) for _ in range(2))
    expected = other.feature_importances_
    monkeypatch.setattr("deltaprop.tabular.importances.TOGETHER", together)
    np.testing.assert_allclose(model.feature_importances_, expected, rtol=1e-4, atol=1e-6)


def test_outputs_that_are_computed_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten columns with 5 · 100 permuted cells each: with two outputs all together, with a hundred two by two."""
    monkeypatch.setattr("deltaprop.tabular.importances.TOGETHER", 100_000)
    stored = np.random.default_rng(0).normal(size=(100, 10)).astype(np.float32)
    rows = EncodedRows(stored, InputEncoding(10, [Copied(source) for source in range(10)]))
    held_out = HeldOutRows(rows, np.zeros(100), np.ones(100), np.zeros(100, np.int64), 0)
    for outputs, columns_together in ((2, 10), (100, 2)):
        stack = dp.NetworkStack(1, [10, outputs], loss="squared_error", dtype="float32", backend="numpy")
        predicted: list[int] = []

        def loss(outputs: np.ndarray, targets: np.ndarray, predicted: list[int] = predicted) -> np.ndarray:
            predicted.append(len(outputs))
            return targets

        permutation_importances(stack, held_out, {f"x{j}": np.array([j]) for j in range(10)}, loss)
        of_all_rows, *groups = predicted
        assert of_all_rows == 100
        assert len(groups) == 10 / columns_together
        assert max(groups) <= 500 * columns_together


@pytest.mark.parametrize("count", [4, 40])
@pytest.mark.parametrize("backend", ["numpy", "auto"])
def test_against_predictions_of_whole_permuted_tables(backend: Any, count: int) -> None:
    """Columns of numbers, of a rare level, and of one level; of three members one holds out no row."""
    rng = np.random.default_rng(2)
    stored = rng.normal(size=(90, count)).astype(np.float32)
    stored[:, 1], stored[:, 2] = rng.random(90) < 0.05, 1.0
    rows = EncodedRows(stored, InputEncoding(count, [Copied(source) for source in range(count)]))
    loss: LossName = "squared_error"
    sizes = [count, 4, 2]
    stack = dp.NetworkStack(3, sizes, hidden_activation="silu", loss=loss, dtype="float32", backend=backend)
    stack.parameters = rng.normal(size=stack.parameters.shape)
    members, y, weights = rng.permutation(np.repeat([0, 2], 45)), rng.normal(size=90), rng.uniform(1, 2, 90)
    columns = {f"x{j}": np.array([j]) for j in range(3, count)} | {"x0": np.array([0, 3]), "rare": np.array([1])}
    columns["constant"] = np.array([2])
    held_out = HeldOutRows(rows, y, weights, members, 5)
    found = permutation_importances(stack, held_out, columns, lambda outputs, targets: (outputs[:, 0] - targets) ** 2)
    rng = np.random.default_rng(5)
    expected = dict.fromkeys(columns, 0.0)
    repeats = 5 if count == 4 else 2
    for k in (0, 2):
        own = np.flatnonzero(members == k)
        for order in [rng.permutation(45) for _ in range(repeats)]:
            for name, sources in columns.items():
                permuted = stored[own]
                permuted[:, sources] = stored[own[order]][:, sources]
                for part, sign in ((permuted, 1), (stored[own], -1)):
                    errors = (np.asarray(stack[k].predict(part), np.float64)[:, 0] - y[own]) ** 2
                    expected[name] += sign * float(weights[own] @ errors) / weights.sum() / repeats
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-6)
    assert found["constant"] == 0.0
    assert found["rare"] != 0.0


def test_in_little_time_fewer_rows_are_predicted() -> None:
    """Of 2 x + z, with both from ±1: a permutation changes half of the rows, the squared error by 16 and by 4 there."""
    rng = np.random.default_rng(0)
    stored = rng.choice([-1.0, 1.0], (1000, 2)).astype(np.float32)
    rows = EncodedRows(stored, InputEncoding(2, [Copied(0), Copied(1)]))
    stack = dp.NetworkStack(1, [2, 1], loss="squared_error", dtype="float32", backend="numpy")
    stack[0].thetas = [np.array([[0.0, 2.0, 1.0]])]
    y = stored.astype(float) @ [2, 1]
    held_out = HeldOutRows(rows, y, np.ones(1000), np.zeros(1000, np.int64), 1)
    predicted = []

    def loss(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        predicted.append(len(outputs))
        errors: np.ndarray = (outputs[:, 0] - targets) ** 2
        return errors

    for seconds, most in ((1e-9, LEAST_ROWS), (1e9, 5 * 1000)):
        predicted.clear()
        found = permutation_importances(stack, held_out, {"x": np.array([0]), "z": np.array([1])}, loss, seconds)
        assert predicted[0] == 1000
        assert 0.6 * most < sum(predicted[1:]) < 1.4 * most  # half of the rows of both columns
        assert found["x"] == pytest.approx(8.0, rel=0.3)
        assert found["z"] == pytest.approx(2.0, rel=0.3)


def test_a_time_limit_holds_for_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    table, y = made(200)
    given: list[Any] = []

    def importances(*arguments: Any) -> dict[str, float]:
        given.append(arguments[-1])
        return {}

    monkeypatch.setattr("deltaprop.tabular.estimator.permutation_importances", importances)
    for limit in (None, 2.0):
        model = QuickRegressor(**QUICK, time_limit=limit).fit(table, y)
        np.testing.assert_array_equal(model.feature_importances_, np.zeros(5))
    assert given == [None, 0.1]
