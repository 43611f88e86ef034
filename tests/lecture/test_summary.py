"""A network's summary: its shapes and numbers of parameters are the formula's, as text, as HTML and as fields."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from html_tables import read_html

import deltaprop as dp
from deltaprop.lecture.summary import LayerSummary, _memory


def cost(h: Any, y: Any) -> Any:
    return (h - y) ** 2


def slope(h: Any, y: Any) -> Any:
    return 2 * (h - y)


slope.__name__ = "<script>"


@pytest.mark.parametrize("sizes", [[4, 3], [400, 25, 10], [3, 1000, 1, 2]])
def test_parameters_are_counted_by_the_formula(sizes: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    net = dp.Network(sizes, backend="numpy")
    seen = net.summary()
    counts = [(s_in + 1) * s_out for s_in, s_out in pairwise(sizes)]
    assert seen.parameters == sum(counts) == net.parameters.size
    assert [layer.parameters for layer in seen.layers] == [0, *counts]
    printed = capsys.readouterr().out
    assert printed == f"{seen}\n"
    ((_, *rows), facts) = read_html(net._repr_html_()).tables
    assert [row[5] for row in rows] == ["–", *(f"{count:,}" for count in counts), f"{sum(counts):,}"]
    assert dict(facts)["backend"] == "numpy"
    for cell in (cell for row in [*rows, *facts] for cell in row):
        assert cell in printed


def test_every_layer_is_described() -> None:
    net = dp.Network(
        [4, 8, 5, 3],
        hidden_activation=["relu", "tanh"],
        loss="categorical_cross_entropy",
        dtype="float32",
        seed=7,
        backend="numpy",
    )
    assert net.summary().layers == [
        LayerSummary("input", 4),
        LayerSummary("hidden", 8, "relu", (8, 4), (8,)),
        LayerSummary("hidden", 5, "tanh", (5, 8), (5,)),
        LayerSummary("output", 3, "softmax", (3, 5), (3,)),
    ]
    rng = np.random.default_rng(0)
    net.fit(rng.standard_normal((6, 4)), rng.integers(0, 3, 6), epochs=2)
    (_, facts) = read_html(net._repr_html_()).tables
    assert dict(facts) == {
        "memory": "412 bytes",
        "loss": "categorical_cross_entropy",
        "init": "glorot_uniform",
        "seed": "7",
        "dtype": "float32",
        "backend": "numpy",
        "epochs trained": "2",
    }
    assert repr(net.summary()) == "<Summary of Network: 4 → 8 → 5 → 3: 103 parameters>"


def test_a_stack_counts_all_members(capsys: pytest.CaptureFixture[str]) -> None:
    stack = dp.NetworkStack(30, [400, 25, 10], seeds=range(5, 35), backend="numpy")
    rng = np.random.default_rng(0)
    stack[3].fit(rng.standard_normal((2, 400)), rng.random((2, 10)), epochs=4)
    seen = stack.summary()
    assert seen.parameters == 30 * (401 * 25 + 26 * 10) == stack.parameters.size
    assert seen.layers[1].weights == (25, 400)
    assert capsys.readouterr().out.startswith("NetworkStack of 30: 400 → 25 → 10\n")
    ((_, *rows), facts) = read_html(stack._repr_html_()).tables
    assert [row[5] for row in rows] == ["–", "10,025", "260", "10,285", "308,550"]
    assert dict(facts)["seeds"] == "5, 6, 7, …, 34"
    assert dict(facts)["epochs trained"] == "0 to 4"
    assert dict(facts)["memory"] == "2.354 MiB"  # 308 550 · 8 / 2²⁰


def test_names_of_functions_are_text() -> None:
    net = dp.Network([2, 1], loss=(cost, slope), output_activation="identity", backend="numpy")
    (_, facts) = read_html(net._repr_html_()).tables
    assert dict(facts)["loss"] == "a pair of functions: cost, <script>"
    simplified = dp.Network(
        [2, 1], loss="squared_error", output_activation="sigmoid", output_error="simplified", backend="numpy"
    )
    assert "output error" in str(simplified.summary())


def test_memory_is_written_by_powers_of_1024() -> None:
    sizes = (8, 1023, 1024, 1536, 1024**2, 3 * 1024**3, 2048 * 1024**3)
    written = ["8 bytes", "1023 bytes", "1 KiB", "1.5 KiB", "1 MiB", "3 GiB", "2048 GiB"]
    assert [_memory(size) for size in sizes] == written
