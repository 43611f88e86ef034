"""Estimators take arrays on a device, and a device computes with tables on the host."""

import numpy as np
import pytest
from cases import relative
from conftest import require_emulation
from host_cuda import HostCudaBackend, in_place_of_cupy
from scipy import sparse
from sklearn.base import clone
from small_fits import classifier, regressor
from strict_array import StrictArray, asnumpy

import deltaprop as dp
from deltaprop.epochs import chunked
from deltaprop.training import evaluation

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Device(HostCudaBackend):
    """The emulated device, which counts the copies to the host."""

    def __init__(self):
        super().__init__()
        self.cp.asnumpy = self.fetch
        self.fetched = 0

    def fetch(self, array):
        self.fetched += array.nbytes if isinstance(array, StrictArray) else 0
        return asnumpy(array)


@pytest.fixture
def device():
    require_emulation()
    with in_place_of_cupy(Device()) as device:
        yield device


@pytest.mark.parametrize("scoring", [None, "balanced_accuracy"])
def test_tables_larger_than_a_device(device, iris, monkeypatch, scoring):
    """Training, early stopping and predictions use the device chunk by chunk."""
    X, y = iris
    monkeypatch.setattr(device, "room", lambda: 100)
    monkeypatch.setattr(evaluation, "CHUNK_BYTES", 7 * 4 * 8)
    monkeypatch.setattr(chunked, "CHUNK_BYTES", 2000)
    streams = {
        "new_stream": lambda: None,
        "event": lambda: None,
        "wait_on_device": lambda event: None,
        "wait_on_host": lambda event: None,
    }
    for name, function in streams.items():
        monkeypatch.setattr(device, name, function)
    options = {"early_stopping": True, "batch_size": 16, "scoring": scoring}
    expected = classifier(**options).fit(X, y)
    fitted = classifier(**options).set_params(backend="cupy").fit(X, y)
    assert relative(fitted.coefs_, expected.coefs_) < 1e-12
    assert fitted.loss_curve_ == pytest.approx(expected.loss_curve_, rel=1e-12)
    assert fitted.validation_scores_ == pytest.approx(expected.validation_scores_, rel=1e-12)
    assert fitted.validation_loss_curve_ == pytest.approx(expected.validation_loss_curve_, rel=1e-12)
    assert relative(fitted.predict_proba(X), expected.predict_proba(X)) < 1e-12
    assert relative(fitted.transform(X), expected.transform(X)) < 1e-12
    assert relative(fitted.input_gradient(X), expected.input_gradient(X)) < 1e-12


def test_arrays_on_a_device_stay_there(device, iris, table):
    X, y = iris
    there = device.asarray(X, np.float64)
    expected = classifier(early_stopping=True).fit(X, y)
    fitted = dp.MLPClassifier(hidden_layer_sizes=8, max_iter=15, random_state=0, early_stopping=True).fit(there, y)
    assert device.fetched < X.nbytes  # a cost an epoch, and the predictions for the validation data
    assert fitted.network_.backend is device
    assert relative([coef.get() for coef in fitted.coefs_], expected.coefs_) < 1e-12
    assert fitted.validation_scores_ == pytest.approx(expected.validation_scores_)
    arrays = [*fitted.coefs_, fitted.predict_proba(there), fitted.predict_log_proba(there), fitted.predict(there)]
    arrays += [fitted.transform(there), fitted.input_gradient(there)]
    for array in arrays:
        assert type(array) is StrictArray
    assert np.array_equal(fitted.predict(there).get(), expected.predict(X))
    assert fitted.score(there, device.asarray(y, np.int64)) == expected.score(X, y)
    words = np.array(["a", "b", "c"])[y]
    assert type(clone(fitted).fit(there, words).predict(there)) is np.ndarray  # a device has no text

    X, y = table
    there, targets = device.asarray(X, np.float32), device.asarray(y, np.float64)
    fitted = dp.MLPRegressor(hidden_layer_sizes=8, max_iter=15, random_state=0).fit(there, targets)
    assert type(fitted.predict(there)) is StrictArray
    assert fitted.predict(there).dtype == np.float32
    expected = regressor().fit(X.astype(np.float32), y)
    assert relative(fitted.predict(there).get(), expected.predict(X.astype(np.float32))) < 1e-4
    with pytest.raises(ValueError, match="X has 4 features, but MLPRegressor is expecting 5 features"):
        fitted.predict(there[:, :4])
    bad = device.copy(there)
    bad[3, 2] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN or infinity"):
        fitted.predict(bad)
    with pytest.raises(TypeError, match="backend: expected 'auto' or 'cupy' for arrays of cupy, got 'numpy'"):
        regressor().fit(there, y)


@pytest.mark.parametrize("scoring", ["balanced_accuracy", "neg_log_loss"])
def test_scores_of_arrays_on_a_device(device, iris, scoring):
    X, y = iris
    options = {"early_stopping": True, "scoring": scoring, "max_iter": 4}
    expected = classifier(**options).fit(X, y)
    fitted = dp.MLPClassifier(hidden_layer_sizes=8, random_state=0, **options)
    fitted.fit(device.asarray(X, np.float64), device.asarray(y, np.int64))
    assert fitted.network_.backend is device
    assert fitted.validation_scores_ == pytest.approx(expected.validation_scores_, rel=1e-12)


def test_tables_on_the_host_are_computed_on_the_device(device, iris):
    X, y = iris
    expected = classifier().fit(X, y)
    for given in (X, sparse.csr_array(X)):
        fitted = classifier(backend="cupy").fit(given, y)
        assert fitted.network_.backend is device
        for array in (*fitted.coefs_, fitted.predict_proba(given), fitted.transform(given), fitted.predict(given)):
            assert type(array) is np.ndarray
        assert relative(fitted.coefs_, expected.coefs_) < 1e-12
    with pytest.raises(ValueError, match="read-only"):
        fitted.coefs_[0][0, 0] = 1.0  # otherwise it would not reach the device
    fitted.coefs_ = [2 * coef for coef in fitted.coefs_]
    assert relative(fitted.predict_proba(X), expected.predict_proba(X)) > 1e-3
