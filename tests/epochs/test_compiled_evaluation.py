"""Outputs and costs by the compiled library equal NumPy's, however many rows, threads and callers there are."""

import copy
import os
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from cases import HIDDEN, PAIRS, targets_for
from conftest import use_threads

import deltaprop as dp
from deltaprop.epochs import compiled_evaluation
from deltaprop.epochs.compiled_evaluation import CompiledEvaluation
from deltaprop.inputs.arrays import HostData
from deltaprop.training import evaluation

TOLERANCE = {"float64": 1e-12, "float32": 2e-5}
#: Below a tile of rows, where nothing is rearranged; above; a whole block; several.
ROWS = (1, 2, 3, 5, 17, 100, 1000)


pytestmark = pytest.mark.usefixtures("compiled_library")


@pytest.fixture
def many_threads(monkeypatch):
    """Three threads for whatever work there is."""
    use_threads(monkeypatch, 3)


def both(sizes: list[int], **options: Any) -> tuple[dp.Network, dp.Network]:
    """A network that is evaluated by the library, and one with the same parameters that NumPy evaluates."""
    networks = tuple(dp.Network(sizes, backend=backend, seed=3, **options) for backend in ("numpy", "reference"))
    biases = [np.linspace(-0.5, 0.5, len(b)) for b in networks[0].biases]
    for net in networks:
        net.biases = biases
    assert CompiledEvaluation.of(networks[0]) is not None
    assert CompiledEvaluation.of(networks[1]) is None
    return networks[0], networks[1]


def samples(net, m, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(m, net.layer_sizes[0])).astype(net.dtype)
    return X, targets_for(net.loss, rng, m, net.layer_sizes[-1]).astype(net.dtype)


def assert_equal(net, reference, X, Y, weights=None):
    tolerance = TOLERANCE[net.dtype.name]
    expected = reference.predict(X)
    predicted = net.predict(X)
    np.testing.assert_allclose(predicted, expected, rtol=tolerance, atol=tolerance * abs(expected).max())
    costs = [each.cost(X, Y, sample_weight=weights) for each in (net, reference)]
    assert costs[0] == pytest.approx(costs[1], rel=tolerance, abs=1e-300)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_every_loss_and_its_outputs(loss, output, dtype):
    networks = both([5, 9, 3], loss=loss, output_activation=output, dtype=dtype, hidden_activation="tanh")
    for m in ROWS:
        X, Y = samples(networks[0], m)
        assert_equal(*networks, X, Y)
        assert_equal(*networks, X, Y, np.linspace(0.5, 2.0, m))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("hidden", HIDDEN)
def test_every_hidden_activation(hidden, dtype):
    networks = both([4, 20, 7, 2], hidden_activation=hidden, loss="squared_error", dtype=dtype)
    for m in ROWS:
        assert_equal(*networks, *samples(networks[0], m))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "sizes", [[3, 1], [64, 100, 10], [130, 150, 70, 33], [1500, 40, 3]], ids=lambda sizes: "-".join(map(str, sizes))
)
def test_layers_smaller_and_larger_than_a_panel(sizes, dtype, many_threads):
    networks = both(sizes, hidden_activation="relu", loss="squared_error", dtype=dtype)
    for m in ROWS:
        assert_equal(*networks, *samples(networks[0], m))


def test_the_simplified_error_has_the_same_cost():
    networks = both([4, 6, 2], loss="squared_error", output_activation="sigmoid", output_error="simplified")
    assert_equal(*networks, *samples(networks[0], 10))


def test_a_loss_of_functions_predicts_by_the_library_and_costs_by_numpy():
    def cost(h, y):
        return abs(h - y) ** 3

    def gradient(h, y):
        return 3.0 * (h - y) * abs(h - y)

    networks = both([4, 6, 2], loss=(cost, gradient))
    X = np.random.default_rng(0).normal(size=(50, 4))
    Y = X[:, :2]
    np.testing.assert_allclose(networks[0].predict(X), networks[1].predict(X), rtol=1e-12)
    assert networks[0].cost(X, Y) == pytest.approx((abs(networks[1].predict(X) - Y) ** 3).sum() / 50, rel=1e-12)


@pytest.mark.parametrize("m", [1, 30, 5000])
def test_numbers_do_not_depend_on_the_threads(m, monkeypatch):
    net, _ = both([20, 64, 32, 5], loss="categorical_cross_entropy", dtype="float32")
    X, Y = samples(net, m)
    found = []
    for threads in (1, 2, 5):
        use_threads(monkeypatch, threads)
        found.append((net.predict(X).tobytes(), net.cost(X, Y), evaluation.largest(net, X).tobytes()))
    assert found[0] == found[1] == found[2]


def test_several_calls_for_many_rows_are_one_result(monkeypatch):
    monkeypatch.setattr(compiled_evaluation, "LEAST_ROWS", 96)
    monkeypatch.setattr(compiled_evaluation, "OPERATIONS_A_CALL", 1.0)
    networks = both([6, 8, 3], loss="categorical_cross_entropy")
    X, Y = samples(networks[0], 1000)
    compiled = CompiledEvaluation.of(networks[0])
    assert compiled is not None
    assert compiled.at_once == 96
    assert_equal(*networks, X, Y, np.linspace(0.1, 1.0, 1000))
    np.testing.assert_array_equal(evaluation.largest(networks[0], X), networks[1].predict(X).argmax(axis=1))


def test_the_largest_is_the_first_of_equal_ones_and_nan_as_for_numpy():
    net, _ = both([2, 4], loss="squared_error", hidden_activation="relu")
    net.weights = [[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]]
    net.biases = [np.zeros(4)]
    X = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0], [-1.0, -3.0]])
    assert evaluation.largest(net, X).tolist() == [0, 1, 0, 0]
    net.own.weights[0][2, 0] = np.nan
    assert evaluation.largest(net, X).tolist() == [2, 2, 2, 2]


def test_inputs_that_are_not_finite_are_refused_by_their_place():
    networks = both([3, 4, 2], dtype="float32")
    X = np.ones((300, 3), np.float32)
    for bad in (np.nan, np.inf, -np.inf):
        X[270, 1] = bad
        messages = []
        for net in networks:
            for ask in (net.predict, lambda X, net=net: net.cost(X, np.zeros((300, 2)))):
                with pytest.raises(
                    ValueError, match=r"X: expected finite numbers in float32, got .* at X\[270, 1\]"
                ) as e:
                    ask(X)
                messages.append(str(e.value))
        assert len(set(messages)) == 1


def test_the_largest_finite_numbers_are_no_infinities():
    net, reference = both([2, 3], loss="squared_error")
    for each in (net, reference):
        each.weights = [np.full((3, 2), 1e-200)]
        each.biases = [np.zeros(3)]
    X = np.full((70, 2), 1.7e308)
    np.testing.assert_allclose(net.predict(X), np.full((70, 3), 3.4e108), rtol=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        lambda X: np.asfortranarray(X),
        lambda X: np.repeat(X, 2, axis=0)[::2],
        lambda X: np.repeat(X, 2, axis=1)[:, ::2],
        lambda X: X[::-1][::-1],
        lambda X: X.astype(X.dtype.newbyteorder()),
        lambda X: X.astype(np.float32).astype(np.float64),
        lambda X: X.tolist(),
        lambda X: np.ma.array(X),
        lambda X: np.frombuffer(b"\0" + X.tobytes(), np.uint8)[1:].view(X.dtype).reshape(X.shape),
    ],
    ids=["fortran", "rows apart", "columns apart", "turned", "byteorder", "rounded", "list", "masked", "not aligned"],
)
def test_arrays_of_every_kind(change):
    networks = both([4, 5, 2], loss="squared_error")
    X, Y = samples(networks[0], 33)
    X = X.astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(networks[0].predict(change(X)), networks[1].predict(X), rtol=1e-12)
    assert networks[0].cost(change(X), Y) == pytest.approx(networks[1].cost(X, Y), rel=1e-12)


def test_read_only_inputs_and_parameters():
    net, reference = both([4, 5, 2], loss="squared_error")
    X, _ = samples(net, 9)
    X.flags.writeable = False
    net.parameters.flags.writeable = False
    np.testing.assert_allclose(dp.Network.predict(net, X), reference.predict(X), rtol=1e-12)
    np.testing.assert_allclose(net.over(net.parameters).predict(X), reference.predict(X), rtol=1e-12)


def test_wrong_shapes_are_refused_as_ever():
    networks = both([4, 5, 2], loss="squared_error")
    for X in (np.zeros((0, 4)), np.zeros((3, 5)), np.zeros(4), np.zeros((2, 3, 4))):
        messages = []
        for net in networks:
            with pytest.raises(ValueError, match="X: expected") as error:
                net.predict(X)
            messages.append(str(error.value))
        assert messages[0] == messages[1]


def test_parameters_that_change_are_seen():
    net, reference = both([4, 5, 2], loss="squared_error")
    X, Y = samples(net, 40)
    net.predict(X)
    for change in (
        lambda each: setattr(each, "parameters", np.linspace(-1, 1, each.own.size)),
        lambda each: setattr(each, "weights", [W * 2 for W in each.weights]),
        lambda each: each.weights[0].__setitem__((0, 0), 7.0),
        lambda each: each.fit(X, Y, epochs=1, shuffle=False),
    ):
        change(net)
        change(reference)
        np.testing.assert_allclose(net.predict(X), reference.predict(X), rtol=1e-11)


def test_copies_answer_for_themselves():
    net, _ = both([4, 5, 2], loss="squared_error")
    X, _ = samples(net, 8)
    before = net.predict(X)
    other_memory = net.over(np.zeros(net.own.size))
    copies = [net.copy(), copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net)), copy.deepcopy(net.own)]
    net.parameters = np.zeros(net.own.size)
    assert (net.predict(X) == 0).all()
    assert (other_memory.predict(X) == 0).all()
    for each in copies[:-1]:
        if each.own is not net.own:
            np.testing.assert_array_equal(each.predict(X), before)
    assert copies[-1].evaluation is None


def test_members_of_a_stack_share_inputs_or_have_their_own():
    stacks = [dp.NetworkStack(3, [5, 30, 4], loss="squared_error", backend=b) for b in ("numpy", "reference")]
    X = np.random.default_rng(0).normal(size=(3, 300, 5))
    for inputs in (X, X[0]):
        np.testing.assert_allclose(stacks[0].predict(inputs), stacks[1].predict(inputs), rtol=1e-11, atol=1e-13)


def test_data_that_stay_as_they_are_go_chunk_by_chunk(monkeypatch):
    monkeypatch.setattr(evaluation, "CHUNK_BYTES", 4096)
    networks = both([4, 5, 2], loss="squared_error")
    X, Y = samples(networks[0], 700)
    inputs, targets = HostData(X.astype(np.float32)), HostData(Y)
    X = X.astype(np.float32).astype(np.float64)
    predicted: Any = evaluation.predict(networks[0], inputs)
    np.testing.assert_allclose(predicted, networks[1].predict(X), rtol=1e-12)
    np.testing.assert_array_equal(evaluation.largest(networks[0], inputs), networks[1].predict(X).argmax(axis=1))
    outputs: Any = np.empty((700, 2))
    for prediction in (None, outputs):
        cost = float(evaluation.data_cost(networks[0], inputs, targets, prediction))
        assert cost == pytest.approx(700 * networks[1].cost(X, Y), rel=1e-12)
    np.testing.assert_array_equal(outputs, predicted)


def test_eight_threads_ask_one_network(many_threads):
    net, reference = both([20, 64, 32, 5], loss="categorical_cross_entropy")
    inputs = [samples(net, m, seed=m) for m in (1, 3, 40, 400, 1, 3, 40, 400)]
    expected = [net.predict(X) for X, _ in inputs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            found = list(pool.map(lambda pair: (net.predict(pair[0]), net.cost(*pair)), inputs, timeout=60))
            for (outputs, cost), (X, Y), own in zip(found, inputs, expected, strict=True):
                np.testing.assert_array_equal(outputs, own)
                assert cost == pytest.approx(reference.cost(X, Y), rel=1e-12)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_the_child_of_a_fork_asks_the_network_of_its_parent(many_threads):
    net, _ = both([20, 64, 32, 5], loss="categorical_cross_entropy")
    X, _ = samples(net, 400)
    expected = net.predict(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, where there are threads
        child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(net.predict(X), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_parameters_that_stand_apart_are_left_to_numpy():
    net, reference = both([4, 5, 2], loss="squared_error")
    X, _ = samples(net, 5)
    apart = net.over(np.repeat(net.parameters, 2)[::2])
    assert CompiledEvaluation.of(apart) is None
    np.testing.assert_allclose(apart.predict(X), reference.predict(X), rtol=1e-12)


def test_without_a_library_numpy_answers(monkeypatch):
    monkeypatch.setattr(compiled_evaluation, "library_problem", lambda dtype: "no library is here")
    net = dp.Network([4, 5, 2], backend="numpy", seed=3)
    reference = dp.Network([4, 5, 2], backend="reference", seed=3)
    X = np.ones((3, 4))
    assert CompiledEvaluation.of(net) is None
    np.testing.assert_array_equal(net.predict(X), reference.predict(X))
