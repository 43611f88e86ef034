"""The usual ONNX runtime predicts from raw columns what the estimator predicts."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import require
from made_tables import QUICK, fitted_classifier, fitted_regressor, made_labels, made_quantities, made_table
from sklearn.exceptions import NotFittedError

import deltaprop as dp

DATA = Path(os.environ.get("DELTAPROP_DATA", Path(__file__).parents[3] / "shared" / "data")) / "tables"


def session_of(model, folder):
    """Write a model, and let the runtime read it."""
    require("onnx")
    runtime = require("onnxruntime")
    model.to_onnx(folder / "model.onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])


def run(session, frame):
    """Feed the columns of a DataFrame as `to_onnx` says that they have to be; return the outputs by name."""
    feeds: dict[str, Any] = {}
    for each in session.get_inputs():
        column = frame[each.name]
        match each.type:
            case "tensor(double)":
                values = column.to_numpy(np.float64, na_value=np.nan)
            case "tensor(int64)":
                values = column.to_numpy("datetime64[s]").astype(np.int64)
            case "tensor(string)":
                gaps = column.isna().tolist()
                values = np.array(["" if gap else str(x).strip() for x, gap in zip(column, gaps, strict=True)], object)
        feeds[each.name] = values[:, np.newaxis]
    return dict(zip([out.name for out in session.get_outputs()], session.run(None, feeds), strict=True))


def frame_of(table):
    """Return a DataFrame whose days are dates, no longer text."""
    pandas = require("pandas")
    frame = pandas.DataFrame(table)
    frame["day"] = pandas.to_datetime(frame["day"], format="%d.%m.%Y")
    return frame


NEW = made_table(70, seed=9) | {"colour": ["red", "violet", None, *["blue"] * 67]}
NEW["weight"][:4] = [1e300, -1e300, 0.0, np.nan]
NEW["street"][:3] = ["street 0", "another street", ""]


@pytest.mark.parametrize("labels", [["no", "perhaps", "yes"], [3, 5, 90], [0.0, 1.0, 2.0]])
def test_a_classifier_of_all_kinds_of_columns(labels, tmp_path):
    frame = frame_of(made_table(160))
    model = dp.TabularClassifier(**QUICK).fit(frame, made_labels(frame, labels))
    assert {column.part for column in model.encoding_.columns} >= {
        "",
        "year",
        "month",
        "day",
        "weekday",
        "hour",
        "time",
    }
    found = run(session_of(model, tmp_path), frame_of(NEW))
    assert list(found) == ["label", "probabilities"]
    assert found["label"].tolist() == model.predict(frame_of(NEW)).tolist()
    assert found["probabilities"].dtype == np.float64
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(frame_of(NEW)), rtol=1e-5)


def test_a_regressor_of_all_kinds_of_columns(tmp_path):
    frame = frame_of(made_table(160))
    model = dp.TabularRegressor(**QUICK | {"n_members": 3}).fit(frame, made_quantities(frame))
    session = session_of(model, tmp_path)
    for rows in (frame_of(NEW), frame_of(NEW)[:1]):
        found = run(session, rows)
        assert list(found) == ["value"]
        assert found["value"].shape == (len(rows),)
        np.testing.assert_allclose(found["value"], model.predict(rows), rtol=1e-5)


@pytest.mark.parametrize("classes", [False, True])
def test_members_that_count_differently(classes, tmp_path):
    frame, several = frame_of(made_table(160)), QUICK | {"n_members": 16}
    if classes:
        model: Any = dp.TabularClassifier(**several).fit(frame, made_labels(frame))
    else:
        model = dp.TabularRegressor(**several).fit(frame, made_quantities(frame))
    predict, output = (model.predict_proba, "probabilities") if classes else (model.predict, "value")
    assert np.ptp(model.member_weights_) > 0.01
    expected = predict(frame_of(NEW))
    np.testing.assert_allclose(run(session_of(model, tmp_path), frame_of(NEW))[output], expected, rtol=1e-5)
    model.member_weights_ = np.full(16, 1 / 16)
    assert np.abs(predict(frame_of(NEW)) / expected - 1).max() > 1e-3  # so that it shows how much each counts


def test_text_of_dates_comes_as_seconds(tmp_path):
    """What was text in training is a date for the model, which computes its parts by itself."""
    model = fitted_regressor()
    assert {role.name: role.role for role in model.explain_columns()}["day"] == "date"
    np.testing.assert_allclose(run(session_of(model, tmp_path), frame_of(NEW))["value"], model.predict(NEW), rtol=1e-5)


def test_predictions_stay_in_the_range_of_training(tmp_path):
    model = fitted_regressor()
    model._targets = type(model._targets)(model._targets.mean, model._targets.spread, 99.0, 101.0)
    found = run(session_of(model, tmp_path), frame_of(NEW))["value"]
    assert (found.min(), found.max()) == (99.0, 101.0)


@pytest.mark.parametrize(("file", "target"), [("titanic", "survived"), ("mpg", "mpg"), ("ames", "SalePrice")])
def test_real_tables(file, target, tmp_path):
    if not (DATA / f"{file}.csv.gz").exists():
        pytest.skip("the tables are not here; DELTAPROP_DATA names the folder with tables/ in it")
    frame = require("pandas").read_csv(DATA / f"{file}.csv.gz")
    kind = dp.TabularClassifier if file == "titanic" else dp.TabularRegressor
    parameters = QUICK | {"hidden_layer_sizes": (32, 32), "time_limit": 2.0}
    model = kind(**parameters).fit(frame[::2], target)
    rows = frame[1::2]
    found = run(session_of(model, tmp_path), rows)
    if file == "titanic":
        assert found["label"].tolist() == model.predict(rows).tolist()
        np.testing.assert_allclose(found["probabilities"], model.predict_proba(rows), rtol=1e-5)
    else:
        np.testing.assert_allclose(found["value"], model.predict(rows), rtol=1e-5)


def test_names_of_columns_may_be_those_of_the_graph(tmp_path):
    pandas, rng = require("pandas"), np.random.default_rng(0)
    names = ["label", "probabilities", "", "unnamed", "value3", "value3_", "number1", "weights.0", "X y"]
    frame = pandas.DataFrame(rng.standard_normal((80, len(names))), columns=names)
    model = dp.TabularClassifier(**QUICK).fit(frame, frame["label"] > 0)
    session = session_of(model, tmp_path)
    inputs = [each.name for each in session.get_inputs()]
    assert inputs == ["unnamed_" if name == "" else name for name in names]
    found = run(session, frame.rename(columns={"": "unnamed_"}))
    assert list(found) == ["label_", "probabilities_"]
    assert found["label_"].tolist() == model.predict(frame).tolist()
    np.testing.assert_allclose(found["probabilities_"], model.predict_proba(frame), rtol=1e-5)


def test_the_model_says_what_its_columns_are(tmp_path):
    session = session_of(fitted_classifier(drop=["rooms"]), tmp_path)
    described = json.loads(session.get_modelmeta().custom_metadata_map["deltaprop.columns"])
    assert [column["name"] for column in described] == list(made_table(1))
    inputs = {each.name: each.type for each in session.get_inputs()}
    assert "rooms" not in inputs
    assert "same" not in inputs
    assert (inputs["size"], inputs["colour"], inputs["when"]) == ("tensor(double)", "tensor(string)", "tensor(int64)")


def test_it_is_no_network(tmp_path):
    session_of(fitted_regressor(), tmp_path)
    with pytest.raises(ValueError, match=r"model\.onnx: holds a tabular estimator, not a network"):
        dp.Network.from_onnx(tmp_path / "model.onnx")


def test_what_cannot_be_written_is_said(tmp_path, monkeypatch):
    with pytest.raises(NotFittedError):
        dp.TabularRegressor().to_onnx(tmp_path / "model.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ImportError, match=r"deltaprop\[onnx\]"):
        fitted_regressor().to_onnx(tmp_path / "model.onnx")
