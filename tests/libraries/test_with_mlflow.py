"""MLflow: a model that is logged and loaded. `tests/estimators` and `tests/callbacks` test what is recorded of a run."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import deltaprop as dp

pytestmark = pytest.mark.filterwarnings("default")  # those of another library are its own


def test_a_logged_pipeline_predicts_the_same_when_it_is_loaded(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("mlflow.sklearn")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
    X, y = load_iris(return_X_y=True)
    model = make_pipeline(StandardScaler(), dp.MLPClassifier((6,), max_iter=20, random_state=0)).fit(X, y)
    with mlflow.start_run():
        logged = mlflow.sklearn.log_model(model, name="model", serialization_format="cloudpickle")
    there = mlflow.sklearn.load_model(logged.model_uri)
    np.testing.assert_array_equal(there.predict_proba(X), model.predict_proba(X))
    as_function = mlflow.pyfunc.load_model(logged.model_uri)
    np.testing.assert_array_equal(as_function.predict(X), model.predict(X))
