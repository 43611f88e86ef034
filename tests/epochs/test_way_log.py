"""The log says which way of training was taken, and why it was not a faster one."""

import logging
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from conftest import require_library

import deltaprop as dp
from deltaprop.backends.native.compiler import NO_COMPILER

X, Y = np.random.default_rng(0).normal(size=(30, 3)), np.arange(30) % 2


def network(**options):
    plain: dict[str, Any] = {"loss": "categorical_cross_entropy", "backend": "numpy"}
    return dp.Network([3, 4, 2], **plain | options)


def said(caplog, train, level=logging.INFO):
    caplog.clear()
    with caplog.at_level(level, "deltaprop"):
        train()
    return [record.getMessage() for record in caplog.records]


def test_nothing_is_said_unless_it_is_asked_for(caplog, capfd):
    assert said(caplog, lambda: network().fit(X, Y, epochs=1), logging.WARNING) == []
    assert any(isinstance(each, logging.NullHandler) for each in logging.getLogger("deltaprop").handlers)
    assert capfd.readouterr() == ("", "")


def test_compiled_epochs(caplog):
    require_library()
    (line,) = said(caplog, lambda: network().fit(X, Y, epochs=1, batch_size=10))
    assert line.startswith("training 3-4-2 on numpy in float64, 3 steps an epoch: compiled epochs (1 thread)")
    assert line.endswith("many epochs a call")
    (line,) = said(caplog, lambda: network().fit(X, Y, epochs=1, callbacks=[print], validation=(X, Y)))
    assert line.endswith("one epoch a call, because of callbacks, validation")


def test_why_no_faster_way(caplog):
    class Own(dp.SGD):
        def rule(self):
            return None

    (line,) = said(caplog, lambda: network(backend="reference").fit(X, Y, epochs=1, batch_size=10, dropout=0.5))
    assert "step by step, in Python; not compiled epochs: the backend 'numpy' does without compiled code" in line
    assert "not recorded steps of NumPy: units are dropped out" in line
    (line,) = said(caplog, lambda: network().fit(X, Y, epochs=1, optimizer=Own(0.1)))
    assert "not compiled epochs: the optimizer Own is not a built-in one" in line
    pair = (lambda h, y: ((h - y) ** 2).sum(1), lambda h, y: 2 * (h - y))
    own = network(loss=pair, output_activation="identity")
    (line,) = said(caplog, lambda: own.fit(X, np.eye(2)[Y], epochs=1))
    assert "not compiled epochs: the loss is a pair of functions" in line
    (line,) = said(caplog, lambda: network(backend="reference").fit(X, Y, epochs=1, batch_size=10))
    assert "recorded steps of NumPy; not compiled epochs: the backend 'numpy' does without compiled code" in line
    mlp = dp.MLPRegressor(hidden_layer_sizes=(2,), max_iter=1, backend="numpy")
    with pytest.warns(UserWarning, match="onverge"):
        (line,) = said(caplog, lambda: mlp.fit(sp.csr_array(X), Y))
    assert "on numpy in float64, 1 steps an epoch: compiled epochs (1 thread)" in line


def test_why_nothing_is_compiled_without_a_compiler(caplog, monkeypatch):
    monkeypatch.setattr("deltaprop.epochs.compiled_plan.library_problem", lambda dtype: NO_COMPILER)
    (line,) = said(caplog, lambda: network().fit(X, Y, epochs=1))
    assert "not compiled epochs: no C++ compiler is here" in line
    assert "pip install 'deltaprop[native]'" in line


def test_other_trainings(caplog):
    stack = dp.NetworkStack(3, [3, 4, 2], loss="categorical_cross_entropy", backend="numpy")
    (line,) = said(caplog, lambda: stack.fit(X, Y, epochs=1))
    assert line.startswith("training 3 members 3-4-2 on numpy: ")
    (line,) = said(caplog, lambda: network().fit_full_batch(X, Y, max_iter=1))
    assert line == "training all samples at once by 'l-bfgs' on numpy"
    lines = said(caplog, lambda: network().fit(X, Y, epochs=1), logging.DEBUG)
    assert len(lines) == 2
    assert "batch size 30" in lines[1]


def test_captured_or_in_one_launch_on_a_device(backend, caplog):
    if not hasattr(backend, "products"):
        pytest.skip("not the CUDA backend")
    (line,) = said(caplog, lambda: network(backend=backend).fit(X, Y, epochs=1))
    assert "epochs in one launch, parameters in shared memory" in line or "captured steps" in line
