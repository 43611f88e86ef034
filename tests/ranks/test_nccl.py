"""Ranks with a device each: captured steps with sums in them, by threads, emulated devices and a stand-in for NCCL."""

from typing import Any

import numpy as np
import pytest
from conftest import require_emulation
from fake_nccl import FakeNccl, RankDevice, in_place_of_nccl
from host_cuda import HostCudaBackend, in_place_of_cupy
from test_training import CASES, M, X, Y
from threads import run_threads

import deltaprop as dp
from deltaprop.epochs.graph import STEPS_A_GRAPH, Replay
from deltaprop.training.callbacks import Callback


@pytest.fixture
def world():
    require_emulation()
    with in_place_of_cupy(HostCudaBackend()), in_place_of_nccl(FakeNccl()) as world:
        yield world


def on_device(world, ranks, *, bus=None):
    """Return the device of a rank, and let its thread know it."""
    world.here.device = RankDevice(f"0000:{ranks.rank if bus is None else bus:02x}:00.0")
    return world.here.device


def trained(backend, ranks, optimizer, *, dtype="float64", precision=None, epochs=3, **options):
    shape: dict[str, Any] = {"dtype": dtype, "precision": precision, "seed": 4}
    net = dp.Network([9, 14, 8, 3], loss="categorical_cross_entropy", backend=backend, **shape)
    defaults: dict[str, Any] = {"batch_size": 32, "validation": (X[:31], Y[:31]), "metrics": ["accuracy"]}
    history = net.fit(X, Y, optimizer=optimizer, epochs=epochs, ranks=ranks, **defaults | options)
    return net.backend.to_numpy(net.parameters), history


def assert_as_alone(found, optimizer, tolerance=1e-12, **options):
    """All ranks have the same bits, and the numbers of one rank that trains by NumPy."""
    (parameters, history), *others = found
    for other, of_other in others:
        assert other.tobytes() == parameters.tobytes()
        assert of_other == history
    alone, of_alone = trained("reference", None, optimizer, **options)
    np.testing.assert_allclose(parameters, alone, rtol=0, atol=tolerance)
    for name in ("cost", "validation_cost", "learning_rate"):
        np.testing.assert_allclose(getattr(history, name), getattr(of_alone, name), rtol=tolerance)


def all_trained(world, size, optimizer, **options):
    found = run_threads(size, lambda ranks: trained(on_device(world, ranks), ranks, optimizer, **options))
    assert [communicator.ended for communicator in world.made] == ["destroyed"] * size
    return found


UNCAPTURED = {"dropout", "a rule of one's own"}


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", CASES)
def test_as_one_rank(world, name, size):
    optimizer, options = CASES[name]
    assert_as_alone(all_trained(world, size, optimizer, **options), optimizer, **options)
    for communicator in world.made:
        assert (communicator.sums[True] > 0) == (name not in UNCAPTURED)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("batch_size", "size"), [(1, 3), (5, 3), (8, 3), (2, 4), (101, 2)])
def test_every_share_of_a_minibatch(world, batch_size, size, dtype):
    """No rows, as many rows of the last minibatch as of the others, which holds for some ranks only, fewer, more."""
    tolerance = {"float64": 1e-12, "float32": 1e-4}[dtype]
    options: dict[str, Any] = {"batch_size": batch_size, "epochs": 2, "dtype": dtype, "l2": 0.1}
    optimizer = dp.SGD(0.05)
    assert_as_alone(all_trained(world, size, optimizer, **options), optimizer, tolerance, **options)


def test_ranks_capture_a_graph_once(world, monkeypatch):
    """The same on all: a graph of many steps, one of one step, and one for the minibatch at the end."""
    made = []
    graph = Replay._graph
    monkeypatch.setattr(Replay, "_graph", lambda self, n: (n in self.graphs or made.append(n), graph(self, n))[1])
    assert_as_alone(all_trained(world, 2, dp.SGD(0.05), batch_size=3), dp.SGD(0.05), batch_size=3)
    assert M == 33 * 3 + 2
    # After the first step, which is launched as it is, 32 are left in the first epoch and 33 in the next.
    assert sorted(made) == sorted(2 * [STEPS_A_GRAPH, 1, 1])


def test_steps_are_told_of_as_they_are_done(world):
    """By rank 0, which alone has callbacks; graphs end where somebody asks."""

    class Told(Callback):
        every_steps = 5

        def __init__(self):
            self.steps = list[int]()

        def on_step_end(self, event):
            self.steps.append(event.step)

    told = [Told(), Told()]
    options: dict[str, Any] = {"batch_size": 8, "epochs": 2}
    found = run_threads(
        2,
        lambda ranks: trained(on_device(world, ranks), ranks, dp.SGD(0.05), callbacks=[told[ranks.rank]], **options),
    )
    assert_as_alone(found, dp.SGD(0.05), **options)
    assert (told[0].steps, told[1].steps) == ([5, 10, 15, 20, 25], [])


def test_hidden_layers_in_16_bits(world):
    """The sum and the update are in 32 bits, as they are for one process."""
    options: dict[str, Any] = {"batch_size": 16, "epochs": 2, "dtype": "float32", "validation": None, "metrics": None}

    def run(ranks):
        return trained(on_device(world, ranks), ranks, dp.SGD(0.05), precision="bf16", **options)

    (parameters, _), (other, _) = run_threads(2, run)
    assert parameters.tobytes() == other.tobytes()
    alone, _ = trained("reference", None, dp.SGD(0.05), **options)
    np.testing.assert_allclose(parameters, alone, rtol=0, atol=1e-2)
