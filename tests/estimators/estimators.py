"""All public estimators, and an object of each that is fitted fast."""

import inspect
from typing import Any

from sklearn.base import BaseEstimator

import deltaprop as dp

ESTIMATORS: tuple[Any, ...] = tuple(
    each
    for each in (getattr(dp, name) for name in dp.__all__)
    if inspect.isclass(each) and issubclass(each, BaseEstimator)
)


def small(estimator: Any) -> Any:
    """Return an estimator of this class; its networks are small, and trained for a few epochs."""
    name = estimator.__name__
    network = (dp.MLPRegressor if "Regressor" in name else dp.MLPClassifier)(
        hidden_layer_sizes=(4,), max_iter=2, random_state=0, backend="numpy"
    )
    if name.startswith("MLP"):
        return network
    if name.startswith("Ensemble"):
        return estimator(network, n_estimators=2, random_state=0)
    if name.startswith("Tabular"):
        return estimator(n_members=2, hidden_layer_sizes=4, random_state=0, backend="numpy")
    return estimator(network, {"alpha": [1e-4, 1e-2]}, cv=2)
