"""skl2onnx: a model that was trained under deltaprop.accel is scikit-learn's, and is converted as scikit-learn's."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deltaprop import accel

pytestmark = pytest.mark.filterwarnings("default")  # those of another library are its own


def test_a_model_trained_under_accel_is_converted():
    skl2onnx = pytest.importorskip("skl2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    X, y = load_iris(return_X_y=True)
    accel.install()
    try:
        model = make_pipeline(StandardScaler(), MLPClassifier((6,), max_iter=20, random_state=0)).fit(X, y)
    finally:
        accel.uninstall()
    X = X.astype(np.float32)
    written = skl2onnx.to_onnx(model, X[:1], options={"zipmap": False}).SerializeToString()
    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    labels, probabilities = session.run(None, {"X": X})
    np.testing.assert_array_equal(labels, model.predict(X))
    np.testing.assert_allclose(probabilities, model.predict_proba(X), rtol=0, atol=1e-6)
