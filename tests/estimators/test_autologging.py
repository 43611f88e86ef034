"""`mlflow.sklearn.autolog` finds our estimators, whenever MLflow was imported, and whatever it has changed."""

import logging
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.estimators import autologging

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X, Y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2


@pytest.fixture
def mlflow(monkeypatch):
    """Something that patches the classes which a function of it lists, as MLflow does."""
    module, functions = ModuleType("mlflow.sklearn"), ModuleType("mlflow.utils.autologging_utils")
    patched: list[Any] = []
    utilities = ModuleType("mlflow.sklearn.utils")
    utilities._is_parameter_search_estimator = lambda estimator: False  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow.sklearn.utils", utilities)
    module.recorded, module.is_on = [], False  # type: ignore[attr-defined]
    functions.AUTOLOGGING_INTEGRATIONS = {"sklearn": {"silent": True}}  # type: ignore[attr-defined]
    functions.autologging_is_disabled = lambda name: not module.is_on  # type: ignore[attr-defined]

    def autolog(silent=False):
        module.is_on = True  # type: ignore[attr-defined]
        for cls in module._gen_estimators_to_patch():
            if cls in patched:
                continue
            patched.append(cls)
            inner = cls.fit

            def fit(self, *arguments, inner=inner, **options):
                module.recorded.append(self)
                return inner(self, *arguments, **options)

            monkeypatch.setattr(cls, "fit", fit)

    module._gen_estimators_to_patch = list  # type: ignore[attr-defined]
    module.autolog = autolog  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow.sklearn", module)
    monkeypatch.setitem(sys.modules, "mlflow.utils.autologging_utils", functions)
    monkeypatch.setattr(autologging, "_told", [])
    return module


def fits():
    options: dict[str, Any] = {"hidden_layer_sizes": (2,), "max_iter": 1, "backend": "numpy"}
    return [cls(**options).fit(X, Y) for cls in (dp.MLPClassifier, dp.MLPRegressor)]


@pytest.mark.parametrize("before", [True, False])
def test_fits_are_recorded_once_each(mlflow, before):
    if before:
        fits()
        assert mlflow.recorded == []
    mlflow.autolog()  # where no fit came before, it does not know of our classes yet
    assert mlflow.recorded == (made := fits()) or mlflow.recorded == [made[0], made[1]]
    assert len(mlflow.recorded) == 2


def test_classes_are_listed_once(mlflow):
    fits()
    listed = [cls.__name__ for cls in mlflow._gen_estimators_to_patch()]
    assert len(listed) == len(set(listed))
    assert {"MLPClassifier", "MLPRegressor"} <= set(listed)


def test_searches_and_ensembles_are_recorded(mlflow):
    """MLflow itself takes only GridSearchCV and RandomizedSearchCV for searches."""
    mlflow.autolog()
    base = dp.MLPClassifier((2,), max_iter=1, backend="numpy")
    sweep = dp.SweepCV(base, {"alpha": [0.1]}, cv=2).fit(X, Y)
    halving = dp.HalvingSweepCV(base, {"alpha": [0.1]}, cv=2).fit(X, Y)
    ensemble = dp.EnsembleClassifier(base, n_estimators=2).fit(X, Y)
    for each in (sweep, halving, ensemble):
        assert any(each is one for one in mlflow.recorded)
    is_search = sys.modules["mlflow.sklearn.utils"]._is_parameter_search_estimator
    assert [is_search(each) for each in (sweep, halving, ensemble, base)] == [True, True, False, False]


def test_classes_that_are_imported_later_are_recorded(mlflow, monkeypatch):
    mlflow.autolog()
    monkeypatch.setattr(autologging, "_ours", [dp.MLPClassifier])
    (first, _) = fits()
    assert mlflow.recorded == [first]
    autologging.recorded(dp.MLPRegressor)
    (_, second) = made = fits()
    assert [id(each) for each in mlflow.recorded] == [id(first), *map(id, made)]
    assert mlflow.recorded[-1] is second


def test_an_mlflow_that_has_changed_fails_no_fit(mlflow, caplog):
    del mlflow._gen_estimators_to_patch
    with caplog.at_level(logging.WARNING, "deltaprop"):
        assert len(fits()) == 2
    (record,) = caplog.records
    assert "autolog does not record deltaprop's estimators" in record.message
