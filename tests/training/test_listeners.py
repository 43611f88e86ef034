"""Callbacks are told in order, at the right steps, and to the end; and no number depends on them."""

import math
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.callbacks import Callback
from deltaprop.epochs.step_marks import StepMarks


class Recorder(Callback):
    """Writes down what it is told."""

    def __init__(self, every_steps=None, fail_at=None, stop_at=None):
        self.every_steps, self.fail_at, self.stop_at = every_steps, fail_at, stop_at
        self.told, self.steps, self.costs, self.parameters = [], [], [], []
        self.end: Any = None

    def _tell(self, what):
        self.told.append(what)
        if what == self.fail_at:
            raise RuntimeError(f"failed at {what}")
        return what == self.stop_at

    def on_fit_begin(self, event):
        self.begin = event
        return self._tell("fit begins")

    def on_epoch_begin(self, event):
        assert len(event.history.cost) == event.epoch - 1
        self._tell(f"{event.epoch} begins")

    def on_step_end(self, event):
        self.steps.append((event.step, event.epoch))
        self.costs.append(event.cost)
        self.parameters.append(event.network.backend.to_numpy(event.network.parameters).copy())

    def on_epoch_end(self, event):
        assert len(event.history.cost) == event.epoch
        return self._tell(f"{event.epoch} ends")

    def on_fit_end(self, event):
        self.end = event
        self._tell("fit ends")


@pytest.fixture
def data(rng):
    X = rng.standard_normal((53, 4))
    return X, (X @ rng.standard_normal((4, 3))).argmax(axis=1)


def network(backend="numpy", **options):
    plain: dict[str, Any] = {"loss": "categorical_cross_entropy", "hidden_activation": "tanh", "seed": 5}
    return dp.Network([4, 6, 3], backend=backend, **plain | options)


def test_hooks_are_called_in_order(data):
    recorder = Recorder()
    functions = []
    network().fit(*data, epochs=2, callbacks=[recorder, lambda event: functions.append(event.epoch)])
    assert recorder.told == ["fit begins", "1 begins", "1 ends", "2 begins", "2 ends", "fit ends"]
    assert functions == [1, 2]
    assert recorder.end.error is None
    assert recorder.begin.parameters["batch_size"] == 32
    assert recorder.begin.parameters["optimizer"] == "SGD"
    assert recorder.begin.parameters["layer_sizes"] == [4, 6, 3]


@pytest.mark.parametrize("where", ["fit begins", "1 begins", "2 ends"])
def test_everybody_hears_of_the_end_when_training_fails(data, where):
    before, failing, after = Recorder(), Recorder(fail_at=where), Recorder()
    with pytest.raises(RuntimeError, match=f"failed at {where}"):
        network().fit(*data, epochs=3, callbacks=[before, failing, after])
    assert str(before.end.error) == str(failing.end.error) == f"failed at {where}"
    assert (after.end is None) == (where == "fit begins")  # it had not heard of the begin


def test_an_error_at_the_end_keeps_nobody_from_hearing_of_it(data):
    failing, after = Recorder(fail_at="fit ends"), Recorder()
    with pytest.raises(RuntimeError, match="failed at fit ends"):
        network().fit(*data, epochs=1, callbacks=[failing, after])
    assert after.told[-1] == "fit ends"


def test_training_that_diverges_is_told_of(data):
    recorder = Recorder()
    with pytest.raises(dp.DivergenceError):
        network(loss="squared_error", output_activation="identity", hidden_activation="relu").fit(
            data[0], np.eye(3)[data[1]] * 1e200, optimizer=dp.SGD(1e200), callbacks=[recorder]
        )
    assert isinstance(recorder.end.error, dp.DivergenceError)


def test_a_callback_may_end_training_before_it_begins(data):
    recorder, net = Recorder(stop_at="fit begins"), network()
    before = net.parameters.copy()
    history = net.fit(*data, epochs=3, callbacks=[recorder])
    assert recorder.told == ["fit begins", "fit ends"]
    assert history.epochs == net.epochs_trained == 0
    assert history.message == "stopped by a callback before the first epoch"
    np.testing.assert_array_equal(net.parameters, before)


@pytest.mark.parametrize("every", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("batch_size", [5, 8, None])
def test_steps_are_told_by_their_number(data, every, batch_size):
    recorder = Recorder(every)
    network().fit(*data, epochs=3, batch_size=batch_size, callbacks=[recorder])
    batches = math.ceil(53 / (batch_size or 53))
    expected = [(t, 1 + (t - 1) // batches) for t in range(1, 3 * batches + 1) if t % every == 0]
    assert recorder.steps == expected


WAYS: dict[str, Any] = {
    "compiled": {},
    "compiled, penalized": {"l2": 0.1},
    "weighted": {"sample_weight": np.random.default_rng(3).uniform(0.5, 2.0, 53)},
    "as they stand": {"shuffle": False},
    "dropout": {"dropout": 0.25},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("optimizer", [dp.SGD(0.1, momentum=0.9), dp.Adam(0.01)], ids=["SGD", "Adam"])
@pytest.mark.parametrize("backend_name", ["numpy", "reference"])
def test_no_number_depends_on_who_listens(data, way, optimizer, backend_name):
    options: dict[str, Any] = {"optimizer": optimizer, "epochs": 3, "batch_size": 5} | WAYS[way]
    alone, heard = network(backend_name), network(backend_name)
    history = alone.fit(*data, **options)
    told = heard.fit(*data, callbacks=[Recorder(3), Recorder(4)], **options)
    assert told.cost == history.cost
    np.testing.assert_array_equal(heard.parameters, alone.parameters)


def test_no_parameter_depends_on_who_listens_on_any_backend(backend, data):
    """On a device the costs of an epoch are added up in another order; parameters are the same to the bit."""
    alone, heard, recorder = network(backend), network(backend), Recorder(4)
    options: dict[str, Any] = {"optimizer": dp.Adam(0.01), "epochs": 2, "batch_size": 5}
    history = alone.fit(*data, **options)
    told = heard.fit(*data, callbacks=[recorder], **options)
    np.testing.assert_allclose(told.cost, history.cost, rtol=1e-14)
    np.testing.assert_array_equal(backend.to_numpy(heard.parameters), backend.to_numpy(alone.parameters))
    assert [step for step, _ in recorder.steps] == [4, 8, 12, 16, 20]
    assert all((cost is None) != backend.on_host for cost in recorder.costs)


def test_what_a_step_sees(data):
    """Parameters and cost after t steps are what a loop over single-step fits gives."""
    X, y = data
    recorder = Recorder(2)
    network().fit(X, y, optimizer=dp.SGD(0.1), epochs=1, batch_size=10, shuffle=False, callbacks=[recorder])
    stepwise, costs = network(), []
    for start in range(0, 53, 10):
        part = slice(start, min(start + 10, 53))
        costs += [stepwise.cost(X[i : i + 1], y[i : i + 1]) for i in range(part.start, part.stop)]
        stepwise.fit(X[part], y[part], optimizer=dp.SGD(0.1), epochs=1, batch_size=None)
        step = start // 10 + 1
        if step % 2 == 0:
            np.testing.assert_allclose(recorder.parameters[step // 2 - 1], stepwise.parameters, rtol=1e-11)
            np.testing.assert_allclose(recorder.costs[step // 2 - 1], np.mean(costs), rtol=1e-11)
    assert [step for step, _ in recorder.steps] == [2, 4, 6]


def test_data_in_chunks_tell_of_steps_too(data, tmp_path):
    X, y = data
    np.savez(tmp_path / "data.npz", X=X, Y=y)
    source = [(X[:30], np.eye(3)[y[:30]]), (X[30:], np.eye(3)[y[30:]])]
    recorder = Recorder(3)
    network().fit(source, epochs=2, batch_size=10, shuffle=False, callbacks=[recorder])
    assert [step for step, _ in recorder.steps] == [3, 6, 9, 12]


def test_members_of_a_stack(data):
    recorder = Recorder()
    recorder.on_epoch_begin = lambda event: recorder.told.append(f"{event.epoch} begins")  # type: ignore[method-assign]
    recorder.on_epoch_end = lambda event: recorder.told.append([len(h.cost) for h in event.history])  # type: ignore
    stack = dp.NetworkStack(2, [4, 6, 3], loss="categorical_cross_entropy", backend="numpy")
    stack.fit(*data, epochs=2, callbacks=[recorder])
    assert recorder.told == ["fit begins", "1 begins", [1, 1], "2 begins", [2, 2], "fit ends"]
    assert recorder.begin.parameters["members"] == 2
    with pytest.raises(ValueError, match=r"Recorder.every_steps: expected None for a stack"):
        stack.fit(*data, callbacks=[Recorder(3)])


def test_iterations_are_steps_of_full_batch_training(data):
    recorder = Recorder(2)
    history = network().fit_full_batch(*data, max_iter=5, callbacks=[recorder])
    assert recorder.told == ["fit begins", *(f"{k} ends" for k in range(1, 6)), "fit ends"]
    assert recorder.steps == [(2, 2), (4, 4)]
    assert recorder.costs == [history.cost[1], history.cost[3]]


@pytest.mark.parametrize("every", [0, -1, 1.5, True])
def test_every_steps_is_checked(data, every):
    with pytest.raises((ValueError, TypeError), match=r"Recorder.every_steps: expected a whole number"):
        network().fit(*data, callbacks=[Recorder(every)])


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_estimators_tell_of_the_same(data, solver):
    recorder = Recorder(2)
    recorder.on_epoch_begin = lambda event: recorder.told.append(f"{event.epoch} begins")  # type: ignore[method-assign]
    options: dict[str, Any] = {
        "solver": solver,
        "max_iter": 3,
        "batch_size": 20,
        "random_state": 0,
        "backend": "numpy",
        "tol": 0.0,
    }
    with pytest.warns(UserWarning, match=r"onverge"):
        alone = dp.MLPClassifier((5,), **options).fit(*data)
    with pytest.warns(UserWarning, match=r"onverge"):
        heard = dp.MLPClassifier((5,), **options, callbacks=[recorder]).fit(*data)
    begins = solver == "adam"
    expected = [["1 begins", "1 ends"][not begins :], ["2 begins", "2 ends"][not begins :]]
    assert recorder.told[:-3] == ["fit begins", *expected[0], *expected[1]][: len(recorder.told) - 3]
    assert recorder.told[-2:] == ["3 ends", "fit ends"]
    assert recorder.steps == ([(2, 1), (4, 2), (6, 2), (8, 3)] if begins else [(2, 2)])
    assert recorder.begin.parameters["max_iter"] == 3
    for one, other in zip(alone.coefs_, heard.coefs_, strict=True):
        np.testing.assert_array_equal(one, other)
    assert begins is False or heard.loss_curve_ == alone.loss_curve_


def test_marks_of_a_part():
    """Steps 6 … 10 of a training whose epochs have 5: marks after 6, 8, 9 and 10."""
    marks = StepMarks([2, 3], 5, lambda done, cost: None)
    assert marks.ends(0, 5) == [1, 3, 4, 5]
    assert marks.of_part(2).ends(0, 3) == [1, 2, 3]
    assert StepMarks([7], 0, lambda done, cost: None).ends(0, 6) == [6]
