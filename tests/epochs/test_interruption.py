"""Ctrl-C is noticed within a step, however large, and leaves the state after the last whole step."""

import ctypes
import os
import signal
import time
from typing import Any

import numpy as np
import pytest
from conftest import require_library
from processes import run

import deltaprop as dp
from deltaprop.backends.numpy import backend as numpy_backend
from deltaprop.epochs import compiled, compiled_members, steps
from deltaprop.epochs.interruption import Abandoned, Interruption, run_abandonable
from deltaprop.inputs.encoded_rows import Binned, Copied, EncodedRows, InputEncoding

#: A step takes some seconds on two cores; the signal comes a second after the first step has begun.
LARGE = """
rng = np.random.default_rng(0)
X, y = rng.standard_normal((30000, 784), np.float32), rng.integers(0, 10, 30000)
options = dict(hidden_activation="relu", loss="categorical_cross_entropy", dtype="float32", backend=sys.argv[1])
make = {"stack": lambda *sizes, **how: dp.NetworkStack(2, *sizes, **how)}.get(sys.argv[2], dp.Network)
def fit(net, X, y, epochs, **how):
    if sys.argv[2] == "solver":
        net.fit_full_batch(X, y, max_iter=epochs, **how)
    else:
        if sys.argv[2] == "checkpoint":
            how["checkpoint"] = sys.argv[3]
        net.fit(X, y, batch_size=None, epochs=epochs, optimizer=dp.Adam(1e-3), **how)
fit(make([784, 8, 10], **options), X[:10], y[:10], 1)  # imports and compiles what the other needs
net = make([784, 1024, 1024, 10], **options)
good, sent = [net.parameters.copy()], []
def keep(event):
    good.append(net.parameters.copy())
def interrupt():
    time.sleep(1.0)
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
try:
    fit(net, X, y, 50, callbacks=[keep])
except KeyboardInterrupt:
    print(time.perf_counter() - sent[0])
assert any(np.array_equal(net.parameters, each) for each in good)
if sys.argv[2] == "checkpoint":
    assert np.array_equal(dp.Network.load(sys.argv[3]).parameters, net.parameters)
"""


@pytest.mark.parametrize(
    ("backend", "how"),
    [
        ("numpy", "plain"),
        ("numpy", "checkpoint"),
        ("numpy", "stack"),
        ("reference", "plain"),
        ("reference", "checkpoint"),
        ("reference", "solver"),
    ],
)
def test_ctrl_c_in_a_large_step(backend, how, tmp_path):
    (heard_after,) = run(LARGE, backend, how, tmp_path / "run.safetensors")
    assert float(heard_after) < 20  # a second is promised, but other processes may have the cores


IGNORED = """
signal.signal(signal.SIGINT, signal.SIG_IGN)
net = dp.Network([4, 5, 1], backend="numpy")
def interrupt(event):
    os.kill(os.getpid(), signal.SIGINT)
history = net.fit(np.ones((9, 4)), np.ones(9), epochs=5, callbacks=[interrupt], checkpoint=sys.argv[1])
assert history.epochs == 5 and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
"""


def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    run(IGNORED, tmp_path / "run.safetensors")


def fit(net, interruption=None):
    """Train twelve steps, or fewer if `interruption` stops it."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((24, 5)), rng.integers(0, 3, 24)
    return net.fit(X, y, batch_size=2, epochs=1, optimizer=dp.Adam(0.01))


@pytest.mark.parametrize("backend", ["numpy", "reference"])
def test_a_step_left_in_its_middle_is_undone(backend, monkeypatch):
    """The signal comes at the end of the third step, after all its changes."""
    if backend == "numpy":
        require_library()
    monkeypatch.setattr(compiled, "OPERATIONS_A_CALL", 1.0)
    monkeypatch.setattr(compiled, "LONG_STEP", 1.0)
    monkeypatch.setattr(steps, "LONG_STEP", 1.0)
    monkeypatch.setattr("deltaprop.epochs.recorded.LONG_STEP", 1.0)
    taken: list[Any] = []
    after_two: list[Any] = []

    def then_interrupt(step):
        def one(*arguments):
            result = step(*arguments)
            taken.append(None)
            if len(taken) == 2:
                after_two.append(net.parameters.copy())
            if len(taken) == 3:
                signal.raise_signal(signal.SIGINT)
                time.sleep(0.2)  # the main thread is interrupted
            return result

        return one

    net = dp.Network([5, 4, 3], loss="categorical_cross_entropy", backend=backend)
    if backend == "numpy":
        made = compiled.CompiledEpoch.__init__

        def init(self, task):
            made(self, task)
            self.run = then_interrupt(self.run)

        monkeypatch.setattr(compiled.CompiledEpoch, "__init__", init)
    else:
        monkeypatch.setattr(steps.Steps, "take", then_interrupt(steps.Steps.take))
    with pytest.raises(KeyboardInterrupt):
        fit(net)
    assert len(taken) == 3
    assert np.array_equal(net.parameters, after_two[0])


def test_a_signal_held_back_is_heard_at_once_within_a_long_step():
    interruption = Interruption()
    with interruption.awaited():
        signal.raise_signal(signal.SIGTERM)
        assert interruption()
        with pytest.raises(Abandoned), interruption.heard_at_once():
            pytest.fail("it is not begun")
    interruption = Interruption()
    with pytest.raises(Abandoned), interruption.awaited(), interruption.heard_at_once():
        signal.raise_signal(signal.SIGINT)
    assert interruption.signal == signal.SIGINT


def test_work_is_begun_again_after_a_signal_that_raises_nothing():
    stop, done, heard = ctypes.c_int32(0), [], []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))

    def work():
        done.append("begun")
        if len(done) == 1:
            os.kill(os.getpid(), signal.SIGINT)
            while not stop.value:
                time.sleep(0.001)

    try:
        run_abandonable(work, lambda: done.append("undone"), stop)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == ["begun", "undone", "begun"]
    assert (heard, stop.value) == ([signal.SIGINT], 0)


def broken():
    raise ZeroDivisionError


def test_what_work_raises_is_raised_where_it_is_waited_for():
    with pytest.raises(ZeroDivisionError):
        run_abandonable(broken, pytest.fail, ctypes.c_int32(0))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers on this system")
def test_a_handler_of_another_signal_may_raise_too():
    stop, undone = ctypes.c_int32(0), []

    def ring(number, frame):
        raise TimeoutError

    def work():
        while not stop.value:
            time.sleep(0.001)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(TimeoutError):
            run_abandonable(work, lambda: undone.append(True), stop)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert (undone, stop.value) == ([True], 0)


def test_large_products_of_numpy_are_formed_in_parts(monkeypatch, rng):
    """Signals are noticed between the parts; the numbers are the same, for members too."""
    A, B = rng.standard_normal((3, 7, 5)), rng.standard_normal((3, 5, 6))
    whole, parts, member = np.empty((3, 7, 6)), np.empty((3, 7, 6)), np.empty((7, 6))
    np.matmul(A, B, out=whole)
    monkeypatch.setattr(numpy_backend, "MOST_PRODUCTS", 60)
    numpy_backend._multiply(A, B, parts)
    assert np.allclose(parts, whole, rtol=1e-14, atol=0)
    numpy_backend._multiply(A[0], B[0], member)
    assert np.allclose(member, whole[0], rtol=1e-14, atol=0)
    numpy_backend._multiply(A[0], B, parts)
    assert np.allclose(parts[1], A[0] @ B[1], rtol=1e-14, atol=0)


class Batches:
    """Twelve batches; once asked for, a signal comes in the middle of them."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.batches = [(rng.standard_normal((4, 5)), rng.integers(0, 3, 4)) for _ in range(12)]
        self.signal = None

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for number, batch in enumerate(self.batches):
            if number == 7 and self.signal is not None:
                asked_for, self.signal = self.signal, None
                signal.raise_signal(asked_for)
            yield batch


@pytest.mark.parametrize("backend", ["numpy", "reference"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_an_epoch_over_parts_that_is_left_off_is_undone(backend, dropout, tmp_path, monkeypatch):
    monkeypatch.setattr("deltaprop.epochs.chunked.CHUNK_BYTES", 8 * 8 * 8)  # chunks of two minibatches each
    how = {"batch_size": 4, "epochs": 3, "optimizer": dp.Adam(0.01), "dropout": dropout}
    batches, after, path = Batches(), [], tmp_path / "run.safetensors"

    def keep(event):
        after.append(net.parameters.copy())
        if event.epoch == 1:
            batches.signal = signal.SIGINT

    def network():
        return dp.Network([5, 4, 3], loss="categorical_cross_entropy", backend=backend)

    net = alone = network()
    alone.fit(Batches(), **how)
    net = network()
    with pytest.raises(KeyboardInterrupt):
        net.fit(batches, callbacks=[keep], checkpoint=path, **how)
    assert len(after) == 1
    assert np.array_equal(net.parameters, after[0])
    net = network()
    history = net.fit(batches, checkpoint=path, resume=True, **how)
    assert history.epochs == 3
    assert np.array_equal(net.parameters, alone.parameters)


@pytest.mark.parametrize("encoded", [False, True])
def test_a_member_that_is_begun_again_costs_what_it_costs(monkeypatch, encoded):
    """With a handler that raises nothing, undone steps are trained again, and counted once."""
    require_library()
    monkeypatch.setattr(compiled_members, "LONG_STEP", 0.0)
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 5)), rng.integers(0, 3, 60)
    data = EncodedRows(X, InputEncoding(5, [Copied(0), Binned(1, np.linspace(-1, 1, 5))])) if encoded else X
    how: dict[str, Any] = {"samples": [range(60), range(20), range(40)], "epochs": 2, "optimizer": dp.Adam(0.01)}

    def fitted():
        stack = dp.NetworkStack(3, [5, 4, 3], loss="categorical_cross_entropy", backend="numpy")
        return [history.cost for history in stack.fit(data, y, **how)], stack.parameters

    expected_costs, expected = fitted()
    heard: list[Any] = []
    calls: list[Any] = []
    real = run_abandonable

    def interrupted(work, undo, stop):
        def then_interrupt():
            work()
            calls.append(None)
            if len(calls) == 1:
                signal.raise_signal(signal.SIGINT)
                time.sleep(0.2)  # the main thread is interrupted

        return real(then_interrupt, undo, stop)

    monkeypatch.setattr(compiled_members, "run_abandonable", interrupted)
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        costs, parameters = fitted()
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]
    assert len(calls) == 3
    assert costs == expected_costs
    assert np.array_equal(parameters, expected)
