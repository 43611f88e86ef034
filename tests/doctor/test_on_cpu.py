"""`check_backend` tries every way of training on the CPU, and finds faults."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import reference
from examined import heard

import deltaprop as dp
from deltaprop.backends import get_backend
from deltaprop.backends.numpy.backend import NumpyBackend
from deltaprop.doctor import host_epochs, memory, textbook
from deltaprop.doctor.record import Record


@pytest.fixture(scope="module")
def report():
    """The report on the CPU, made in processes as for users."""
    return dp.check_backend("numpy")


def test_every_way_of_training_on_the_cpu_is_right(report):
    assert report.ok
    assert [stage.name for stage in report.stages] == ["compiled epochs", "recorded epochs", "single steps", "40 fits"]
    for stage in report.stages:
        # the first stage may have compiled the library, and a busy machine may be slow
        assert stage.status in ("ok", "slow"), stage
        assert stage.found <= stage.allowed
        assert stage.seconds > 0
        assert all(check.passed for check in stage.checks)
    assert [len(stage.checks) for stage in report.stages[:3]] == [10, 10, 10]
    assert report.machine["NumPy"] == np.__version__
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.stages[0].status = "failed"


def test_the_textbook_is_the_lecture(rng):
    """A step over one minibatch equals the gradient of `tests/reference.py`."""
    W, b = [rng.standard_normal((5, 4)), rng.standard_normal((3, 5))], [rng.standard_normal(5), rng.standard_normal(3)]
    X, y = rng.standard_normal((6, 4)), rng.integers(0, 3, 6)
    how = {"l2": 0.3}
    loss = "categorical_cross_entropy"
    _, of_W, of_b, _ = reference.cost_and_gradient(W, b, ["sigmoid", "softmax"], loss, X, np.eye(3)[y], **how)
    expected = [x - 0.5 * g for x, g in zip((*W, *b), (*of_W, *of_b), strict=True)]
    new_W, new_b = ([x.copy() for x in xs] for xs in (W, b))
    (cost,) = textbook.trained(new_W, new_b, X, y, [np.arange(6)], 6, 0.3, dp.SGD(0.5))
    for got, x in zip((*new_W, *new_b), expected, strict=True):
        assert np.allclose(got, x, rtol=1e-13, atol=1e-14)
    J, *_ = reference.cost_and_gradient(W, b, ["sigmoid", "softmax"], loss, X, np.eye(3)[y])
    assert cost == pytest.approx(J + 0.3 / 12 * sum((w**2).sum() for w in new_W), rel=1e-13)


def test_what_is_wrong_on_the_cpu_is_found(monkeypatch):
    """An update that is a millionth too large is found."""
    update = NumpyBackend.update

    def wrong(self, rule, parameters, gradient, moments, rate, decay, n_decayed):
        too_much = rate if rule.name == "adam" else rate * (1 + 1e-6)
        update(self, rule, parameters, gradient, moments, too_much, decay, n_decayed)

    monkeypatch.setattr(NumpyBackend, "update", wrong)
    checks = {check.name: check.passed for check in heard(host_epochs.steps, get_backend("numpy"))}
    assert not checks["float64 SGD"]
    assert not checks["float64 momentum"]
    assert checks["float64 Adam"]


def test_memory_that_is_left_behind_is_found(monkeypatch):
    """Each of 35 fits leaves a MiB on the device."""
    backend, left = get_backend("reference"), [3000 * 2**20, 2965 * 2**20]
    monkeypatch.setattr(backend, "room", lambda: left.pop(0))
    of_device, *of_host = heard(memory.flat_memory, backend)
    assert (of_device.name, of_device.found, of_device.unit) == ("device memory left by 35 fits", 35.0, "MiB")
    assert not of_device.passed
    assert all(check.passed for check in of_host)


def test_the_reference_is_examined_by_itself():
    (stage,) = dp.check_backend("reference").stages
    assert (stage.backend, stage.name) == ("reference", "single steps")
    assert stage.status in ("ok", "slow")


def test_without_a_compiler_epochs_are_recorded(monkeypatch):
    monkeypatch.setattr(host_epochs, "library_problem", lambda dtype: "no C++ compiler")
    events: list[Any] = []
    host_epochs.compiled(get_backend("numpy"), Record(events.append))
    assert [what for kind, what in events if kind == "slow"] == ["epochs are recorded calls of NumPy: no C++ compiler"]
    assert len([what for kind, what in events if kind == "check"]) == 10
