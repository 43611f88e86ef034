"""Member k of a stack equals the network with its seed, samples and hyper-parameters that is trained alone."""

import warnings
from typing import Any

import numpy as np
import pytest
from cases import HIDDEN, PAIRS, targets_for
from conftest import backend_or_skip, require_library
from hypothesis import given, settings
from hypothesis import strategies as st
from members_alone import alone, assert_equal, host

import deltaprop as dp
from deltaprop.epochs import (
    compiled_members,
    compiled_plan,
    resident_members,
    stack_trainer,
    stepped_members,
)
from deltaprop.errors import DivergenceError

OPTIMIZERS = [
    dp.SGD(0.1),
    dp.SGD(0.05, momentum=0.9),
    dp.SGD(0.05, momentum=0.8, nesterov=True),
    dp.Adam(0.01, beta_1=0.8, beta_2=0.95, epsilon=1e-4),
    dp.Adam(0.003),
    dp.AdamW(0.01, weight_decay=0.3),
    dp.SGD(dp.InverseScaling(0.2)),
]
WAYS = ("native", "stepped", "one by one", "resident")


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """A backend that trains stacks in this way, and the classes that do it."""
    used = []

    def watched(kind):
        epochs = kind.epochs
        monkeypatch.setattr(kind, "epochs", lambda self, *a: (used.append(kind), epochs(self, *a))[1])

    kinds = {
        "native": compiled_members.CompiledMembers,
        "stepped": stepped_members.SteppedMembers,
        "resident": resident_members.ResidentMembers,
    }
    if request.param == "native":
        require_library()
    if request.param == "one by one":
        monkeypatch.setattr(stack_trainer, "find_members_epoch", lambda task, networks: None)
        yield "reference"
        return
    watched(kinds[request.param])
    backends = {"native": "numpy", "stepped": "reference", "resident": "cuda-on-host"}
    name = backends[request.param]
    yield backend_or_skip(name) if name == "cuda-on-host" else name
    assert set(used) == {kinds[request.param]}


@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_every_loss(way, loss, output, rng):
    X, Y = rng.standard_normal((21, 5)), targets_for(loss, rng, 21, 3)
    stack = dp.NetworkStack(3, [5, 7, 3], loss=loss, output_activation=output, backend=way)
    how: dict[str, Any] = {"batch_size": 8, "epochs": 2, "optimizer": dp.SGD(0.05)}
    histories = stack.fit(X, Y, l2=[0.0, 0.2, 0.5], **how)
    for k, l2 in enumerate((0.0, 0.2, 0.5)):
        assert_equal(stack, k, histories[k], alone(stack, k, X, Y, l2=l2, **how))


@pytest.mark.parametrize("hidden", HIDDEN)
def test_every_activation(way, hidden, rng):
    X, Y = 2 * rng.standard_normal((19, 4)), rng.standard_normal((19, 2))
    stack = dp.NetworkStack(2, [4, 9, 6, 2], hidden_activation=hidden, loss="squared_error", backend=way)
    how: dict[str, Any] = {"batch_size": 8, "epochs": 2, "optimizer": dp.SGD(0.02)}
    histories = stack.fit(X, Y, **how)
    for k in range(2):
        assert_equal(stack, k, histories[k], alone(stack, k, X, Y, **how))


@settings(max_examples=15, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("backend", ["numpy", "reference"])
def test_any_mix_of_hyperparameters(backend, data):
    """Each member has its own seed, samples, minibatch, optimizer, penalty, weights, dropout and early stopping."""
    count = data.draw(st.integers(1, 5))

    def of_each(strategy):
        return data.draw(st.lists(strategy, min_size=count, max_size=count))

    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    X, Y = rng.standard_normal((30, 4)), rng.integers(0, 3, 30)
    own: dict[str, Any] = {
        "optimizer": of_each(st.sampled_from(OPTIMIZERS)),
        "l2": of_each(st.sampled_from([0.0, 0.3, 2.0])),
        "batch_size": of_each(st.sampled_from([None, 1, 7, 8, 100])),
        "shuffle": of_each(st.booleans()),
        "dropout": of_each(st.sampled_from([0.0, 0.4])) if data.draw(st.booleans()) else 0.0,
        "early_stopping": of_each(st.sampled_from([None, dp.EarlyStopping(2, monitor="cost", min_delta=0.02)])),
    }
    shared: dict[str, Any] = {"epochs": 4}
    if data.draw(st.booleans()):
        shared["l2_scaling"] = "absolute"
    samples = [rng.integers(0, 30, int(rng.integers(5, 31))) for _ in range(count)]
    weights = rng.uniform(0.1, 2.0, 30) if data.draw(st.booleans()) else None
    stack = dp.NetworkStack(
        count,
        [4, 6, 3],
        seeds=of_each(st.integers(0, 2)),
        hidden_activation="tanh",
        loss="categorical_cross_entropy",
        backend=backend,
    )
    histories = stack.fit(X, Y, samples=samples, sample_weight=weights, **own, **shared)
    for k, rows in enumerate(samples):
        how = {name: value if name == "dropout" and value == 0.0 else value[k] for name, value in own.items()}
        weight = None if weights is None else weights[rows]
        net, expected = alone(stack, k, X[rows], Y[rows], sample_weight=weight, **how, **shared)
        assert_equal(stack, k, histories[k], (net, expected))
        assert histories[k].best_epoch == expected.best_epoch
        assert histories[k].message == expected.message


def test_samples_of_their_own(way, rng):
    X, Y = rng.standard_normal((2, 19, 4)), rng.uniform(size=(2, 19, 2))
    stack = dp.NetworkStack(2, [4, 6, 2], backend=way)
    how: dict[str, Any] = {"batch_size": 8, "epochs": 2, "optimizer": dp.SGD(0.5)}
    histories = stack.fit(X, Y, **how)
    for k in range(2):
        assert_equal(stack, k, histories[k], alone(stack, k, X[k], Y[k], **how))


def test_a_custom_loss_and_an_optimizer_of_ones_own(rng):
    """No kernel knows them, so members are trained one after the other."""

    class Sign(dp.SGD):
        def apply(self, network, gradient, state, rate, decay):
            network.parameters[...] -= rate * np.sign(gradient.flat)

    X, Y = rng.standard_normal((20, 4)), rng.standard_normal((20, 2))
    pair = (lambda h, y: (h - y) ** 2 / 2, lambda h, y: h - y)
    cases: list[tuple[Any, Any]] = [(pair, dp.SGD(0.1)), ("squared_error", Sign(0.01))]
    for loss, optimizer in cases:
        stack = dp.NetworkStack(2, [4, 5, 2], loss=loss, backend="numpy")
        how: dict[str, Any] = {"optimizer": optimizer, "epochs": 2, "batch_size": 6}
        histories = stack.fit(X, Y, **how)
        for k in range(2):
            assert_equal(stack, k, histories[k], alone(stack, k, X, Y, **how))


@pytest.mark.parametrize("backend", ["numpy", "reference", "cuda-on-host"])
def test_every_method_is_that_of_the_members(backend, rng):
    backend = backend_or_skip(backend) if backend == "cuda-on-host" else backend
    stack = dp.NetworkStack(3, [4, 6, 5, 2], hidden_activation=["tanh", "sigmoid"], backend=backend)
    for X in (rng.standard_normal((7, 4)), rng.standard_normal((3, 7, 4))):
        Y, dX, dY = rng.uniform(size=(7, 2)), rng.standard_normal((7, 4)), rng.standard_normal((7, 2))
        v, weight = rng.standard_normal(stack.parameters.shape[1]), rng.uniform(size=7)
        each = [X] * 3 if X.ndim == 2 else list(X)
        assert np.allclose(stack.predict(X), [net.predict(x) for net, x in zip(stack, each, strict=True)], rtol=1e-14)
        gradient: Any
        costs, gradient = stack.cost_and_gradient(X, Y, l2=[0.1, 0.2, 0.3], sample_weight=weight)
        assert np.array_equal(stack.cost(X, Y, [0.1, 0.2, 0.3], sample_weight=weight), costs)
        passed, deltas = stack.forward(X), stack.deltas(X, Y)
        for k, (net, x) in enumerate(zip(stack, each, strict=True)):
            expected: Any
            cost, expected = net.cost_and_gradient(x, Y, (0.1, 0.2, 0.3)[k], sample_weight=weight)
            assert costs[k] == pytest.approx(cost, rel=1e-15)
            assert np.array_equal(gradient.flat[k], expected.flat)
            assert np.array_equal(gradient.thetas[1][k], expected.thetas[1])
            alone = net.forward(x)
            for l in range(3):
                assert np.array_equal(passed.z[l][k], alone.z[l])
                assert np.array_equal(passed.a[l + 1][k], alone.a[l + 1])
                assert np.array_equal(deltas[l][k], net.deltas(x, Y)[l])
            assert np.array_equal(stack.jvp(X, dX)[k], net.jvp(x, dX))
            assert np.array_equal(stack.vjp(X, dY)[k], net.vjp(x, dY))
            assert np.array_equal(stack.jacobian(X)[k], net.jacobian(x))
            assert np.array_equal(stack.hvp(X, Y, v, 0.5)[k], net.hvp(x, Y, v, 0.5))


def test_members_share_the_memory_of_the_stack(rng):
    stack = dp.NetworkStack(2, [3, 4, 2], seeds=[7, 7], backend="numpy")
    assert np.array_equal(stack.parameters[0], stack.parameters[1])
    assert np.array_equal(stack[0].parameters, dp.Network([3, 4, 2], seed=7, backend="numpy").parameters)
    stack[1].weights[0][...] = 0.5
    assert (stack.weights[0][1] == 0.5).all()
    assert not (stack.weights[0][0] == 0.5).any()
    stack.parameters = np.ones_like(stack.parameters)
    assert (stack[0].biases[1] == 1).all()
    assert len(stack) == 2
    assert [net.seed for net in stack] == [7, 7]
    X, Y = rng.standard_normal((9, 3)), rng.uniform(size=(9, 2))
    copied = stack.copy()
    stack[0].fit(X, Y, epochs=1)
    assert np.array_equal(stack.predict(X)[0], stack[0].predict(X))
    assert not np.array_equal(copied.parameters[0], stack.parameters[0])


def test_a_member_that_diverges_keeps_its_last_good_parameters(way, rng):
    X, Y = rng.standard_normal((20, 4)), rng.standard_normal((20, 2))
    rates = [0.01, 1e150, 0.02]
    stack = dp.NetworkStack(3, [4, 5, 2], loss="squared_error", hidden_activation="relu", backend=way)
    how: dict[str, Any] = {"epochs": 3, "batch_size": 20}
    with pytest.warns(RuntimeWarning, match=r"members \[1\] of 3 diverged"):
        histories = stack.fit(X, Y, optimizer=[dp.SGD(rate) for rate in rates], **how)
    for k in (0, 2):
        pair = alone(stack, k, X, Y, optimizer=dp.SGD(rates[k]), **how)
        assert_equal(stack, k, histories[k], pair)
        assert not histories[k].diverged
    with pytest.raises(DivergenceError) as caught:
        alone(stack, 1, X, Y, optimizer=dp.SGD(rates[1]), **how)
    assert histories[1].diverged
    assert histories[1].epochs == caught.value.history.epochs
    assert np.isfinite(host(stack[1].parameters)).all()
    with pytest.raises(DivergenceError, match="members"):
        stack.fit(X, Y, optimizer=dp.SGD(1e200), **how)


def test_validation_for_all_or_for_each(rng):
    X, Y = rng.standard_normal((30, 4)), rng.integers(0, 3, 30)
    held = rng.standard_normal((11, 4)), rng.integers(0, 3, 11)
    options: dict[str, Any] = {"loss": "categorical_cross_entropy", "backend": "numpy"}
    how: dict[str, Any] = {"epochs": 3, "batch_size": 7, "early_stopping": dp.EarlyStopping(1, monitor="accuracy")}
    stack = dp.NetworkStack(2, [4, 5, 3], **options)
    histories = stack.fit(X, Y, validation=held, **how)
    for k in range(2):
        net, expected = alone(stack, k, X, Y, validation=held, **how)
        assert_equal(stack, k, histories[k], (net, expected))
        assert histories[k].metrics == expected.metrics
        assert histories[k].validation_cost == pytest.approx(expected.validation_cost, rel=1e-12)
    folds = np.array_split(rng.permutation(30), 2)
    stack = dp.NetworkStack(2, [4, 5, 3], **options)
    histories = stack.fit(X, Y, samples=folds, validation_samples=folds[::-1], **how)
    for k in range(2):
        own, other = folds[k], folds[1 - k]
        net, expected = alone(stack, k, X[own], Y[own], validation=(X[other], Y[other]), **how)
        assert_equal(stack, k, histories[k], (net, expected))


def test_samples_as_a_matrix(rng):
    """A matrix of row numbers or of truth values, a row a member, is the same as a list of arrays."""
    X, Y = rng.standard_normal((40, 4)), rng.uniform(size=(40, 2))
    rows = np.sort(rng.permuted(np.tile(np.arange(40), (9, 1)), axis=1)[:, :15])
    others = np.array([np.setdiff1d(np.arange(40), own) for own in rows])
    chosen = np.zeros((9, 40), bool)
    np.put_along_axis(chosen, rows, True, axis=1)
    samples: Any
    held: Any
    for samples, held in ((rows, others), (chosen, ~chosen), (iter(rows), (own for own in others))):
        stack = dp.NetworkStack(9, [4, 3, 2], backend="numpy")
        histories = stack.fit(X, Y, samples=samples, validation_samples=held, epochs=2, batch_size=4)
        for k in range(9):
            validation = (X[others[k]], Y[others[k]])
            net, expected = alone(stack, k, X[rows[k]], Y[rows[k]], epochs=2, batch_size=4, validation=validation)
            assert_equal(stack, k, histories[k], (net, expected))
            assert histories[k].validation_cost == pytest.approx(expected.validation_cost, rel=1e-12)


def test_a_callback_sees_the_stack_and_may_end_training(rng, capsys):
    X, Y = rng.standard_normal((20, 4)), rng.uniform(size=(20, 2))
    seen = []

    def stop(event):
        seen.append((event.network, event.epoch, [history.epochs for history in event.history]))
        return event.epoch == 2

    stack = dp.NetworkStack(2, [4, 5, 2], backend="numpy")
    histories = stack.fit(X, Y, epochs=5, callbacks=[stop], progress=True)
    assert seen == [(stack, 1, [1, 1]), (stack, 2, [2, 2])]
    assert [history.message for history in histories] == ["stopped by a callback after epoch 2"] * 2
    assert "2/5" in capsys.readouterr().err


def test_full_batch(rng):
    X, Y = rng.standard_normal((20, 4)), rng.uniform(size=(20, 2))
    stack = dp.NetworkStack(2, [4, 5, 2], backend="numpy")
    histories = stack.fit_full_batch(X, Y, max_iter=5, l2=[0.1, 1.0])
    for k, l2 in enumerate((0.1, 1.0)):
        net = dp.Network([4, 5, 2], seed=k, backend="numpy")
        assert histories[k].cost == net.fit_full_batch(X, Y, max_iter=5, l2=l2).cost
        assert np.array_equal(stack[k].parameters, net.parameters)


def test_a_file_brings_it_back(tmp_path, rng):
    stack = dp.NetworkStack(2, [4, 5, 2], seeds=[5, 9], backend="numpy", hidden_activation="relu")
    X, Y = rng.standard_normal((20, 4)), rng.uniform(size=(20, 2))
    stack.fit(X, Y, epochs=2)
    stack.save(tmp_path / "stack.safetensors")
    back = dp.NetworkStack.load(tmp_path / "stack.safetensors", backend="numpy")
    assert back.configuration == stack.configuration
    assert np.array_equal(back.parameters, stack.parameters)
    for one in (stack, back):
        one.fit(X, Y, epochs=1)
    assert np.array_equal(back.parameters, stack.parameters)
    with pytest.raises(ValueError, match=r"holds a stack of networks, not a network; NetworkStack\.load reads it"):
        dp.Network.load(tmp_path / "stack.safetensors")
    stack[0].save(tmp_path / "network.safetensors")
    with pytest.raises(ValueError, match=r"holds a network, not a stack of networks; Network\.load reads it"):
        dp.NetworkStack.load(tmp_path / "network.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": [dp.SGD()]}, "optimizer: expected one for all members or 2"),
        ({"optimizer": "sgd"}, "optimizer: expected a dp.Optimizer"),
        ({"l2": [0.1, -1.0]}, "l2: expected a finite number"),
        ({"batch_size": [3, 0]}, "batch_size: expected a whole number of at least 1"),
        ({"samples": [[0, 1]]}, "samples: expected 2 arrays"),
        ({"samples": [[0, 1], [0, 20]]}, r"samples\[1\]: expected rows 0 … 19"),
        ({"samples": [[0, 1], []]}, r"samples\[1\]: expected row numbers"),
        ({"samples": np.arange(20)}, "samples: expected 2 arrays of row numbers, one a member, got 20"),
        ({"samples": [0, 1]}, r"samples\[0\]: expected row numbers, \(m,\), got shape \(\)"),
        ({"samples": 3}, "samples: expected 2 arrays of row numbers, one a member, got 3"),
        ({"samples": np.array([[0, 1], [0, 20]])}, r"samples\[1\]: expected rows 0 … 19"),
        ({"sample_weight": np.eye(2)[[0]].repeat(20, 0).T}, r"sample_weight\[1\]: expected a weight above 0, got none"),
        (
            {"sample_weight": np.arange(20) // 10, "samples": [np.arange(9, 20), np.arange(10)]},
            r"sample_weight: expected a weight above 0 in the rows of samples\[1\], got none",
        ),
        ({"sample_weight": np.arange(20) // 10, "samples": [np.arange(10)] * 2, "l2": 1.0}, r"rows of samples\[0\]"),
        ({"dropout": [0.1, 1.5]}, "dropout: expected a probability"),
        ({"validation": 3}, "validation: expected a pair"),
        ({"validation": 0.2, "samples": [[0, 1], [2]]}, "validation: expected no fraction with samples"),
        ({"validation": 0.2, "validation_samples": [[0], [2]]}, "expected no fraction with validation_samples"),
        ({"X": [[1, 2], [3]]}, "X: expected a rectangular array of numbers, got 2 values in row 0 and 1 value in"),
        ({"Y": [[1, 2], [3]]}, "Y: expected a rectangular array of numbers, got 2 values in row 0 and 1 value in"),
        ({"early_stopping": dp.EarlyStopping()}, "early_stopping: expected validation data"),
        ({"X": np.zeros((3, 20, 4))}, "X: expected 2 members"),
    ],
)
def test_bad_arguments_are_named(change, message, rng):
    stack = dp.NetworkStack(2, [4, 5, 2], backend="numpy")
    before = stack.parameters.copy()
    data = {"X": rng.standard_normal((20, 4)), "Y": rng.uniform(size=(20, 2))}
    with pytest.raises((ValueError, TypeError), match=message):
        stack.fit(**data | change)
    assert np.array_equal(stack.parameters, before)


def test_bad_stacks_are_refused():
    for arguments, options, message in (
        ((0, [2, 1]), {}, "members: expected a whole number of at least 1"),
        ((2, [2, 1]), {"seeds": [1]}, "seeds: expected one for all members or 2"),
        ((2, [2, 1]), {"seeds": [1, -1]}, r"seeds\[1\]"),
        ((2, [2, 1]), {"seed": 1}, "seed: NetworkStack takes seeds"),
        ((2, [2]), {}, "layer_sizes"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            dp.NetworkStack(*arguments, **options)


def test_without_a_compiler_that_works_numpy_trains(rng, monkeypatch):
    def fails(dtype):
        raise dp.BackendError("the compiler is broken")

    monkeypatch.setattr(compiled_plan, "library", fails)
    X, Y = rng.standard_normal((20, 4)), rng.uniform(size=(20, 2))
    stack, other = (dp.NetworkStack(2, [4, 5, 2], backend=name) for name in ("numpy", "reference"))
    with pytest.warns(RuntimeWarning, match="the compiler is broken"):
        stack.fit(X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.fit(X, Y)
    assert np.array_equal(stack.parameters, other.parameters)
