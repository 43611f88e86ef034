"""Training resumes from a checkpoint to the bit, however it ended; and no file is lost."""

import os
import random
import resource
import signal
import threading
from typing import Any

import faults
import numpy as np
import pytest
from processes import python
from small_runs import network, three_classes

import deltaprop as dp
from deltaprop.epochs import compiled
from deltaprop.epochs.interruption import Interruption
from deltaprop.files.model_file import read_model


@pytest.fixture
def data(rng):
    return three_classes(rng)


class StopError(Exception):
    """Stands for the death of a process."""


def stop_after(epoch):
    def callback(event):
        if event.epoch == epoch:
            raise StopError

    return callback


HOWS = [
    {"optimizer": dp.SGD(0.1)},
    {"optimizer": dp.SGD(0.05, momentum=0.9, nesterov=True), "l2": 0.3},
    {"optimizer": dp.AdamW(0.01), "batch_size": 7},
    {"optimizer": dp.Adam(dp.ReduceOnPlateau(0.02, patience=1)), "dropout": 0.3},
    {"optimizer": dp.Adam(0.05), "early_stopping": dp.EarlyStopping(2, monitor="cost", min_delta=0.02)},
]


@pytest.mark.parametrize("how", HOWS, ids=lambda how: repr(how["optimizer"]))
def test_a_run_goes_on_where_it_left_off(trained_on, data, how, tmp_path):
    """The callback raises after its epoch, and before the checkpoint of that epoch."""
    how = {"epochs": 8, "batch_size": 16} | how
    alone = network(trained_on)
    expected = alone.fit(*data, **how)
    checkpoint = tmp_path / "run.safetensors"
    for left_off in (3, 5):
        net = network(trained_on)
        with pytest.raises(StopError):
            net.fit(*data, **how, checkpoint=checkpoint, resume=True, callbacks=[stop_after(left_off)])
    net = network(trained_on)
    history = net.fit(*data, **how, checkpoint=checkpoint, resume=True)
    host = net.backend.to_numpy
    assert np.array_equal(host(net.parameters), host(alone.parameters))
    for name in ("cost", "learning_rate", "best_epoch", "message"):
        assert getattr(history, name) == getattr(expected, name)
    assert net.epochs_trained == alone.epochs_trained
    again = network(trained_on)
    repeated = again.fit(*data, **how, checkpoint=checkpoint, resume=True)
    assert np.array_equal(host(again.parameters), host(alone.parameters))
    assert repeated.cost == expected.cost


def test_a_pause_inside_an_epoch(data, tmp_path, monkeypatch):
    """The pause is between steps or calls of the compiled library; the epoch resumes at the next minibatch."""
    monkeypatch.setattr(compiled, "OPERATIONS_A_CALL", 1.0)
    for backend, given in (("reference", {"dropout": 0.3}), ("numpy", {"l2": 0.5})):
        how: dict[str, Any] = {**given, "optimizer": dp.Adam(0.01), "epochs": 3, "batch_size": 7}
        alone = network(backend)
        expected = alone.fit(*data, **how)
        checkpoint = tmp_path / f"{backend}.safetensors"
        asked: list[Any] = []

        def pauses(self, asked=asked):
            asked.append(1)
            if len(asked) == 13:  # in the second epoch of nine minibatches
                self.signal = signal.SIGINT
            return self.signal is not None

        with monkeypatch.context() as patched:
            patched.setattr(Interruption, "__call__", pauses)
            with pytest.raises(KeyboardInterrupt):
                network(backend).fit(*data, **how, checkpoint=checkpoint)
        content, _ = read_model(checkpoint)
        assert content["training"]["position"]["epoch"] == 1
        assert content["training"]["position"]["batch"] > 0
        net = network(backend)
        history = net.fit(*data, **how, checkpoint=checkpoint, resume=True)
        assert np.array_equal(net.parameters, alone.parameters)
        assert history.cost == expected.cost


@pytest.mark.parametrize("run", faults.RUNS)
def test_killed_runs_end_as_if_left_alone(run, tmp_path):
    """These are a few of the kills of `python tests/faults.py`."""
    expected, seconds = faults.undisturbed(run, tmp_path)
    got, _ = faults.disturbed(run, tmp_path, 3, seconds, generator=random.Random(0))
    faults.assert_same(got, expected)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_a_run_between_steps(number, tmp_path):
    """SIGTERM gives exit status 143; SIGINT a KeyboardInterrupt, which ends Python by SIGINT."""
    expected, seconds = faults.undisturbed("compiled", tmp_path)
    wanted, generator = 143 if number == signal.SIGTERM else -signal.SIGINT, random.Random(1)
    for _ in range(5):  # on a busy machine, a signal may come too early or too late
        got, statuses = faults.disturbed("compiled", tmp_path, 6, seconds, number, generator)
        faults.assert_same(got, expected)
        if wanted in statuses:
            return
    pytest.fail(f"no run ended with {wanted}")


def test_a_signal_leaves_the_best_parameters(data, tmp_path):
    held_out = data[0][:20], data[1][:20]
    best = {}

    def interrupt(event):
        if event.history.best_epoch == event.epoch:
            best[event.epoch] = event.network.parameters.copy()
        if event.epoch == 9:
            os.kill(os.getpid(), signal.SIGTERM)

    net = network()
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as ended:
        net.fit(
            *data,
            optimizer=dp.Adam(0.5),
            validation=held_out,
            early_stopping=dp.EarlyStopping(50),
            callbacks=[interrupt],
            epochs=30,
            checkpoint=tmp_path / "run.safetensors",
        )
    assert ended.value.code == 143
    assert np.array_equal(net.parameters, best[max(best)])
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_in_another_thread_signals_are_left_alone(data, tmp_path):
    failed = []

    def train():
        try:
            network().fit(*data, epochs=2, checkpoint=tmp_path / "run.safetensors")
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001
            failed.append(error)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert not failed
    assert signal.getsignal(signal.SIGINT) is before


def test_it_is_a_model_file(data, tmp_path):
    checkpoint = tmp_path / "run.safetensors"
    net = network()
    net.fit(*data, epochs=3, checkpoint=checkpoint, checkpoint_every=2)
    there = dp.Network.load(checkpoint, backend="numpy")
    assert np.array_equal(there.parameters, net.parameters)
    assert there.epochs_trained == 3
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]


def test_more_epochs_than_before(data, tmp_path):
    checkpoint = tmp_path / "run.safetensors"
    alone, net = network(), network()
    expected = alone.fit(*data, epochs=7)
    net.fit(*data, epochs=4, checkpoint=checkpoint)
    net = network()
    history = net.fit(*data, epochs=7, checkpoint=checkpoint, resume=True)
    assert np.array_equal(net.parameters, alone.parameters)
    assert history.cost == expected.cost
    assert history.message == "all 7 epochs done"


def test_another_run_is_refused_and_nothing_changed(data, tmp_path):
    checkpoint = tmp_path / "run.safetensors"
    X, y = data
    how = {"epochs": 2, "checkpoint": checkpoint}
    network().fit(X, y, **how)
    content = checkpoint.read_bytes()
    for net, changed, message in (
        (network(hidden_activation="relu"), {}, "hidden_activation 'sigmoid' there, 'relu' here"),
        (network(seed=1), {}, "seed 0 there, 1 here"),
        (network(), {"batch_size": 8}, "batch_size 32 there, 8 here"),
        (network(), {"optimizer": dp.SGD(0.5)}, "optimizer .* there"),
        (network(), {"l2": 0.5}, "objective"),
        (network(), {"X": X + 1}, "X "),
        (network(), {"validation": (X, y)}, "metrics|validation X"),
    ):
        before = net.parameters.copy()
        with pytest.raises(ValueError, match=f"checkpoint: .* is of another run: .*{message}"):
            net.fit(**{"X": X, "Y": y} | how | {"resume": True} | changed)
        assert np.array_equal(net.parameters, before)
        assert checkpoint.read_bytes() == content
    trained = network()
    trained.fit(X, y, epochs=1)
    with pytest.raises(ValueError, match="initial parameters"):
        trained.fit(X, y, **how, resume=True)


def test_damaged_and_other_files_are_refused(data, tmp_path):
    checkpoint = tmp_path / "run.safetensors"
    network().save(checkpoint)
    how = {"epochs": 2, "checkpoint": checkpoint, "resume": True}
    with pytest.raises(ValueError, match="holds a network, but no training"):
        network().fit(*data, **how)
    checkpoint.unlink()
    network().fit(*data, **how)
    whole = checkpoint.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:-1] + bytes([whole[-1] ^ 1]), b"", b"nonsense"):
        checkpoint.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"run\.safetensors"):
            network().fit(*data, **how)
        assert checkpoint.read_bytes() == damaged


def test_bad_arguments_are_named(data, tmp_path):
    for how, message in (
        ({"resume": True}, "resume: expected a checkpoint"),
        ({"checkpoint": tmp_path / "c", "checkpoint_every": 0}, "checkpoint_every"),
        ({"checkpoint": tmp_path / "no" / "c"}, "there is no folder"),
        ({"checkpoint": tmp_path}, "it is a folder"),
    ):
        with pytest.raises((ValueError, OSError), match=message):
            network().fit(*data, **how)


FULL_DISK = """
import resource, sys, warnings
import numpy as np
import deltaprop as dp
rng = np.random.default_rng(0)
X, y = rng.standard_normal((60, 40)), rng.integers(0, 3, 60)

def fit(**how):
    net = dp.Network([40, 200, 3], loss="categorical_cross_entropy", backend="reference")
    net.fit(X, y, epochs=3, **how)
    return net

alone = fit()
fit(checkpoint=sys.argv[1])
before = open(sys.argv[1], "rb").read()
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # the disk is full
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    net = fit(checkpoint=sys.argv[1])
assert np.array_equal(net.parameters, alone.parameters)
assert any("is not written" in str(warning.message) for warning in caught), caught
assert open(sys.argv[1], "rb").read() == before
try:
    net.save(sys.argv[2])
except OSError as error:
    print("refused:", error.errno is not None)
"""


def test_a_full_disk_costs_neither_the_run_nor_the_file(tmp_path):
    """A limit on the size of files stands for it; Python ignores SIGXFSZ, so that writing fails."""
    assert hasattr(resource, "RLIMIT_FSIZE")
    said = python("-c", FULL_DISK, tmp_path / "run.safetensors", tmp_path / "model.safetensors")
    assert said == "refused: True\n"
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]


def test_a_folder_that_vanishes_costs_the_checkpoint_only(data, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    checkpoint, alone, net = folder / "run.safetensors", network(), network()
    expected = alone.fit(*data, epochs=4)

    def vanish(event):
        if event.epoch == 2:
            checkpoint.unlink()
            folder.rmdir()

    with pytest.warns(RuntimeWarning, match="is not written"):
        history = net.fit(*data, epochs=4, checkpoint=checkpoint, callbacks=[vanish])
    assert np.array_equal(net.parameters, alone.parameters)
    assert history.cost == expected.cost


def test_fewer_epochs_than_are_done_are_refused(data, tmp_path):
    checkpoint = tmp_path / "run.safetensors"
    network().fit(*data, epochs=6, checkpoint=checkpoint)
    content, net = checkpoint.read_bytes(), network()
    before = net.parameters.copy()
    with pytest.raises(
        ValueError, match=r"epochs: expected at least the 6 epochs that are done in .*run\.safetensors, got 3"
    ):
        net.fit(*data, epochs=3, checkpoint=checkpoint, resume=True)
    assert np.array_equal(net.parameters, before)
    assert checkpoint.read_bytes() == content
    assert network().fit(*data, epochs=6, checkpoint=checkpoint, resume=True).epochs == 6


def test_numbers_of_numpy_are_saved(data, tmp_path):
    """They mean the same as Python's numbers: a run begun with one kind resumes with the other."""
    real, whole = np.float64, np.int64

    def arguments(real, whole, flag):
        return {
            "optimizer": dp.AdamW(dp.StepDecay(real(0.5), every=whole(2)), beta_1=real(0.5), weight_decay=real(0.25)),
            "batch_size": whole(16),
            "l2": real(0.5),
            "shuffle": flag(True),
            "dropout": [real(0.25)],
            "early_stopping": dp.EarlyStopping(patience=whole(5), min_delta=real(0.125)),
            "validation": data,
            "checkpoint_every": whole(1),
        }

    checkpoint = tmp_path / "run.safetensors"
    numpys, pythons = (arguments(*types) for types in ((real, whole, np.bool_), (float, int, bool)))
    network().fit(*data, **numpys, epochs=whole(2), checkpoint=checkpoint)
    resumed, alone = network(seed=whole(0)), network()
    resumed.fit(*data, **pythons, epochs=4, checkpoint=checkpoint, resume=True)
    alone.fit(*data, **pythons, epochs=4)
    assert np.array_equal(resumed.parameters, alone.parameters)
    narrow = arguments(np.float32, np.int16, np.array)
    network().fit(*data, **narrow, epochs=2, checkpoint=tmp_path / "narrow", resume=True)
    assert network().fit(*data, **narrow, epochs=3, checkpoint=tmp_path / "narrow", resume=True).epochs == 3


@pytest.mark.parametrize("ends", ["early", "after all epochs"])
def test_after_early_stopping_the_best_parameters_are_in_the_file(trained_on, data, tmp_path, ends):
    checkpoint = tmp_path / "run.safetensors"
    # the best epoch is here the one with the highest cost, an early one
    stopping = dp.EarlyStopping(3 if ends == "early" else 50, monitor="cost", mode="max")
    how = {"optimizer": dp.Adam(0.1), "early_stopping": stopping, "epochs": 12}
    net = network(trained_on)
    seen = []
    history = net.fit(
        *data, **how, checkpoint=checkpoint, callbacks=[lambda event: seen.append(event.network.parameters.copy())]
    )
    assert (history.epochs < 12) == (ends == "early")
    assert history.best_epoch < history.epochs
    host = net.backend.to_numpy
    best, last = host(seen[history.best_epoch - 1]), host(seen[-1])
    there = dp.Network.load(checkpoint, backend="numpy")
    assert np.array_equal(there.parameters, best)
    assert there.epochs_trained == history.epochs
    assert not np.array_equal(best, last)
    more = 15 if ends == "after all epochs" else 12
    resumed, alone = network(trained_on), network(trained_on)
    resumed.fit(
        *data, **how | {"epochs": more}, checkpoint=checkpoint, resume=True
    )  # from the last epoch, or not at all
    alone.fit(*data, **how | {"epochs": more})
    assert np.array_equal(host(resumed.parameters), host(alone.parameters))


def test_a_pause_amid_numbers_that_are_not_finite_leaves_the_file(data, tmp_path, monkeypatch):
    """The run resumes from the checkpoint of the epoch before, and ends as it would have."""
    how = {"optimizer": dp.SGD(lambda epoch, history: 0.1 if epoch < 2 else 1e300), "epochs": 4, "batch_size": 7}
    options = {"backend": "reference", "loss": "squared_error", "hidden_activation": "relu"}
    X, Y, net, checkpoint = data[0], np.eye(3)[data[1]], network(**options), tmp_path / "run.safetensors"

    def pauses(self):
        if not np.isfinite(net.parameters).all():
            self.signal = signal.SIGINT
        return self.signal is not None

    with monkeypatch.context() as patched:
        patched.setattr(Interruption, "__call__", pauses)
        with pytest.raises(KeyboardInterrupt):
            net.fit(X, Y, **how, checkpoint=checkpoint)
    content, _ = read_model(checkpoint)
    assert content["training"]["position"] == {"epoch": 2, "batch": 0}
    with pytest.raises(dp.DivergenceError, match="epoch 3"):
        network(**options).fit(X, Y, **how, checkpoint=checkpoint, resume=True)


class LateBest(dp.EarlyStopping):
    """Calls the first epoch the best as soon as it is over, as a NumPy number."""

    def best_epoch(self, history):
        return np.int64(1) if history.epochs > 1 else None


def test_an_early_stopping_of_ones_own(data, tmp_path):
    path = tmp_path / "run.safetensors"
    how = {"validation": data, "early_stopping": LateBest(patience=9)}
    net, alone = network(), network()
    net.fit(*data, epochs=2, checkpoint=path, **how)
    assert np.array_equal(dp.Network.load(path, backend="numpy").parameters, net.parameters)
    net = network()
    net.fit(*data, epochs=4, checkpoint=path, resume=True, **how)
    alone.fit(*data, epochs=4, **how)
    assert np.array_equal(net.parameters, alone.parameters)
