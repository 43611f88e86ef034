"""What the compiled library computes by two, three and four threads is what the reference path computes step by step."""

from typing import Any

import numpy as np
import pytest
from cases import relative, targets_for
from conftest import require_library
from test_compiled import assert_compiled_fit_is_equal, both
from test_compiled_sparse import assert_as_from_the_dense_array, rows

import deltaprop as dp
from deltaprop.derivation.backprop import Objective
from deltaprop.derivation.derivatives import MatrixDerivatives
from deltaprop.derivation.parameters import Parameters
from deltaprop.epochs import compiled, compiled_answers, compiled_evaluation, compiled_gradient, compiled_members
from deltaprop.epochs.compiled_gradient import CompiledDerivatives
from deltaprop.inputs.encoded_rows import Binned, Copied, EncodedRows, InputEncoding


@pytest.fixture(params=[2, 3, 4], autouse=True, ids=["two threads", "three threads", "four threads"])
def threads(request, monkeypatch):
    """So many threads, however little there is to do."""
    require_library()
    for module in (compiled, compiled_answers, compiled_gradient, compiled_members):
        monkeypatch.setattr(module, "own_threads", lambda: request.param)
    monkeypatch.setattr(compiled_evaluation, "threads_of_numpy", lambda: request.param)
    monkeypatch.setattr(compiled_evaluation, "OPERATIONS_OF_ONE_THREAD", 0.0)
    for module in (compiled, compiled_gradient):
        monkeypatch.setattr(module, "OPERATIONS_A_THREAD", 1e-9)
    return request.param


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("sizes", "batch"),
    [([12, 40, 3], 8), ([6, 20, 17, 9, 2], 7), ([40, 170, 150, 5], 20), ([30, 500, 300, 4], 64), ([3, 2], 5)],
    ids=["one hidden layer", "deep", "by units", "large", "no hidden layer"],
)
@pytest.mark.parametrize("how", [{}, {"dropout": 0.3}, {"shuffle": False, "l2": 0.2}], ids=["plain", "dropout", "l2"])
def test_training(sizes, batch, how, dtype, rng):
    X, Y = rng.standard_normal((70, sizes[0])), rng.uniform(size=(70, sizes[-1]))
    if len(sizes) == 2 and "dropout" in how:
        how = {"dropout": ()}
    nets = both(sizes, hidden_activation="tanh", dtype=dtype)
    assert_compiled_fit_is_equal(nets, X, Y, batch_size=batch, epochs=2, optimizer=dp.Adam(1e-3, epsilon=1e-4), **how)


def test_sparse_inputs(rng):
    X, Y = rows(rng, 53, 300), rng.standard_normal((53, 2))
    for sizes in ([300, 40, 2], [300, 80, 30, 2]):
        assert_as_from_the_dense_array(sizes, X, Y, dp.Adam(0.01), 16, loss="squared_error")


@pytest.mark.parametrize("encoded", [False, True], ids=["dense", "encoded"])
def test_members_of_a_stack(encoded, rng):
    stored = np.round(rng.uniform(-2, 4, (300, 2)), 2)
    encoding = InputEncoding(2, [Binned(0, np.array([-1.0, 0.5, 2.0])), Copied(1)])
    X: Any = EncodedRows(stored, encoding) if encoded else stored
    # The formed inputs, by their formula: the place of a number within each bin, less a half.
    low, high = np.array([-1.0, 0.5]), np.array([0.5, 2.0])
    dense = np.hstack([np.clip((stored[:, :1] - low) / (high - low), 0, 1) - 0.5, stored[:, 1:]]) if encoded else stored
    Y = rng.standard_normal((300, 2))
    options: dict[str, Any] = {"loss": "squared_error", "hidden_activation": "tanh"}
    sizes, count = [dense.shape[1], 11, 2], 5
    stack = dp.NetworkStack(count, sizes, seeds=list(range(count)), backend="numpy", **options)
    how: dict[str, Any] = {"batch_size": 32, "epochs": 3, "optimizer": dp.SGD(0.05, momentum=0.9)}
    stack.fit(X, Y, **how)
    predicted = stack.predict(X)
    for k, member in enumerate(stack):
        alone = dp.Network(sizes, seed=k, backend="reference", **options)
        alone.fit(dense, Y, **how)
        assert relative([member.parameters], [alone.parameters]) < 1e-11
        assert relative(predicted[k], alone.predict(dense)) < 1e-11


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sizes", [[20, 64, 32, 5], [130, 300, 7]], ids=str)
def test_outputs_costs_and_derivatives(sizes, dtype, rng, monkeypatch):
    monkeypatch.setattr(compiled_gradient, "SMALL_EVALUATION", -1.0)
    tolerance = {"float64": 1e-12, "float32": 2e-5}[dtype]
    net, reference = both(sizes, loss="categorical_cross_entropy", hidden_activation="tanh", dtype=dtype)
    X = rng.standard_normal((1500, sizes[0])).astype(dtype)
    Y = targets_for(net.loss, rng, 1500, sizes[-1]).astype(dtype)
    for m in (40, 1500):
        assert relative(net.predict(X[:m]), reference.predict(X[:m])) < tolerance
        assert net.cost(X[:m], Y[:m]) == pytest.approx(reference.cost(X[:m], Y[:m]), rel=tolerance)
    ours, expected = (
        kind(each, X, Y, Objective(0.4), None)
        for kind, each in ((CompiledDerivatives, net), (MatrixDerivatives, reference))
    )
    assert relative(ours.cost_and_gradient()[1].flat, expected.cost_and_gradient()[1].flat) < tolerance
    direction = Parameters(net.backend, sizes, net.dtype)
    direction.flat[...] = rng.standard_normal(direction.size)
    assert relative(ours.hessian_product(direction).flat, expected.hessian_product(direction).flat) < 2 * tolerance
