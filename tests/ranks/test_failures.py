"""Whatever happens to one rank happens to all: exceptions, divergence, signals; a rank never waits for one that is gone."""

import signal
import threading
from typing import Any

import numpy as np
import pytest
from test_training import X, Y, assert_same, assert_same_bits, trained
from threads import outcomes, run_threads

import deltaprop as dp
from deltaprop.epochs.interruption import Interruption
from deltaprop.epochs.shares import SummedGradient
from deltaprop.ranks.failures import RankError, decided, failing_together, is_known_to_all
from deltaprop.ranks.launchers import Launched, launched
from deltaprop.training.callbacks import Callback
from deltaprop.training.checkpoint import read_checkpoint
from deltaprop.training.exclusive import training_of


def errors(found):
    assert not any(outcome.aborted for outcome in found)
    return [outcome.error for outcome in found]


def fitted(ranks, **options):
    net = dp.Network([9, 8, 3], loss="categorical_cross_entropy", backend="numpy", seed=2)
    defaults: dict[str, Any] = {"optimizer": dp.SGD(0.1), "epochs": 3, "batch_size": 20}
    return net, net.fit(X, Y, ranks=ranks, **defaults | options)


def test_the_stage_ends_for_all_when_one_fails():
    def run(ranks):
        with failing_together(ranks):
            if ranks.rank == 1:
                raise KeyError("a row")

    first, second, third = errors(outcomes(3, run))
    assert isinstance(second, KeyError)
    for other in (first, third):
        assert isinstance(other, RankError)
        assert str(other) == "rank 1 failed: KeyError: 'a row'"


def test_rank_0_decides_and_fails_for_all():
    assert run_threads(3, lambda ranks: decided(ranks, lambda: f"by {ranks.rank}")) == ["by 0"] * 3
    first, second = errors(outcomes(2, lambda ranks: decided(ranks, lambda: 1 // 0)))
    assert isinstance(first, ZeroDivisionError)
    assert "rank 0 failed: ZeroDivisionError" in str(second)


@pytest.mark.parametrize("ending", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_all_end_as_one_was_asked_to(ending):
    def run(ranks):
        with failing_together(ranks):
            if ranks.rank == 1:
                raise ending

    def decide():
        raise ending

    for found in (errors(outcomes(2, run)), errors(outcomes(2, lambda ranks: decided(ranks, decide)))):
        assert [type(error) for error in found] == [type(ending)] * 2
        assert [getattr(error, "code", 3) for error in found] == [3, 3]


def test_a_schedule_that_ends_the_process_ends_all(tmp_path):
    def schedule(epoch, history):
        if epoch == 2:
            raise SystemExit(4)
        return 0.1

    options = {"optimizer": dp.SGD(schedule), "checkpoint": tmp_path / "run.safetensors"}
    assert [error.code for error in errors(outcomes(3, lambda ranks: fitted(ranks, **options)))] == [4] * 3


def test_two_weights_that_change_places_on_rank_0_do_so_on_all():
    def swap(event):
        flat = event.network.parameters
        flat[[0, 1]] = flat[[1, 0]]

    found = run_threads(2, lambda ranks: fitted(ranks, callbacks=[swap]))
    assert_same_bits(found)


class Clips(Callback):
    every_steps = 1

    def __init__(self, when):
        self.when = when

    def clip(self, when, event):
        if when == self.when:
            np.clip(event.network.parameters, -0.2, 0.2, out=event.network.parameters)
            event.network.seed = 17

    def on_epoch_begin(self, event):
        self.clip("begin of an epoch", event)

    def on_step_end(self, event):
        self.clip("step", event)

    def on_epoch_end(self, event):
        self.clip("end of an epoch", event)

    def on_fit_end(self, event):
        self.clip("end", event)


@pytest.mark.parametrize("when", ["begin of an epoch", "step", "end of an epoch", "end"])
def test_what_a_callback_changes_at_any_time_is_changed_on_all(when):
    found = run_threads(3, lambda ranks: fitted(ranks, callbacks=[Clips(when)]))
    assert_same_bits(found)
    assert {net.seed for net, _ in found} == {17}
    assert_same(found[0], fitted(None, callbacks=[Clips(when)]))


@pytest.mark.parametrize("options", [{"checkpoint": True}, {"checkpoint_every": 3}], ids=str)
def test_whether_there_is_a_checkpoint_has_to_be_the_same(options, tmp_path):
    path = {"checkpoint": tmp_path / "run.safetensors"}

    def run(ranks):
        given = path if "checkpoint" in options else path | options
        return fitted(ranks, **(given if ranks.rank else {} if "checkpoint" in options else path))

    for error in errors(outcomes(2, run)):
        assert "ranks: expected the same " in str(error)
        assert "checkpoint" in str(error)


def test_rank_0_says_whether_to_resume(tmp_path):
    path = tmp_path / "run.safetensors"
    fitted(None, checkpoint=path, epochs=2)
    found = run_threads(2, lambda ranks: fitted(ranks, checkpoint=path, resume=not ranks.rank, epochs=4))
    assert_same_bits(found)
    assert_same(found[0], fitted(None, epochs=4))


def test_a_metric_that_is_no_number_is_refused_on_all():
    options = {"validation": (X[:9], Y[:9]), "metrics": [lambda h, y: (i for i in "ab")]}
    first, second = errors(outcomes(2, lambda ranks: fitted(ranks, **options)))
    assert "metrics: expected a number from" in str(first)
    assert isinstance(second, RankError)


def test_a_network_that_another_call_trains_is_refused_on_all():
    def run(ranks):
        net = dp.Network([9, 8, 3], loss="categorical_cross_entropy", backend="numpy")
        if ranks.rank:
            return net.fit(X, Y, ranks=ranks)
        with training_of(net):
            return net.fit(X, Y, ranks=ranks)

    first, second = errors(outcomes(2, run))
    assert "is being trained by another call" in str(first)
    assert isinstance(second, RankError)


@pytest.mark.parametrize("wrong", ["argument", "data"])
def test_a_bad_argument_on_one_rank(wrong):
    def run(ranks):
        bad = X.copy()
        bad[5, 2] = np.nan
        net = dp.Network([9, 8, 3], loss="categorical_cross_entropy", backend="numpy")
        is_bad = ranks.rank == 1
        net.fit(bad if is_bad and wrong == "data" else X, Y, epochs=0 if is_bad and wrong != "data" else 2, ranks=ranks)

    first, second = errors(outcomes(2, run))
    assert isinstance(second, ValueError)
    assert isinstance(first, RankError)
    assert ("X[5, 2]" if wrong == "data" else "epochs") in str(first)


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("batch_size", lambda rank: {"batch_size": 20 + rank}),
        ("optimizer", lambda rank: {"optimizer": dp.SGD(0.1 + rank)}),
        ("epochs", lambda rank: {"epochs": 3 + rank}),
        ("dropout", lambda rank: {"dropout": 0.1 * rank}),
        ("validation X", lambda rank: {"validation": (X[rank : rank + 9], Y[:9])}),
    ],
)
def test_arguments_have_to_be_the_same(what, options):
    for error in errors(outcomes(2, lambda ranks: fitted(ranks, **options(ranks.rank)))):
        assert isinstance(error, ValueError)
        assert str(error).startswith(f"ranks: expected the same {what} on every rank, got ")


@pytest.mark.parametrize("what", ["seed", "X", "layer_sizes"])
def test_networks_and_data_have_to_be_the_same(what):
    def run(ranks):
        own = ranks.rank if what == "seed" else 0
        units = 5 + (ranks.rank if what == "layer_sizes" else 0)
        net = dp.Network([9, units, 3], loss="categorical_cross_entropy", backend="numpy", seed=own)
        rows = slice(ranks.rank, None, 2) if what == "X" else slice(None)  # a share of the rows, as other libraries ask
        net.fit(X[:100][rows], Y[:100][rows], ranks=ranks)

    for error in errors(outcomes(2, run)):
        assert isinstance(error, ValueError)
        assert f"the same {what} on every rank" in str(error)


def test_other_parameters_are_replaced_by_those_of_rank_0():
    def run(ranks):
        net = dp.Network([9, 14, 8, 3], loss="categorical_cross_entropy", backend="numpy", seed=4)
        if ranks.rank:
            net.parameters[...] = 0.5
        options: dict[str, Any] = {"batch_size": 32, "validation": (X[:31], Y[:31]), "metrics": ["accuracy"]}
        return net, net.fit(X, Y, optimizer=dp.Adam(0.02), epochs=3, ranks=ranks, **options)

    found = run_threads(3, run)
    assert_same_bits(found)
    assert_same(found[0], trained(None, dp.Adam(0.02), metrics=["accuracy"]))


class Told(Callback):
    """It notes what it is told, and may change the network."""

    every_steps = 2

    def __init__(self, fails=None):
        self.events, self.fails = [], fails

    def on_fit_begin(self, event):
        self.note("begin", event)

    def on_epoch_begin(self, event):
        self.note(f"epoch {event.epoch}", event)

    def on_step_end(self, event):
        self.note(f"step {event.step}", event)
        self.cost = event.cost

    def on_epoch_end(self, event):
        self.note(f"end of {event.epoch}", event)
        event.network.parameters *= 0.9

    def on_fit_end(self, event):
        self.note("end", event)

    def note(self, what, event):
        self.events.append(what)
        if what == self.fails:
            raise LookupError(what)


def test_rank_0_calls_callbacks_and_what_they_change_is_changed_on_all():
    watched = [Told() for _ in range(3)]
    alone = Told()
    found = run_threads(3, lambda ranks: fitted(ranks, callbacks=[watched[ranks.rank]], epochs=2))
    assert_same_bits(found)
    assert_same(found[0], fitted(None, callbacks=[alone], epochs=2))
    assert watched[0].events == alone.events
    assert abs(watched[0].cost - alone.cost) < 1e-12  # the mean over all ranks' rows
    assert not watched[1].events
    assert not watched[2].events


@pytest.mark.parametrize("when", ["begin", "epoch 2", "step 4", "end of 1", "end"])
def test_a_callback_that_fails_ends_all(when):
    found = errors(outcomes(3, lambda ranks: fitted(ranks, callbacks=[Told(fails=when)])))
    assert isinstance(found[0], LookupError)
    assert all(isinstance(other, RankError) and "LookupError" in str(other) for other in found[1:])
    assert all(is_known_to_all(error) for error in found)


def test_a_callback_ends_training_on_all():
    def stop(event):
        return event.epoch == 2

    for net, history in run_threads(3, lambda ranks: fitted(ranks, callbacks=[stop], epochs=9)):
        assert (net.epochs_trained, history.message) == (2, "stopped by a callback after epoch 2")


def test_a_failure_inside_a_step_ends_all_in_that_step(monkeypatch):
    calls = dict.fromkeys(range(3), 0)
    before = SummedGradient.__call__

    def failing(self, compute, *, leaves_off):
        rank = self.ranks.rank
        calls[rank] += 1

        def computed():
            if rank == 2 and calls[rank] == 7:
                raise MemoryError("no room")
            compute()

        return before(self, computed, leaves_off=leaves_off)

    monkeypatch.setattr(SummedGradient, "__call__", failing)
    found = errors(outcomes(3, fitted))
    assert isinstance(found[2], MemoryError)
    assert [str(error) for error in found[:2]] == ["rank 2 failed: MemoryError: no room"] * 2
    assert set(calls.values()) == {7}


@pytest.mark.parametrize("backend", ["numpy", "reference"])
def test_divergence_is_found_by_all(backend):
    def run(ranks):
        net = dp.Network([9, 6, 3], hidden_activation="relu", loss="squared_error", backend=backend, seed=1)
        kept = net.parameters.copy()
        try:
            net.fit(X * 1e3, Y, optimizer=dp.SGD(1e3), batch_size=25, epochs=4, ranks=ranks)
        except dp.DivergenceError as error:
            return str(error), error.step, error.layer, np.array_equal(net.parameters, kept)
        return None

    alone, found = run(None), run_threads(3, run)
    assert found[0] is not None
    assert found == [found[0]] * 3
    assert found[0][1:] == alone[1:]
    assert found[0][3]  # nothing of the first epoch is kept


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_one_rank_is_heard_by_all(tmp_path, monkeypatch, number):
    """Nothing is lost: the run goes on from the step that was done, and ends as one that was not disturbed."""
    path, local, before = tmp_path / "run.safetensors", threading.local(), Interruption.__call__

    def signalled(self):
        local.asked = getattr(local, "asked", 0) + 1
        if getattr(local, "rank", 0) == 1 and local.asked == 9:
            self.signal = int(number)
        return before(self)

    def run(ranks, **options):
        local.rank = ranks.rank
        return fitted(ranks, checkpoint=path, resume=True, epochs=4, **options)

    monkeypatch.setattr(Interruption, "__call__", signalled)
    found = errors(outcomes(2, run))
    expected = KeyboardInterrupt if number == signal.SIGINT else SystemExit
    assert [type(error) for error in found] == [expected] * 2
    monkeypatch.setattr(Interruption, "__call__", before)
    position = read_checkpoint(path)[1].position
    assert (position.epoch, position.batch) == (1, 2)
    resumed = run_threads(3, run)
    assert_same_bits(resumed)
    assert_same(resumed[0], fitted(None, epochs=4))


def test_launchers_are_known_by_their_variables(monkeypatch):
    for variable in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(variable, raising=False)
    assert launched() is None
    monkeypatch.setenv("PMI_SIZE", "1")
    assert launched() is None
    monkeypatch.setenv("PMI_SIZE", "6")
    assert launched() == Launched(6, "PMI_SIZE", "mpiexec of MPICH or Intel MPI")


@pytest.mark.parametrize("ranks", ["nccl", 4, object()])
def test_what_are_no_ranks(ranks):
    with pytest.raises((ValueError, TypeError), match='ranks: expected None, "mpi" or an mpi4py'):
        fitted(ranks)
