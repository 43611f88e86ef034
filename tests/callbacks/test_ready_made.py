"""Ready-made callbacks write what was recorded, to the last digit, and leave training as it was."""

import copy
import csv
import errno
import importlib.util
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from deltaprop import callbacks
from deltaprop.callbacks import CSVLogger, LearningRateFinder, ModelCheckpoint
from deltaprop.callbacks.learning_rate_finder import smooth


@pytest.fixture
def data(rng):
    X = rng.standard_normal((40, 3))
    return X, X @ [1.0, -2.0, 0.5]


def network(**options):
    plain: dict[str, Any] = {"loss": "squared_error", "backend": "numpy", "seed": 1}
    return dp.Network([3, 5, 1], **plain | options)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_names_of_the_module():
    assert dir(callbacks) == callbacks.__all__
    assert {"Callback", "CSVLogger", "EpochEnd", "TensorBoard"} <= set(callbacks.__all__)
    with pytest.raises(AttributeError, match="no attribute 'CSVlogger'"):
        getattr(callbacks, "CSV" + "logger")


@pytest.mark.parametrize(
    ("name", "module"), [("TensorBoard", "tensorboardX"), ("MLflow", "mlflow"), ("WandB", "wandb")]
)
def test_a_library_that_is_not_there_is_named(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    arguments = ("folder",) if name == "TensorBoard" else ()
    with pytest.raises(ImportError, match=f"{name} needs {module}: pip install {module}"):
        getattr(callbacks, name)(*arguments)


# -- CSVLogger ------------------------------------------------------------------------------------------------------


def test_rows_of_a_csv_file_are_the_history(data, tmp_path):
    path = tmp_path / "training.csv"
    options: dict[str, Any] = {"validation": data, "metrics": ["r2"], "optimizer": dp.SGD(dp.StepDecay(0.1, 2))}
    history = network().fit(*data, epochs=4, callbacks=[CSVLogger(path)], **options)
    rows = rows_of(path)
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert [float(row["cost"]) for row in rows] == history.cost
    assert [float(row["validation_cost"]) for row in rows] == history.validation_cost
    assert [float(row["r2"]) for row in rows] == history.metrics["r2"]
    assert [float(row["learning_rate"]) for row in rows] == history.learning_rate
    assert [float(row["seconds"]) for row in rows] == history.seconds


def test_a_csv_file_is_replaced_or_appended_to(data, tmp_path):
    path = tmp_path / "training.csv"
    first = network().fit(*data, epochs=2, callbacks=[CSVLogger(path, append=True)])  # there is none yet
    second = network(seed=2).fit(*data, epochs=3, callbacks=[CSVLogger(path, append=True)])
    assert [float(row["cost"]) for row in rows_of(path)] == first.cost + second.cost
    with pytest.raises(
        ValueError, match=r"path: expected a file with the columns \['epoch', 'cost', 'validation_cost'"
    ):
        network().fit(*data, epochs=1, validation=data, callbacks=[CSVLogger(path, append=True)])
    assert len(rows_of(path)) == 5
    third = network().fit(*data, epochs=1, callbacks=[CSVLogger(path)])
    assert [float(row["cost"]) for row in rows_of(path)] == third.cost


def test_rows_are_on_disk_when_training_fails(data, tmp_path):
    path = tmp_path / "training.csv"
    seen = []

    def fail(event):
        seen.append(len(rows_of(path)))
        if event.epoch == 2:
            raise RuntimeError

    logger = CSVLogger(path)
    with pytest.raises(RuntimeError):
        network().fit(*data, epochs=3, callbacks=[logger, fail])
    assert seen == [1, 2]
    assert logger._file is None


def test_rows_of_a_stack_and_of_an_estimator(data, tmp_path):
    path = tmp_path / "members.csv"
    stack = dp.NetworkStack(2, [3, 4, 1], loss="squared_error", backend="numpy")
    stopping = dp.EarlyStopping(patience=1, monitor="cost", min_delta=1e9)
    histories = stack.fit(*data, epochs=4, early_stopping=[stopping, None], callbacks=[CSVLogger(path)])
    told = [(int(row["member"]), float(row["cost"])) for row in rows_of(path)]
    for k, history in enumerate(histories):
        assert [cost for member, cost in told if member == k] == history.cost
    assert histories[0].epochs < histories[1].epochs
    for solver in ("adam", "lbfgs"):
        with pytest.warns(UserWarning, match="onverge"):
            mlp = dp.MLPRegressor(
                hidden_layer_sizes=(4,), max_iter=3, solver=solver, backend="numpy", callbacks=[CSVLogger(path)]
            ).fit(*data)
        costs = [float(row["cost"]) for row in rows_of(path)]
        assert costs == mlp.loss_curve_ if solver == "adam" else len(costs) == 3


class Killed(callbacks.Callback):
    """Ends training as Ctrl-C would, at the end of an epoch, before its checkpoint is written."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, event):
        if event.epoch == self.epoch:
            raise KeyboardInterrupt


def killed_and_resumed(data, folder, make, **options):
    """Train to a kill in epoch 4 and on to epoch 6, with a callback of `make` each time; return the second one."""
    options |= {"epochs": 6, "checkpoint": folder / "run.safetensors"}
    with pytest.raises(KeyboardInterrupt):
        network().fit(*data, callbacks=[make(), Killed(4)], **options)
    second = make()
    return second, network().fit(*data, callbacks=[second], resume=True, **options)


def test_a_file_holds_every_epoch_once_where_training_goes_on(data, tmp_path):
    path = tmp_path / "training.csv"
    _, history = killed_and_resumed(data, tmp_path, lambda: CSVLogger(path), validation=data, metrics=["r2"])
    rows = rows_of(path)
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [float(row["validation_cost"]) for row in rows] == history.validation_cost
    assert [float(row["r2"]) for row in rows] == history.metrics["r2"]


def test_rows_are_appended_behind_a_last_line_without_an_end(data, tmp_path):
    path = tmp_path / "training.csv"
    path.write_text("epoch,cost,learning_rate,seconds\n1,0.5,0.1,2.5")
    network().fit(*data, epochs=1, callbacks=[CSVLogger(path, append=True)])
    first, second = rows_of(path)
    assert first == {"epoch": "1", "cost": "0.5", "learning_rate": "0.1", "seconds": "2.5"}
    assert second["epoch"] == "1"
    assert None not in second.values()


def test_what_is_no_text_is_not_appended_to(data, tmp_path):
    path = tmp_path / "training.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"path: expected a CSV file to append to, got .*training\.csv"):
        network().fit(*data, epochs=1, callbacks=[CSVLogger(path, append=True)])
    assert path.read_bytes() == b"\xff\xfe\x00"


def test_two_trainings_never_tear_rows_of_one_file(data, tmp_path):
    path = tmp_path / "training.csv"

    class Other(callbacks.Callback):
        def on_epoch_end(self, event):
            network().fit(*data, epochs=1, callbacks=[CSVLogger(path, append=True)])

    network().fit(*data, epochs=3, callbacks=[CSVLogger(path), Other()])
    assert [row["epoch"] for row in rows_of(path)] == ["1", "1", "2", "1", "3", "1"]
    logger = CSVLogger(path)
    with pytest.raises(RuntimeError, match="another training writes its rows by this object"):
        network().fit(*data, epochs=1, callbacks=[logger, logger])


def test_a_row_is_written_whole_or_not_at_all(data, tmp_path, monkeypatch):
    """The disk is full in the middle of a row."""
    path = tmp_path / "training.csv"
    logger = CSVLogger(path)

    class Full(callbacks.Callback):
        def on_epoch_end(self, event):
            if event.epoch == 2:
                logger._file = FullDisk(logger._file, 5)  # type: ignore[assignment]

    with pytest.raises(OSError, match="No space left"):
        network().fit(*data, epochs=4, callbacks=[logger, Full()])
    assert [row["epoch"] for row in rows_of(path)] == ["1", "2"]
    assert path.read_text().endswith("\n")
    network().fit(*data, epochs=1, callbacks=[logger])  # it has let go of the file
    assert len(rows_of(path)) == 1


class FullDisk:
    """A file on a disk that has so many bytes left."""

    def __init__(self, file, left):
        self.file, self.left = file, left

    def write(self, data):
        if not self.left:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self.file.write(data[: self.left])
        self.left -= written
        return written

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_copies_are_made_while_training(data, tmp_path):
    logger = CSVLogger(tmp_path / "training.csv")
    copies = []

    class Copies(callbacks.Callback):
        def on_epoch_end(self, event):
            copies.extend([copy.deepcopy(logger), pickle.loads(pickle.dumps(logger))])

    network().fit(*data, epochs=1, callbacks=[logger, Copies()])
    assert len(rows_of(logger.path)) == 1
    for each in copies:
        each.path = tmp_path / "copy.csv"
        network().fit(*data, epochs=2, callbacks=[each])
        assert len(rows_of(each.path)) == 2


def test_a_class_is_no_callback(data):
    with pytest.raises(TypeError, match="callbacks: expected objects and functions, got the class CSVLogger"):
        network().fit(*data, epochs=1, callbacks=[CSVLogger])


# -- ModelCheckpoint --------------------------------------------------------------------------------------------------


def test_the_best_network_is_saved(data, tmp_path):
    kept = []
    net = network()
    keep = ModelCheckpoint(tmp_path / "best.safetensors", monitor="r2", save_best_only=True)
    history = net.fit(
        *data,
        epochs=12,
        optimizer=dp.SGD(1.2, momentum=0.5),
        batch_size=4,
        validation=data,
        metrics=["r2"],
        callbacks=[keep, lambda event: kept.append(event.network.parameters.copy())],
    )
    best = int(np.argmax(history.metrics["r2"]))
    assert keep.best_epoch == best + 1
    assert keep.best == history.metrics["r2"][best]
    loaded = dp.Network.load(tmp_path / "best.safetensors", backend="numpy")
    np.testing.assert_array_equal(loaded.parameters, kept[best])


def test_every_epoch_is_saved_under_a_name_of_its_own(data, tmp_path):
    keep = ModelCheckpoint(tmp_path / "net-{epoch:02d}-{cost:.3f}.safetensors", every_epochs=2)
    history = network().fit(*data, epochs=5, callbacks=[keep])
    expected = [f"net-{k:02d}-{history.cost[k - 1]:.3f}.safetensors" for k in (2, 4)]
    assert sorted(path.name for path in tmp_path.iterdir()) == expected


def test_lower_is_better_unless_it_is_said_otherwise(data, tmp_path):
    by = {mode: ModelCheckpoint(tmp_path / mode, mode=mode, save_best_only=True) for mode in ("auto", "min", "max")}
    history = network().fit(*data, epochs=5, validation=data, callbacks=list(by.values()))
    assert by["auto"].best == by["min"].best == min(history.validation_cost)
    assert by["max"].best == max(history.validation_cost)


def test_what_a_checkpoint_cannot_do(data, tmp_path):
    with pytest.raises(ValueError, match="mode: expected one of"):
        ModelCheckpoint("x", mode="best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="monitor: expected one of 'cost', 'learning_rate', 'seconds', got 'acuracy'"):
        network().fit(*data, callbacks=[ModelCheckpoint(tmp_path / "x", monitor="acuracy")])
    with pytest.raises(ValueError, match="path: expected a name with fields of epoch, cost"):
        network().fit(*data, callbacks=[ModelCheckpoint(tmp_path / "{loss}")])
    stack = dp.NetworkStack(2, [3, 4, 1], loss="squared_error", backend="numpy")
    with pytest.raises(TypeError, match="expected one network, got a stack"):
        stack.fit(*data, callbacks=[ModelCheckpoint(tmp_path / "x")])
    assert list(tmp_path.iterdir()) == []


def test_the_best_network_of_a_killed_training_is_kept(data, tmp_path):
    """The highest cost is the first epoch's, in this mode the best; the epochs after the kill are worse."""
    path = tmp_path / "best.safetensors"
    rates = dp.SGD(0.05)
    keep, history = killed_and_resumed(
        data, tmp_path, lambda: ModelCheckpoint(path, "cost", mode="max", save_best_only=True), optimizer=rates
    )
    assert max(history.cost) == history.cost[0]
    assert (keep.best, keep.best_epoch, keep.saved) == (history.cost[0], 1, None)
    alone = network()
    alone.fit(*data, epochs=1, optimizer=rates)
    assert np.array_equal(dp.Network.load(path, backend="numpy").parameters, alone.parameters)


def test_a_folder_that_is_not_there_is_told_before_training(data, tmp_path):
    net = network()
    before = net.parameters.copy()
    with pytest.raises(FileNotFoundError, match="path: expected a folder that is there"):
        net.fit(*data, epochs=1, callbacks=[ModelCheckpoint(tmp_path / "none" / "net.safetensors")])
    assert np.array_equal(net.parameters, before)


# -- LearningRateFinder -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.3, 1.0, 10.0])
def test_the_suggestion_for_a_quadratic(scale, rng):
    """Under η > 2/λ, λ the largest eigenvalue of the Hessian, steps of the whole batch diverge; 1/λ is the best."""
    X = scale * rng.standard_normal((200, 3))
    inputs = np.column_stack([np.ones(200), X])
    largest = np.linalg.eigvalsh(inputs.T @ inputs / 200)[-1]
    net = dp.Network([3, 1], loss="squared_error", init="zeros", backend="numpy")
    finder = LearningRateFinder(1e-6 / largest, 1e3 / largest, 200).find(net, X, X.sum(axis=1), batch_size=None)
    assert 0.02 / largest < finder.suggestion < 2 / largest
    assert len(finder.rates) == len(finder.costs) < 200  # it ended where the cost exploded
    assert finder.rates[-1] > 2 / largest


def test_a_first_minibatch_that_costs_more_is_no_suggestion():
    finder, rates, costs = LearningRateFinder(), np.geomspace(1e-6, 1.0, 40), np.ones(40)
    costs[0], costs[20:] = 3.0, 0.1
    finder._keep(rates, costs)
    assert rates[19] <= finder.suggestion <= rates[22]


def test_costs_of_the_test_are_those_of_single_steps(data):
    """With one minibatch there is one order: step by step by `fit` itself, at each rate."""
    X, y = data
    finder = LearningRateFinder(1e-3, 1e-1, 6, smoothing=0.0).find(network(), X, y, batch_size=None)
    net, costs = network(), []
    for rate in np.geomspace(1e-3, 1e-1, 6):
        costs.append(net.cost(X, y))
        net.fit(X, y, batch_size=None, epochs=1, optimizer=dp.SGD(rate))
    np.testing.assert_allclose(finder.costs, costs, rtol=1e-12)
    np.testing.assert_allclose(finder.smoothed, costs, rtol=1e-12)


@pytest.mark.parametrize("options", [{}, {"dropout": 0.3}, {"sample_weight": np.linspace(0, 1, 40)}])
def test_the_finder_changes_nothing(data, options):
    plain: dict[str, Any] = {"optimizer": dp.Adam(0.01), "epochs": 3, "batch_size": 7} | options
    alone, heard, looked = network(), network(), network()
    history = alone.fit(*data, **plain)
    told = heard.fit(*data, callbacks=[finder := LearningRateFinder(steps=20)], **plain)
    assert told.cost == history.cost
    np.testing.assert_array_equal(heard.parameters, alone.parameters)
    assert len(finder.rates) > 3
    before = looked.parameters.copy()
    LearningRateFinder(steps=20).find(looked, *data, **{k: v for k, v in plain.items() if k != "epochs"})
    np.testing.assert_array_equal(looked.parameters, before)
    assert looked.epochs_trained == 0
    looked.fit(*data, **plain)
    np.testing.assert_array_equal(looked.parameters, alone.parameters)


def test_the_finder_in_an_estimator(data):
    finder = LearningRateFinder(steps=20)
    options: dict[str, Any] = {"hidden_layer_sizes": (4,), "max_iter": 2, "random_state": 0, "backend": "numpy"}
    with pytest.warns(UserWarning, match="onverge"):
        alone = dp.MLPRegressor(**options).fit(*data)
    with pytest.warns(UserWarning, match="onverge"):
        heard = dp.MLPRegressor(**options, callbacks=[finder]).fit(*data)
    assert heard.loss_curve_ == alone.loss_curve_
    assert finder.suggestion is not None
    with pytest.raises(ValueError, match="expected the training of one network by minibatches"):
        network().fit_full_batch(*data, callbacks=[finder])
    with pytest.raises(TypeError, match="network: expected a Network, got MLPRegressor; an estimator takes the finder"):
        finder.find(heard, *data)
    with pytest.raises(TypeError, match="callbacks: expected none, as nothing is trained here"):
        finder.find(network(), *data, callbacks=[])


def test_smoothing_is_the_weighted_mean():
    values, share = np.array([3.0, 1.0, 4.0, 1.0, 5.0]), 0.7
    weights = share ** np.arange(5)[::-1]
    assert smooth(values, share)[-1] == pytest.approx((weights * values).sum() / weights.sum(), rel=1e-14)


def test_the_curve_is_drawn(data):
    with pytest.raises(ValueError, match="rates: expected a curve to plot, got none"):
        LearningRateFinder().plot()
    finder = LearningRateFinder(steps=30).find(network(), *data)
    (axis,) = finder.plot().axes
    assert axis.get_xscale() == "log"
    np.testing.assert_array_equal(axis.lines[0].get_xydata(), np.column_stack([finder.rates, finder.costs]))
    assert axis.lines[2].get_xdata()[0] == finder.suggestion


# -- trackers -----------------------------------------------------------------------------------------------------------


def test_event_files_of_tensorboard(data, tmp_path):
    pytest.importorskip("tensorboardX")
    if importlib.util.find_spec("tensorboard") is None:
        pytest.skip("tensorboard, which reads the files, is not installed")
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    board = callbacks.TensorBoard(tmp_path, every_steps=3)
    history = network().fit(*data, epochs=3, batch_size=10, callbacks=[board])
    (path,) = tmp_path.iterdir()
    found: dict[str, list[tuple[int, float]]] = {}
    for event in LegacyEventFileLoader(str(path)).Load():
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    assert found["cost"] == [(k, float(np.float32(cost))) for k, cost in enumerate(history.cost, 1)]
    assert [step for step, _ in found["step_cost"]] == [3, 6, 9, 12]
    assert any(tag.startswith("parameters") for tag in found)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of sqlalchemy, within MLflow
def test_runs_of_mlflow(data, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'runs.db'}")
    logger = callbacks.MLflow("first", every_steps=2)
    history = network().fit(*data, epochs=3, batch_size=20, callbacks=[logger])
    run = mlflow.get_run(logger.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["batch_size"] == "20"
    client = mlflow.MlflowClient()
    told = client.get_metric_history(logger.run_id, "cost")
    assert sorted((each.step, each.value) for each in told) == list(enumerate(history.cost, 1))
    assert len(client.get_metric_history(logger.run_id, "step_cost")) == 3
    with mlflow.start_run() as active:
        network().fit(*data, epochs=1, callbacks=[logger])
        assert logger.run_id == active.info.run_id
        assert mlflow.active_run() is not None  # it was not begun by the callback, which leaves it open
    with pytest.raises(ZeroDivisionError):
        network().fit(*data, epochs=1, callbacks=[logger, lambda event: 1 / 0])
    assert mlflow.get_run(logger.run_id).info.status == "FAILED"
    assert mlflow.active_run() is None


def test_runs_of_wandb(data, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = callbacks.WandB("project", mode="offline")
    network().fit(*data, epochs=2, callbacks=[logger])
    assert wandb.run is None
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))


def test_public_modules_are_there_after_the_import_of_the_package():
    program = "import deltaprop; print(deltaprop.callbacks.CSVLogger.__name__, deltaprop.accel.enabled())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "CSVLogger False\n"
