"""The numerical gradient check passes right gradients, and finds every planted fault in its place."""

from html import escape
from typing import Any

import numpy as np
import pytest
from cases import HIDDEN, PAIRS, targets_for
from html_tables import read_html

import deltaprop as dp
from deltaprop.backends.numpy.backend import NumpyBackend


@pytest.mark.parametrize(("loss", "output"), PAIRS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_gradient_agrees_with_central_differences(quick_backend, rng, hidden, loss, output):
    net = dp.Network(
        [3, 5, 4, 2], hidden_activation=hidden, output_activation=output, loss=loss, backend=quick_backend, seed=1
    )
    result = dp.check_gradient(net, rng.standard_normal((5, 3)), targets_for(loss, rng, 5, 2), l2=1.0)
    assert result.passed
    assert result.failed == []
    assert result.relative_difference < 1e-9
    assert result.at_kinks <= result.entries / 10


@pytest.mark.parametrize("l2", [0.0, 3.0])
def test_the_courses_debug_network(backend, l2):
    """The network is 3-5-3 with m = 5 and all numbers from sines, as in exercise 4 of the course."""
    net = dp.Network([3, 5, 3], init="debug_initialize", backend=backend)
    theta = np.sin(np.arange(1, 21)).reshape(4, 5).T / 10
    assert np.allclose(net.backend.to_numpy(net.thetas[0]), theta, rtol=1e-15)
    X = np.sin(np.arange(1, 16)).reshape(3, 5).T / 10
    y = np.arange(1, 6) % 3
    result = dp.check_gradient(net, X, y, l2=l2)
    assert result.passed
    assert result.relative_difference < 1e-9
    assert result.entries == 38


def without_slope(self, delta, W, activation, Z, out, bias_gradient, mask, keep):
    np.matmul(delta, W, out=out)
    self.bias_gradient(out, bias_gradient)


def with_transposed_weights(self, delta, W, activation, Z, out, bias_gradient, mask, keep):
    RIGHT["hidden_delta"](self, delta, np.ascontiguousarray(W.T), activation, Z, out, bias_gradient)


def with_penalty_on_biases(self, weights, l2, gradient):
    RIGHT["add_l2_gradient"](self, weights.base, l2, gradient.base)


def without_the_mean(self, delta, A, out, keep):
    """Forget 1/m in the weights of the output layer, here the only ones with 2 rows."""
    RIGHT["weight_gradient"](self, delta, A, out)
    if len(out) == 2:
        out *= len(A)


def everywhere_without_the_mean(self, loss, activation, Z, A, Y, scale, out, cost, **options):
    RIGHT["output_delta"](self, loss, activation, Z, A, Y, 1.0, out, cost, **options)


def output_without_slope(self, loss, activation, Z, A, Y, scale, out, cost, **options):
    RIGHT["output_delta"](self, loss, "identity", Z, A, Y, scale, out, cost, **options)


RIGHT = {
    name: getattr(NumpyBackend, name) for name in ("hidden_delta", "add_l2_gradient", "weight_gradient", "output_delta")
}
BELOW = ["weights[0]", "biases[0]", "weights[1]", "biases[1]"]
BIASES = ["biases[0]", "biases[1]", "biases[2]"]
ALL = [*BELOW, "weights[2]", "biases[2]"]


@pytest.mark.parametrize(("operation", "fault", "found"), [
    ("hidden_delta", without_slope, BELOW),
    ("hidden_delta", with_transposed_weights, BELOW),
    ("add_l2_gradient", with_penalty_on_biases, BIASES),
    ("weight_gradient", without_the_mean, ["weights[2]"]),
    ("output_delta", everywhere_without_the_mean, ALL),
    ("output_delta", output_without_slope, ALL),
])  # fmt: skip
def test_a_planted_fault_is_found_and_its_layer_named(rng, monkeypatch, operation, fault, found):
    """Layers above a fault in δ pass; the layer of the fault and those below do not."""
    net = dp.Network([2, 2, 2, 2], loss="squared_error", output_activation="sigmoid", backend="numpy", seed=3)
    net.weights[0][...], net.weights[1][...] = rng.standard_normal((2, 2, 2))
    X, Y = rng.standard_normal((5, 2)), rng.random((5, 2))
    if fault is without_the_mean:  # three hidden units, so that two rows mean the output layer
        net = dp.Network([2, 3, 3, 2], loss="squared_error", output_activation="sigmoid", backend="numpy", seed=3)
    assert dp.check_gradient(net, X, Y, l2=1.0).passed
    monkeypatch.setattr(NumpyBackend, operation, fault)
    result = dp.check_gradient(net, X, Y, l2=1.0)
    assert not result.passed
    assert result.failed == found
    assert result.worst.partition("]")[0] + "]" in found
    assert f"FAILED in {', '.join(found)}; worst at {result.worst}" in str(result)


def test_a_fault_in_one_entry_is_named_by_layer_and_index(rng, monkeypatch):
    net = dp.Network([4, 6, 3], backend="numpy")
    X, y = rng.standard_normal((5, 4)), np.arange(5) % 3

    def fault(self, delta, A, out, keep):
        RIGHT["weight_gradient"](self, delta, A, out)
        if out.shape == (6, 4):
            out[2, 3] += 1e-4

    monkeypatch.setattr(NumpyBackend, "weight_gradient", fault)
    result = dp.check_gradient(net, X, y)
    assert result.failed == ["weights[0]"]
    assert result.worst == "weights[0][2, 3]"
    assert result.max_abs_difference == pytest.approx(1e-4, rel=1e-6)
    worst = result.layers[0]
    assert worst.analytic - worst.numeric == pytest.approx(1e-4, rel=1e-6)


def test_a_fault_in_a_layer_of_small_gradients_is_not_drowned_by_the_others(rng, monkeypatch):
    """Relative to the whole gradient the fault is below the tolerance; relative to its layer it is above."""
    net = dp.Network([3, 4, 2], loss="squared_error", backend="numpy")
    net.weights[1][...] *= 3e-10  # almost no δ arrives at the first layer
    X, Y = rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
    assert dp.check_gradient(net, X, Y).passed

    def fault(self, *arguments, **options):
        RIGHT["hidden_delta"](self, *arguments, **options)
        options["out"][...] *= 1.5
        options["bias_gradient"][...] *= 1.5

    monkeypatch.setattr(NumpyBackend, "hidden_delta", fault)
    result = dp.check_gradient(net, X, Y)
    assert result.relative_difference < result.tolerance
    assert result.failed == ["weights[0]", "biases[0]"]
    assert not result.passed


def test_the_simplified_output_error_is_said_not_to_be_the_gradient(rng):
    options: dict[str, Any] = {"loss": "squared_error", "output_activation": "sigmoid", "backend": "numpy"}
    X, Y = rng.standard_normal((5, 3)), rng.random((5, 2))
    assert dp.check_gradient(dp.Network([3, 4, 2], **options), X, Y).note == ""
    result = dp.check_gradient(dp.Network([3, 4, 2], **options, output_error="simplified"), X, Y)
    assert not result.passed
    assert "not the gradient of the squared error" in result.note
    assert result.note in str(result)


def test_check_gradient_leaves_the_network_alone_and_samples_large_ones(backend, rng):
    net = dp.Network([30, 40, 3], dtype="float32", backend=backend)
    before = net.backend.to_numpy(net.parameters).copy()
    result = dp.check_gradient(net, rng.standard_normal((4, 30)), np.arange(4) % 3, entries=50)
    assert result.passed
    assert result.entries == 50
    assert np.array_equal(net.backend.to_numpy(net.parameters), before)


def test_the_table(rng):
    result = dp.check_gradient(dp.Network([3, 2], backend="numpy"), rng.standard_normal((4, 3)), [0, 1, 1, 0])
    lines = str(result).splitlines()
    assert [word for word in ("weights[0]", "biases[0]") if any(word in line for line in lines)]
    assert len({len(line) for line in lines[:-1]}) == 1
    assert lines[-1].startswith("passed: relative difference")


def test_a_notebook_shows_the_same_table(rng):
    options: dict[str, Any] = {"loss": "squared_error", "output_activation": "sigmoid", "output_error": "simplified"}
    X, Y = rng.standard_normal((5, 3)), rng.random((5, 2))
    result = dp.check_gradient(dp.Network([3, 4, 2], backend="numpy", **options), X, Y)
    html = result._repr_html_()
    reader = read_html(html)
    ((_, *rows),) = reader.tables
    assert [row[:2] for row in rows] == [
        ["weights[0]", "12"],
        ["biases[0]", "4"],
        ["weights[1]", "8"],
        ["biases[1]", "2"],
    ]
    assert reader.strong == result.failed
    for row, layer in zip(rows, result.layers, strict=True):
        assert [float(cell) for cell in row[4:6]] == pytest.approx([layer.analytic, layer.numeric], rel=1e-8)
        assert row[6] == "FAILED"
    assert escape(result.note) in html
    assert "<p>FAILED in weights[0], biases[0], weights[1], biases[1]; worst at " in html
