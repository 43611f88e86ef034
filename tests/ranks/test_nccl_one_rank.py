"""One rank by itself, on a device: its steps captured with the sum in them, and not captured, learn the same."""

import dataclasses
import gc
import json
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import test_nccl
from cases import OPTIMIZERS, relative
from conftest import real_device_or_skip
from deltaprop.benches.contestants import Case
from deltaprop.benches.gpu_parts import nccl as part
from deltaprop.benches.gpu_parts.channel import Channel, NotHereError
from deltaprop.benches.gpu_parts.nccl import share_out
from deltaprop.benches.gpu_parts.part import Options
from fake_nccl import RankDevice
from host_cuda import HostCudaBackend, counting
from test_training import LABELS, M, X

import deltaprop as dp
from deltaprop.derivation.backprop import Objective
from deltaprop.epochs.graph import GraphEpoch, Replay
from deltaprop.epochs.graph_shared import MOST_ROOMS, STEPS_BETWEEN_NEWS, GraphSharedEpoch, layout_of
from deltaprop.epochs.shares import Shares
from deltaprop.epochs.trainer import Trainer
from deltaprop.errors import BackendError
from deltaprop.ranks import nccl as nccl_ranks
from deltaprop.ranks.base import ALONE
from deltaprop.ranks.nccl import NcclRanks
from deltaprop.reports.progress import Silent

world = test_nccl.world


@contextmanager
def one_rank(device) -> Iterator[NcclRanks]:
    with NcclRanks(ALONE, device) as ranks:
        yield ranks


def make_trainer(backend, optimizer, batch_size=8, dtype="float64", l2=0.1):
    net = dp.Network([9, 14, 8, 3], loss="categorical_cross_entropy", backend=backend, dtype=dtype, seed=4)
    Y = np.eye(3)[LABELS]
    inputs, targets = (net.backend.asarray(array, net.dtype) for array in (X, Y))
    return Trainer(net, inputs, targets, optimizer, Objective(l2), batch_size, shuffled=True)


def epochs(trainer, count=2):
    """Train; return J of each epoch."""
    costs = []
    for epoch in range(count):
        trainer.epoch(0.05, np.random.default_rng(epoch).permutation(M), Silent())
        costs.append(trainer.total())
    return costs


def parameters(trainer):
    return trainer.network.backend.to_numpy(trainer.network.parameters)


def compare(device, optimizer, dtype, tolerance):
    """Captured and not captured, with the sum of one rank, against NumPy by itself."""
    alone = make_trainer("reference", optimizer)
    expected = epochs(alone)
    with one_rank(device) as ranks:
        for captured in (True, False):
            trainer = make_trainer(device, optimizer, dtype=dtype)
            share_out(trainer, ranks, captured=captured)
            assert epochs(trainer) == pytest.approx(expected, rel=tolerance)
            assert relative(parameters(trainer), parameters(alone)) < tolerance


@pytest.fixture
def device(world):
    world.here.device = RankDevice("0000:01:00.0")
    return world.here.device


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_captured_or_not(device, world, optimizer):
    compare(device, optimizer, "float64", 1e-12)
    assert [communicator.ended for communicator in world.made] == ["destroyed"]
    assert world.made[0].sums[True] > 0


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_captured_or_not_on_a_real_device(optimizer, dtype):
    device = real_device_or_skip("NCCL")
    try:
        nccl_ranks.import_nccl()
    except BackendError as error:
        pytest.skip(str(error))
    if not device.products.capturable:
        pytest.skip("nvmath-python is not installed, which CUDA graphs need for matrix products")
    compare(device, optimizer, dtype, {"float64": 1e-12, "float32": 1e-4}[dtype])


def test_no_step_waits_for_the_device(device):
    """While graphs run, the host allocates nothing and waits for nothing; it hears the news every so many steps."""
    heard = []

    class Counted(NcclRanks):
        def sum_host(self, numbers):
            heard.append(list(numbers))
            return super().sum_host(numbers)

    with Counted(ALONE, device) as ranks:
        trainer = make_trainer(device, dp.Adam(0.02), batch_size=1)
        share_out(trainer, ranks, captured=True)
        epochs(trainer)
        heard.clear()
        given = trainer.begin(0.05, np.random.default_rng(9).permutation(M), Silent())
        with counting(device) as counted:
            trainer.minibatches(given)
        assert (counted["waits"], counted["allocates"]) == (0, 0)
        assert heard == [[False]] * -(-M // STEPS_BETWEEN_NEWS)  # whether to leave off; one rank fails alone


def test_what_is_compiled_beforehand_sums_nothing(device, world, monkeypatch):
    """`compile_for` calls a step, and launches nothing."""
    noted: list[bool] = []

    def compile_for(self, step):
        before, self._here.wanted = dict(world.made[0].sums), set()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(HostCudaBackend, "_kernel", lambda *_, **__: lambda *_, **__: None)
            step()
        self._here.wanted = None
        noted.append(world.made[0].sums == before)

    alone = make_trainer("reference", dp.SGD(0.05))
    epochs(alone)
    with one_rank(device) as ranks:
        trainer = make_trainer(device, dp.SGD(0.05))
        share_out(trainer, ranks, captured=True)
        monkeypatch.setattr(HostCudaBackend, "compile_for", compile_for)
        epochs(trainer)
        assert relative(parameters(trainer), parameters(alone)) < 1e-12
    assert noted == [True, True]


def shares_of(sizes, counts):
    """Return shares in which the first rows of each minibatch are this rank's."""
    starts, whole = (np.concatenate([[0], np.cumsum(of_each)]) for of_each in (counts, sizes))
    return Shares(starts, whole, np.zeros(len(sizes), np.int64))


@pytest.mark.parametrize(
    ("sizes", "counts", "expected"),
    [
        ((8, 8, 8), (3, 3, 3), (3, 8, 0, 3, 0)),
        ((8, 8, 5), (3, 3, 2), (2, 8, 5, 3, 2)),
        ((8, 8, 5), (3, 3, 3), (2, 8, 5, 3, 3)),
        ((8, 8, 5), (0, 0, 1), (2, 8, 5, 0, 1)),
        ((4,), (0,), (1, 4, 0, 0, 0)),
        ((8, 8, 8), (3, 2, 3), None),
        ((8, 8, 8), (3, 3, 2), None),
        ((8, 7, 8), (3, 3, 3), None),
    ],
)
def test_how_rows_lie(sizes, counts, expected):
    layout = layout_of(shares_of(sizes, counts))
    assert (None if layout is None else dataclasses.astuple(layout)) == expected
    if layout is not None:
        assert (layout.batches, layout.rows) == (len(sizes), sum(counts))


def test_shares_may_change(device, monkeypatch):
    """Rows that lie otherwise in later epochs are captured anew or, if they cannot be, trained on step by step."""
    sizes, taken = [8] * 12 + [5], []
    before = GraphSharedEpoch._replay_some
    monkeypatch.setattr(GraphSharedEpoch, "_replay_some", lambda self, *a: (taken.append(a[1:3]), before(self, *a))[1])
    with one_rank(device) as ranks:
        trainer, alone = (make_trainer(backend, dp.SGD(0.05)) for backend in (device, "reference"))
        share_out(trainer, ranks, captured=True)
        for epoch, counts in enumerate([sizes, [6] * 12 + [0], [8, 3] * 6 + [5], sizes]):
            order = np.random.default_rng(epoch).permutation(M)
            trainer.shares = shares_of(sizes, counts)
            trainer.epoch(0.05, order, Silent())
            textbook(alone, order, sizes, counts)
            assert relative(parameters(trainer), parameters(alone)) < 1e-12
    assert taken == [(0, 12), (12, 13)] * 3


def test_epochs_of_several_kinds_stay_captured(device, world, monkeypatch):
    """As chunks are, whose last is shorter; the first of more than four kinds is forgotten."""
    made = []
    graph = Replay._graph
    monkeypatch.setattr(Replay, "_graph", lambda self, n: (n in self.graphs or made.append(n), graph(self, n))[1])
    kinds = [[8] * 12 + [5], [8] * 7, [9] * 5 + [1], [10] * 6, [11] * 3]
    with one_rank(device) as ranks:
        trainer, alone = (make_trainer(backend, dp.SGD(0.05)) for backend in (device, "reference"))
        share_out(trainer, ranks, captured=True)
        way: Any = trainer.whole_epoch
        for number, kind in enumerate([0, 1, 0, 1, 2, 3, 0, 4, 0]):
            sizes = kinds[kind]
            order, captured = np.random.default_rng(number).permutation(M), len(made)
            trainer.sizes, trainer.shares = tuple(sizes), shares_of(sizes, sizes)
            trainer._same_terms = None
            trainer.epoch(0.05, order, Silent())
            textbook(alone, order, sizes, sizes)
            assert relative(parameters(trainer), parameters(alone)) < 1e-12
            # The first steps of a size are launched, so that a graph of the last one is captured the second time.
            assert (len(made) > captured) == (number not in (3, 6))
            assert len(way.rooms) <= MOST_ROOMS
    assert [communicator.ended for communicator in world.made] == ["destroyed"]


def textbook(trainer, order, sizes, counts):
    """Descend by the gradient of the first rows of each minibatch, sample by sample."""
    net, start = trainer.network, 0
    for m, count in zip(sizes, counts, strict=True):
        gradient = np.zeros_like(net.parameters)
        for i in order[start : start + count]:
            gradient += net.cost_and_gradient(X[i : i + 1], np.eye(3)[LABELS[i : i + 1]])[1].flat / m
        gradient[: net.n_weights] += 0.1 / M * net.flat_weights
        net.parameters -= 0.05 * gradient
        start += m


def test_what_is_on_the_device_is_let_go_of(device):
    """An epoch is freed with its trainer, though the ranks know of it."""
    with one_rank(device) as ranks:
        gc.disable()
        try:
            trainer = make_trainer(device, dp.Adam(0.02))
            share_out(trainer, ranks, captured=True)
            epochs(trainer)
            epoch = weakref.ref(trainer.whole_epoch)
            del trainer
            assert epoch() is None
        finally:
            gc.enable()


def test_the_log_names_it(device, caplog):
    with one_rank(device) as ranks:
        trainer = make_trainer(device, dp.Adam(0.02))
        share_out(trainer, ranks, captured=True)
        way: Any = trainer.whole_epoch
        assert (way.label, way.details) == ("captured steps, CUDA graphs, summed over ranks by NCCL", "1 ranks")
        ranks.captures = False
        assert GraphSharedEpoch.find(trainer.task) is None
        assert GraphSharedEpoch.obstacle(trainer.task) == "the steps of some rank cannot be captured"
        assert GraphSharedEpoch.obstacle(make_trainer(device, dp.Adam()).task) == (
            "the ranks do not add up arrays of devices"
        )


class Told(Channel):
    """A channel whose messages are kept."""

    def __init__(self):
        self.messages: list[Any] = []

    def _send(self, message):
        self.messages.append(json.loads(json.dumps(message)))


def test_the_part_of_the_benchmark(device, world, monkeypatch):
    monkeypatch.setattr(part, "make_case", lambda number, rehearse: Case((5 + number, 6, 3), 4, 3))
    monkeypatch.setattr(part, "CASES", (0, 1))
    monkeypatch.setattr(dp, "get_backend", lambda name: device)
    monkeypatch.setattr(part, "make_trainer", lambda case, backend, before=part.make_trainer: before(case, device))
    tell = Told()
    part.run(Options(60.0), tell)
    plan, *rows = tell.messages
    assert plan == {"plan": ["5-6-3 b4", "6-6-3 b4"]}
    for row in rows:
        assert row["row"]["distance"] < 1e-6
        assert set(row["row"]["microseconds"]) == {"alone", "with the sum", "not captured"}
    assert [communicator.ended for communicator in world.made] == ["destroyed"]
    assert type(part.make_trainer(Case((5, 3), 2, 2), device).whole_epoch) is GraphEpoch  # the way of one process


def test_the_part_says_where_there_is_no_nccl(world):
    world.available = False
    with pytest.raises(NotHereError, match="NCCL"):
        part.run(Options(60.0), Told())


def test_other_numbers_fail(device, monkeypatch):
    monkeypatch.setattr(part, "FAR", 0.0)
    tell = Told()
    with (
        pytest.raises(SystemExit, match="captured steps leave other numbers than steps that are not: 5-3 b2"),
        one_rank(device) as ranks,
    ):
        part.measure([Case((5, 3), 2, 2)], device, ranks, tell)
    assert tell.messages[-1]["row"]["failed"]
