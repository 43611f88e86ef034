"""Losses, activations, optimizers and data that several tests share, and comparisons of results and trainings."""

from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.backends.kernel_names import Rule

HIDDEN = ("sigmoid", "tanh", "relu", "identity", "leaky_relu", "softplus", "silu", "gelu")
PAIRS = [
    *(("squared_error", activation) for activation in (*HIDDEN, "exp")),
    *(("huber", activation) for activation in (*HIDDEN, "exp")),
    *(("absolute_error", activation) for activation in ("identity", "tanh", "exp")),
    ("binary_cross_entropy", "sigmoid"),
    ("categorical_cross_entropy", "softmax"),
    ("poisson", "exp"),
    ("clipped_binary_cross_entropy", "sigmoid"),
    ("clipped_categorical_cross_entropy", "softmax"),
]


OPTIMIZERS = [
    dp.SGD(0.1),
    dp.SGD(0.05, momentum=0.9),
    dp.SGD(0.05, momentum=0.8, nesterov=True),
    dp.Adam(0.01, beta_1=0.8, beta_2=0.95, epsilon=1e-4),
    dp.AdamW(0.01, weight_decay=0.3),
]


def known_rule(optimizer: dp.Optimizer) -> Rule:
    """Return what the kernels know of an optimizer, which has to be a built-in one."""
    rule = optimizer.rule()
    assert rule is not None
    return rule


def targets_for(loss, rng, m, columns):
    """Return targets in the range of `loss`, no two rows alike."""
    if loss in ("squared_error", "huber", "absolute_error"):
        return 2.0 * rng.standard_normal((m, columns))
    if loss == "poisson":
        return rng.poisson(2.0, (m, columns)).astype(float)
    Y = rng.uniform(0.05, 0.95, (m, columns))
    return Y / Y.sum(axis=1, keepdims=True) if loss.endswith("categorical_cross_entropy") else Y


def relative(a, b):
    """‖a − b‖/‖b‖ over arrays or lists of arrays; ‖a‖ if b is 0."""
    a = np.concatenate([np.ravel(x) for x in (a if isinstance(a, list) else [a])])
    b = np.concatenate([np.ravel(x) for x in (b if isinstance(b, list) else [b])])
    assert a.shape == b.shape
    norm = np.linalg.norm(b)
    return np.linalg.norm(a - b) / (norm if norm else 1.0)


def assert_same_training(net, history, expected, expected_history, tolerance=1e-12):
    """Two networks have the same parameters, and had the same costs, up to a relative difference."""
    assert relative(*(n.backend.to_numpy(n.parameters) for n in (net, expected))) < tolerance
    assert history.cost == pytest.approx(expected_history.cost, rel=tolerance)


def assert_equal_fits(device, sizes, X, Y, options, **how):
    """Training on `device` gives the parameters and costs that NumPy gives step by step."""
    net, expected = (dp.Network(sizes, backend=backend, seed=3, **options) for backend in (device, "reference"))
    histories = [n.fit(X, Y, **how) for n in (net, expected)]
    tolerance = {"float64": 1e-12, "float32": 3e-5}[net.dtype.name]
    assert_same_training(net, histories[0], expected, histories[1], tolerance)


#: Numbers of samples, dtypes, and how far from the formula an operation may be.
ROWS = (1, 2, 31, 33, 300)
DTYPES = (np.float64, np.float32)
TOLERANCE: dict[Any, dict[str, Any]] = {
    np.float64: {"rtol": 1e-12, "atol": 1e-12},
    np.float32: {"rtol": 3e-5, "atol": 3e-5},
}


def put(backend, dtype, *arrays):
    return [backend.asarray(array, dtype) for array in arrays]


def check(backend, got, expected, dtype):
    got = backend.to_numpy(got)
    assert got.dtype == dtype
    assert np.allclose(got, expected, **TOLERANCE[dtype])


def target(dataset):
    """The target column of a dataset that has one."""
    assert dataset.y is not None
    return dataset.y
