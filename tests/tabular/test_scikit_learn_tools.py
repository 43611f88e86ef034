"""scikit-learn's tools take the tabular estimators; predictions do not depend on how many rows are asked for."""

import copy
import itertools
import pickle
import time
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from small_tables import QUICK, QuickClassifier, QuickRegressor, two_classes

pytest.importorskip("pandas", reason="scikit-learn's tools get frames of pandas")

import pandas as pd

import deltaprop as dp


@pytest.fixture(scope="module")
def data() -> tuple[pd.DataFrame, Any]:
    table, y = two_classes()
    return pd.DataFrame(table), y


def test_pipelines_and_searches(data: tuple[pd.DataFrame, Any]) -> None:
    pipeline = make_pipeline(FunctionTransformer(lambda frame: frame.assign(more=1 / frame.useful)), QuickClassifier())
    assert pipeline.set_params(**{f"quickclassifier__{name}": value for name, value in QUICK.items()})
    assert pipeline.fit(*data).score(*data) > 0.9
    search = GridSearchCV(
        QuickClassifier(**QUICK), {"hidden_layer_sizes": [(), (4, 4)], "drop": [[], ["useful"]]}, cv=3
    )
    search.fit(*data)
    assert search.best_params_["drop"] == []
    assert search.best_score_ > 0.8


def test_cross_validation_in_one_process_and_in_two(data: tuple[pd.DataFrame, Any]) -> None:
    model = QuickClassifier(**QUICK)
    one, two = (cross_val_score(model, *data, cv=2, n_jobs=n) for n in (1, 2))
    np.testing.assert_allclose(one, two)
    probabilities = cross_val_predict(model, *data, cv=2, method="predict_proba")
    assert probabilities.shape == (120, 2)
    assert (model.fit(*data).classes_[probabilities.argmax(axis=1)] == data[1]).mean() > 0.8


def test_stacking_and_calibration(data: tuple[pd.DataFrame, Any]) -> None:
    frame, y = data
    stacking = StackingClassifier([("table", QuickClassifier(**QUICK))], LogisticRegression(), cv=2)
    assert stacking.fit(frame, y).score(frame, y) > 0.9
    calibrated = CalibratedClassifierCV(QuickClassifier(**QUICK), cv=2)
    assert calibrated.fit(frame, y).score(frame, y) > 0.9


def test_copies_predict_alike(data: tuple[pd.DataFrame, Any]) -> None:
    frame, _ = data
    quick, slow = QuickRegressor(**QUICK), dp.TabularRegressor(**QUICK)
    assert clone(quick).get_params() == quick.get_params() == slow.get_params()
    quick.fit(frame, frame.useful**2)
    for other in (pickle.loads(pickle.dumps(quick)), copy.deepcopy(quick)):
        np.testing.assert_array_equal(other.predict(frame), quick.predict(frame))
        np.testing.assert_array_equal(other.feature_importances_, quick.feature_importances_)


def test_a_row_is_predicted_alike_by_itself_and_among_others() -> None:
    """To the rounding of float32: a matrix product of one row may add in another order than one of many rows."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 30))
    y = X[:, 0] - X[:, 1] * X[:, 2]
    model = QuickRegressor(n_members=4, hidden_layer_sizes=(64, 64), random_state=0).fit(X, y)
    whole = model.predict(X)
    single = np.concatenate([model.predict(X[row : row + 1]) for row in range(40)])
    np.testing.assert_allclose(single, whole[:40], atol=5e-6)
    np.testing.assert_allclose(np.concatenate([model.predict(X[:311]), model.predict(X[311:])]), whole, atol=5e-6)
    classifier = QuickClassifier(n_members=4, hidden_layer_sizes=(64, 64), random_state=0).fit(X, y > 0)
    np.testing.assert_allclose(classifier.predict_proba(X[7:8]), classifier.predict_proba(X)[7:8], atol=1e-5)


def test_progress_is_drawn_on_standard_error(
    data: tuple[pd.DataFrame, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    QuickClassifier(**QUICK).fit(*data)
    assert capsys.readouterr().err == ""
    QuickClassifier(**QUICK, progress=True).fit(*data)
    shown = capsys.readouterr()
    assert "epoch" in shown.err
    assert shown.out == ""


def test_a_time_limit_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on by a hundredth of a second whenever it is read: other processes do not slow it."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, 6))
    y = np.sin(3 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.3 * rng.normal(size=1500)
    seconds, scores = [], []
    for limit in (None, 2.0, 1.0):
        ticks = itertools.count()
        with monkeypatch.context() as patched:
            patched.setattr(time, "perf_counter", lambda ticks=ticks: 0.01 * next(ticks))
            scores.append(dp.TabularRegressor(time_limit=limit, random_state=0).fit(X, y).oof_score_)
        seconds.append(0.01 * next(ticks))
    unlimited, *limited = seconds
    assert unlimited > 3.0
    assert limited == [pytest.approx(2.0, rel=0.1), pytest.approx(1.0, rel=0.1)]
    assert scores[0] > scores[1] > scores[2] > 0.5


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_members": 0}, "'n_members'"),
        ({"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes: expected a whole number of at least 1, got 0"),
        ({"label_smoothing": 1.0}, "'label_smoothing'"),
        ({"time_limit": 0.0}, "'time_limit'"),
        ({"class_weight": "even"}, "'class_weight'"),
        ({"class_weight": {"yes": -1.0}}, r"class_weight\['yes'\]: expected a finite number of at least 0, got -1.0"),
        (
            {"class_weight": {"no": float("inf")}},
            r"class_weight\['no'\]: expected a finite number of at least 0, got inf",
        ),
        ({"drop": ["nothing"]}, "drop: expected names of columns"),
        ({"categorical": ["text"], "drop": ["text"]}, "drop: column 'text' is in categorical as well"),
        ({"numerical": ["text"]}, "numerical: "),
    ],
)
def test_parameters_are_checked(data: tuple[pd.DataFrame, Any], parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dp.TabularClassifier(**QUICK | parameters).fit(*data)
