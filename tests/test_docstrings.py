"""The docstrings of all public names, and of their methods and results, pass numpydoc's validation."""

import inspect

import pytest
from conftest import require
from public_face import PATHS, PUBLIC, needs_example

#: The rules that scikit-learn's own test of docstrings leaves out: places of quotes, names of return values.
IGNORED = {"GL01", "GL02", "RT02"}
#: An extended summary, a See Also section: not every function needs them.
OPTIONAL = {"ES01", "SA01"}


@pytest.mark.parametrize("path", PATHS)
def test_a_docstring_is_valid(path):
    require("numpydoc")
    from numpydoc.validate import validate

    left_out = IGNORED | OPTIONAL if needs_example(path) else IGNORED | OPTIONAL | {"EX01"}
    assert [error for error in validate(path)["errors"] if error[0] not in left_out] == []


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
    found = {path.removeprefix("deltaprop.") for path in PATHS}
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
    assert found >= {"accel.install", "accel.profile", "estimators.onnx_converters.register", "accel.profiling.Profile"}


def test_users_methods_need_an_example():
    needing = {path.removeprefix("deltaprop.") for path in PATHS if needs_example(path)}
    assert needing >= {"sigmoid", "SGD", "accel.enabled", "estimators.onnx_converters.register", "callbacks.FitEnd"}
    assert needing >= {"Network.fit", "Network.load", "NetworkStack.hvp", "MLPClassifier.from_sklearn", "SweepCV.plot"}
    assert needing >= {"EarlyStopping.best_epoch", "callbacks.LearningRateFinder.find", "TabularRegressor.to_onnx"}
    others = {path.removeprefix("deltaprop.") for path in PATHS} - needing
    assert others >= {"Network.parameters", "Network.over", "callbacks.CSVLogger.on_fit_end", "StepDecay.__call__"}
    assert len(needing) > len(others) / 2
