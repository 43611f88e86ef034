"""`explain` gives the per-sample loop's numbers, and shows them in its text."""

from typing import Any

import numpy as np
import pytest
import reference
from cases import PAIRS, targets_for
from html_tables import read_html

import deltaprop as dp


@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_every_quantity_is_the_loops(backend, rng, capsys, loss, output):
    net = dp.Network([3, 4, 2], hidden_activation="tanh", loss=loss, output_activation=output, backend=backend)
    x, y = rng.standard_normal(3), targets_for(loss, rng, 1, 2)[0]
    seen = net.explain(x, y, l2=0.5)
    W = [net.backend.to_numpy(W) for W in net.weights]
    b = [net.backend.to_numpy(b) for b in net.biases]
    z, a = reference.forward(W, b, net.activations, x)
    J, D_W, D_b, deltas = reference.cost_and_gradient(W, b, net.activations, loss, x[None], y[None], l2=0.5)
    slopes = [
        None if output == "softmax" and l == 1 else reference.ACTIVATIONS[g][1](z[l])
        for l, g in enumerate(net.activations)
    ]
    for l in range(2):
        assert np.allclose(seen.Theta[l], np.column_stack([b[l], W[l]]), rtol=1e-15)
        assert np.allclose(seen.z[l], z[l], rtol=1e-12)
        assert np.allclose(seen.a[l + 1], a[l + 1], rtol=1e-12)
        assert (seen.slope[l] is None) == (slopes[l] is None)
        assert slopes[l] is None or np.allclose(np.asarray(seen.slope[l]), np.asarray(slopes[l]), rtol=1e-12)
        assert np.allclose(seen.delta[l], deltas[l][0], rtol=1e-12)
        assert np.allclose(seen.Delta[l], np.outer(deltas[l][0], [1, *a[l]]), rtol=1e-12)
        assert np.allclose(seen.D[l], np.column_stack([D_b[l], D_W[l]]), rtol=1e-12)
    assert np.array_equal(seen.a[0], x)
    assert seen.cost == pytest.approx(J, rel=1e-12)
    printed = capsys.readouterr().out
    assert printed == f"{seen}\n"
    for value in (*seen.z[0], *seen.a[2], *seen.delta[0], *seen.delta[1], *seen.D[0].ravel(), *seen.D[1].ravel()):
        assert f"{value:.6g}" in printed


def test_markdown(capsys):
    net = dp.Network([2, 3, 2], backend="numpy")
    text = str(net.explain([0.5, -1.0], 1, format="markdown"))
    assert capsys.readouterr().out == text + "\n"
    lines = text.splitlines()
    tables = [i for i, line in enumerate(lines) if line.startswith("|--")]
    assert len(tables) == 2 + 3 + 2 + 4  # Θ, layers, δ, Δ and D
    for i in tables:  # an empty line, then a header, a rule and rows of equal length
        columns = lines[i].count("|")
        assert lines[i - 2] == ""
        assert lines[i - 1].count("|") == lines[i + 1].count("|") == columns
    for symbol in ("Θ^(1)", "z^(2)", "a^(3)", "g′(z^(2))", "δ^(3)", "Δ^(2)", "D^(1)", "J = "):
        assert symbol in text


def test_it_is_the_formula_of_the_loss():
    x, y = [0.5, -1.0], [0.2, 0.7]
    options: dict[str, Any] = {"loss": "squared_error", "output_activation": "sigmoid", "backend": "numpy"}
    assert "δ^(3) = (a^(3) − y) ⊙ g′(z^(3))" in str(dp.Network([2, 3, 2], **options).explain(x, y))
    simplified = str(dp.Network([2, 3, 2], **options, output_error="simplified").explain(x, y))
    assert "δ^(3) = a^(3) − y, simplified" in simplified
    assert "δ^(3) = a^(3) − y\n" in str(dp.Network([2, 3, 2], backend="numpy").explain(x, y))


def test_what_may_be_handed_in():
    net = dp.Network([2, 3, 2], backend="numpy")
    expected = net.explain([0.5, -1.0], [0.0, 1.0]).cost
    x = np.array([0.5, -1.0])
    for sample, target in ((x, 1), (x[None], [1]), ([[0.5, -1.0]], [[0, 1]]), (x, np.array([0, 1])), (x[None], 1)):
        assert net.explain(sample, target).cost == expected
    one = dp.Network([2, 3, 1], backend="numpy")
    assert one.explain(x, 1).cost == one.explain(x[None], [1]).cost == one.explain(x, [[1.0]]).cost


@pytest.mark.parametrize(("x", "y", "options", "message"), [
    (np.zeros((9, 2)), np.zeros(9, int), {}, "x: expected 1 … 8 samples, got 9"),
    (np.zeros((0, 2)), np.zeros(0, int), {}, "x: expected at least one sample"),
    ([0, 0], 1, {"steps": 51}, "steps: expected 0 … 50, got 51"),
    ([0, 0], 1, {"steps": -1}, "steps: expected a whole number of at least 0, got -1"),
    ([0, 0], 1, {"learning_rate": 0}, "learning_rate: expected a finite number above 0, got 0"),
    ([0, 0], 1, {"reduction": "max"}, "reduction: expected one of 'mean', 'sum', got 'max'"),
    ([0, 0, 0], 1, {}, "x: expected 2 features"),
    ([[0, 0], [1]], 1, {}, "x: expected a rectangular array of numbers, got 2 values in row 0 and 1 value in row 1"),
    ([[0, 0]] * 2, [[1], [0, 1]], {}, "y: expected a rectangular array of numbers, got 1 value in row 0"),
    ([0, 0], 5, {}, "y: expected class labels 0 … 1 .* got 5"),
    ([0, np.nan], 1, {}, r"x: expected finite numbers in float64, got nan at x\[0, 1\]"),
    ([0, 0], 1, {"format": "html"}, "format: expected 'table' or 'markdown', got 'html'"),
])  # fmt: skip
def test_bad_arguments_are_named(x, y, options, message):
    with pytest.raises(ValueError, match=message):
        dp.Network([2, 3, 2], backend="numpy").explain(x, y, **options)


def test_large_networks_are_refused_with_the_way_out():
    with pytest.raises(
        ValueError, match=r"layers of at most 16 units, .* got \[400, 25, 10\]; in Python, forward, deltas and"
    ):
        dp.Network([400, 25, 10], backend="numpy").explain(np.zeros(400), 1)


def test_a_notebook_has_every_table(capsys):
    net = dp.Network([2, 3, 2], backend="numpy")
    seen = net.explain([0.5, -1.0], 1, l2=0.5)
    _, html = seen._repr_html_().split("<details><summary>The same numbers as tables</summary>")
    tables = read_html(html.removesuffix("</details>")).tables
    assert len(tables) == 2 + 3 + 2 + 4  # Θ, layers, δ, Δ and D
    theta, layer, delta, D = tables[0], tables[3], tables[5], tables[8]
    assert theta[0] == ["Θ(1)", "0", "1", "2"]  # the number is a superscript
    for table, numbers in ((theta, seen.Theta[0]), (D, seen.D[0])):
        assert [[float(cell) for cell in row[1:]] for row in table[1:]] == pytest.approx(numbers, rel=5e-6)
    assert [float(row[2]) for row in layer[1:]] == pytest.approx(seen.a[1], rel=5e-6)
    assert [float(row[1]) for row in delta[1:]] == pytest.approx(seen.delta[1], rel=5e-6)
    assert f"J = {seen.cost:.9g}" in html


def test_layers_too_wide_for_a_page_are_tables(tmp_path, capsys):
    seen = dp.Network([2, 9, 16], backend="numpy").explain([0.5, -1.0], 1)
    assert len(read_html(seen._repr_html_()).tables) == 2 + 3 + 2 + 4
    with pytest.raises(
        ValueError, match=r"page: expected at most 12 layers of at most 8 units .* got \[2, 9, 16\]; tables"
    ):
        seen.save_html(tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_an_explanation_in_markdown_is_the_same_in_a_notebook(capsys):
    net = dp.Network([2, 3, 2], backend="numpy")
    table, markdown = (net.explain([0.5, -1.0], 1, format=format) for format in ("table", "markdown"))
    assert table._repr_html_() == markdown._repr_html_()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_several_samples_are_rows(backend, rng, capsys, reduction):
    net = dp.Network([3, 4, 2], hidden_activation="tanh", loss="squared_error", backend=backend)
    X, Y = rng.standard_normal((3, 3)), rng.standard_normal((3, 2))
    seen = net.explain(X, Y, 0.5, "absolute", reduction=reduction)
    W, b = ([net.backend.to_numpy(each) for each in arrays] for arrays in (net.weights, net.biases))
    J, D_W, D_b, deltas = reference.cost_and_gradient(
        W, b, net.activations, "squared_error", X, Y, l2=0.5, l2_scaling="absolute", reduction=reduction
    )
    passes = [reference.forward(W, b, net.activations, x) for x in X]
    assert seen.cost == pytest.approx(J, rel=1e-12)
    for l in range(2):
        a = [a[l] for _, a in passes]
        assert np.allclose(seen.a[l], a, rtol=1e-12)
        assert np.allclose(seen.z[l], [z[l] for z, _ in passes], rtol=1e-12)
        assert np.allclose(seen.delta[l], deltas[l], rtol=1e-12)
        assert np.allclose(seen.Delta[l], sum(np.outer(deltas[l][i], [1, *a[i]]) for i in range(3)), rtol=1e-11)
        assert np.allclose(seen.D[l], np.column_stack([D_b[l], D_W[l]]), rtol=1e-11)
    assert seen.y.shape == (3, 2)
    text = str(seen)
    assert f"J = {seen.cost:.9g}, squared_error + 0.5/2 Σ W², {reduction} over 3 samples" in text
    assert (
        "D^(1) = ∂J/∂Θ^(1) = Δ^(1)" + ("/m + 0.5 [0, W^(1)], m = 3" if reduction == "mean" else " + 0.5 [0, W^(1)]\n")
        in text
    )
    header = text.splitlines().index("δ^(2) = (W^(2))ᵀ δ^(3) ⊙ g′(z^(2)), one row a sample") + 2
    rows = [line.strip("│").split("│") for line in text.splitlines()[header : header + 5]]
    assert [cell.strip() for cell in rows[0]] == ["δ^(2)", "1", "2", "3", "4"]
    shown = [[float(cell) for cell in row[1:]] for row in rows[2:]]
    assert np.allclose(shown, deltas[0], rtol=6e-6)
    titles = [section.title for section in seen.sections if section.step == "Forward"]
    assert [title.split(" = ")[0] for title in titles] == [
        "Layer 1, the input: a^(1)", "Layer 2: z^(2)", "a^(2)", "g′(z^(2))", "Layer 3: z^(3)", "a^(3)", "g′(z^(3))", "y",
    ]  # fmt: skip


def test_labels_of_as_many_samples_as_classes():
    net = dp.Network([2, 3, 2], backend="numpy", loss="categorical_cross_entropy")
    assert net.explain([[0, 1], [2, 3]], [0, 1]).y.tolist() == [[1, 0], [0, 1]]
    assert repr(net.explain([[0, 1], [2, 3]], [0, 1])).startswith("<Explanation of 2 samples: ")


def test_explanations_are_compared_by_identity(capsys):
    net = dp.Network([2, 1], backend="numpy")
    one, other = net.explain([0.5, -1.0], 1), net.explain([0.5, -1.0], 1)
    assert one == one
    assert one != other
    assert len({one, other}) == 2
