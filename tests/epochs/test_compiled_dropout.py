"""Dropout in the compiled library: the masks are those of the reference path, however the work is shared out."""

from typing import Any

import numpy as np
import pytest
from cases import OPTIMIZERS, relative
from test_compiled import assert_compiled_fit_is_equal, both

import deltaprop as dp
from deltaprop.backends.base import philox_key
from deltaprop.backends.numpy.dropout import random_stream
from deltaprop.derivation.state import DROPOUT_STREAM
from deltaprop.epochs import compiled

pytestmark = pytest.mark.usefixtures("compiled_library")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("dropout", [0.3, (0.0, 0.5), (0.9, 0.0), (0.125, 0.7)], ids=str)
def test_layers_with_and_without_it(dropout, dtype, threads, rng):
    X, Y = rng.standard_normal((53, 6)), rng.uniform(size=(53, 2))
    nets = both([6, 33, 17, 2], hidden_activation="tanh", dtype=dtype)
    assert_compiled_fit_is_equal(nets, X, Y, batch_size=8, epochs=3, dropout=dropout)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_every_optimizer(optimizer, threads, rng):
    X, y = rng.standard_normal((50, 6)), rng.integers(0, 4, 50)
    options: dict[str, Any] = {"batch_size": 7, "epochs": 2, "optimizer": optimizer, "dropout": 0.4}
    nets = both([6, 11, 4], loss="categorical_cross_entropy", hidden_activation="gelu")
    weight = rng.integers(0, 3, 50).astype(float)
    for more in ({}, {"l2": 0.1, "shuffle": False}, {"sample_weight": weight}):
        assert_compiled_fit_is_equal(nets, X, y, **options, **more)


def test_layers_shared_out_by_units_and_formed_in_panels(threads, rng):
    X, Y = rng.standard_normal((70, 40)), rng.uniform(size=(70, 5))
    for sizes, batch in (([40, 170, 150, 135, 5], 20), ([40, 400, 400, 5], 64)):
        nets = both(sizes, hidden_activation="tanh")
        assert_compiled_fit_is_equal(nets, X, Y, batch_size=batch, epochs=2, dropout=0.5)


def test_the_mask_is_drawn_by_numpys_philox(rng):
    """After a step from zero weights behind the hidden layer, these weights show which units the mask has left."""
    units, keep = 1001, 0.75
    net = dp.Network([1, units, 1], loss="squared_error", hidden_activation="identity", backend="numpy", seed=5)
    net.weights[0][...], net.biases[0][...] = 0.0, 1.0  # a = mask
    net.weights[1][...], net.biases[1][...] = 0.0, 0.0
    net.fit(np.ones((1, 1)), np.ones((1, 1)), optimizer=dp.SGD(1.0), epochs=1, dropout=1 - keep)
    key = philox_key((5, DROPOUT_STREAM, 0))
    u = np.random.Generator(np.random.Philox(key=key)).random(units, dtype=np.float32)
    want = np.where(u >= 1 - keep, 1 / keep, 0.0)  # -δ = 1: W := W + a
    np.testing.assert_allclose(net.weights[1][0], want, rtol=1e-15)


@pytest.mark.parametrize("calls", [1, 4], ids=["in one call", "in many"])
def test_the_same_numbers_whatever_is_asked_for_meanwhile(calls, rng, monkeypatch):
    """Training in one call or many, with callbacks, in one fit or two, draws the same masks."""
    X, Y = rng.standard_normal((50, 6)), rng.standard_normal((50, 2))
    one, many, two = (dp.Network([6, 9, 2], loss="huber", backend="numpy", seed=1) for _ in range(3))
    how: dict[str, Any] = {"batch_size": 6, "dropout": 0.3}
    one.fit(X, Y, **how, epochs=4)
    if calls > 1:
        monkeypatch.setattr(compiled, "OPERATIONS_A_CALL", 1e-9)
    many.fit(X, Y, **how, epochs=4, callbacks=[lambda event: None])
    two.fit(X, Y, **how, epochs=1)
    two.fit(X, Y, **how, epochs=3)
    assert np.array_equal(one.parameters, many.parameters)
    assert np.array_equal(one.parameters, two.parameters)


@pytest.mark.parametrize("epochs", [1, 5])
def test_members_of_a_stack(epochs, rng):
    """Each draws what it would draw alone, and members without dropout learn the same as ever."""
    X, y = rng.standard_normal((40, 5)), rng.integers(0, 3, 40)
    options: dict[str, Any] = {"loss": "categorical_cross_entropy", "hidden_activation": "relu"}
    stack = dp.NetworkStack(3, [5, 8, 7, 3], seeds=[1, 2, 3], backend="numpy", **options)
    drops: list[Any] = [0.0, 0.5, (0.0, 0.25)]
    stack.fit(X, y, batch_size=[6, 40, 9], epochs=epochs, dropout=[(p, p) if p == 0 else p for p in drops])
    for member, seed, drop, batch in zip(stack, (1, 2, 3), drops, (6, 40, 9), strict=True):
        alone = dp.Network([5, 8, 7, 3], seed=seed, backend="reference", **options)
        alone.fit(X, y, batch_size=batch, epochs=epochs, dropout=drop)
        assert relative([member.parameters], [alone.parameters]) < 1e-12


def test_members_that_step_by_step_train_several_epochs_a_call(rng, monkeypatch):
    """Masks differ from epoch to epoch there, too."""
    from deltaprop.epochs import engines
    from deltaprop.epochs.stepped_members import SteppedMembers

    monkeypatch.setitem(engines.MEMBERS_EPOCHS, "numpy", lambda: (SteppedMembers,))
    X, Y = rng.standard_normal((20, 4)), rng.standard_normal((20, 2))
    stack = dp.NetworkStack(2, [4, 8, 2], loss="squared_error", seeds=[1, 2], backend="numpy")
    stack.fit(X, Y, batch_size=6, epochs=4, dropout=0.5)
    for member, seed in zip(stack, (1, 2), strict=True):
        alone = dp.Network([4, 8, 2], loss="squared_error", seed=seed, backend="reference")
        alone.fit(X, Y, batch_size=6, epochs=4, dropout=0.5)
        assert relative([member.parameters], [alone.parameters]) < 1e-12


def test_a_stream_goes_on_after_numbers_that_are_skipped():
    all_, out = np.empty(100, np.float32), np.empty(10, np.float32)
    random_stream((1, 2)).draw(all_)
    stream = random_stream((1, 2))
    stream.draw(out)
    for skipped, start in ((0, 10), (3, 23), (16, 49), (7, 66)):
        stream.skip(skipped)
        stream.draw(out)
        assert np.array_equal(out, all_[start : start + 10])
    assert stream.drawn == 76
