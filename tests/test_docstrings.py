"""The docstrings of all public names, and of their methods and results, pass numpydoc's validation."""

import inspect

import pytest
from conftest import require

import deltaprop as dp
from deltaprop import callbacks
from deltaprop.derivation.parameters import Parameters
from deltaprop.doctor.report import Check, Report, Stage
from deltaprop.errors import ScheduleError
from deltaprop.lecture.accumulation import Accumulation
from deltaprop.lecture.explanation import Explanation, Section
from deltaprop.lecture.gradient_check import GradientCheck, LayerCheck
from deltaprop.lecture.summary import LayerSummary, Summary
from deltaprop.tabular.trained import Trained
from deltaprop.training.evaluation import ForwardPass

PUBLIC = {f"deltaprop.{name}": getattr(dp, name) for name in dp.__all__ if name != "__version__"}
#: Classes without a public name that public functions return, raise, or pass to callbacks.
RETURNED = (
    Accumulation,
    Check,
    Explanation,
    ForwardPass,
    GradientCheck,
    LayerCheck,
    LayerSummary,
    Parameters,
    Report,
    ScheduleError,
    Section,
    Stage,
    Summary,
    Trained,
)
PUBLIC |= {f"deltaprop.callbacks.{name}": getattr(callbacks, name) for name in callbacks.__all__}
OBJECTS = PUBLIC | {f"{cls.__module__}.{cls.__qualname__}": cls for cls in RETURNED}
CLASSES = {path: each for path, each in OBJECTS.items() if inspect.isclass(each)}
#: The rules that scikit-learn's own test of docstrings leaves out: places of quotes, names of return values.
IGNORED = {"GL01", "GL02", "RT02"}
#: An extended summary, a See Also section, examples: not every function needs them.
OPTIONAL = {"ES01", "SA01", "EX01"}


def methods(cls):
    """Return the names of the public methods and properties that this package defines, and of a call."""
    for name, member in inspect.getmembers_static(cls):
        inside = (getattr(member, each, None) for each in ("fget", "fn", "func", "__func__"))
        function = next(filter(None, inside), member)
        is_public = name == "__call__" or not name.startswith("_")
        if is_public and (getattr(function, "__module__", None) or "").startswith("deltaprop."):
            yield name


PATHS = OBJECTS | {f"{path}.{name}": getattr(cls, name) for path, cls in CLASSES.items() for name in methods(cls)}


@pytest.mark.parametrize("path", PATHS)
def test_a_docstring_is_valid(path):
    require("numpydoc")
    from numpydoc.validate import validate

    assert [error for error in validate(path)["errors"] if error[0] not in IGNORED | OPTIONAL] == []


@pytest.mark.parametrize("path", PATHS)
def test_every_parameter_and_attribute_has_an_entry_of_its_own(path):
    """No "X, Y : array" for two, and a parameter in the place where the signature has it."""
    require("numpydoc")
    from numpydoc.docscrape import NumpyDocString

    described = PATHS[path]
    text = NumpyDocString(inspect.getdoc(described))
    for each in (*text["Parameters"], *text["Attributes"]):
        assert each.name.lstrip("*").isidentifier()
        assert each.type
        assert each.desc
    if callable(described) and text["Parameters"]:
        expected = [name for name in inspect.signature(described).parameters if name != "self"]
        assert [each.name.lstrip("*") for each in text["Parameters"]] == expected


def test_every_name_is_looked_at():
    assert len(PUBLIC) >= 25
    assert len(PATHS) >= 160
    found = {path.rpartition("deltaprop.")[2] for path in PATHS}
    assert found >= {"sigmoid", "check_gradient", "get_backend", "SGD", "StepDecay", "History.plot", "DivergenceError"}
    for name in ("fit", "fit_full_batch", "cost_and_gradient", "hvp", "copy", "by_layer", "weights", "thetas", "save"):
        assert found >= {f"Network.{name}", f"NetworkStack.{name}"}
    for estimator in ("MLPClassifier", "MLPRegressor"):
        common = ("fit", "partial_fit", "predict", "score", "transform", "input_gradient", "network_", "to_sklearn")
        assert found >= {f"{estimator}.{name}" for name in (*common, "from_sklearn")}
    for estimator in ("TabularClassifier", "TabularRegressor"):
        names = ("fit", "predict", "score", "explain_columns", "feature_importances_", "plot_importances")
        assert found >= {f"{estimator}.{name}" for name in names}
    assert found >= {"MLPClassifier.predict_proba", "MLPClassifier.predict_log_proba"}
    assert found >= {"SweepCV.fit", "SweepCV.fit_transform", "SweepCV.plot"}
    assert found >= {"EnsembleClassifier.predict_proba", "EnsembleRegressor.fit", "EnsembleRegressor.estimators_"}
    assert found >= {
        "lecture.gradient_check.GradientCheck.worst",
        "callbacks.EpochEnd",
        "callbacks.CSVLogger.on_fit_end",
    }
    assert found >= {"training.evaluation.ForwardPass", "derivation.parameters.Parameters.on"}
