"""Docstrings of the estimators have what scikit-learn asks of its own, beyond `tests/test_docstrings.py`."""

import inspect

import pytest
from conftest import require
from sklearn.utils import _testing

import deltaprop as dp

ESTIMATORS = (dp.MLPClassifier, dp.MLPRegressor, dp.SweepCV, dp.EnsembleClassifier, dp.EnsembleRegressor)
#: The rules that scikit-learn's own test leaves out: places of quotes, names of return values.
IGNORED = {"GL01", "GL02", "RT02"}


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_class_has_an_extended_summary_related_classes_and_examples(estimator):
    """Methods are left to `tests/test_docstrings.py`."""
    require("numpydoc")
    from numpydoc.validate import validate

    assert [error for error in validate(f"deltaprop.{estimator.__name__}")["errors"] if error[0] not in IGNORED] == []


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
