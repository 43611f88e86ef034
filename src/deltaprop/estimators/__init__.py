"""MLPClassifier and MLPRegressor: scikit-learn's estimators of these names, over the engine of this package."""

from deltaprop.estimators.classifier import MLPClassifier
from deltaprop.estimators.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
