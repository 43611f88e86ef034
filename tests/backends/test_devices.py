"""With several CUDA devices, a network does everything on its own device, whichever is current."""

import copy
import pickle
import threading
from typing import Any

import numpy as np
import pytest
from cases import relative
from conftest import require_emulation
from host_cuda import HostCudaBackend, in_place_of_cupy
from sklearn.base import clone

import deltaprop as dp
from deltaprop import backends
from deltaprop.backends import get_backend
from deltaprop.backends.cuda.local_rank import VARIABLES


class TwoDevices(HostCudaBackend):
    """A backend that notes the device of every array and of every launch."""

    def __init__(self):
        super().__init__(devices=2)
        self.seen = []
        for name in ("asarray", "empty", "zeros", "isfinite", "vdot"):
            setattr(self.cp, name, self.noting(getattr(self.cp, name)))
        products: Any = self._found.products
        products.run = self.run = self.noting(self.run)  # type: ignore[method-assign]

    def noting(self, function):
        def noted(*arguments, **options):
            self.seen.append(self.devices.current[-1])
            return function(*arguments, **options)

        return noted


@pytest.fixture
def two():
    require_emulation()
    with in_place_of_cupy(TwoDevices()) as two:
        yield two


@pytest.fixture
def data(rng):
    return rng.standard_normal((30, 4)), rng.uniform(size=(30, 2))


def everything(net, X, Y):
    """Return everything that a network can be asked, by name, so that a failure says which."""
    return {
        "forward": lambda: net.forward(X),
        "predict": lambda: net.predict(X),
        "cost": lambda: net.cost(X, Y, l2=0.1),
        "cost_and_gradient": lambda: net.cost_and_gradient(X, Y),
        "deltas": lambda: net.deltas(X, Y),
        "jvp": lambda: net.jvp(X, X),
        "vjp": lambda: net.vjp(X, Y),
        "jacobian": lambda: net.jacobian(X[:2]),
        "hvp": lambda: net.hvp(X, Y, net.parameters.copy()),
        "fit": lambda: net.fit(X, Y, epochs=2, batch_size=8, validation=(X, Y), l2=0.1),
        "fit with dropout": lambda: net.fit(X, Y, epochs=1, dropout=0.5, optimizer=dp.Adam(0.1)),
        "fit_full_batch": lambda: net.fit_full_batch(X, Y, max_iter=2),
        "explain": lambda: net.explain(X[:1], Y[:1]),
        "check_gradient": lambda: dp.check_gradient(net, X, Y),
        "copy": lambda: net.copy().predict(X),
        "thetas": lambda: setattr(net, "thetas", net.thetas),
        "weights": lambda: setattr(net, "weights", [W.copy() for W in net.weights]),
        "parameters": lambda: setattr(net, "parameters", net.parameters.copy()),
        "pickle": lambda: pickle.loads(pickle.dumps(net)).predict(X),
    }


NAMES = list(everything(dp.Network([4, 2], backend="numpy"), np.zeros((2, 4)), None))


@pytest.mark.parametrize("name", NAMES)
def test_a_network_stays_on_its_device(two, data, name):
    net = dp.Network([4, 5, 2], backend="cupy", device=1, hidden_activation="tanh")
    everything(net, *data)[name]()
    assert set(two.seen) == {1}
    assert two.devices.current == [0]


@pytest.mark.parametrize("chosen", [{"device": 1}, {"backend": "cupy:1"}, {}])
def test_the_device_may_be_named_or_be_the_current_one(two, data, chosen):
    with two.devices.device(1):
        net = dp.Network([4, 5, 2], **({"backend": "cupy"} | chosen))
    assert net.backend.label == "cupy:1"
    net.fit(*data)
    assert set(two.seen) == {1}
    assert repr(net).endswith("backend='cupy:1')")
    other = dp.Network([4, 5, 2], backend="cupy", device=0)
    other.fit(*data)
    assert relative(*(two.to_numpy(each.parameters) for each in (net, other))) == 0.0


@pytest.mark.parametrize("variable", VARIABLES)
def test_processes_of_a_launcher_take_a_device_each(two, data, monkeypatch, variable):
    """Unless somebody has chosen one."""
    for other in VARIABLES:
        monkeypatch.delenv(other, raising=False)
    for number, device in (("0", 0), ("1", 1), ("2", 0), ("3", 1), ("", 0), ("one", 0)):
        monkeypatch.setenv(variable, number)
        assert dp.Network([4, 2], backend="cupy").backend.device == device
    monkeypatch.setenv(variable, "1")
    net = dp.Network([4, 5, 2], backend="cupy")
    two.seen.clear()
    net.fit(*data)
    assert set(two.seen) == {1}
    assert dp.Network([4, 2], backend="cupy:0").backend.device == 0
    monkeypatch.setenv(variable, "0")
    with two.devices.device(1):
        assert dp.Network([4, 2], backend="cupy").backend.device == 1


def test_stacks_and_their_members(two, data):
    stack = dp.NetworkStack(2, [4, 5, 2], backend="cupy", device=1)
    stack.fit(*data, epochs=2)
    stack.predict(data[0])
    stack[1].fit(*data, epochs=1)
    pickle.loads(pickle.dumps(stack)).predict(data[0])
    assert set(two.seen) == {1}


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_estimators(two, rng, solver):
    X, y = rng.standard_normal((40, 4)), rng.integers(0, 3, 40)
    mlp = dp.MLPClassifier((5,), backend="cupy:1", solver=solver, max_iter=3, early_stopping=solver != "lbfgs")
    mlp.fit(X, y)
    network = mlp.network_
    mlp.predict_proba(X)
    mlp.transform(X)
    mlp.input_gradient(X[:2])
    mlp.score(X, y)
    if solver != "lbfgs":
        mlp.set_params(early_stopping=False).partial_fit(X, y)
        assert mlp.network_ is network
    copy = pickle.loads(pickle.dumps(mlp))
    copy.predict(X)
    assert copy.network_.backend.label == "cupy:1"
    assert set(two.seen) == {1}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_sweeps_and_ensembles(two, rng):
    X, y = rng.standard_normal((40, 4)), rng.integers(0, 3, 40)
    base = dp.MLPClassifier((5,), backend="cupy:1", max_iter=2, random_state=0)
    dp.SweepCV(base, {"alpha": [0.1, 1.0]}, cv=2).fit(X, y).predict(X)
    for options in ({}, {"early_stopping": True}, {"dropout": 0.2}):
        ensemble = dp.EnsembleClassifier(clone(base).set_params(**options), 2, random_state=0).fit(X, y)
        ensemble.predict(X)
        for each in (ensemble, copy.deepcopy(ensemble)):
            each.estimators_[1].set_params(early_stopping=False).partial_fit(X, y)
    assert set(two.seen) == {1}


def test_threads_have_a_current_device_each(two, data):
    net = dp.Network([4, 5, 2], backend="cupy", device=1)
    thread = threading.Thread(target=net.predict, args=(data[0],))
    thread.start()
    thread.join()
    assert set(two.seen) == {1}


def test_precision_and_device(two):
    net = dp.Network([4, 5, 2], backend="cupy", device=1, precision="tf32", dtype="float32")
    assert (net.backend.precision, net.backend.device) == ("tf32", 1)
    assert pickle.loads(pickle.dumps(net)).backend is net.backend
    assert net.backend.on_device(0).precision == "tf32"
    assert net.backend.on_device(None) is net.backend


def test_devices_that_are_not_there(two):
    with pytest.raises(dp.BackendError, match="device: expected one of the 2 CUDA devices here, 0 … 1, got 2"):
        dp.Network([4, 2], backend="cupy", device=2)
    with pytest.raises(dp.BackendError, match="device: backend 'numpy' has no devices to choose from, got 1"):
        dp.Network([4, 2], backend="numpy", device=1)
    with pytest.raises(ValueError, match="device: expected a whole number of at least 0, got -1"):
        dp.Network([4, 2], backend="cupy", device=-1)
    for name in ("cupy:", "cupy:one", "cupy:-1", "nowhere:1"):
        with pytest.raises(ValueError, match=f"backend: expected one of .*'cupy:N'.*, got {name!r}"):
            get_backend(name)


def test_a_single_device_needs_no_choice(monkeypatch, data):
    require_emulation()
    one = HostCudaBackend()
    monkeypatch.setitem(backends.BACKENDS, "cupy", lambda: one)
    assert dp.Network([4, 2], backend="cupy", device=0).backend is one
    assert dp.Network([4, 2], backend="cupy").backend is one
    assert get_backend("cupy:0") is one
