"""One network with the preparation of its data: scaled by hand, columns by name, labels as they were."""

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.tabular.trained import Trained

OFFSET, SCALE = np.array([1.0, -2.0]), np.array([2.0, 0.5])
X = np.array([[3.0, -1.5], [0.0, 0.0], [-5.0, 1.0]])
#: X scaled by hand.
SCALED = np.array([[1.0, 1.0], [-0.5, 4.0], [-3.0, 6.0]])


def prepared(classes=None, target_offset=0.0, target_scale=1.0, **options):
    network = dp.Network([2, 5, len(classes or [1])], backend="numpy", seed=3, **options)
    return Trained(network, OFFSET, SCALE, target_offset, target_scale, classes, ["width", "height"], "kind")


def test_quantities_are_in_the_unit_of_the_target():
    model = prepared(target_offset=100.0, target_scale=20.0, loss="squared_error")
    expected = 100.0 + 20.0 * model.network.predict(SCALED)[:, 0]
    assert np.allclose(model.predict(X), expected, rtol=1e-14)
    assert model.predict(X).dtype == np.float64


@pytest.mark.parametrize(
    ("classes", "dtype"),
    [(["a", "bc", "d"], "<U2"), ([3, 5, 7], "int64"), ([0.5, 1.5, 2.5], "float64"), ([1, "x", 2.5], "O")],
)
def test_labels_are_as_they_were(classes, dtype):
    model = prepared(classes, loss="categorical_cross_entropy")
    outputs = model.network.predict(SCALED)
    assert model.predict(X).tolist() == [classes[k] for k in outputs.argmax(axis=1)]
    assert model.predict(X).dtype == np.dtype(dtype)
    assert np.array_equal(model.predict_proba(X), outputs)
    assert model.score(X, model.predict(X)) == "accuracy 100.00 % (3 of 3)"


def test_columns_of_a_table_are_found_by_name():
    pandas = pytest.importorskip("pandas")
    model = prepared(["a", "b"], loss="categorical_cross_entropy")
    expected = model.network.predict(SCALED)
    frame = pandas.DataFrame({"height": X[:, 1], "more": ["x", "y", "z"], "width": X[:, 0]})
    for table in (frame, dict(frame), {"height": ["-1.5", "0", "1"], "width": X[:, 0].tolist()}):
        assert np.array_equal(model.predict_proba(table), expected)
    assert np.array_equal(model.predict_proba(X.tolist()), expected)
    assert np.array_equal(model.predict_proba(np.asfortranarray(X)), expected)


def test_what_it_cannot_predict_for_is_named():
    model = prepared(["a", "b"], loss="categorical_cross_entropy")
    with pytest.raises(ValueError, match="columns that the model predicts from, but 'height' is missing"):
        model.predict({"width": [1.0]})
    with pytest.raises(ValueError, match="numbers in column 'height', got none in row 1"):
        model.predict({"width": [1.0, 2.0], "height": ["3", "tall"]})
    with pytest.raises(ValueError, match="expected 2 columns, got 1"):
        model.predict(X[:, :1])
    with pytest.raises(ValueError, match="Expected 2D array"):
        model.predict(X[0])
    with pytest.raises(ValueError, match="network of classes, but this one predicts a quantity"):
        prepared(loss="squared_error").predict_proba(X)
