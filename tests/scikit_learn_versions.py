"""What the perceptrons of the installed scikit-learn can do."""

import pytest
import sklearn

VERSION = tuple(map(int, sklearn.__version__.split(".")[:2]))
#: Whether their `fit` takes sample weights.
TAKES_WEIGHTS = VERSION >= (1, 7)
needs_their_weights = pytest.mark.skipif(not TAKES_WEIGHTS, reason="its estimators took no sample weights before 1.7")
needs_1_9 = pytest.mark.skipif(VERSION < (1, 9), reason="earlier versions have other rules or words here")
