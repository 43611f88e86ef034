"""Members of a stack in shared memory have their own rates and samples, many epochs a launch, one upload, one wait."""

from typing import Any

import numpy as np
import pytest
from cases import relative
from conftest import backend_or_skip
from host_cuda import counting
from members_alone import alone, assert_equal, host

import deltaprop as dp
from deltaprop.backends.cuda.shared_memory import ResidentRun
from deltaprop.derivation.backprop import Objective
from deltaprop.epochs import (
    resident,
    resident_members,
)
from deltaprop.epochs.members import Member
from deltaprop.epochs.stack_trainer import StackTrainer


def test_networks_in_shared_memory_have_their_own_rates_and_samples(rng):
    device = backend_or_skip("cuda-on-host")
    X, Y = rng.standard_normal((30, 4)), rng.integers(0, 3, 30)
    samples = [rng.permutation(30)[:m] for m in (20, 20, 17, 20)]
    own: dict[str, Any] = {
        "optimizer": [dp.Adam(0.01), dp.Adam(0.03), dp.SGD(0.1, momentum=0.5), dp.SGD(0.2)],
        "l2": [0.0, 0.5, 0.1, 0.0],
    }
    how: dict[str, Any] = {"batch_size": 8, "epochs": 3}
    stack = dp.NetworkStack(4, [4, 6, 3], loss="categorical_cross_entropy", backend=device)
    histories = stack.fit(X, Y, samples=samples, **own, **how)
    for k, rows in enumerate(samples):
        own_k = {name: values[k] for name, values in own.items()}
        assert_equal(stack, k, histories[k], alone(stack, k, X[rows], Y[rows], **own_k, **how))


def trainer_of(backend, members, X, Y):
    stack = dp.NetworkStack(len(members), [4, 6, 3], loss="categorical_cross_entropy", backend=backend)
    x, y = (stack.backend.asarray(data, np.float64) for data in (X, Y))
    return StackTrainer(stack, x, y, members, list(stack))


@pytest.mark.parametrize("own_samples", [False, True])
@pytest.mark.parametrize("optimizers", ["alike", "of one rule", "of any rule"])
def test_many_epochs_in_one_launch(own_samples, optimizers, monkeypatch, rng):
    """It equals single epochs to the bit, and NumPy's steps, for any members, orders and rates."""
    device, count, m = backend_or_skip("cuda-on-host"), 4, 18
    by_kind: dict[str, list[dp.Optimizer]] = {
        "alike": [dp.AdamW(0.1)] * 4,
        "of one rule": [dp.Adam(0.1), dp.Adam(0.1), dp.AdamW(0.1, weight_decay=0.2), dp.AdamW(0.1, weight_decay=0.3)],
        "of any rule": [dp.SGD(0.1), dp.SGD(0.1, momentum=0.5), dp.SGD(0.1), dp.SGD(0.1, momentum=0.5)],
    }
    chosen = by_kind[optimizers]
    l2 = [0.1] * 4 if optimizers == "alike" else [0.0, 0.1, 0.2, 0.3]
    members = [Member(m, 5, optimizer, Objective(l2[k])) for k, optimizer in enumerate(chosen)]
    shape = (count, m) if own_samples else (m,)
    X, Y = rng.standard_normal((*shape, 4)), np.eye(3)[rng.integers(0, 3, shape)]
    at_once, one_by_one, reference = (trainer_of(backend, members, X, Y) for backend in (device, device, "reference"))
    launches, call = [], ResidentRun.__call__
    monkeypatch.setattr(
        ResidentRun, "__call__", lambda self, *a, **k: (launches.append(k["epochs"]), call(self, *a, **k))[1]
    )
    shared, varied = (
        rng.permuted(np.tile(np.arange(m), (3, 1)), axis=1),
        rng.permuted(np.tile(np.arange(m), (3, 1)), axis=1),
    )
    rates = rng.uniform(0.01, 0.1, (4, 3))
    for numbers, orders, learning_rates in (
        ([0, 1, 2, 3], [shared] * 4, np.full((4, 3), 0.05)),
        ([0, 1, 2, 3], [shared, varied, varied[:1], None], rates),
        ([0, 2, 3], [None] * 3, rates[:3]),
        ([0, 2, 3], [varied[:1]] * 3, rates[:3]),
        ([3, 0, 2], [varied[:1]] * 3, rates[:3]),
        ([0, 1, 2, 3], [varied] * 4, rates),
    ):
        which = np.array(numbers)
        for trainer in (at_once, one_by_one, reference):  # as if a member had diverged
            parameters = trainer.way.task.network.parameters
            parameters *= 0.9
        if any(order is not None for order in orders):
            orders = [np.arange(m)[None] if order is None else order for order in orders]
        together = at_once.epochs(which, orders, learning_rates)
        for trainer in (one_by_one, reference):
            alone = [
                trainer.epochs(
                    which,
                    [o if o is None or len(o) == 1 else o[e : e + 1] for o in orders],
                    learning_rates[:, e : e + 1],
                )
                for e in range(3)
            ]
            costs, decays = (np.concatenate(each, axis=1) for each in zip(*alone, strict=True))
            if trainer is one_by_one:
                assert np.array_equal(together[0], costs)
                assert np.array_equal(together[1], decays)
            assert together[0] == pytest.approx(costs, rel=1e-11)
        learned = [host(trainer.way.task.network.parameters) for trainer in (at_once, one_by_one, reference)]
        assert np.array_equal(learned[0], learned[1])
        assert relative(learned[0], learned[2]) < 1e-12
        assert np.array_equal(at_once.way.task.steps, reference.way.task.steps)
    groups = 2 if optimizers == "of any rule" else 1
    assert launches.count(3) == 6 * groups
    assert launches.count(1) == 18 * groups


def test_launches_of_a_stack_are_short_enough_for_an_interrupt(monkeypatch, rng):
    device = backend_or_skip("cuda-on-host")
    X, Y = rng.standard_normal((18, 4)), np.eye(3)[rng.integers(0, 3, 18)]
    members = [Member(18, batch, dp.SGD(0.1), Objective()) for batch in (5, 6)]
    trainer, launches, call = trainer_of(device, members, X, Y), [], ResidentRun.__call__
    monkeypatch.setattr(
        ResidentRun, "__call__", lambda self, *a, **k: (launches.append(k["epochs"]), call(self, *a, **k))[1]
    )
    monkeypatch.setattr(resident, "STEPS_A_CALL", 11)
    trainer.epochs(np.arange(2), [None] * 2, np.full((2, 5), 0.1))
    assert launches == [2, 2, 2, 2, 1, 1]
    monkeypatch.setattr(resident_members, "MEMBERS_STEPS", 8)
    trainer.epochs(np.arange(2), [None] * 2, np.full((2, 2), 0.1))
    assert launches[6:] == [1, 1, 1, 1]


@pytest.mark.parametrize("whole", [True, False])
def test_what_an_epoch_of_a_stack_asks_of_the_device(whole, rng):
    """For all members it allocates nothing, uploads once, and waits once, for the cost."""
    device = backend_or_skip("cuda-on-host")
    X, Y = rng.standard_normal((18, 4)), np.eye(3)[rng.integers(0, 3, 18)]
    trainer = trainer_of(device, [Member(18, 5, dp.Adam(), Objective(0.1))] * 3, X, Y)
    which = np.arange(3 if whole else 2)

    def epoch():
        trainer.epochs(which, [rng.permutation(18)[None] for _ in which], np.full((len(which), 1), 0.1))

    for _ in range(2):
        epoch()
    with counting(device) as counted:
        epoch()
    assert counted == {"uploads": 1, "waits": 1}


def test_sample_weights_on_the_device(rng):
    """They count as weights on the host do; networks on the host refuse them."""
    device = backend_or_skip("cuda-on-host")
    X, Y, weight = rng.standard_normal((19, 4)), rng.uniform(size=(19, 2)), rng.uniform(0.5, 2, 19)
    there, of_each = (device.asarray(each, np.float64) for each in (weight, [weight, weight]))
    how: dict[str, Any] = {"batch_size": 8, "epochs": 2, "optimizer": dp.SGD(0.5)}
    for weights in (there, of_each):
        stack = dp.NetworkStack(2, [4, 6, 2], backend=device)
        histories = stack.fit(X, Y, sample_weight=weights, **how)
        for k in range(2):
            assert_equal(stack, k, histories[k], alone(stack, k, X, Y, sample_weight=weight, **how))
    with pytest.raises(TypeError, match="sample_weight: got a cupy array, but the network lives on the numpy backend"):
        dp.NetworkStack(2, [4, 6, 2], backend="numpy").fit(X, Y, sample_weight=there, **how)
