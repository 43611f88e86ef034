"""A whole-number sample weight equals so many copies of the sample, in everything that takes weights."""

from typing import Any

import numpy as np
import pytest
from cases import PAIRS, relative, targets_for

import deltaprop as dp


@pytest.fixture
def counted(rng):
    """Return weights 0 to 3, and a function that repeats each row as often."""
    weight = np.array([1, 0, 3, 2, 1, 2, 0])
    return weight, lambda *arrays: [np.repeat(array, weight, axis=0) for array in arrays]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("l2_scaling", ["per_sample", "absolute"])
@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_a_weight_is_so_many_copies(backend, rng, counted, loss, output, l2_scaling, reduction):
    weight, repeat = counted
    net = dp.Network([3, 4, 2], hidden_activation="tanh", loss=loss, output_activation=output, backend=backend)
    X, Y = rng.standard_normal((7, 3)), targets_for(loss, rng, 7, 2)
    v = rng.standard_normal(net.parameters.shape)
    options = {"l2": 0.7, "l2_scaling": l2_scaling, "reduction": reduction}
    weighted = options | {"sample_weight": weight}
    X_copies, Y_copies = copies = repeat(X, Y)
    assert net.cost(X, Y, **weighted) == pytest.approx(net.cost(*copies, **options), rel=1e-12)
    cost, gradient = net.cost_and_gradient(X, Y, **weighted)
    expected_cost, expected = net.cost_and_gradient(*copies, **options)
    assert cost == pytest.approx(expected_cost, rel=1e-12)
    assert relative(gradient.flat, expected.flat) < 1e-12
    assert relative(net.hvp(X, Y, v, **weighted), net.hvp(X_copies, Y_copies, v, **options)) < 1e-12


@pytest.mark.parametrize("method", ["full batch", "l-bfgs", "newton-cg"])
def test_training_with_weights_is_training_on_copies(backend, rng, counted, method):
    weight, repeat = counted
    X, Y = rng.standard_normal((7, 3)), rng.random((7, 2))
    first, second = (dp.Network([3, 4, 2], loss="squared_error", backend=backend) for _ in range(2))
    histories = []
    for net, data, options in ((first, (X, Y), {"sample_weight": weight}), (second, repeat(X, Y), {})):
        if method == "full batch":
            histories.append(net.fit(*data, batch_size=None, epochs=5, l2=0.3, **options))
        else:
            # Few iterations, as the end of Newton-CG's inner solver depends on the last bit.
            histories.append(net.fit_full_batch(*data, method=method, max_iter=3, l2=0.3, **options))
    assert histories[0].cost == pytest.approx(histories[1].cost, rel=1e-10)
    assert relative(first.parameters, second.parameters) < 1e-9


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("optimizer", [dp.SGD(0.3), dp.Adam(0.05)])
def test_minibatches(backend, rng, optimizer, shuffle):
    """Two epochs in minibatches of 4, 4 and 2 equal full-batch steps on the samples of each."""
    X, Y, weight = rng.standard_normal((10, 3)), rng.random((10, 2)), rng.uniform(0, 2, 10)
    net, by_hand = (dp.Network([3, 4, 2], loss="squared_error", backend=backend, seed=3) for _ in range(2))
    history = net.fit(X, Y, optimizer=optimizer, batch_size=4, epochs=2, sample_weight=weight, shuffle=shuffle, l2=0.5)
    state = optimizer.init(by_hand)
    total = 0.0
    for epoch in range(2):
        order = np.random.default_rng((3, 1, epoch)).permutation(10) if shuffle else np.arange(10)
        total = 0.0
        for rows in (order[:4], order[4:8], order[8:]):
            options = {"sample_weight": weight[rows], "l2": 0.5 / weight.sum(), "l2_scaling": "absolute"}
            _, gradient = by_hand.cost_and_gradient(X[rows], Y[rows], **options)
            total += by_hand.cost(X[rows], Y[rows], sample_weight=weight[rows], reduction="sum")
            optimizer.update(by_hand, gradient, state, optimizer.rate(epoch, history))
    assert relative(*(backend.to_numpy(each.parameters) for each in (net, by_hand))) < 1e-12
    penalty = 0.25 * float((by_hand.backend.to_numpy(by_hand.flat_weights) ** 2).sum())
    assert history.cost[-1] == pytest.approx((total + penalty) / weight.sum(), rel=1e-12)


def test_minibatches_of_weight_zero_and_weights_of_one(backend, rng):
    X, Y = rng.standard_normal((8, 3)), rng.random((8, 2))
    options: dict[str, Any] = {"batch_size": 4, "epochs": 3, "shuffle": False}
    nets = [dp.Network([3, 4, 2], loss="squared_error", backend=backend) for _ in range(4)]
    nets[0].fit(X, Y, **options)
    nets[1].fit(X, Y, sample_weight=np.ones(8), **options)
    assert np.array_equal(nets[0].backend.to_numpy(nets[0].parameters), nets[1].backend.to_numpy(nets[1].parameters))
    nets[2].fit(X, Y, sample_weight=[1, 1, 1, 1, 0, 0, 0, 0], **options)
    nets[3].fit(X[:4], Y[:4], **options)
    assert relative(nets[2].parameters, nets[3].parameters) < 1e-14


def test_the_gradient_check_takes_weights(rng):
    net = dp.Network([3, 4, 2], backend="numpy")
    X, Y = rng.standard_normal((5, 3)), rng.random((5, 2))
    result = dp.check_gradient(net, X, Y, l2=1.0, sample_weight=[0.5, 2.0, 0.0, 1.0, 3.0])
    assert result.passed
    assert result.relative_difference < 1e-9


@pytest.mark.parametrize(("weight", "message"), [
    ([1.0, 2.0], r"sample_weight: expected shape \(3,\), one weight for each row of X, got shape \(2,\)"),
    ([[1.0], [1.0], [1.0]], r"sample_weight: expected shape \(3,\), .* got shape \(3, 1\)"),
    ([1.0, -1.0, 1.0], r"sample_weight: expected weights of at least 0, got -1 at sample_weight\[1\]"),
    ([1.0, np.nan, 1.0], r"sample_weight: expected finite numbers in float64, got nan at sample_weight\[1\]"),
    ([0.0, 0.0, 0.0], "sample_weight: expected a weight above 0, got none"),
])  # fmt: skip
def test_bad_weights_are_named(weight, message):
    net = dp.Network([2, 1], backend="numpy")
    before = net.parameters.copy()
    X, Y = np.zeros((3, 2)), [0, 1, 1]
    for method in (net.cost, net.cost_and_gradient, net.fit, net.fit_full_batch):
        with pytest.raises(ValueError, match=message):
            method(X, Y, sample_weight=weight)
    assert np.array_equal(net.parameters, before)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scale", [1e-320, 1e-310, 1e-45, 1e-37, 1.0, 1e36, 1e60, 1e307])
def test_uniform_weights_of_any_size_train_as_none_or_are_refused(quick_backend, scale, dtype, rng):
    """The divisor of a mean must be a normal number, and so must its reciprocal."""
    X, Y, weight = rng.standard_normal((12, 3)), rng.random((12, 2)), np.full(12, scale)
    limits = np.finfo(dtype)
    net, plain = (dp.Network([3, 4, 2], dtype=dtype, backend=quick_backend) for _ in range(2))
    stack = dp.NetworkStack(2, [3, 4, 2], seeds=0, dtype=dtype, backend=quick_backend)
    before = plain.backend.to_numpy(plain.parameters).copy()
    ways = {
        "fit": lambda: net.fit(X, Y, sample_weight=weight, batch_size=5, epochs=3),
        "stack": lambda: stack.fit(X, Y, sample_weight=weight, batch_size=5, epochs=3),
        "cost": lambda: plain.cost(X, Y, sample_weight=weight),
    }
    if float(limits.tiny) <= scale <= 1 / float(limits.tiny) / 12:
        plain.fit(X, Y, batch_size=5, epochs=3)
        ways["fit"](), ways["stack"]()
        expected, tolerance = plain.backend.to_numpy(plain.parameters), 1e-12 if dtype == "float64" else 1e-4
        for got in (net.parameters, *stack.parameters):
            assert relative(net.backend.to_numpy(got), expected) < tolerance
        assert ways["cost"]() == pytest.approx(plain.cost(X, Y), rel=tolerance)
        return
    for way in ways.values():
        with pytest.raises(ValueError, match=r"sample_weight: expected ((some )?weights|finite numbers)"):
            way()
    assert np.array_equal(net.backend.to_numpy(net.parameters), before)


@pytest.mark.parametrize("batch_size", [1, 3, None])
def test_a_weight_below_all_normal_numbers_beside_others_is_0(batch_size, rng):
    """A Gaussian's tail gives such weights; the quotient by a minibatch's sum stays finite."""
    X, Y, weight = rng.standard_normal((6, 3)), rng.random((6, 2)), np.array([1.0, 1e-320, 0.5, 0.0, 1e-310, 2.0])
    nets = [dp.Network([3, 4, 2], backend="numpy") for _ in range(2)]
    given = weight.copy()
    nets[0].fit(X, Y, sample_weight=weight, batch_size=batch_size, epochs=3)
    nets[1].fit(X, Y, sample_weight=np.where(weight < 1e-300, 0.0, weight), batch_size=batch_size, epochs=3)
    assert np.array_equal(nets[0].parameters, nets[1].parameters)
    assert np.array_equal(weight, given)


@pytest.mark.parametrize("scale", [1e-320, 1e307])
def test_estimators_refuse_weights_that_cannot_be_divided_by(scale, rng):
    X, y = rng.standard_normal((40, 3)), np.arange(40) % 2
    for estimator in (
        dp.MLPClassifier(backend="numpy"), dp.MLPRegressor(backend="numpy"), dp.EnsembleClassifier(n_estimators=2),
        dp.SweepCV(dp.MLPClassifier(backend="numpy"), {"alpha": [0.1]}, cv=2, error_score="raise"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"sample_weight: expected (some )?weights"):
            estimator.fit(X, y, sample_weight=np.full(40, scale))
    with pytest.raises(ValueError, match=r"class_weight: expected (some )?weights"):
        dp.MLPClassifier(class_weight={0: scale, 1: scale}, backend="numpy").fit(X, y)


@pytest.mark.parametrize("kind", ["single", "ensemble", "sweep"])
def test_class_weights_that_cannot_be_divided_by(kind):
    X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    base = dp.MLPClassifier((3,), max_iter=2, class_weight={0: 1e-320, 1: 1e-320}, random_state=0)
    model: Any = {
        "single": base,
        "ensemble": dp.EnsembleClassifier(base, n_estimators=2),
        "sweep": dp.SweepCV(base, {"alpha": [0.1]}, cv=2, error_score="raise"),
    }[kind]
    with pytest.raises(ValueError, match="class_weight: expected some weights of at least"):
        model.fit(X, y)
