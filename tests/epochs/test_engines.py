"""A table lists the ways of training by backend; a backend that it does not name trains step by step."""

from typing import Any

import numpy as np
import pytest
from cases import relative
from conftest import require_library

import deltaprop as dp
from deltaprop.backends.numpy.backend import NumpyBackend
from deltaprop.derivation.backprop import Objective
from deltaprop.doctor.textbook import trained
from deltaprop.epochs import engines
from deltaprop.epochs.compiled import CompiledEpoch
from deltaprop.epochs.compiled_members import CompiledMembers
from deltaprop.epochs.compiled_plan import PlanTable
from deltaprop.epochs.members import Member, MembersTask
from deltaprop.epochs.random_numbers import draw_order
from deltaprop.epochs.stack_trainer import StackTrainer
from deltaprop.epochs.trainer import Trainer

SIZES, BATCH, EPOCHS = [6, 5, 3], 7, 3


class Unnamed(NumpyBackend):
    """NumPy's backend under a name that no table knows."""

    name = "unnamed"


@pytest.fixture
def no_ways(monkeypatch):
    """Empty the tables, so that they know no backend."""
    for table in (engines.EPOCHS, engines.MEMBERS_EPOCHS):
        monkeypatch.delitem(table, "numpy")


@pytest.fixture
def data(rng):
    return rng.standard_normal((20, 6)), rng.integers(0, 3, 20)


def network(backend, seed=4):
    return dp.Network(SIZES, loss="categorical_cross_entropy", backend=backend, seed=seed)


def textbook(net, X, y):
    """Train sample by sample; return the parameters, and J of each epoch."""
    weights, biases = [W.copy() for W in net.weights], [b.copy() for b in net.biases]
    orders = [np.random.default_rng((net.seed, 1, epoch)).permutation(len(X)) for epoch in range(EPOCHS)]
    costs = trained(weights, biases, X, y, orders, BATCH, 0.1, dp.Adam(0.05))
    return np.concatenate([array.ravel() for array in (*weights, *biases)]), costs


HOW: dict[str, Any] = {"optimizer": dp.Adam(0.05), "batch_size": BATCH, "epochs": EPOCHS, "l2": 0.1}


def test_a_backend_without_ways_of_its_own_takes_steps(data, no_ways):
    X, y = data
    net = network(Unnamed())
    assert Trainer(net, X, np.eye(3)[y], dp.SGD(), Objective(), BATCH, shuffled=True).whole_epoch is None
    parameters, costs = textbook(net, X, y)
    history = net.fit(X, y, **HOW)
    assert relative(net.parameters, parameters) < 1e-12
    assert history.cost == pytest.approx(costs, rel=1e-12)


def test_members_are_then_trained_one_after_the_other(data, no_ways):
    X, y = data
    backend = Unnamed()
    stack = dp.NetworkStack(2, SIZES, loss="categorical_cross_entropy", backend=backend, seeds=[4, 9])
    member = Member(20, BATCH, dp.SGD(), Objective())
    assert StackTrainer(stack, X, np.eye(3)[y], [member] * 2, list(stack)).way is None
    expected = [textbook(net, X, y) for net in stack]
    histories = stack.fit(X, y, **HOW)
    for net, history, (parameters, costs) in zip(stack, histories, expected, strict=True):
        assert relative(net.parameters, parameters) < 1e-12
        assert history.cost == pytest.approx(costs, rel=1e-12)
        assert net.epochs_trained == EPOCHS


def test_a_backend_has_the_ways_of_the_one_it_derives_from(data):
    X, y = data
    ways = [
        type(Trainer(network(backend), X, np.eye(3)[y], dp.SGD(), Objective(), BATCH, shuffled=True).whole_epoch)
        for backend in (Unnamed(), NumpyBackend())
    ]
    assert ways[0] is ways[1]
    assert ways[0] is not type(None)


def test_ways_that_a_backend_is_given_are_asked_in_their_order(data, monkeypatch):
    X, y = data
    asked = []

    class First:
        @classmethod
        def find(cls, task):
            asked.append("first")

    class Second(First):
        @classmethod
        def find(cls, task):
            asked.append("second")
            return cls()

    monkeypatch.setitem(engines.EPOCHS, "unnamed", lambda: (First, Second, First))
    trainer: Any = Trainer(network(Unnamed()), X, np.eye(3)[y], dp.SGD(), Objective(), BATCH, shuffled=True)
    assert asked == ["first", "second"]
    assert type(trainer.whole_epoch) is Second


def test_the_plan_of_one_network_is_that_of_a_stack_of_one(data):
    """All their numbers and arrays are equal; only moments and scratch are the stack's own."""
    require_library()
    X, y = data
    Y = np.eye(3)[y]
    stack = dp.NetworkStack(1, SIZES, loss="categorical_cross_entropy", backend="reference")
    optimizer, moments = dp.AdamW(0.1, beta_1=0.7, weight_decay=0.2), [np.zeros((1, stack[0].parameters.size))] * 2
    one: Any = PlanTable(stack[0], X, Y, [optimizer], [moment[0] for moment in moments], [20], [BATCH])
    many = PlanTable(stack, X, Y, [optimizer], moments, [20], [BATCH])
    for table in (one, many):
        table.point_to_parameters()
    own = {"sizes", "activations", "stop"}  # the arrays of each table
    for name in one.rows.dtype.names:
        assert (one.rows[name][0] == many.rows[name][0]) == (name not in own), name
    assert (one.row.constants.beta_1, one.row.samples, one.row.batch) == (0.7, 20, BATCH)
    assert one.row.parameters == stack.parameters.ctypes.data


def test_what_the_library_does_not_know_is_left_to_the_next_way(data):
    require_library()
    X, y = data
    stack = dp.NetworkStack(1, SIZES, loss="categorical_cross_entropy", backend="numpy")
    net, dropped = stack[0], Member(20, BATCH, dp.SGD(), Objective(), dropout=(0.5,))
    task = MembersTask(stack, X, np.eye(3)[y], [dropped])
    assert CompiledMembers.find(task, None) is None  # the masks depend on each member's seed
    assert CompiledMembers.find(task, [net]) is not None

    class Own(dp.SGD):
        def rule(self):
            return None

    for optimizer, kind in ((Own(0.1), type(None)), (dp.SGD(), CompiledEpoch)):
        trainer = Trainer(net, X, np.eye(3)[y], optimizer, Objective(), BATCH, shuffled=True, dropout=(0.5,))
        assert isinstance(CompiledEpoch.find(trainer.task), kind)


def test_an_order_depends_on_the_seed_and_the_epochs_before():
    net = network("reference", seed=11)
    net.epochs_trained = 5
    assert np.array_equal(draw_order(net, 9), np.random.default_rng((11, 1, 5)).permutation(9))
    assert np.array_equal(draw_order(net, 9, ahead=2), np.random.default_rng((11, 1, 7)).permutation(9))
