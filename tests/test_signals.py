"""Ctrl-C is heard in the middle of a step, however large, and leaves what the last whole step left."""

import signal
import time

import numpy as np
import pytest
from processes import run

import deltaprop as dp
from deltaprop import native_epoch, trainer
from deltaprop.backends import native_compiler, numpy
from deltaprop.interruption import Abandoned, Interruption

#: Some seconds a step on two cores; the signal comes a second after the first has begun.
LARGE = """
rng = np.random.default_rng(0)
X, y = rng.standard_normal((30000, 784), np.float32), rng.integers(0, 10, 30000)
options = dict(hidden_activation="relu", loss="categorical_cross_entropy", dtype="float32", backend=sys.argv[1])
make = {"stack": lambda *sizes, **how: dp.NetworkStack(2, *sizes, **how)}.get(sys.argv[2], dp.Network)
net = make([784, 1024, 1024, 10], **options)
good, sent = [net.parameters.copy()], []
def keep(event):
    good.append(net.parameters.copy())
def interrupt():
    time.sleep(1.0)
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
how = dict(batch_size=None, epochs=50, optimizer=dp.Adam(1e-3), callbacks=[keep])
if sys.argv[2] == "checkpoint":
    how["checkpoint"] = sys.argv[3]
try:
    if sys.argv[2] == "solver":
        net.fit_full_batch(X, y, max_iter=50, callbacks=[keep])
    else:
        net.fit(X, y, **how)
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
    assert float(heard_after) < 1.5  # a second, and what another process may take of it


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
    """Twelve steps; with `interruption`, until it says so."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((24, 5)), rng.integers(0, 3, 24)
    return net.fit(X, y, batch_size=2, epochs=1, optimizer=dp.Adam(0.01))


@pytest.mark.parametrize("backend", ["numpy", "reference"])
def test_a_step_left_in_its_middle_is_undone(backend, monkeypatch):
    """The signal comes in the third step, after it has changed everything that it changes."""
    if backend == "numpy" and native_compiler.find_compiler() is None:
        pytest.skip("no C++ compiler")
    monkeypatch.setattr(native_epoch, "OPERATIONS_A_CALL", 1.0)
    monkeypatch.setattr(native_epoch, "LONG_STEP", 1.0)
    monkeypatch.setattr(trainer, "LONG_STEP", 1.0)
    monkeypatch.setattr("deltaprop.recorded_epoch.LONG_STEP", 1.0)
    taken, after_two = [], []

    def then_interrupt(step):
        def one(*arguments):
            result = step(*arguments)
            taken.append(None)
            if len(taken) == 2:
                after_two.append(net.parameters.copy())
            if len(taken) == 3:
                signal.raise_signal(signal.SIGINT)
                time.sleep(0.2)  # the main thread is told
            return result

        return one

    net = dp.Network([5, 4, 3], loss="categorical_cross_entropy", backend=backend)
    if backend == "numpy":
        made = native_epoch.NativeEpoch.__init__

        def init(self, task):
            made(self, task)
            self.run = then_interrupt(self.run)

        monkeypatch.setattr(native_epoch.NativeEpoch, "__init__", init)
    else:
        monkeypatch.setattr(trainer.Trainer, "minibatch", then_interrupt(trainer.Trainer.minibatch))
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


def test_large_products_of_numpy_are_formed_in_parts(monkeypatch, rng):
    """Between which signals are heard; the numbers are the same, members included."""
    A, B = rng.standard_normal((3, 7, 5)), rng.standard_normal((3, 5, 6))
    whole, parts, member = np.empty((3, 7, 6)), np.empty((3, 7, 6)), np.empty((7, 6))
    np.matmul(A, B, out=whole)
    monkeypatch.setattr(numpy, "MOST_PRODUCTS", 60)
    numpy._multiply(A, B, parts)
    assert np.allclose(parts, whole, rtol=1e-14, atol=0)
    numpy._multiply(A[0], B[0], member)
    assert np.allclose(member, whole[0], rtol=1e-14, atol=0)
    numpy._multiply(A[0], B, parts)
    assert np.allclose(parts[1], A[0] @ B[1], rtol=1e-14, atol=0)
