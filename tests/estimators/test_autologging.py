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
    module.recorded, module.is_on = [], False  # type: ignore[attr-defined]
    functions.AUTOLOGGING_INTEGRATIONS = {"sklearn": {"silent": True}}  # type: ignore[attr-defined]
    functions.autologging_is_disabled = lambda name: not module.is_on  # type: ignore[attr-defined]

    def autolog(silent=False):
        module.is_on = True  # type: ignore[attr-defined]
        for cls in module._gen_estimators_to_patch():
            inner = vars(cls)["fit"]

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
    assert sorted(cls.__name__ for cls in mlflow._gen_estimators_to_patch()) == ["MLPClassifier", "MLPRegressor"]


def test_an_mlflow_that_has_changed_fails_no_fit(mlflow, caplog):
    del mlflow._gen_estimators_to_patch
    with caplog.at_level(logging.WARNING, "deltaprop"):
        assert len(fits()) == 2
    (record,) = caplog.records
    assert "autolog does not record deltaprop's estimators" in record.message
