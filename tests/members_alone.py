"""Compares a member of a stack with the same network trained alone."""

import numpy as np
import pytest
from cases import relative
from conftest import cuda_on_host

import deltaprop as dp


def alone(stack, k, X, Y, **how):
    """Train the network that is like member k of `stack`, alone and step by step."""
    configuration = {name: value for name, value in stack.configuration.items() if name not in ("members", "seeds")}
    net = dp.Network(**configuration, seed=stack.seeds[k], backend="reference")
    return net, net.fit(X, Y, **how)


def host(array):
    return array if isinstance(array, np.ndarray) else cuda_on_host().to_numpy(array)


def assert_equal(stack, k, history, pair):
    net, expected = pair
    assert relative(host(stack[k].parameters), net.parameters) < 1e-12
    assert history.cost == pytest.approx(expected.cost, rel=1e-11)
    assert history.learning_rate == expected.learning_rate
    assert stack[k].epochs_trained == net.epochs_trained
