"""What goes wrong on one of several devices ends all ranks, or is done without by all; NCCL never waits for a graph."""

import re
import signal
import sys
import threading
from importlib.machinery import PathFinder
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import test_nccl
from fake_nccl import FakeNccl, RankDevice
from host_cuda import CUDARuntimeError, Graph
from test_nccl import assert_as_alone, on_device, trained
from test_training import X, Y
from threads import outcomes, run_threads

import deltaprop as dp
from deltaprop.backends.numpy.backend import NumpyBackend
from deltaprop.epochs.graph_shared import STEPS_BETWEEN_NEWS, GraphSharedEpoch, SharedReplay
from deltaprop.epochs.interruption import Interruption
from deltaprop.epochs.shared_steps import SharedSteps
from deltaprop.ranks import nccl as nccl_ranks
from deltaprop.ranks.failures import RankError, is_known_to_all
from deltaprop.training.checkpoint import read_checkpoint

world = test_nccl.world


def ended(world, size, optimizer=dp.SGD(0.05), **options):  # noqa: B008  (it is frozen)
    """Return the errors of ranks that train on a device each, which all know of."""
    found = outcomes(size, lambda ranks: trained(on_device(world, ranks), ranks, optimizer, **options))
    assert not any(outcome.aborted for outcome in found)
    assert all(outcome.error is not None and is_known_to_all(outcome.error) for outcome in found)
    return [outcome.error for outcome in found]


@pytest.mark.parametrize("when", [1, 3, 5])
def test_a_launch_that_fails_on_one_rank(world, monkeypatch, when):
    """The devices of the others wait for a sum that never comes; they are let go, and the graphs before."""
    launches = dict.fromkeys(range(3), 0)
    launch = SharedReplay.launch

    def failing(self, times):
        rank = self.ranks.rank
        launches[rank] += 1
        if (rank, launches[rank]) == (1, when):
            raise CUDARuntimeError("too many resources requested")
        launch(self, times)

    monkeypatch.setattr(SharedReplay, "launch", failing)
    first, second, third = ended(world, 3)
    assert isinstance(second, CUDARuntimeError)
    for other in (first, third):
        assert isinstance(other, RankError)
        assert str(other) == "rank 1 failed: CUDARuntimeError: too many resources requested"
    assert [communicator.ended for communicator in world.made] == ["aborted"] * 3
    assert world.made[0].group.stuck
    assert len(set(launches.values())) == 1


@pytest.mark.parametrize("where", ["_send", "_replay"])
def test_a_rank_that_fails_before_it_launches(world, monkeypatch, where):
    before = getattr(GraphSharedEpoch, where)

    def failing(self, *arguments):
        if self.ranks.rank == 0:
            raise MemoryError("no room")
        return before(self, *arguments)

    monkeypatch.setattr(GraphSharedEpoch, where, failing)
    first, second = ended(world, 2)
    assert isinstance(first, MemoryError)
    assert str(second) == "rank 0 failed: MemoryError: no room"
    assert [communicator.ended for communicator in world.made] == ["aborted"] * 2


def test_a_graph_that_one_rank_refuses(world, monkeypatch):
    """NCCL wants a sum captured by all or by none: all launch step by step."""
    without_graphs: list[Any] = []
    capture = RankDevice.capture

    def refusing(self, stream, body):
        graph = capture(self, stream, body)
        if self is without_graphs[0]:
            raise CUDARuntimeError("no graphs")
        return graph

    def run(ranks):
        device = on_device(world, ranks)
        if ranks.rank == 1:
            without_graphs.append(device)
        ranks.gather(None)  # the rank that refuses is known
        return trained(device, ranks, dp.Adam(0.02), batch_size=8)

    monkeypatch.setattr(RankDevice, "capture", refusing)
    with pytest.warns(RuntimeWarning, match="no graphs.*steps are launched one by one"):
        found = run_threads(2, run)
    assert_as_alone(found, dp.Adam(0.02), batch_size=8)
    assert [communicator.ended for communicator in world.made] == ["destroyed"] * 2
    assert world.made[0].sums == world.made[1].sums
    assert world.made[0].sums[False] == 3 * 13 + 1  # every step of three epochs, and one to connect the devices


def test_a_rank_whose_steps_cannot_be_captured(world):
    """Where the products of one cannot be captured, no rank captures."""

    def run(ranks):
        device = on_device(world, ranks)
        if ranks.rank == 1:
            device._found.failed.add("capturing a step as a CUDA graph")
        return trained(device, ranks, dp.SGD(0.05))

    assert_as_alone(run_threads(2, run), dp.SGD(0.05))
    assert [communicator.sums[True] for communicator in world.made] == [0, 0]


def test_a_graph_that_is_dropped_while_its_error_is_looked_at(world, monkeypatch):
    """The frames of a traceback hold what is in them: graphs are dropped, not only forgotten."""

    def failing(self, stream):
        raise CUDARuntimeError("launch failed")

    monkeypatch.setattr(Graph, "launch", failing)
    assert all(isinstance(error, CUDARuntimeError) for error in ended(world, 2))
    assert all(communicator.captured for communicator in world.made)
    assert [communicator.ended for communicator in world.made] == ["aborted"] * 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("asked_at", "left_off"), [(1, (0, STEPS_BETWEEN_NEWS)), (2, (1, 0)), (4, (1, 64))])
def test_a_signal_is_heard_between_launches(world, tmp_path, monkeypatch, number, asked_at, left_off):
    """All leave off after the same step; another number of ranks goes on from there, and ends as one by itself.

    Of the 101 steps of an epoch, the hosts talk after 64 and after the last, and once more between epochs.
    """
    path, local = tmp_path / "run.safetensors", threading.local()
    options: dict[str, Any] = {"batch_size": 1, "epochs": 2}

    def signalled(self):
        local.asked += 1
        if (local.rank, local.asked) == (1, asked_at):
            self.signal = int(number)
        return self.signal is not None

    def run(ranks):
        local.rank, local.asked = ranks.rank, 0
        return trained(on_device(world, ranks), ranks, dp.Adam(0.02), checkpoint=path, resume=True, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Interruption, "__call__", signalled)
        errors = [outcome.error for outcome in outcomes(2, run)]
    expected = KeyboardInterrupt if number == signal.SIGINT else SystemExit
    assert [type(error) for error in errors] == [expected] * 2
    position = read_checkpoint(path)[1].position
    assert (position.epoch, position.batch) == left_off
    world.asked = [0] * 3  # they are other processes
    assert_as_alone(run_threads(3, run), dp.Adam(0.02), **options)


def test_divergence_is_found_by_all(world):
    def run(ranks):
        net = dp.Network(
            [9, 6, 3], hidden_activation="relu", loss="squared_error", backend=on_device(world, ranks), seed=1
        )
        with pytest.raises(dp.DivergenceError) as told:
            net.fit(X * 1e3, Y, optimizer=dp.SGD(1e3), batch_size=25, epochs=4, ranks=ranks)
        return str(told.value), told.value.step, told.value.layer

    found = run_threads(3, run)
    assert found == [found[0]] * 3
    net = dp.Network([9, 6, 3], hidden_activation="relu", loss="squared_error", backend="reference", seed=1)
    with pytest.raises(dp.DivergenceError) as told:
        net.fit(X * 1e3, Y, optimizer=dp.SGD(1e3), batch_size=25, epochs=4)
    assert found[0][1:] == (told.value.step, told.value.layer)


def test_steps_that_are_not_captured_fail_together(world, monkeypatch):
    """Dropout goes this way; the device of the rank that fails is asked for nothing more."""
    before = SharedSteps._differentiate

    def failing(self, minibatch, scale):
        if (self.sum.ranks.rank, minibatch.number) == (1, 2):
            monkeypatch.setattr(type(self.network.backend), "fill", None)
            raise CUDARuntimeError("illegal address")
        before(self, minibatch, scale)

    monkeypatch.setattr(SharedSteps, "_differentiate", failing)
    first, second = ended(world, 2, dropout=0.3)
    assert isinstance(second, CUDARuntimeError)
    assert str(first) == "rank 1 failed: CUDARuntimeError: illegal address"
    assert not world.made[0].group.stuck


# -- what is refused before anything is trained -----------------------------------------------------------------------


def refused(world, device_of, size=2):
    """Return the message of the `BackendError` that all ranks raise."""

    def run(ranks):
        world.here.device = device = device_of(ranks)
        before = device.to_numpy(dp.Network([9, 14, 8, 3], backend=device, seed=4).parameters)
        assert before.any()
        return trained(device, ranks, dp.SGD(0.05))

    found = [outcome.error for outcome in outcomes(size, run)]
    assert all(error is not None and is_known_to_all(error) for error in found)
    return found


def test_two_ranks_on_one_device(world):
    messages = [str(error) for error in refused(world, lambda ranks: RankDevice(f"bus {ranks.rank % 2}"), 3)]
    assert messages == messages[:1] * 3
    assert re.match(
        r"ranks: expected a CUDA device for each rank, got device 0 of .* \(bus 0\) for rank 0 ", messages[0]
    )
    for hint in ("for rank 2", "device=N", 'backend="cupy:N"', "CUDA_VISIBLE_DEVICES=N"):
        assert hint in messages[0]
    assert not world.made


def test_the_same_number_and_name_on_two_machines(world, monkeypatch, tmp_path):
    """Machines may have the same name, and their devices the same places."""
    files = [tmp_path / "one", tmp_path / "other"]
    for file in files:
        file.write_text(file.name)
    here = threading.local()
    read = SimpleNamespace(read_text=lambda: here.boot.read_text())
    monkeypatch.setattr(nccl_ranks, "BOOT", read)

    def run(ranks):
        here.boot = files[ranks.rank]
        return trained(on_device(world, ranks, bus=1), ranks, dp.SGD(0.05))

    assert_as_alone(run_threads(2, run), dp.SGD(0.05))


def test_without_nccl(world, monkeypatch):
    world.available = False
    monkeypatch.setitem(sys.modules, "cupy_backends", SimpleNamespace(__path__=[]))
    for missing, expected in (
        (ImportError("libnccl.so.2: cannot open"), r"\(libnccl.so.2: cannot open\); pip install nvidia-nccl-cu13"),
        (ModuleNotFoundError("no nccl"), r"was built without NCCL.*pip install 'deltaprop\[cuda13\]'"),
    ):

        def imported(name, error=missing):
            if name == "cupy.cuda.nccl":
                return world
            raise error

        monkeypatch.setattr(nccl_ranks, "import_module", imported)
        for error in refused(world, lambda ranks: RankDevice(ranks.rank)):
            assert re.search(expected, str(error))


def test_devices_that_cannot_be_connected(world):
    world.refuses = "unhandled system error"
    for error in refused(world, lambda ranks: RankDevice(ranks.rank)):
        assert re.match(
            r"(rank 0 failed: BackendError: )?ranks: NCCL cannot connect the devices of 2 ranks "
            r"\(unhandled system error\).*NCCL_DEBUG=INFO",
            str(error),
        )


def test_other_backends(world):
    class Elsewhere(NumpyBackend):
        """A backend of somebody's own, whose arrays are not on the host."""

        name, on_host = "elsewhere", False

    def run(ranks, backend):
        return trained(backend, ranks, dp.SGD(0.05))

    for outcome in outcomes(2, lambda ranks: run(ranks, Elsewhere())):
        assert isinstance(outcome.error, dp.BackendError)
        assert str(outcome.error).startswith("ranks: expected a network on the CPU or on CUDA devices, got")
    for outcome in outcomes(2, lambda ranks: run(ranks, "numpy" if ranks.rank else on_device(world, ranks))):
        assert isinstance(outcome.error, ValueError)
        assert str(outcome.error) == (
            "ranks: expected the same backend on every rank, got 'cupy' on rank 0 and 'numpy' on rank 1"
        )


# -- the stand-in -----------------------------------------------------------------------------------------------------


def parameters_of(function, text):
    """Read the names of the parameters of a function from the docstrings in CuPy's compiled module."""
    found = re.search("\0" + re.escape(function) + r"\(([^)]*)\)", text)
    assert found is not None, function
    return [each.split("=")[0].split()[-1] for each in found[1].split(",")] if found[1] else []


def test_the_stand_in_has_the_signatures_of_the_binding():
    package = PathFinder.find_spec("cupy_backends")
    folders = package.submodule_search_locations if package is not None else None
    files = [file for folder in folders or () for file in Path(folder).glob("cuda/libs/nccl.*.so")]
    if not files:
        pytest.skip("CuPy is not installed, or has no NCCL")
    text, made = files[0].read_bytes().decode("latin-1"), FakeNccl()
    for name in ("allReduce", "destroy", "abort"):
        own = [*signature(getattr(made.NcclCommunicator, name)).parameters]
        assert own == parameters_of(f"NcclCommunicator.{name}", text), name
    given = parameters_of("NcclCommunicator", text)
    assert given[:3] == [*signature(made.NcclCommunicator).parameters][:3]
    assert [*signature(made.get_unique_id).parameters] == parameters_of("get_unique_id", text) == []


def told(found):
    """Return what the stand-in says of a rank; the other one may have waited for it."""
    return " ".join(str(outcome.error) for outcome in found if isinstance(outcome.error, AssertionError))


def test_a_sum_that_another_rank_does_not_launch_is_given_up(world):
    """The stand-in finds what would hang on devices."""

    def run(ranks):
        device = on_device(world, ranks)
        with nccl_ranks.NcclRanks(ranks, device) as together:
            array = device.zeros((3,), np.float32)
            if ranks.rank:
                together.sum(array)
            ranks.gather(None)

    assert "NCCL would wait for a sum" in told(outcomes(2, run))


def test_a_graph_that_is_not_dropped_is_found(world):
    def run(ranks):
        device = on_device(world, ranks)
        with nccl_ranks.NcclRanks(ranks, device) as together:
            array, stream = device.zeros((3,), np.float32), device.stream_for("steps")
            with device.on_stream(stream):
                kept.append(device.capture(stream, lambda: together.sum(array)))

    kept: list[Any] = []
    assert "NCCL would wait for graphs" in told(outcomes(2, run))
