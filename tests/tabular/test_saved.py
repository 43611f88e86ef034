"""A tabular estimator that was saved predicts, explains and scores as it did."""

import copy
import json
import pickle
from dataclasses import fields

import joblib
import numpy as np
import pytest
from made_tables import QUICK, fitted_classifier, fitted_regressor, made_labels, made_quantities, made_table
from msgspec import convert
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import deltaprop as dp
from deltaprop.cli import run
from deltaprop.files.model_file import read_model
from deltaprop.tabular.category_encoding import CategoryEncoding
from deltaprop.tabular.saved_encoding import encoding_from_file, encoding_to_file
from deltaprop.tabular.saved_schema import Categories, Numbers
from deltaprop.tabular.table_encoding import ColumnEncoding, TableEncoding

NEW = made_table(70, seed=9) | {"colour": ["red", "violet", None, *["blue"] * 67]}


def same(one, other):
    """Check that two fitted estimators say the same of everything."""
    assert type(one) is type(other)
    assert np.array_equal(one.predict(NEW), other.predict(NEW))
    assert one.predict(NEW).dtype == other.predict(NEW).dtype
    assert list(one.explain_columns()) == list(other.explain_columns())
    assert str(one.explain_columns()) == str(other.explain_columns())
    assert one.feature_names_in_.tolist() == other.feature_names_in_.tolist()
    assert one.n_features_in_ == other.n_features_in_ == 9
    assert one.oof_score_ == other.oof_score_
    assert one.target_name_ == other.target_name_
    assert np.array_equal(one.feature_importances_, other.feature_importances_)
    if isinstance(one, dp.TabularClassifier):
        assert np.array_equal(one.predict_proba(NEW), other.predict_proba(NEW))
        assert one.classes_.dtype == other.classes_.dtype
        assert one.classes_.tolist() == other.classes_.tolist()
        assert one.temperature_ == other.temperature_
        labels = made_labels(NEW, one.classes_)
        assert one.score(NEW, labels) == other.score(NEW, labels)
    else:
        assert np.array_equal(one.predict(NEW, 0.8)[1], other.predict(NEW, 0.8)[1])
        assert one.score(NEW, made_quantities(NEW)) == other.score(NEW, made_quantities(NEW))


def back(model, path):
    model.save(path)
    return dp.load(path, backend="numpy")


def test_a_classifier_comes_back(tmp_path):
    model = fitted_classifier(class_weight={"no": 2.0, "perhaps": 1, "yes": 1}, drop=["rooms"], label_smoothing=0.1)
    assert any(getattr(column.encoding, "rare", None) for column in model.encoding_.columns)
    loaded = back(model, tmp_path / "model")
    same(model, loaded)
    expected = model.get_params() | {"drop": ("rooms",)}
    assert loaded.get_params() == expected


def test_a_regressor_comes_back(tmp_path):
    model = fitted_regressor(time_limit=60.0, categorical=np.array(["rooms"]))
    loaded = back(model, tmp_path / "model")
    same(model, loaded)
    assert loaded.get_params() == model.get_params() | {"categorical": ("rooms",)}
    interval = loaded.predict(NEW, return_interval=0.9)[1]
    assert (interval[:, 0] < interval[:, 1]).all()


def test_members_that_count_differently_come_back(tmp_path):
    model = fitted_regressor(n_members=16)
    assert np.ptp(model.member_weights_) > 0.01
    loaded = back(model, tmp_path / "model")
    same(model, loaded)
    assert loaded.member_weights_.tolist() == model.member_weights_.tolist()


@pytest.mark.parametrize(
    "labels",
    [
        np.array([False, True]),
        np.array([3, 5, 90], np.int8),
        np.array([-1, 2**60], np.int64),
        np.array([1.0, 2.0, 7.0], np.float32),
        np.array(["007", "01", "x"]),
        np.array(["a", "ß", "語"], object),
    ],
    ids=lambda labels: f"{labels.dtype}",
)
def test_labels_are_as_they_were(tmp_path, labels):
    model = fitted_classifier()
    model.classes_ = labels if len(labels) == 3 else model.classes_
    if len(labels) == 2:
        table = made_table(80)
        model = dp.TabularClassifier(**QUICK).fit(table, labels[np.asarray(table["sold"]).astype(int)])
    loaded = back(model, tmp_path / "model")
    same(model, loaded)
    assert [type(label) for label in loaded.classes_.tolist()] == [type(label) for label in labels.tolist()]


def test_columns_without_names_come_back_by_place(tmp_path, capsys):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 3)), rng.standard_normal(60)
    model = dp.TabularRegressor(**QUICK).fit(X, y)
    loaded = back(model, tmp_path / "model")
    assert np.array_equal(loaded.predict(X[:5]), model.predict(X[:5]))
    assert not hasattr(loaded, "feature_names_in_")
    with pytest.raises(ValueError, match="X has 2 features, but TabularRegressor is expecting 3"):
        loaded.predict(X[:, :2])
    (tmp_path / "rows.csv").write_text("a,b,c\n1,2,3\n")
    assert run(["predict", str(tmp_path / "model"), str(tmp_path / "rows.csv")]) == 2
    assert "model: expected a model that was fitted to columns with names" in capsys.readouterr().err


def test_the_target_in_the_table_is_known_by_name(tmp_path):
    table = made_table(80) | {"price": made_quantities(made_table(80))}
    loaded = back(dp.TabularRegressor(**QUICK).fit(table, "price"), tmp_path / "model")
    loaded.predict(table)  # without a warning of a column that was not there in training
    assert loaded.target_name_ == "price"


def test_the_file_holds_json_and_numbers(tmp_path):
    fitted_classifier().save(tmp_path / "model")
    configuration, tensors = read_model(tmp_path / "model")
    assert json.loads(json.dumps(configuration)) == configuration
    kinds = {
        "parameters": "f4",
        "importances": "f8",
        "edges": "f8",
        "means": "f8",
        "rare": "u1",
        "member_weights": "f8",
    }
    assert {name.partition(".")[0]: tensor.dtype.str[1:] for name, tensor in tensors.items()} == kinds
    assert b"pickle" not in (tmp_path / "model").read_bytes()


def test_parameters_that_are_numbers_of_numpy_come_back(tmp_path):
    sizes = [np.int64(8), np.int32(4)]
    loaded = back(fitted_regressor(hidden_layer_sizes=sizes, drop=(np.int64(-1),)), tmp_path / "model")
    assert (loaded.hidden_layer_sizes, loaded.drop) == ((8, 4), (-1,))


def test_a_generator_as_random_state_comes_back_as_none(tmp_path):
    loaded = back(fitted_regressor(random_state=np.random.RandomState(0)), tmp_path / "model")
    assert loaded.random_state is None


def test_what_cannot_be_saved_is_said(tmp_path):
    with pytest.raises(NotFittedError):
        dp.TabularClassifier().save(tmp_path / "model")
    for texts in (["a", "\ud800"] * 70, [f"{k % 70} \ud800" for k in range(140)]):
        model = dp.TabularRegressor(**QUICK).fit({"text": texts, "x": np.arange(140.0)}, np.arange(140.0))
        with pytest.raises(ValueError, match=r"a text holds half of a character, '\\ud800', which no file can"):
            model.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fitted", [fitted_classifier, fitted_regressor])
def test_copies_and_pickles_predict_the_same(tmp_path, fitted):
    model = fitted()
    joblib.dump(model, tmp_path / "joblib")
    copies = [
        copy.copy(model),
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        joblib.load(tmp_path / "joblib"),
    ]
    for other in copies:
        same(model, other)
        assert np.array_equal(other.oof_predictions_, model.oof_predictions_, equal_nan=True)
    assert clone(model).get_params() == model.get_params()
    assert not hasattr(clone(model), "stack_")
    loaded = back(model, tmp_path / "model")
    same(pickle.loads(pickle.dumps(loaded)), copy.deepcopy(loaded))
    same(model, back(loaded, tmp_path / "again"))
    first, second = (read_model(tmp_path / name) for name in ("model", "again"))
    assert first[0] == second[0]
    assert all(np.array_equal(first[1][name], second[1][name]) for name in first[1].keys() | second[1].keys())


def test_it_is_loaded_to_another_backend(tmp_path):
    model = fitted_regressor()
    model.save(tmp_path / "model")
    loaded = dp.load(tmp_path / "model", backend="reference")
    assert loaded.backend == "reference"
    assert loaded.stack_.backend is not model.stack_.backend
    np.testing.assert_allclose(loaded.predict(NEW), model.predict(NEW), rtol=1e-5)


def test_a_loaded_estimator_can_be_fitted_again(tmp_path):
    model = fitted_regressor()
    loaded = back(model, tmp_path / "model")
    table = made_table(160)
    same(model, loaded.fit(table, made_quantities(table)))


def test_levels_come_back_in_every_combination():
    means = np.arange(8.0).reshape(4, 2)
    columns = [
        CategoryEncoding(["b", "a"], has_gaps=True),
        CategoryEncoding(["b", "a", "c"], True, [], means),
        CategoryEncoding(["b"], True, ["x", "ß\n"], means),
        CategoryEncoding([], True, ["x"]),
    ]
    table = TableEncoding([ColumnEncoding(f"column {k}", "", own) for k, own in enumerate(columns)])
    described, tensors = encoding_to_file(table)
    loaded = encoding_from_file(convert(json.loads(json.dumps(described)), list[Numbers | Categories]), tensors)
    for own, column in zip(columns, loaded.columns, strict=True):
        assert isinstance(column.encoding, CategoryEncoding)
        for name in {field.name for field in fields(own)} - {"means"}:
            assert getattr(column.encoding, name) == getattr(own, name)
        assert np.array_equal(column.encoding.means, own.means)
    assert [column.name for column in loaded.columns] == [column.name for column in table.columns]
    assert loaded.inputs == table.inputs
