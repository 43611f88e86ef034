"""The pages of the lecture: blocks run, includes show what they are about, counted costs are right, numbers agree."""

import ast
import doctest
import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.backends.numpy.backend import NumpyBackend
from deltaprop.derivation.derivatives import Mode

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "lecture"
#: In the order of the lecture, with what each included piece of source has to contain.
SHOWN: dict[str, list[tuple[str, ...]]] = {
    "network": [
        ("W @ a[-1] + b", "ACTIVATIONS[g][0](z[-1])"),
        ("struct sigmoid", "exp_of_negative(-fabs(z))", "quotient"),
        ("A[0] = X", "affine_activation(A[l], W, b, g"),
        ("A, W.swapaxes(-1, -2), Z", "Z += out", "self.activation"),
        ("theta[..., 0] = b", "theta[..., 1:] = W"),
    ],
    "chain_rule": [("w = [x]", "slopes", "reversed(slopes)", "accumulated.append")],
    "cost": [
        ("squared_error", "binary_cross_entropy", "categorical_cross_entropy", "np.log(h)"),
        ("struct binary_cross_entropy", "of_minus_abs(z)", "- y"),
        ("1.0 / m", "reduction"),
        ("self.l2 / m", "l2_scaling"),
        ("self.penalty(m) * squares", "self.scale(m) * cost + decay"),
    ],
    "output_error": [
        ("(a - y) * G::gradient(z)",),
        ("delta(T, T a, T y)", "return a - y;"),
        ("np.diag(h) - np.outer(h, h)", "jacobian @ slope"),
    ],
    "hidden_error": [
        ("weights[l].T @ delta",),
        ("backend.hidden_delta", "weights[l]", "Z[l - 1]", "out=delta[l - 1]"),
        ("self.product(delta, W, out)", "gradient, Z, out"),
        ("gradient(T z)", "quotient(e, s * s)"),
    ],
    "gradient": [
        ("for i in range(m)", "np.outer(delta, a[l])", "Delta_b[l] += delta", "weights[l].T @ delta"),
        ("D / share + decay * W", "gradient_b"),
        ("delta.swapaxes(-1, -2), A",),
        ("np.add, delta, -2",),
        ("weight_gradient(delta[0], A[0]", "add_l2_gradient", "penalty"),
    ],
    "checking": [
        ("cost_at(i, here + h) - cost_at(i, here - h)", "(4 * near - far) / 3"),
        ("affine_tangent(A[l], dA, W", "activation_tangent", "return dA"),
        ("reversed(", "activation_tangent", "input_gradient(delta, W", "return adjoint"),
    ],
    "learning": [
        ("forward(self.network, X, work)", "backward(", "optimizer.update"),
        ("struct sgd", "theta - rate * g"),
        ("delta.swapaxes(-1, -2), A", "out *= keep", "out += product"),
        ("np.sqrt(6.0 / (s_in + s_out))", "rng.uniform(-epsilon, epsilon"),
        ("net.cost(X, y, l2=l2)", "0.287629", "0.9752"),
        ("Network([400, 25, 10]", 'method="cg", max_iter=50, l2=1.0'),
        ("Network([400, 25, 10]", "batch_size=32, epochs=30, l2=1.0"),
        ('g[-1] if network.output_error == "exact" else "identity"',),
    ],
}
PAGES = ["index", *SHOWN]
#: The network that all pages use.
DEFINITION = """>>> import numpy as np
>>> import deltaprop as dp
>>> net = dp.Network([2, 3, 1], backend="numpy")
>>> net.weights = [[[1, -1], [1, 1], [-2, 1]], [[2, -1, 1]]]
>>> net.biases = [[1, -2, -1], [-1]]
>>> x, y = [1, 2], 1
"""


def text_of(page):
    return (FOLDER / f"{page}.md").read_text(encoding="utf-8")


def blocks_of(page):
    return re.findall(r"^```pycon\n(.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE)


def includes_of(page):
    """The file and the options of every included piece."""
    found = re.findall(r"^```\{literalinclude\} (\S+)\n(.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE)
    for path, lines in found:
        options = dict(re.findall(r"^:([\w-]+):[ ]*(.*)$", lines, re.MULTILINE))
        yield FOLDER / path, {name: value.strip('"') for name, value in options.items()}


def definition_of(tree, name):
    """The node of a function, or of a method written Class.method."""
    for part in name.split("."):
        (tree,) = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == part)
    return tree


def place(lines, marker):
    """The first line that contains a marker."""
    return next(number for number, line in enumerate(lines) if marker in line)


def shown(path, options):
    """The lines that an include shows."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if "pyobject" in options:
        node = definition_of(ast.parse("\n".join(lines)), options["pyobject"])
        lines = lines[node.lineno - 1 : node.end_lineno]
    if "start-at" in options:
        lines = lines[place(lines, options["start-at"]) :]
    if "end-at" in options:
        lines = lines[: place(lines, options["end-at"]) + 1]
    if "end-before" in options:
        lines = lines[: place(lines, options["end-before"])]
    return lines


def test_the_index_lists_every_page():
    (listed,) = re.findall(r"```\{toctree\}\n:maxdepth: 1\n\n(.*?)```", text_of("index"), re.DOTALL)
    assert listed.split() == list(SHOWN)
    assert sorted(path.stem for path in FOLDER.glob("*.md")) == sorted(PAGES)


@pytest.mark.parametrize("page", SHOWN)
def test_every_block_runs_and_prints_what_the_page_says(page):
    blocks = blocks_of(page)
    names: dict[str, object] = {}
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    report: list[str] = []
    for number, block in enumerate(blocks):
        test = parser.get_doctest(block, names, f"{page}, block {number}", str(FOLDER / f"{page}.md"), 0)
        runner.run(test, out=report.append, clear_globs=False)
        names = test.globs
    assert runner.summarize(verbose=False).failed == 0, "".join(report)
    assert len(blocks) >= 2


@pytest.mark.parametrize("page", [page for page in SHOWN if page != "chain_rule"])
def test_every_page_has_the_same_network(page):
    assert DEFINITION in blocks_of(page)


def test_the_interactive_page_takes_its_network_from_the_first_block():
    """`docs/_extensions/explained_page.py` runs that block when the site is built."""
    assert blocks_of("network")[0] == DEFINITION
    assert "```{explained}\n```" in text_of("index")


@pytest.mark.parametrize("page", SHOWN)
def test_a_page_has_an_exercise_with_a_solution_that_runs_and_its_sources(page):
    text = text_of(page)
    _, exercise = text.split("\n## Exercise\n")
    (solution,) = re.findall(r":::\{dropdown\} Solution\n(.*?)^:::$", exercise, re.DOTALL | re.MULTILINE)
    assert "```pycon\n" in solution
    assert "\n*Sources: " in exercise
    assert text.split("\n\n")[1].startswith("After this page you ")


@pytest.mark.parametrize("page", SHOWN)
def test_every_include_shows_the_lines_it_is_about(page):
    pieces = [(path.name, shown(path, options)) for path, options in includes_of(page)]
    assert len(pieces) == len(SHOWN[page])
    for (name, lines), expected in zip(pieces, SHOWN[page], strict=True):
        assert [wanted for wanted in expected if wanted not in "\n".join(lines)] == [], name
        assert 1 <= len(lines) <= 25, name


def test_a_marker_that_vanished_is_noticed():
    with pytest.raises(StopIteration):
        shown(ROOT / "tests" / "reference.py", {"pyobject": "forward", "start-at": "no such line"})


@pytest.mark.parametrize("page", PAGES)
def test_links_that_leave_the_lecture_name_no_other_page(page):
    """The Chinese build has the lecture alone: other pages are found by label, files of the sources by link."""
    links = re.findall(r"(?<!!)\[[^\]]*\]\(([^)]+)\)", text_of(page))
    for link in links:
        target = (FOLDER / link).resolve()
        assert target.exists(), link
        assert target.parent == FOLDER or not target.is_relative_to(ROOT / "docs"), link


# -- counted cost -----------------------------------------------------------------------------------------------------


class CountingBackend(NumpyBackend):
    """It counts the multiplications in matrix products."""

    name = "counting"

    def __init__(self):
        super().__init__(compiles=False)
        self.multiplications = 0

    def _count(self, A, B):
        self.multiplications += A.shape[-2] * A.shape[-1] * B.shape[-1]

    def product(self, A, B, out):
        self._count(A, B)
        super().product(A, B, out)

    def _input_product(self, A, B, out):
        self._count(A, B)
        super()._input_product(A, B, out)


def counted_by_formula(sizes):
    """P and Q of the page, and what each pass takes, for one sample."""
    P = sum(s_in * s_out for s_in, s_out in pairwise(sizes))
    Q = sizes[0] * sizes[1]
    return {"evaluation": P, "jvp": 2 * P, "vjp": 2 * P, "gradient": 3 * P - Q, "hvp": 10 * P - 6 * Q}


@pytest.mark.parametrize("sizes", [(2, 3, 1), (64, 32, 1), (7, 5, 4, 3)], ids=str)
def test_the_formulas_of_the_counted_cost(sizes, rng):
    backend = CountingBackend()
    net = dp.Network(sizes, loss="squared_error", backend=backend)
    x, y = rng.standard_normal((1, sizes[0])), rng.standard_normal((1, sizes[-1]))
    passes = {
        "evaluation": lambda: net.predict(x),
        "jvp": lambda: net.jvp(x, x),
        "vjp": lambda: net.vjp(x, y),
        "gradient": lambda: net.cost_and_gradient(x, y),
        "hvp": lambda: net.hvp(x, y, np.ones(len(net.parameters))),
    }
    counted = {}
    for name, take in passes.items():
        backend.multiplications = 0
        take()
        counted[name] = backend.multiplications
    assert counted == counted_by_formula(sizes)
    P = counted["evaluation"]
    modes: list[tuple[Mode, int]] = [("forward", sizes[0]), ("reverse", sizes[-1])]
    for mode, directions in modes:
        backend.multiplications = 0
        net.jacobian(x, mode=mode)
        assert backend.multiplications == (1 + directions) * P


def test_counted_and_measured_costs_are_those_of_the_table():
    results = json.loads((ROOT / "benches" / "results" / "derivative_cost.json").read_text())
    text = text_of("checking")
    rows = iter([line for line in text.splitlines() if re.match(r"\| .*\| (counted|measured) \|", line)])
    for measured in results["passes"]:
        sizes = [int(size) for size in measured["network"].split("-")]
        counted = counted_by_formula(sizes)
        names = ("jvp", "vjp", "gradient", "hvp")
        figures = " | ".join(f"{counted[name] / counted['evaluation']:.2f}" for name in names)
        assert next(rows) == f"| {measured['network']}, {measured['samples']} | counted | {figures} |"
        figures = " | ".join(f"{measured['evaluations'][name]:.2f}" for name in names)
        assert next(rows) == f"| | measured | {figures} |"
    assert next(rows, None) is None
    spent = {(each["inputs"], each["outputs"]): each["seconds"] for each in results["jacobians"]}
    for widths in ((256, 16), (16, 256)):
        for mode in ("forward", "reverse"):
            assert f"{spent[widths][mode]['median'] * 1e6:.0f} µs" in text


def test_figures_of_the_simplified_error_are_those_measured():
    results = json.loads((ROOT / "benches" / "results" / "output_error.json").read_text())
    last = {(each["output_error"], each["learning_rate"]): each for each in results["medians"]}
    text = text_of("learning")
    rows = re.findall(r"^\| (exact|simplified) \| (.*) \|$", text, re.MULTILINE)
    assert [name for name, _ in rows] == ["exact", "simplified"]
    for name, figures in rows:
        measured = [last[name, rate]["cost"][-1] for rate in (0.1, 0.3, 1, 3, 10)]
        assert np.allclose([float(figure) for figure in figures.split(" | ")], measured, rtol=0.01, atol=0)
    accuracies = [f"{100 * last[each]['accuracy'][-1]:.1f} %" for each in (("simplified", 3), ("exact", 10))]
    assert " and ".join(accuracies) in text
