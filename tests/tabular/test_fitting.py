"""Tables and targets of any kind are fitted, and few rows, many classes and weights do as they should."""

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score
from small_tables import QUICK, QuickClassifier, QuickRegressor, two_classes

pytest.importorskip("pandas", reason="tables of this library are fitted")
pytest.importorskip("polars", reason="tables of this library are fitted")
pytest.importorskip("pyarrow", reason="tables of this library are fitted")

import pandas as pd
import polars as pl
import pyarrow as pa

# -- what is passed -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", [dict, pd.DataFrame, pl.DataFrame, pa.table])
def test_the_target_is_a_column_or_is_passed_by_itself(library: Any) -> None:
    table, y = two_classes()
    whole = library(table | {"answer": y.tolist()})
    by_name = QuickClassifier(**QUICK).fit(whole, "answer")
    apart = QuickClassifier(**QUICK).fit(library(table), y)
    assert by_name.target_name_ == "answer"
    assert apart.target_name_ == "target"
    assert list(by_name.feature_names_in_) == list(apart.feature_names_in_) == ["useful", "noise", "text"]
    # The target may still be there when new rows are predicted; columns may have another order, gaps and new levels.
    probabilities = apart.predict_proba(library(table))
    np.testing.assert_array_equal(by_name.predict_proba(whole), probabilities)
    turned = {name: table[name] for name in ("text", "noise", "useful")}
    np.testing.assert_array_equal(by_name.predict_proba(library(turned)), probabilities)
    assert by_name.score(whole, "answer") == apart.score(library(table), y) > 0.9
    row = library({"text": ["never seen"], "noise": [float("nan")], "useful": [2.0]})
    assert by_name.predict(row).tolist() == ["yes"]


def test_rows_may_be_dicts() -> None:
    table, y = two_classes()
    labels = (y == "yes").astype(int).tolist()
    rows = [
        dict(zip(("useful", "noise", "text", "answer"), row, strict=True))
        for row in zip(*table.values(), labels, strict=True)
    ]
    by_rows, by_columns = (QuickClassifier(**QUICK).fit(X, "answer") for X in (rows, table | {"answer": labels}))
    assert by_rows.classes_.tolist() == by_columns.classes_.tolist() == [0, 1]
    assert by_rows.feature_names_in_.tolist() == ["useful", "noise", "text"]
    probabilities = by_columns.predict_proba(table)
    np.testing.assert_array_equal(by_rows.predict_proba(rows), probabilities)
    np.testing.assert_array_equal(by_rows.predict_proba(tuple(rows[3:4])), probabilities[3:4])
    numbered = [dict(enumerate(row.values())) for row in rows]  # names that are no text
    np.testing.assert_array_equal(QuickClassifier(**QUICK).fit(numbered, "3").predict_proba(numbered), probabilities)
    # A cell that a row lacks is a gap.
    without = [{"text": "never seen", "useful": 2.0}, {"noise": 0.0}]
    gaps = {"useful": [2.0, None], "noise": [None, 0.0], "text": ["never seen", None]}
    np.testing.assert_array_equal(by_rows.predict_proba(without), by_rows.predict_proba(gaps))
    with pytest.raises(ValueError, match="'noise', 'text' are missing; where a value is not known, put a gap"):
        by_rows.predict([{"useful": 1.0}])


@pytest.mark.parametrize(
    "labels",
    [
        pd.Series([3, 1] * 20, dtype="category"),
        pd.Series(["3", "1"] * 20),
        pd.Series([1.0, 2.0] * 20),
        pd.Series([True, False] * 20, dtype="boolean"),
        pl.Series(["3", "1"] * 20),
    ],
    ids=lambda labels: f"{type(labels).__module__}-{labels.dtype}",
)
def test_labels_are_alike_as_a_column_and_by_themselves(labels: Any) -> None:
    columns = {"a": np.arange(40.0), "y": labels}
    tables = [columns, pl.DataFrame(columns) if isinstance(labels, pl.Series) else pd.DataFrame(columns)]
    classes = QuickClassifier(**QUICK).fit({"a": columns["a"]}, labels).classes_
    for table in tables:
        found = QuickClassifier(**QUICK).fit(table, "y").classes_
        assert found.dtype == classes.dtype
        assert found.tolist() == classes.tolist()


def test_a_series_gives_the_target_its_name() -> None:
    table, y = two_classes()
    frame = pd.DataFrame(table).assign(answer=y)
    model = QuickClassifier(**QUICK).fit(frame.drop(columns="answer"), frame["answer"])
    assert model.target_name_ == "answer"
    model.predict(frame)  # warnings are errors here


def test_a_target_that_is_not_there() -> None:
    table, _ = two_classes()
    with pytest.raises(ValueError, match="y: no column 'answer'; the columns are 'useful', 'noise', 'text'"):
        QuickClassifier(**QUICK).fit(table, "answer")
    with pytest.raises(ValueError, match="X: expected a column besides the target 'text', got no other"):
        QuickClassifier(**QUICK).fit({"text": table["text"]}, "text")


def test_an_array_is_scored_by_place() -> None:
    table, y = two_classes()
    numbers = np.array([table["useful"], table["noise"]]).T
    for model, truth in ((QuickClassifier(**QUICK), y), (QuickRegressor(**QUICK), table["useful"])):
        model.fit(pd.DataFrame(numbers, columns=["b", "a"]), truth)
        assert model.score(numbers, truth) == model.score({"a": numbers[:, 1], "b": numbers[:, 0]}, truth)
        with pytest.raises(ValueError, match=r"X has 1 features, but Quick.* is expecting 2"):
            model.score(numbers[:, :1], truth)
        with pytest.raises(NotFittedError):
            type(model)().score(numbers, truth)


def test_columns_that_are_missing_or_new() -> None:
    table, y = two_classes()
    model = QuickClassifier(**QUICK).fit(table, y)
    with pytest.raises(
        ValueError, match="X: expected the columns that the model predicts from, but 'noise' is missing"
    ):
        model.predict({"useful": [1.0], "text": ["a"]})
    with pytest.raises(ValueError, match="but 'noise', 'text' are missing"):
        model.predict({"useful": [1.0]})
    with pytest.warns(UserWarning, match="X: 'more' is not a column of the model, and left out"):
        model.predict(table | {"more": y.tolist()})
    # Where either has no names, columns are taken by their places.
    as_array = np.array([table["useful"], table["noise"], table["text"]], object).T
    np.testing.assert_array_equal(model.predict_proba(as_array), model.predict_proba(table))
    with pytest.raises(ValueError, match="X has 2 features, but QuickClassifier is expecting 3 features as input"):
        model.predict(as_array[:, :2])


def test_columns_that_were_left_out_need_not_be_there() -> None:
    table, y = two_classes()
    whole = {"id": np.arange(len(y)), "always": ["same"] * len(y)} | table
    model = QuickClassifier(**QUICK, drop=["id"]).fit(whole, y)
    assert model.n_features_in_ == 5
    probabilities = model.predict_proba(whole)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one of the columns may be there, too
        np.testing.assert_array_equal(model.predict_proba(table), probabilities)
        np.testing.assert_array_equal(model.predict_proba(table | {"id": ["other"] * len(y)}), probabilities)
        assert model.score(table, y) == model.score(whole, y)
    # By their places, there is no telling which is which.
    with pytest.raises(ValueError, match="X has 3 features, but QuickClassifier is expecting 5 features as input"):
        model.predict(np.array([table["useful"], table["noise"], table["text"]], object).T)


def test_a_second_fit_forgets_the_first() -> None:
    table, y = two_classes()
    model = QuickClassifier(**QUICK).fit(table, y)
    numbers = np.array([table["useful"], table["useful"]]).T
    model.fit(numbers, y)
    assert model.n_features_in_ == 2
    assert not hasattr(model, "feature_names_in_")
    assert model.target_name_ == "target"
    assert [role.role for role in model.explain_columns()] == ["number", "number"]


@pytest.mark.parametrize("bad", [{"n_members": 0}, {"drop": ["useful", "noise", "text"]}, {"backend": "none"}])
def test_a_fit_that_fails_leaves_the_one_before_whole(bad: dict[str, Any]) -> None:
    table, y = two_classes()
    model = QuickClassifier(**QUICK).fit(table, y)
    before = model.predict(table)
    with pytest.raises(ValueError, match=next(iter(bad))):
        model.set_params(**bad).fit(table, np.where(y == "yes", "other", "another"))
    assert model.classes_.tolist() == ["no", "yes"]
    np.testing.assert_array_equal(model.predict(table), before)


def test_fields_of_a_structured_array_are_found_by_their_names() -> None:
    table, y = two_classes()
    fields = {"a": table["useful"], "b": 100 * table["useful"] ** 2}
    X = np.zeros(len(y), [("a", np.float64), ("b", np.float64)])
    turned = np.zeros(len(y), [("b", np.float64), ("a", np.float64)])
    for name, values in fields.items():
        X[name] = turned[name] = values
    model = QuickClassifier(**QUICK).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(turned), model.predict_proba(fields))


# -- few rows, many classes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [1, 3, 8, 20])
@pytest.mark.parametrize("sizes", [[1, 1], [2, 2, 2], [5, 1], [30, 2, 1]])
def test_few_rows_of_a_class(members: int, sizes: list[int]) -> None:
    labels = np.repeat(["a", "b", "c"][: len(sizes)], sizes)
    X = np.arange(len(labels), dtype=float)[:, np.newaxis]
    model = QuickClassifier(**QUICK | {"n_members": members}).fit(X, labels)
    probabilities = model.predict_proba(X)
    assert probabilities.shape == (len(labels), len(sizes))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    seen = ~np.isnan(model.oof_predictions_).any(axis=1)
    folds = min(8, len(labels))
    assert seen.all() if members >= folds else seen.sum() < len(labels)
    assert 0 <= model.oof_score_ <= 1


@pytest.mark.filterwarnings("ignore:The number of unique classes is greater")
def test_three_hundred_classes() -> None:
    labels = np.tile(np.arange(300), 5)
    X = np.array([labels // 20, labels % 20], float).T + np.random.default_rng(0).normal(0, 0.1, (1500, 2))
    model = QuickClassifier(**QUICK | {"hidden_layer_sizes": 64}).fit(X, labels)
    assert model.predict_proba(X[:3]).shape == (3, 300)
    assert model.score(X, labels) > 30 / 300


def test_no_hidden_layer() -> None:
    table, y = two_classes()
    model = QuickClassifier(**QUICK | {"hidden_layer_sizes": ()}).fit(table, y)
    assert model.stack_.layer_sizes[1:] == (2,)
    assert model.score(table, y) > 0.9


def test_one_class_and_one_row_are_refused() -> None:
    with pytest.raises(ValueError, match="y: expected at least two classes, got one class, 'a'"):
        QuickClassifier(**QUICK).fit([[1.0], [2.0]], ["a", "a"])
    for model, y in ((QuickClassifier(**QUICK), ["a"]), (QuickRegressor(**QUICK), [1.0])):
        with pytest.raises(ValueError, match="X: expected at least 2 rows, got 1 sample"):
            model.fit([[1.0]], y)


def test_columns_that_say_nothing_are_refused_with_the_reasons() -> None:
    with pytest.raises(ValueError, match=r"X: expected a column that says something .* \(a: .*; b: .*\)"):
        QuickRegressor(**QUICK).fit({"a": [1.0] * 4, "b": [None] * 4}, [1.0, 2, 3, 4])


def test_a_constant_quantity_is_predicted() -> None:
    X = np.arange(30.0)[:, np.newaxis]
    model = QuickRegressor(**QUICK).fit(X, np.full(30, 0.1))
    values, intervals = model.predict(X, return_interval=0.5)
    np.testing.assert_array_equal(values, 0.1)
    np.testing.assert_array_equal(intervals, 0.1)


@pytest.mark.parametrize("unit", [1e200, 1e-200])
def test_quantities_in_any_unit(unit: float) -> None:
    table, _ = two_classes()
    y = np.round(table["useful"], 3)
    one, other = (QuickRegressor(**QUICK).fit(table, factor * y) for factor in (1.0, unit))
    np.testing.assert_allclose(other.predict(table) / unit, one.predict(table), atol=0.02)
    assert other.oof_score_ == pytest.approx(one.oof_score_, abs=0.02)
    np.testing.assert_allclose(other.feature_importances_, one.feature_importances_, atol=0.02)


@pytest.mark.parametrize("rows", [2, 3, 7])
def test_few_quantities(rows: int) -> None:
    X = np.arange(rows, dtype=float)[:, np.newaxis]
    model = QuickRegressor(**QUICK | {"n_members": 8}).fit(X, 3 * X[:, 0])
    values = model.predict(X)
    assert ((values >= 0) & (values <= 3 * (rows - 1))).all()
    assert not np.isnan(model.oof_predictions_).any()


def test_other_backends_learn_the_same(quick_backend: Any) -> None:
    table, y = two_classes(60)
    quick: dict[str, Any] = {"n_members": 1, "hidden_layer_sizes": 4, "random_state": 0}
    here, there = (QuickClassifier(**quick, backend=where).fit(table, y) for where in ("reference", quick_backend))
    np.testing.assert_allclose(there.predict_proba(table), here.predict_proba(table), atol=1e-3)
    np.testing.assert_allclose(there.feature_importances_, here.feature_importances_, atol=1e-3)


# -- weights ------------------------------------------------------------------------------------------------------------


def test_rows_of_weight_0_are_as_if_absent() -> None:
    table, y = two_classes()
    weights = np.where(np.arange(120) % 3 == 0, 0.0, 2.0)
    kept = np.flatnonzero(weights)
    part = {name: np.array(cells, object)[kept].tolist() for name, cells in table.items()}
    with_zeros = QuickClassifier(**QUICK).fit(table, y, weights)
    without = QuickClassifier(**QUICK).fit(part, y[kept])
    np.testing.assert_array_equal(with_zeros.predict_proba(table), without.predict_proba(table))
    np.testing.assert_array_equal(with_zeros.oof_predictions_, without.oof_predictions_)
    with pytest.raises(ValueError, match="expected at least two rows with a weight above 0, got 1"):
        QuickClassifier(**QUICK).fit(table, y, np.eye(120)[0])


def test_weights_that_float32_cannot_hold_are_0() -> None:
    table, y = two_classes()
    weights = np.where(np.arange(len(y)) < 60, 1.0, 1e-60)
    first = {name: column[:60] for name, column in table.items()}
    model = QuickClassifier(n_members=8, hidden_layer_sizes=4, random_state=0).fit(table, y, weights)
    alone = QuickClassifier(n_members=8, hidden_layer_sizes=4, random_state=0).fit(first, y[:60])
    np.testing.assert_array_equal(model.predict_proba(table), alone.predict_proba(table))


def test_a_class_of_weight_0_is_known_and_never_predicted() -> None:
    table, y = two_classes()
    y = np.where(np.arange(120) % 4 == 0, "unsure", y)
    model = QuickClassifier(**QUICK, class_weight={"unsure": 0}).fit(table, y)
    assert model.classes_.tolist() == ["no", "unsure", "yes"]
    assert "unsure" not in model.predict(table)
    assert len(model.oof_predictions_) == 90


def overlapping(rows: int = 800) -> tuple[np.ndarray, np.ndarray]:
    """Make rows of a rare class, 1 of 8, that overlap with the others: P(1) is ½ nowhere but far out."""
    rng = np.random.default_rng(0)
    y = (np.arange(rows) % 8 == 0).astype(int)
    return (y + rng.normal(size=rows))[:, np.newaxis], y


def test_weights_reach_training_and_early_stopping() -> None:
    X, y = overlapping()
    weights = np.where(y == 1, 7.0, 1.0)
    plain = QuickClassifier(**QUICK).fit(X, y)
    for weighted in (
        QuickClassifier(**QUICK).fit(X, y, weights),
        QuickClassifier(**QUICK, class_weight={1: 7.0}).fit(X, y),
        QuickClassifier(**QUICK, class_weight="balanced").fit(X, y),
    ):
        # Half of the weight is of each class, so that predictions are of either about as often.
        assert plain.predict(X).mean() < 0.1
        assert 0.25 < weighted.predict(X).mean() < 0.55
        assert weighted.predict_proba(X)[:, 1] @ weights / weights.sum() == pytest.approx(0.5, abs=0.06)


def test_only_ratios_of_weights_matter() -> None:
    X, y = overlapping(100)
    weights = np.random.default_rng(1).uniform(1, 2, 100)
    one, *others = (
        QuickClassifier(**QUICK).fit(X, y, factor * weights) for factor in (1.0, 1024.0, 2.0**-1000, 2.0**1022)
    )
    for other in others:
        np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))
        assert one.oof_score_ == other.oof_score_


# -- predictions for rows held out --------------------------------------------------------------------------------------


def test_random_labels_cannot_be_foretold() -> None:
    """A member that had been trained on the rows it is asked for would do far better than chance."""
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(1200, 6)), rng.integers(0, 2, 1200)
    model = QuickClassifier(**QUICK | {"n_members": 8, "hidden_layer_sizes": 64}).fit(X, labels)
    assert model.oof_score_ == pytest.approx(0.5, abs=0.05)  # the standard error is 0.014
    regressor = QuickRegressor(**QUICK | {"n_members": 8, "hidden_layer_sizes": 64}).fit(X, rng.normal(size=1200))
    assert regressor.oof_score_ < 0.05


def test_scores_are_those_of_the_predictions() -> None:
    table, y = two_classes()
    weights = np.random.default_rng(0).uniform(1, 3, 120)
    model = QuickClassifier(**QUICK | {"n_members": 3}).fit(table, y, weights)
    seen = ~np.isnan(model.oof_predictions_[:, 0])
    assert seen.sum() == 45  # three of eight folds
    right = model.classes_[model.oof_predictions_[seen].argmax(axis=1)] == y[seen]
    assert model.oof_score_ == pytest.approx(float(right @ weights[seen] / weights[seen].sum()))
    quantity = np.where(y == "yes", 1.0, 0.0) + table["useful"]
    regressor = QuickRegressor(**QUICK | {"n_members": 8}).fit(table, quantity)
    assert regressor.oof_score_ == pytest.approx(r2_score(quantity, regressor.oof_predictions_))


def test_each_row_is_predicted_by_the_member_that_holds_it_out() -> None:
    """Each of 8 members has a fold of its own: its predictions alone are those of that fold."""
    table, _ = two_classes()
    model = QuickRegressor(**QUICK | {"n_members": 8}).fit({"useful": table["useful"]}, table["useful"] ** 2)
    rows = model.encoding_.encode(model._checked_table({"useful": table["useful"]}), np.dtype(np.float32))
    each = np.stack([model._targets.values(network.predict(rows)[:, 0]) for network in model.stack_])
    alike = np.isclose(each, model.oof_predictions_, rtol=1e-5, atol=1e-6)
    assert alike.any(axis=0).all()
    # Each has 15 rows; where the range of the targets ends, several members predict the same.
    inside = (model.oof_predictions_ > model._targets.lowest) & (model.oof_predictions_ < model._targets.highest)
    assert inside.sum() > 60
    assert (alike[:, inside].sum(axis=1) <= 18).all()


# -- files --------------------------------------------------------------------------------------------------------------


def test_a_path_is_read(tmp_path: Any) -> None:
    table, y = two_classes()
    frame = pd.DataFrame(table).assign(answer=np.where(y == "yes", "007", "01"))
    frame.to_csv(tmp_path / "train.csv", index=False)
    frame.drop(columns="answer").to_csv(tmp_path / "new.csv.gz", index=False)
    model = QuickClassifier(**QUICK).fit(str(tmp_path / "train.csv"), "answer")
    assert model.classes_.tolist() == ["007", "01"]
    in_memory = QuickClassifier(**QUICK).fit(frame, "answer")
    np.testing.assert_array_equal(model.predict(tmp_path / "new.csv.gz"), in_memory.predict(frame))
    assert model.score(tmp_path / "train.csv", "answer") == in_memory.score(frame, "answer") > 0.9
    some = pd.DataFrame({"useful": table["useful"], "answer": np.where(y == "yes", "1", "x")})
    some.to_csv(tmp_path / "text.csv", index=False)
    some[some.answer == "1"].to_csv(tmp_path / "numbers.csv", index=False)
    model = QuickClassifier(**QUICK).fit(tmp_path / "text.csv", "answer")
    right = (model.predict(some[["useful"]]) == "1")[some.answer == "1"].mean()
    assert model.score(tmp_path / "numbers.csv", "answer") == pytest.approx(right)
    regressor = QuickRegressor(**QUICK).fit(tmp_path / "train.csv", "useful")
    assert regressor.n_features_in_ == 3
    assert np.isfinite(regressor.score(tmp_path / "train.csv", "useful"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_fit_that_fails_leaves_what_was_fitted(error: type[BaseException]) -> None:
    table, y = two_classes()
    model = QuickClassifier(**QUICK).fit(table, y)
    before = model.predict_proba(table)

    def fail(event: Any) -> bool:
        raise error("in the middle")

    model._callbacks = [fail]
    with pytest.raises(error):
        model.fit({"other": table["noise"]}, np.where(y == "yes", "north", "south"))
    assert model.classes_.tolist() == ["no", "yes"]
    assert list(model.feature_names_in_) == ["useful", "noise", "text"]
    np.testing.assert_array_equal(model.predict_proba(table), before)


def test_predictions_during_a_fit_are_of_the_one_before() -> None:
    table, y = two_classes()
    model = QuickClassifier(**QUICK).fit(table, y)
    before, seen = model.predict(table), list[Any]()
    model._callbacks = [lambda event: bool(seen.append(model.predict(table)))]
    model.fit({"other": table["useful"]}, np.where(y == "yes", "north", "south"))
    assert len(seen) == 12
    assert all((labels == before).all() for labels in seen)
    assert set(model.predict({"other": table["useful"]})) == {"north", "south"}


def test_too_many_members_are_refused_before_their_folds_are_made() -> None:
    table, y = two_classes()
    with pytest.raises(
        ValueError, match=r"'n_members' parameter of QuickClassifier must be an int in the range \[1, 10000\]"
    ):
        QuickClassifier(n_members=10**9).fit(table, y)


def test_weights_beside_which_the_others_vanish() -> None:
    table, y = two_classes()
    quantity = np.where(y == "yes", 1.0, 0.0) + np.arange(120) / 500
    large = np.where(np.arange(120) == 7, 1e30, 1.0)
    predicted = QuickRegressor(**QUICK).fit(table, quantity, large).predict(table)
    assert ((predicted >= quantity.min()) & (predicted <= quantity.max())).all()
    with pytest.raises(ValueError, match="sample_weight: expected at least two rows with a weight above 0, got 1"):
        QuickRegressor(**QUICK).fit(table, quantity, large**10)


def test_masked_targets_and_weights_are_refused() -> None:
    table, y = two_classes()
    masked = np.ma.masked_less(np.arange(120.0), 3)
    for model, arguments, name in (
        (QuickRegressor(**QUICK), (masked,), "y"),
        (QuickClassifier(**QUICK), (np.ma.masked_equal(np.arange(120) % 3, 0),), "y"),
        (QuickClassifier(**QUICK), (y, masked), "sample_weight"),
    ):
        with pytest.raises(ValueError, match=f"^{name}: expected numbers, got an array with masked entries"):
            model.fit(table, *arguments)
