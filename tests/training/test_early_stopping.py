"""Early stopping and schedules in long, broken and resumed runs: kept parameters, warnings, cost."""

import math
import pickle
from typing import Any

import numpy as np
import pytest
from conftest import backend_or_skip, require

import deltaprop as dp
from deltaprop.errors import ScheduleError
from deltaprop.training import loop, stack_loop

SCHEDULES: dict[str, Any] = {
    "cosine": dp.CosineDecay(0.1, epochs=3),
    "step": dp.StepDecay(0.1, 1e-300, every=2),
    "exponential": dp.ExponentialDecay(0.1, 1e-200),
    "inverse": dp.InverseScaling(0.1, 1e4),
}


@pytest.fixture
def data(rng):
    X = rng.standard_normal((23, 4))
    return X, np.abs(X[:, 0])


def network(backend="numpy", **options):
    return dp.Network([4, 5, 1], loss="squared_error", backend=backend, seed=5, **options)


def always_nan(prediction, Y):
    return math.nan


class Metric:
    """A metric that returns these numbers, one an epoch."""

    __name__ = "scripted"

    def __init__(self, *values):
        self.values = list(values)

    def __call__(self, prediction, Y):
        return self.values.pop(0)


# -- a monitor that is nan --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["numpy", "reference", "cuda-on-host"])
@pytest.mark.parametrize("metric", ["r2", always_nan])
def test_a_monitor_that_is_always_nan_keeps_the_last_parameters(kind, metric, data):
    """Epochs are compiled, recorded, captured, or single steps (dropout, where it is not compiled); r2 of constant targets is nan."""
    X, y = data
    backend = backend_or_skip(kind) if kind == "cuda-on-host" else kind
    name = metric if isinstance(metric, str) else "always_nan"
    stopping = dp.EarlyStopping(9, monitor=name)
    for dropout in (0.0, 0.3):
        stopped, plain = network(backend), network(backend)
        how = {"epochs": 4, "batch_size": 6, "dropout": dropout, "validation": (X[:1], y[:1]), "metrics": [metric]}
        with pytest.warns(
            RuntimeWarning, match=f"early_stopping: the monitored '{name}' was nan or infinite in every one of 4"
        ) as said:
            history = stopped.fit(X, y, early_stopping=stopping, **how)
        assert said[0].filename == __file__
        assert ("do not vary" in str(said[0].message)) == (metric == "r2")
        plain.fit(X, y, **how)
        assert np.array_equal(backend_numpy(stopped), backend_numpy(plain))
        assert history.best_epoch is None
        assert history.epochs == 4


def backend_numpy(net):
    return net.backend.to_numpy(net.parameters)


@pytest.mark.parametrize("worst", [math.inf, math.nan])
def test_infinitely_bad_is_no_better_than_nan(worst, data):
    """If the validation cost overflows in every epoch, no epoch is the best."""
    X, y = data
    stopped, plain = network(), network()
    how = {"epochs": 4, "validation": (X, np.full(23, 1e200))}
    with pytest.warns(RuntimeWarning, match="the monitored 'validation_cost' was nan or infinite in every one of 4"):
        history = stopped.fit(X, y, early_stopping=dp.EarlyStopping(9), **how)
    plain.fit(X, y, **how)
    assert history.validation_cost == [math.inf] * 4
    assert np.array_equal(stopped.parameters, plain.parameters)
    assert dp.EarlyStopping(monitor="cost").best_epoch(dp.History(cost=[worst, 2.0, worst, 1.0, worst])) == 4
    assert dp.EarlyStopping(monitor="r2").best_epoch(dp.History(metrics={"r2": [-worst, 0.5, -worst]})) == 2


def test_epochs_that_are_nan_are_not_the_best(data):
    X, y = data
    net, seen = network(), []
    history = net.fit(
        X, y, epochs=6, validation=(X, y), metrics=[Metric(math.nan, 3.0, math.nan, 2.0, math.nan, 2.5)],
        early_stopping=dp.EarlyStopping(9, monitor="scripted"),
        callbacks=[lambda event: seen.append(event.network.parameters.copy())],
    )  # fmt: skip
    assert history.best_epoch == 4
    assert np.array_equal(net.parameters, seen[3])


def test_members_of_a_stack_whose_monitor_is_nan_keep_theirs(data):
    X, y = data
    stack, plain = (dp.NetworkStack(3, [4, 5, 1], loss="squared_error", backend="numpy") for _ in range(2))
    how: dict[str, Any] = {"epochs": 5, "validation_samples": [range(9), [2], range(9, 20)], "metrics": ["r2"]}
    with pytest.warns(RuntimeWarning, match="member 1: early_stopping: the monitored 'r2' was nan or infinite") as said:
        histories = stack.fit(X, y, early_stopping=dp.EarlyStopping(9, monitor="r2"), **how)
    assert len(said) == 1
    assert said[0].filename == __file__
    plain.fit(X, y, **how)
    assert np.array_equal(stack.parameters[1], plain.parameters[1])
    assert [history.best_epoch is None for history in histories] == [False, True, False]


def test_a_resumed_run_whose_monitor_is_nan(data, tmp_path):
    X, y = data
    straight = network()
    how = {"validation": (X[:1], y[:1]), "metrics": ["r2"], "early_stopping": dp.EarlyStopping(9, monitor="r2")}
    with pytest.warns(RuntimeWarning, match="every one of 6 epochs"):
        straight.fit(X, y, epochs=6, **how)
    path = tmp_path / "run.safetensors"
    for epochs in (3, 6):
        resumed = network()
        with pytest.warns(RuntimeWarning, match=f"every one of {epochs} epochs"):
            resumed.fit(X, y, epochs=epochs, checkpoint=path, resume=True, **how)
    assert np.array_equal(resumed.parameters, straight.parameters)


def test_a_subclass_with_rules_of_its_own_is_asked(data):
    class Enough(dp.EarlyStopping):
        def should_stop(self, history):
            return history.epochs == 2

    class Upwards(dp.EarlyStopping):
        def values(self, history):
            return [-cost for cost in history.cost]

    assert network().fit(*data, epochs=9, early_stopping=Enough(monitor="cost")).epochs == 2
    assert network().fit(*data, epochs=9, early_stopping=dp.EarlyStopping(3, monitor="cost")).epochs == 9
    history = network().fit(*data, epochs=9, early_stopping=Upwards(3, monitor="cost"))  # it falls
    assert (history.best_epoch, history.epochs) == (1, 4)


# -- schedules that end, and that fail --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("kind", ["numpy", "reference", "cuda-on-host"])
def test_a_rate_of_0_is_a_rate(kind, name, data):
    """Epochs at rate 0 do not change the parameters, and their costs are those of a constant network."""
    X, y = data
    backend = backend_or_skip(kind) if kind == "cuda-on-host" else kind
    for optimizer in (dp.SGD(SCHEDULES[name]), dp.SGD(SCHEDULES[name], momentum=0.5), dp.AdamW(SCHEDULES[name])):
        net, seen = network(backend), list[Any]()
        history = net.fit(
            X, y, optimizer=optimizer, epochs=6, batch_size=6,
            callbacks=[lambda event, seen=seen: seen.append(backend_numpy(event.network).copy())],
        )  # fmt: skip
        assert history.learning_rate[0] > 0
        assert history.learning_rate[-2:] == [0.0, 0.0]
        if not optimizer.__dict__.get("momentum"):  # it resumes by itself
            assert np.array_equal(seen[-3], seen[-1])
            assert history.cost[-1] == pytest.approx(net.cost(X, y), rel=1e-12)


def test_schedules_hold_their_last_value_and_never_overflow():
    none = dp.History()
    cosine = dp.CosineDecay(0.1, epochs=5, final=0.01)
    assert [cosine(epoch, none) for epoch in (5, 6, 10**6)] == pytest.approx([0.01] * 3, rel=1e-15)
    assert dp.ExponentialDecay(0.1, 0.5)(10**6, none) == dp.StepDecay(0.1)(10**6, none) == 0.0
    assert dp.InverseScaling(0.1, 400.0)(10, none) == 0.0
    assert dp.ExponentialDecay(0.1, 2.0)(5000, none) == dp.StepDecay(0.1, 2.0, 1)(5000, none) == math.inf


@pytest.mark.parametrize(("value", "error"), [(-1.0, ScheduleError), (math.nan, ScheduleError), (math.inf, ScheduleError), ("0.1", TypeError), (None, TypeError), (True, TypeError)])  # fmt: skip
def test_a_schedule_that_fails_loses_nothing(value, error, data, tmp_path):
    """After three epochs, parameters and checkpoint are kept; the error names the schedule and the epoch."""

    def my_schedule(epoch, history):
        return 0.1 if epoch < 3 else value

    X, y = data
    path = tmp_path / "run.safetensors"
    plain = network()
    expected = plain.fit(X, y, optimizer=dp.SGD(0.1), epochs=3, validation=(X, y))
    for how in ({}, {"early_stopping": dp.EarlyStopping(9)}, {"checkpoint": path, "checkpoint_every": 50}):
        net = network()
        with pytest.raises(error, match=r"learning_rate: .*my_schedule for epoch 4") as caught:
            net.fit(X, y, optimizer=dp.SGD(my_schedule), epochs=9, validation=(X, y), **how)
        assert np.array_equal(net.parameters, plain.parameters)
        if error is ScheduleError:
            assert caught.value.epoch == 4
            assert caught.value.history.cost == expected.cost
    assert np.array_equal(dp.Network.load(path, backend="numpy").parameters, plain.parameters)


def test_errors_come_back_from_other_processes():
    history = dp.History(cost=[1.0])
    failed = pickle.loads(pickle.dumps(ScheduleError("a rate", epoch=3, history=history)))
    assert (str(failed), failed.epoch, failed.history) == ("a rate", 3, history)
    diverged = dp.DivergenceError("a cost", epoch=2, learning_rate=0.1, history=history, step=4, layer=3)
    again = pickle.loads(pickle.dumps(diverged))
    assert (str(again), vars(again)) == ("a cost", vars(diverged))


def test_early_stopping_restores_the_best_where_a_schedule_fails(data):
    """The validation cost rises from the second epoch on."""
    X, y = data
    net, seen = network(), []
    with pytest.raises(ZeroDivisionError):
        net.fit(
            X, y, optimizer=dp.SGD(lambda epoch, history: 0.1 if epoch < 4 else 1 / 0), epochs=9, validation=(X, y),
            metrics=[Metric(2.0, 1.0, 3.0, 4.0)], early_stopping=dp.EarlyStopping(9, monitor="scripted"),
            callbacks=[lambda event: seen.append(event.network.parameters.copy())],
        )  # fmt: skip
    assert np.array_equal(net.parameters, seen[1])


def test_a_member_whose_schedule_fails_leaves_the_others_alone(data):
    X, y = data

    def broken(epoch, history):
        return 0.1 if epoch < 2 else math.nan

    stack, plain = (dp.NetworkStack(3, [4, 5, 1], loss="squared_error", backend="numpy") for _ in range(2))
    with pytest.warns(RuntimeWarning, match="member 1: stopped after epoch 2, as its schedule failed") as said:
        histories = stack.fit(X, y, optimizer=[dp.SGD(0.1), dp.SGD(broken), dp.SGD(dp.CosineDecay(0.1, 3))], epochs=6)
    assert said[0].filename == __file__
    assert "broken for epoch 3" in str(said[0].message)
    assert [history.epochs for history in histories] == [6, 2, 6]
    plain.fit(X, y, optimizer=[dp.SGD(0.1), dp.SGD(0.1), dp.SGD(dp.CosineDecay(0.1, 3))], epochs=6)
    assert np.array_equal(stack.parameters[[0, 2]], plain.parameters[[0, 2]])
    alone = dp.NetworkStack(3, [4, 5, 1], loss="squared_error", backend="numpy")
    alone.fit(X, y, optimizer=dp.SGD(0.1), epochs=2)
    assert np.array_equal(stack.parameters[1], alone.parameters[1])
    with pytest.raises(ScheduleError), pytest.warns(RuntimeWarning, match="its schedule failed"):
        alone.fit(X, y, optimizer=dp.SGD(broken), epochs=6)
    before = alone.parameters.copy()
    with pytest.raises(ScheduleError, match="for epoch 1"):
        alone.fit(X, y, optimizer=[dp.SGD(0.1), dp.SGD(lambda epoch, history: -1.0), dp.SGD(0.1)], epochs=6)
    assert np.array_equal(alone.parameters, before)


# -- plateaus ---------------------------------------------------------------------------------------------------------


def test_slow_progress_is_progress():
    """9e-5 an epoch adds up to more than min_delta in two epochs; 1e-5 does not in five."""
    plateau = dp.ReduceOnPlateau(1.0, 0.5, patience=5, min_delta=1e-4)
    slowly = [1.0 - 9e-5 * epoch for epoch in range(30)]
    assert plateau(30, dp.History(cost=slowly)) == 1.0
    too_slowly = [1.0 - 1e-5 * epoch for epoch in range(30)]
    # The first epoch is the best until 1e-4 is gained, near epoch 12; the rate is cut after every 5 epochs without.
    assert plateau(6, dp.History(cost=too_slowly[:6])) == 0.5


def test_plateaus_are_pytorchs(rng):
    torch = require("torch")
    costs = np.cumsum(rng.normal(-0.002, 0.01, 300)).tolist()
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.9, patience=3, threshold=0.005, threshold_mode="abs", eps=0.0
    )
    ours = dp.ReduceOnPlateau(1.0, 0.9, patience=4, min_delta=0.005)  # theirs waits for more than `patience`
    for epoch, cost in enumerate(costs):
        theirs.step(cost)
        assert ours(epoch + 1, dp.History(cost=costs[: epoch + 1])) == pytest.approx(
            optimizer.param_groups[0]["lr"], rel=1e-12
        )


# -- the cost of long runs --------------------------------------------------------------------------------------------


class Counted(list[Any]):
    """A list that counts how many of its entries are read."""

    reads = 0

    def __getitem__(self, key):
        found = super().__getitem__(key)
        Counted.reads += len(found) if isinstance(key, slice) else 1
        return found

    def __iter__(self):
        Counted.reads += len(self)
        return super().__iter__()


def counting(**fields):
    fields |= {name: Counted() for name in ("cost", "validation_cost", "learning_rate", "seconds")}
    history = dp.History(**fields)
    history.metrics = CountedMetrics(history.metrics)
    return history


class CountedMetrics(dict[str, Any]):
    def __setitem__(self, name, values):
        super().__setitem__(name, Counted(values))

    def __init__(self, given=()):
        super().__init__({name: Counted(values) for name, values in dict(given).items()})


@pytest.mark.parametrize(
    ("what", "many"),
    [
        *[(what, many) for what in ("plateau", "stopping", "metric", "validation", "all") for many in (False, True)],
        ("resumed", False),
    ],
)
def test_an_epoch_reads_as_much_of_the_history_as_the_first(what, many, monkeypatch, tmp_path):
    """Each epoch reads a few entries at most, however long the history is."""
    module, X, y = (stack_loop if many else loop), np.eye(4), [0.0, 1.0, 0.0, 1.0]
    monkeypatch.setattr(module, "History", counting)
    reads = []
    how: dict[str, Any] = {
        "callbacks": [lambda event: reads.append(Counted.reads)],
        "epochs": 300,
        "batch_size": None,
    }
    if what != "plateau":
        how["validation"] = (X, y)
    if what in ("plateau", "all"):
        how["optimizer"] = dp.SGD(dp.ReduceOnPlateau(0.1, patience=1000))
    if what in ("stopping", "all", "resumed"):
        how["early_stopping"] = dp.EarlyStopping(1000)
    if what == "metric":
        how |= {"metrics": ["r2"], "early_stopping": dp.EarlyStopping(1000, monitor="r2")}
    if what == "resumed":
        how |= {"checkpoint": tmp_path / "run.safetensors", "checkpoint_every": 1000}
        network().fit(X, y, **how | {"epochs": 200})
        reads.clear()
        how["resume"] = True
    net = dp.NetworkStack(2, [4, 5, 1], loss="squared_error", backend="numpy") if many else network()
    net.fit(X, y, **how)
    members = 2 if many else 1
    each = np.diff(reads)
    assert len(each) > 90
    assert each.max() <= 4 * members
