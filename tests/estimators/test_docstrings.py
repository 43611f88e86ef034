"""Docstrings of the estimators pass numpydoc's validation, as scikit-learn asks of its own."""

import inspect

import pytest
from conftest import require
from sklearn.utils import _testing

import deltaprop as dp

ESTIMATORS = (dp.MLPClassifier, dp.MLPRegressor, dp.SweepCV, dp.EnsembleClassifier, dp.EnsembleRegressor)
#: As scikit-learn's `tests/test_docstrings.py` has them: where quotes stand, and a name before the type of a return.
IGNORED = {"GL01", "GL02", "RT02"}
#: What it asks of classes alone: an extended summary, a See Also section, examples.
OF_CLASSES = {"ES01", "SA01", "EX01"}


def methods(estimator):
    """Names of the public methods and properties that are defined in this package."""
    for name, member in inspect.getmembers_static(estimator):
        function = getattr(member, "fget", None) or getattr(member, "fn", None) or getattr(member, "__func__", member)
        if not name.startswith("_") and getattr(function, "__module__", "").startswith("deltaprop."):
            yield name


NAMES = [(estimator.__name__, name) for estimator in ESTIMATORS for name in (None, *methods(estimator))]


@pytest.mark.parametrize(("estimator", "method"), NAMES)
def test_a_docstring_is_valid(estimator, method):
    require("numpydoc")
    from numpydoc.validate import validate

    path = f"deltaprop.{estimator}" + (f".{method}" if method else "")
    ignored = IGNORED | (OF_CLASSES if method else set())
    assert [error for error in validate(path)["errors"] if error[0] not in ignored] == []


def test_every_method_is_looked_at():
    found = {estimator: {name for other, name in NAMES if other == estimator} for estimator, _ in NAMES}
    common = {"fit", "partial_fit", "predict", "score", "transform", "input_gradient", "network_", "to_sklearn"}
    assert found["MLPRegressor"] >= common | {"from_sklearn"}
    assert found["MLPClassifier"] >= common | {"predict_proba", "predict_log_proba", "from_sklearn"}
    assert found["SweepCV"] >= {"fit", "fit_transform", "plot"}
    assert found["EnsembleClassifier"] >= {"fit", "predict", "predict_proba", "estimators_"}
    assert found["EnsembleRegressor"] >= {"fit", "predict", "estimators_"}


@pytest.mark.parametrize(
    ("objects", "parameters", "attributes"),
    [
        ((dp.MLPClassifier, dp.MLPRegressor), {"loss", "class_weight"}, {"classes_"}),
        ((dp.EnsembleClassifier, dp.EnsembleRegressor), {"estimator"}, {"classes_", "estimators_"}),
    ],
)
def test_what_two_have_in_common_is_described_alike(objects, parameters, attributes):
    require("numpydoc")
    if not hasattr(_testing, "assert_docstring_consistency"):
        pytest.skip("this scikit-learn has no assert_docstring_consistency")
    _testing.assert_docstring_consistency(
        objects, include_params=True, exclude_params=parameters, include_attrs=True, exclude_attrs=attributes
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_parameter_and_attribute_has_a_line_of_its_own(estimator):
    require("numpydoc")
    from numpydoc.docscrape import ClassDoc

    described = ClassDoc(estimator)
    assert [each.name for each in described["Parameters"]] == list(inspect.signature(estimator).parameters)
    for each in (*described["Parameters"], *described["Attributes"]):
        assert each.name.isidentifier()
        assert each.type
        assert each.desc
