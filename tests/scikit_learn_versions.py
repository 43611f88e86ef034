"""What the perceptrons of the installed scikit-learn can do."""

import numpy as np
import pytest
import sklearn
from scipy.special import xlogy

VERSION = tuple(map(int, sklearn.__version__.split(".")[:2]))
#: Whether their `fit` takes sample weights.
TAKES_WEIGHTS = VERSION >= (1, 7)
#: Whether their log loss of float32 inputs is float32 in places where ours is float64: scipy's releases differ.
LOSSES_IN_FLOAT32 = xlogy(np.zeros(1, bool), np.ones(1, np.float32)).dtype == np.float32
needs_their_weights = pytest.mark.skipif(not TAKES_WEIGHTS, reason="its estimators took no sample weights before 1.7")
needs_1_9 = pytest.mark.skipif(VERSION < (1, 9), reason="earlier versions have other rules or words here")
