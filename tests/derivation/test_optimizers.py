"""A user's optimizer, Lion (Chen et al., 2023), equals its loop in NumPy, wherever networks are trained."""

import doctest
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import reference
from cases import relative

import deltaprop as dp
from deltaprop.derivation import update_rule

EPOCHS, BATCH, RATE, DECAY, WARMUP, L2 = 6, 8, 0.01, 0.5, 5, 0.2


@dataclass(frozen=True)
class Lion(dp.Optimizer):
    learning_rate: float = RATE

    def init(self, network):
        return {"mean": network.backend.zeros(network.parameters.shape, network.dtype)}

    def apply(self, network, gradient, state, rate, decay):
        theta, mean, g = network.parameters, state["mean"], gradient.flat
        direction = 0.9 * mean + 0.1 * g
        theta -= rate * (direction / abs(direction))  # the sign, for arrays of any library; it is never 0 here
        mean += 0.01 * (g - mean)


@dataclass(frozen=True)
class WarmLion(Lion):
    """Lion with weight decay, and with a learning rate that rises over the first steps, by `rates`."""

    def init(self, network):
        return super().init(network) | {"step": 0}

    def rates(self, learning_rate, taken, steps):
        t = np.arange(taken + 1, taken + steps + 1)
        return np.column_stack([learning_rate * np.minimum(1.0, t / WARMUP), np.full(steps, learning_rate * DECAY)])

    def apply(self, network, gradient, state, rate, decay):
        theta = network.parameters
        theta *= 1.0 - decay
        super().apply(network, gradient, state, rate, decay)


@pytest.fixture
def data(rng):
    X = rng.standard_normal((21, 4))
    return X, np.eye(3)[(X @ rng.standard_normal((4, 3))).argmax(axis=1)]


def network(backend="numpy", seed=5):
    return dp.Network([4, 6, 3], loss="categorical_cross_entropy", hidden_activation="tanh", seed=seed, backend=backend)


def by_loop(net, X, Y, *, warm):
    """Return W and b after training in float64, step by step and sample by sample."""
    host = net.backend.to_numpy
    theta = [host(x).copy() for x in (*net.weights, *net.biases)]
    layers = len(net.weights)
    mean, t = [np.zeros_like(x) for x in theta], 0
    for _ in range(EPOCHS):
        for start in range(0, len(X), BATCH):
            t += 1
            part = slice(start, start + BATCH)
            weights, biases = theta[:layers], theta[layers:]
            _, dW, db, _ = reference.cost_and_gradient(weights, biases, net.activations, net.loss, X[part], Y[part])
            # The penalty belongs to the whole training set: λ/m with m = 21.
            gradient = [d + L2 / len(X) * w for d, w in zip(dW, weights, strict=True)] + db
            rate = RATE * min(1.0, t / WARMUP) if warm else RATE
            for i, g in enumerate(gradient):
                if warm:
                    theta[i] = theta[i] * (1.0 - RATE * DECAY)
                theta[i] = theta[i] - rate * np.sign(0.9 * mean[i] + 0.1 * g)
                mean[i] = 0.99 * mean[i] + 0.01 * g
    return theta


def assert_trained(net, expected):
    host = net.backend.to_numpy
    assert relative([host(x) for x in (*net.weights, *net.biases)], expected) < 1e-12


HOW: dict[str, Any] = {"epochs": EPOCHS, "batch_size": BATCH, "l2": L2, "shuffle": False}
RULES = pytest.mark.parametrize(("rule", "warm"), [(Lion(), False), (WarmLion(), True)], ids=["plain", "warm"])


@RULES
def test_it_trains_a_network(backend, data, rule, warm):
    net = network(backend)
    expected = by_loop(net, *data, warm=warm)
    net.fit(*data, optimizer=rule, **HOW)
    assert_trained(net, expected)


@RULES
def test_it_trains_a_stack_beside_a_built_in_rule(backend, data, rule, warm):
    stack = dp.NetworkStack(
        3, [4, 6, 3], loss="categorical_cross_entropy", hidden_activation="tanh", seeds=[5, 6, 7], backend=backend
    )
    expected = [by_loop(stack[k], *data, warm=warm) for k in (0, 2)]
    alone = network(backend, seed=6)
    stack.fit(*data, optimizer=[rule, dp.Adam(0.01), rule], **HOW)
    alone.fit(*data, optimizer=dp.Adam(0.01), **HOW)
    for k, theta in zip((0, 2), expected, strict=True):
        assert_trained(stack[k], theta)
    host = backend.to_numpy
    assert relative(host(stack[1].parameters), host(alone.parameters)) < 1e-12


class StopError(Exception):
    pass


@RULES
def test_it_goes_on_from_a_checkpoint(data, rule, warm, tmp_path):
    def stop(event):
        if event.epoch == 4:
            raise StopError

    how = HOW | {"optimizer": rule, "checkpoint": tmp_path / "run.safetensors", "resume": True}
    expected = by_loop(network(), *data, warm=warm)
    with pytest.raises(StopError):
        network().fit(*data, **how, callbacks=[stop])
    net = network()
    net.fit(*data, **how)
    assert_trained(net, expected)


def test_update_is_one_step_by_rates_and_apply(data):
    """So it is for a rule that differs from Adam only by its `rates`: half the rate is half the step."""

    class HalfAdam(dp.Adam):
        def rates(self, learning_rate, taken, steps):
            return super().rates(learning_rate / 2, taken, steps)

    moved = {}
    for rule in (dp.Adam(), HalfAdam()):
        net = network()
        before = net.parameters.copy()
        _, gradient = net.cost_and_gradient(*data)
        state = rule.init(net)
        rule.update(net, gradient, state, 0.1)
        assert state["step"] == 1
        moved[type(rule)] = net.parameters - before
    np.testing.assert_allclose(moved[HalfAdam], moved[dp.Adam] / 2, rtol=1e-12)


class HalfStep(dp.SGD):
    def apply(self, network, gradient, state, rate, decay):
        super().apply(network, gradient, state, rate / 2, decay)


class HalfRate(dp.AdamW):
    def rates(self, learning_rate, taken, steps):
        return super().rates(learning_rate / 2, taken, steps)


class AveragedAdam(dp.Adam):
    """It carries the mean of the parameters, too, and names it before Adam's own vectors."""

    def init(self, network):
        return {"average": network.backend.zeros(network.parameters.shape, network.dtype)} | super().init(network)

    def apply(self, network, gradient, state, rate, decay):
        super().apply(network, gradient, state, rate, decay)
        average = state["average"]
        average += 0.1 * (network.parameters - average)


class AveragedMomentum(dp.SGD):
    def init(self, network):
        return {"average": network.backend.zeros(network.parameters.shape, network.dtype)} | super().init(network)


@pytest.mark.parametrize(
    ("derived", "same"),
    [
        (HalfStep(0.1), dp.SGD(0.05)),
        (HalfStep(0.1, momentum=0.9), dp.SGD(0.05, momentum=0.9)),
        (HalfRate(0.02, weight_decay=0.3), dp.AdamW(0.01, weight_decay=0.3)),
        (AveragedAdam(0.02), dp.Adam(0.02)),
        (AveragedMomentum(0.1, momentum=0.9), dp.SGD(0.1, momentum=0.9)),
    ],
    ids=["apply", "apply with momentum", "rates", "more state", "more state with momentum"],
)
def test_a_class_that_derives_from_a_built_in_rule(backend, data, derived, same):
    """No way of training takes it for the rule from which it derives."""
    assert derived.rule() is None
    assert same.rule() is not None
    nets = []
    for rule in (derived, same):
        net = network(backend)
        net.fit(*data, optimizer=rule, **HOW)
        nets.append(backend.to_numpy(net.parameters))
        stack = dp.NetworkStack(
            2, [4, 6, 3], loss="categorical_cross_entropy", hidden_activation="tanh", seeds=[5, 6], backend=backend
        )
        stack.fit(*data, optimizer=rule, **HOW)
        nets.append(backend.to_numpy(stack.parameters[0]))
    for parameters in nets[1:]:
        np.testing.assert_allclose(parameters, nets[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("rule", "other"),
    [
        (dp.SGD(0.1, momentum=0.9), dp.SGD(0.1)),
        (dp.SGD(0.1, momentum=0.9, nesterov=True), dp.Adam()),
        (dp.Adam(), dp.SGD(0.1, momentum=0.9)),
    ],
)
def test_the_state_of_another_rule_is_refused(backend, data, rule, other):
    net = network(backend)
    _, gradient = net.cost_and_gradient(*data)
    before = backend.to_numpy(net.parameters).copy()
    kind = type(rule).__name__
    with pytest.raises(ValueError, match=rf"state: expected \['\w+.*\] in it, as {kind}.init makes it, got \["):
        rule.update(net, gradient, other.init(net), 0.1)
    np.testing.assert_array_equal(backend.to_numpy(net.parameters), before)


def test_rates_of_very_many_steps():
    """β^t underflows to 0 there: the correction is 1, and no floating-point error is raised."""
    with np.errstate(all="raise"):
        rates = dp.Adam(0.01).rates(0.01, 10**6, 1000)
    assert (rates[:, 0] == 0.01).all()


@pytest.mark.parametrize("rule", [dp.Adam(0.01, beta_1=0.8), dp.AdamW(0.01, beta_2=0.99, weight_decay=0.3)], ids=repr)
@pytest.mark.parametrize("taken", [3, 240, 5000])
def test_rates_of_adam_are_its_bias_corrections(taken, rule):
    """They are η √(1 − β₂^t)/(1 − β₁^t) and ηλ, by exact powers, for one step and for many."""
    from mpmath import mp, mpf, sqrt

    with mp.workdps(40):
        one = mpf(1)
        exact = [
            0.01 * sqrt(one - mpf(rule.beta_2) ** t) / (one - mpf(rule.beta_1) ** t)
            for t in range(taken + 1, taken + 47)
        ]
    decay = 0.01 * getattr(rule, "weight_decay", 0.0)
    expected = np.column_stack([np.array(exact, float), np.full(46, decay)])
    rates = rule.rates(0.01, taken, 46)
    np.testing.assert_allclose(rates, expected, rtol=1e-13)
    assert np.array_equal(rates, np.concatenate([rule.rates(0.01, taken + i, 1) for i in range(46)]))
    np.testing.assert_allclose(
        [rule._rates_of_one_step(0.01, t) for t in range(taken, taken + 46)], expected, rtol=1e-13
    )


def test_the_example_in_the_docstring():
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(update_rule.Optimizer, "Optimizer", module=False, globs={})
    assert len(example.examples) >= 6
    assert doctest.DocTestRunner().run(example).failed == 0
