"""skops: a pipeline with our estimator, without pickle. `tests/files` tests networks and ensembles."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import deltaprop as dp

pytestmark = pytest.mark.filterwarnings("default")  # those of another library are its own


def test_a_pipeline_that_is_read_again_predicts_the_same():
    io = pytest.importorskip("skops.io")
    X, y = load_iris(return_X_y=True)
    model = make_pipeline(StandardScaler(), dp.MLPClassifier((6,), max_iter=20, random_state=0)).fit(X, y)
    written = io.dumps(model)
    ours = io.get_untrusted_types(data=written)
    assert ours
    assert all(name.startswith("deltaprop.") for name in ours)
    there = io.loads(written, trusted=ours)
    np.testing.assert_array_equal(there.predict_proba(X), model.predict_proba(X))
