"""Dropout draws the right masks, the step uses them, and only training has them."""

from typing import Any

import numpy as np
import pytest
from cases import relative

import deltaprop as dp
from deltaprop.backends import get_backend


def masks(backend, key, sizes, keep, dtype):
    """Draw masks one after the other from one stream."""
    stream, result = backend.random_stream(key), []
    for size in sizes:
        out = backend.empty((size,), dtype)
        backend.dropout_mask(stream, keep, out)
        result.append(backend.to_numpy(out).copy())
    return result


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_backend_draws_the_masks_that_philox_says(backend, dtype):
    sizes = (1, 6, 1, 17, 3000, 31)
    u = np.random.Generator(np.random.Philox(key=np.random.SeedSequence((3, 2, 7)).generate_state(2, np.uint64)))
    for keep in (0.3, 0.5, 0.75):
        drawn = masks(backend, (3, 2, 7), sizes, keep, dtype)
        state = u.bit_generator.state
        expected = [np.where(u.random(n, np.float32) + np.float32(keep) >= 1, 1 / keep, 0) for n in sizes]
        u.bit_generator.state = state
        for got, want in zip(drawn, expected, strict=True):
            assert got.dtype == dtype
            assert np.array_equal(got, want.astype(dtype))
        share = np.mean(np.concatenate(drawn) > 0)
        assert abs(share - keep) < 5 * np.sqrt(keep * (1 - keep) / sum(sizes))


def test_streams_of_other_keys_differ():
    backend = get_backend("numpy")
    one, other = (masks(backend, key, (1000,), 0.5, np.float64)[0] for key in ((0, 2, 0), (0, 2, 1)))
    assert 300 < np.sum(one != other) < 700


def network(backend="numpy", **options):
    return dp.Network([5, 7, 6, 3], hidden_activation="tanh", loss="squared_error", backend=backend, seed=4, **options)


def test_a_step_is_that_of_the_thinned_network(backend, rng):
    """One step of the full batch, with forward and backward written out with the masks."""
    X, Y = rng.standard_normal((9, 5)), rng.standard_normal((9, 3))
    net = network(backend)
    (W1, W2, W3), (b1, b2, b3) = ([net.backend.to_numpy(x).copy() for x in xs] for xs in (net.weights, net.biases))
    history = net.fit(X, Y, optimizer=dp.SGD(0.1), batch_size=None, epochs=1, dropout=[0.5, 0.25])

    key = np.random.SeedSequence((4, 2, 0)).generate_state(2, np.uint64)
    stream = np.random.Generator(np.random.Philox(key=key))
    mu1 = np.where(stream.random((9, 7), np.float32) >= 0.5, 2.0, 0.0)
    mu2 = np.where(stream.random((9, 6), np.float32) >= 0.25, 1 / 0.75, 0.0)
    h1 = np.tanh(X @ W1.T + b1)
    a1 = h1 * mu1
    h2 = np.tanh(a1 @ W2.T + b2)
    a2 = h2 * mu2
    d3 = (a2 @ W3.T + b3 - Y) / 9
    d2 = (d3 @ W3) * mu2 * (1 - h2**2)
    d1 = (d2 @ W2) * mu1 * (1 - h1**2)
    assert history.cost == [pytest.approx(4.5 * np.sum(d3**2), rel=1e-12)]
    steps = [(W1, d1.T @ X), (W2, d2.T @ a1), (W3, d3.T @ a2), (b1, d1.sum(0)), (b2, d2.sum(0)), (b3, d3.sum(0))]
    expected = [theta - 0.1 * gradient for theta, gradient in steps]
    got = [net.backend.to_numpy(theta) for theta in (*net.weights, *net.biases)]
    assert relative(got, expected) < 1e-13


def test_it_is_the_same_on_every_backend_and_goes_on_where_it_stopped(backend, rng):
    X, Y = rng.standard_normal((23, 5)), rng.standard_normal((23, 3))
    one, two, reference = network(backend), network(backend), network()
    options = {"optimizer": dp.SGD(0.05), "batch_size": 5, "dropout": 0.4}
    one.fit(X, Y, epochs=4, **options)
    two.fit(X, Y, epochs=1, **options)
    two.fit(X, Y, epochs=3, **options)
    reference.fit(X, Y, epochs=4, **options)
    assert relative(one.backend.to_numpy(one.parameters), reference.parameters) < 1e-12
    assert np.array_equal(one.backend.to_numpy(one.parameters), two.backend.to_numpy(two.parameters))


def test_predictions_know_nothing_of_it(rng):
    """For a linear network, a prediction is the mean over masks, as E μ = 1."""
    X, Y = rng.standard_normal((20, 5)), rng.standard_normal((20, 3))
    net = network()
    net.fit(X, Y, epochs=2, dropout=0.5)
    by_hand = X
    activations: tuple[Any, ...] = (np.tanh, np.tanh, lambda z: z)
    for W, b, g in zip(net.weights, net.biases, activations, strict=True):
        by_hand = g(by_hand @ W.T + b)
    assert relative(net.predict(X), by_hand) < 1e-14


def test_no_dropout_is_no_dropout(rng):
    X, Y = rng.standard_normal((20, 5)), rng.standard_normal((20, 3))
    plain, zero = network(), network()
    plain.fit(X, Y, epochs=2)
    zero.fit(X, Y, epochs=2, dropout=[0.0, 0.0])
    assert np.array_equal(plain.parameters, zero.parameters)


@pytest.mark.parametrize(
    ("dropout", "message"),
    [(1.0, "in \\[0, 1\\), got 1.0"), (-0.1, "got -0.1"), ([0.1], "or 2, one a hidden layer"), ([0.1, "a"], "got 'a'")],
)
def test_bad_probabilities(dropout, message):
    with pytest.raises(ValueError, match="dropout: .*" + message):
        network().fit(np.zeros((2, 5)), np.zeros((2, 3)), dropout=dropout)
    with pytest.raises(TypeError, match="dropout: expected a number"):
        network().fit(np.zeros((2, 5)), np.zeros((2, 3)), dropout="half")
