"""Docstrings of the estimators have what scikit-learn asks of its own, beyond `tests/test_docstrings.py`.

The rules are those of its `test_docstrings` and `test_docstring_parameters`.
"""

import inspect

import pytest
from conftest import require
from estimators import ESTIMATORS, small
from sklearn.datasets import make_classification
from sklearn.utils import _testing

import deltaprop as dp

#: Their public methods and properties, those inherited from scikit-learn among them.
METHODS = [
    (estimator, name)
    for estimator in ESTIMATORS
    for name in sorted(dir(estimator))
    if not name.startswith("_")
    and (callable(getattr(estimator, name)) or isinstance(getattr(estimator, name), property))
]
#: The rules that scikit-learn's own test leaves out: places of quotes, names of return values.
IGNORED = {"GL01", "GL02", "RT02"}


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_class_has_an_extended_summary_related_classes_and_examples(estimator):
    """Methods may lack them."""
    require("numpydoc")
    from numpydoc.validate import validate

    assert [error for error in validate(f"deltaprop.{estimator.__name__}")["errors"] if error[0] not in IGNORED] == []


@pytest.mark.parametrize(("estimator", "name"), METHODS, ids=[f"{cls.__name__}.{name}" for cls, name in METHODS])
def test_methods_are_described(estimator, name):
    """Also those that scikit-learn makes, such as `set_fit_request`."""
    require("numpydoc")
    from numpydoc.validate import validate

    left_out = IGNORED | {"ES01", "SA01", "EX01"}
    if isinstance(getattr(estimator, name), property):
        left_out |= {"PR02", "GL08"}  # scikit-learn's rule for what is described with the class
    found = validate(f"{estimator.__module__}.{estimator.__name__}.{name}")["errors"]
    assert [error for error in found if error[0] not in left_out] == []


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_attributes_of_a_fit_are_those_described(estimator):
    """As scikit-learn has it, one that is not always there is described by a sentence with "only"."""
    require("numpydoc")
    from numpydoc.docscrape import ClassDoc

    fitted = small(estimator).fit(*make_classification(40, 3, n_redundant=0, random_state=2))
    attributes = {each.name: " ".join(each.desc) for each in ClassDoc(estimator)["Attributes"]}
    properties = [name for name in dir(estimator) if isinstance(getattr(estimator, name), property)]
    there = {name for name in (*vars(fitted), *properties) if name.endswith("_") and hasattr(fitted, name)}
    assert {name for name in there if not name.startswith("_")} - attributes.keys() == set()
    assert {name for name, text in attributes.items() if "only " not in text.lower()} - {*there, *dir(fitted)} == set()
    assert len(attributes) > 5


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
