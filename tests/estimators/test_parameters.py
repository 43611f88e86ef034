"""Bad parameters of all public estimators raise scikit-learn's error, which names the parameter."""

from typing import Any

import numpy as np
import pytest
from estimators import ESTIMATORS, small
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import check_param_validation

import deltaprop as dp

X = np.random.RandomState(0).uniform(size=(20, 5))
CLASSES = np.arange(20) % 2


def test_there_are_as_many_as_there_should_be():
    names = {each.__name__ for each in ESTIMATORS}
    kinds = ("MLP", "Ensemble", "Tabular")
    assert names >= {f"{kind}{what}" for kind in kinds for what in ("Classifier", "Regressor")}
    assert names >= {"SweepCV", "HalvingSweepCV"}


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_scikit_learns_check_of_parameters(estimator):
    """For every parameter: a value of a type that nothing knows, and one outside of what its type allows."""
    check_param_validation(estimator.__name__, small(estimator))


WITH_BACKEND: tuple[Any, ...] = (dp.MLPClassifier, dp.MLPRegressor, dp.TabularClassifier, dp.TabularRegressor)
NO_BACKENDS: tuple[Any, ...] = (None, 3, b"numpy", ["numpy"], np.ones(3))
#: The tabular estimators let `get_backend` say which names there are.
CASES: list[tuple[Any, Any]] = [(estimator, backend) for estimator in WITH_BACKEND for backend in NO_BACKENDS]
CASES += [(estimator, name) for estimator in WITH_BACKEND[:2] for name in ("tensorflow", "tensorflow:1")]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("estimator", "backend"), CASES)
def test_a_backend_that_is_none(estimator, backend):
    with pytest.raises(InvalidParameterError, match=f"The 'backend' parameter of {estimator.__name__} must be"):
        small(estimator).set_params(backend=backend).fit(X, CLASSES)
    fitted = small(estimator).fit(X, CLASSES)
    before = fitted.predict(X)
    with pytest.raises(InvalidParameterError, match="The 'backend' parameter"):
        fitted.set_params(backend=backend).fit(X, CLASSES)
    assert np.array_equal(fitted.predict(X), before)


def test_a_backend_that_is_none_before_a_first_partial_fit():
    with pytest.raises(InvalidParameterError, match="The 'backend' parameter of MLPClassifier"):
        dp.MLPClassifier().set_params(backend=None).partial_fit(X, CLASSES, classes=[0, 1])
