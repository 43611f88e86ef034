"""The rates to which a plan points are the optimizer's, whichever epochs they were computed for at once."""

import ctypes

import numpy as np
import pytest
from conftest import require_library

import deltaprop as dp
from deltaprop.epochs.compiled import CompiledEpoch
from deltaprop.epochs.task import Task


def epoch_of(optimizer, samples):
    require_library()
    net = dp.Network([3, 2, 1], backend="numpy")
    X, Y, sums = np.zeros((samples, 3)), np.zeros((samples, 1)), (np.zeros(()), np.zeros(()), np.zeros(()))
    return CompiledEpoch(Task(net, X, Y, optimizer, optimizer.init(net), 1, *sums))


def rates_at(plan, steps):
    at = [plan.rates + 8 * plan.step_stride * step for step in range(steps)]
    return np.array([list((ctypes.c_double * 2).from_address(address)) for address in at])


@pytest.mark.parametrize("batches", [1, 9, 100, 256, 300])
@pytest.mark.parametrize(
    "optimizer",
    [dp.SGD(0.1, momentum=0.9), dp.Adam(0.01), dp.AdamW(0.01, weight_decay=0.2)],
    ids=["sgd", "adam", "adamw"],
)
def test_rates_of_epochs_one_by_one(optimizer, batches):
    way = epoch_of(optimizer, batches)
    begins = [*range(0, 3 * batches, batches), 1000, 1000 + batches, 0, 5]
    for rate, taken in zip([0.01] * 4 + [0.02] * 2 + [0.02], begins, strict=False):
        way.rates.of_epoch(rate, taken)
        np.testing.assert_array_equal(
            rates_at(way.plan, batches), np.broadcast_to(optimizer.rates(rate, taken, batches), (batches, 2))
        )


def test_epochs_in_a_call_between_epochs_one_by_one():
    optimizer = dp.Adam(0.01)
    way = epoch_of(optimizer, 4)
    way.rates.of_epoch(0.01, 8)
    way.rates.of_epochs(0.01, 12, 3)
    np.testing.assert_array_equal(rates_at(way.plan, 12), optimizer.rates(0.01, 12, 12))
    way.rates.of_epoch(0.01, 12)
    np.testing.assert_array_equal(rates_at(way.plan, 4), optimizer.rates(0.01, 12, 4))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_parameters_that_are_not_finite_are_found(dtype, wrong):
    require_library()
    net = dp.Network([9, 8, 3], backend="numpy", dtype=dtype)
    X, Y, sums = np.zeros((2, 9), dtype), np.zeros((2, 3), dtype), (np.zeros(()), np.zeros(()), np.zeros(()))
    optimizer = dp.SGD()
    way = CompiledEpoch(Task(net, X, Y, optimizer, optimizer.init(net), 1, *sums))
    largest = np.finfo(dtype).max  # their sum is not finite
    for place in range(net.own.size):
        net.parameters = np.full(net.own.size, largest)
        assert way.leaves_finite(net)
        net.parameters[place] = wrong
        assert not way.leaves_finite(net)
