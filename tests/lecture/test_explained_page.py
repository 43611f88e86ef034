"""The page of `explain` has the loop's numbers at every training step, stays small, and lets no text become code."""

import html
import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import PAIRS, relative, targets_for
from descending import CLOSE, descent, matrix, unpacked

import deltaprop as dp
from deltaprop.lecture import explained_page
from deltaprop.lecture.explained_page import NO_TABLES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def saved(tmp_path, capsys):
    """Return what saves an explanation as a page, and returns its text."""

    def save(explanation):
        path = tmp_path / "page.html"
        explanation.save_html(path)
        return path.read_text(encoding="utf-8")

    return save


def assert_same(content, expected, dtype="float64"):
    """The numbers of a page are those of the loop, to the digits shown."""
    close = CLOSE if dtype == "float64" else {"rtol": 1e-4, "atol": 1e-6}
    assert len(content["steps"]) == len(expected)
    assert np.allclose([float(text) for text in content["J"].split(" ")], [step["J"] for step in expected], **close)
    for step, loops in zip(content["steps"], expected, strict=True):
        for name in ("Theta", "z", "slope", "delta", "Delta", "D"):
            texts = step[name] or step["Delta"]  # a D that is Δ is left out
            for text, values in zip(texts, loops[name], strict=True):
                assert (text == "") == (values is None)
                assert text == "" or np.allclose(matrix(text), values, **close)
        for text, values in zip([content["x"], *step["a"]], loops["a"], strict=True):
            assert np.allclose(matrix(text), values, **close)
        assert np.allclose([float(text) for text in step["costs"].split(" ")], loops["costs"], **close)
        assert float(step["J"]) == pytest.approx(loops["J"], rel=1e-4)
    for text, values in zip(content["after"], expected[-1]["after"], strict=True):
        assert np.allclose(matrix(text), values, **close)


@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_every_loss_and_output_at_every_training_step(rng, saved, loss, output):
    net = dp.Network([3, 4, 2], hidden_activation="tanh", loss=loss, output_activation=output, backend="numpy", seed=5)
    X, Y = 0.5 * rng.standard_normal((3, 3)), targets_for(loss, rng, 3, 2)
    content = unpacked(saved(net.explain(X, Y, l2=0.3, learning_rate=0.05, steps=2)))
    assert_same(content, descent(net, X, Y, 2, 0.05, l2=0.3))


@pytest.mark.parametrize("activation", ["sigmoid", "relu", "identity", "leaky_relu", "softplus", "silu", "gelu"])
def test_every_hidden_activation(rng, saved, activation):
    net = dp.Network([3, 4, 4, 2], hidden_activation=activation, backend="numpy", seed=1)
    x, y = rng.standard_normal(3), np.array([0.0, 1.0])
    assert_same(unpacked(saved(net.explain(x, y, steps=1))), descent(net, x[None], y[None], 1, 0.5))


def test_every_backend_and_convention(backend, rng, saved):
    net = dp.Network([2, 3, 1], loss="squared_error", backend=backend)
    X, Y = rng.standard_normal((4, 2)), rng.standard_normal((4, 1))
    options: dict[str, Any] = {"l2": 0.2, "l2_scaling": "absolute", "reduction": "sum"}
    content = unpacked(saved(net.explain(X, Y, **options, learning_rate=0.05, steps=3)))
    assert_same(content, descent(net, X, Y, 3, 0.05, **options))
    assert content["objective"] == {"lambda": "0.2", "scaling": "absolute", "reduction": "sum", "penalty": "0.2"}


def test_float32(rng, saved):
    net = dp.Network([2, 3, 1], dtype="float32", backend="numpy")
    X, Y = rng.standard_normal((2, 2)).astype(np.float32), np.array([[0.0], [1.0]], np.float32)
    content = unpacked(saved(net.explain(X, Y, steps=2)))
    assert_same(content, descent(net, X.astype(float), Y.astype(float), 2, 0.5), "float32")
    assert content["dtype"] == "float32"


def test_the_digits_are_those_of_the_tables(saved):
    seen = dp.Network([2, 3, 2], backend="numpy").explain([0.5, -1.0], 1, l2=0.5)
    step, text = unpacked(saved(seen))["steps"][0], str(seen)
    for name in ("Theta", "z", "a", "slope", "delta", "Delta", "D"):
        for cells in step[name]:
            assert all(f" {cell} " in text for cell in re.split("[ ;]", cells))


def test_the_update_is_gradient_descent_by_fit(rng, saved):
    net = dp.Network([3, 5, 2], backend="numpy", hidden_activation="softplus")
    X, Y = rng.standard_normal((6, 3)), rng.integers(0, 2, (6, 2)).astype(float)
    content = unpacked(saved(net.explain(X, Y, l2=0.4, learning_rate=0.3, steps=5)))
    history = net.fit(X, Y, optimizer=dp.SGD(0.3), batch_size=None, epochs=6, shuffle=False, l2=0.4)
    assert [matrix(text) for text in content["after"]] == [pytest.approx(theta, rel=6e-6) for theta in net.thetas]
    assert len(history.cost) == len(content["steps"]) == 6


def test_the_network_and_later_changes_do_not_matter(saved):
    net = dp.Network([2, 3, 1], backend="numpy")
    before, x, y = net.parameters.copy(), np.array([[0.5, -1.0]]), np.array([[1.0]])
    seen = net.explain(x, y)
    first = saved(seen)
    assert np.array_equal(net.parameters, before)
    net.fit(x, y, epochs=3, batch_size=None)
    x[:], y[:] = 7.0, 0.0
    assert saved(seen) == first
    assert seen.a[0].tolist() == [0.5, -1.0]
    assert relative(net.parameters, before) > 0.0


def test_a_pair_of_functions(rng, saved):
    calls = []

    def gradient(h, y):
        calls.append(len(h))
        return h - y

    net = dp.Network(
        [2, 3, 2], loss=(lambda h, y: 0.5 * (h - y) ** 2, gradient), output_activation="tanh", backend="numpy"
    )
    named = dp.Network([2, 3, 2], loss="squared_error", output_activation="tanh", backend="numpy")
    X, Y = rng.standard_normal((2, 2)), rng.standard_normal((2, 2))
    content, expected = (unpacked(saved(each.explain(X, Y, steps=2))) for each in (net, named))
    assert calls
    for step, others in zip(content["steps"], expected["steps"], strict=True):
        assert np.allclose(matrix(step.pop("costSlope")), matrix(step["a"][-1]) - Y, rtol=1e-5, atol=1e-5)
        assert others.pop("costSlope") == ""
        assert step == others
    assert (content["loss"], expected["loss"]) == ("", "squared_error")


def test_a_simplified_output_error(saved):
    net = dp.Network(
        [2, 3, 1], loss="squared_error", output_activation="sigmoid", output_error="simplified", backend="numpy"
    )
    content = unpacked(saved(net.explain([0.5, -1.0], 0.25)))
    step = content["steps"][0]
    assert float(step["delta"][-1]) == pytest.approx(float(step["a"][-1]) - 0.25, rel=1e-5)
    assert content["outputError"] == "simplified"


def test_no_steps_and_steps_that_diverge(saved):
    net = dp.Network([2, 3, 1], loss="squared_error", hidden_activation="relu", backend="numpy", seed=1)
    none = unpacked(saved(net.explain([3.0, 4.0], 9.0, steps=0)))
    assert (len(none["steps"]), none["finite"], none["asked"]) == (1, True, 0)
    wild = unpacked(saved(net.explain([3.0, 4.0], 9.0, steps=50, learning_rate=1e6)))
    assert 1 < len(wild["steps"]) < 51
    assert not wild["finite"]
    assert all(np.isfinite(float(step["J"])) for step in wild["steps"])


@pytest.mark.parametrize(("sizes", "samples"), [([8] * 4, 8), ([8] * 4, 1), ([8] * 12, 8)])
def test_no_page_has_300_kb(rng, saved, sizes, samples):
    """Fewer training steps are kept, where all are too many; J is there for all of them."""
    net = dp.Network(sizes, loss="squared_error", hidden_activation="tanh", backend="numpy")
    X, Y = rng.standard_normal((samples, 8)), rng.standard_normal((samples, 8))
    page = saved(net.explain(X, Y, 0.01, learning_rate=1e-3, steps=50))
    assert len(page.encode()) < 300_000
    content = unpacked(page)
    assert len(content["J"].split(" ")) == 51
    kept = content["steps"]
    assert 1 <= len(kept) <= 51
    if len(kept) < 51:
        assert len(page.encode()) > 300_000 * (1 - 2 / (len(kept) + 1))  # one step more would be too many
        expected = descent(net, X, Y, len(kept) - 1, 1e-3, l2=0.01)[-1]["after"]
        for text, theta in zip(content["after"], expected, strict=True):
            assert np.allclose(matrix(text), theta, **CLOSE)
        assert NO_TABLES in page  # which take the room of no training step
    if samples == 1:
        assert len(kept) == 51


@pytest.mark.parametrize("sizes", [[2, 9, 1], [2] * 13])
def test_networks_too_large_for_a_page(saved, sizes):
    seen = dp.Network(sizes, backend="numpy").explain([0.5, -1.0], np.zeros(sizes[-1]))
    message = f"page: expected at most 12 layers of at most 8 units for a page, which draws each, got {sizes}; tables"
    with pytest.raises(ValueError, match=re.escape(message)):
        saved(seen)
    assert "iframe" not in seen._repr_html_()


def test_nothing_in_a_page_is_taken_for_code(saved):
    page = saved(dp.Network([2, 3, 1], backend="numpy").explain([0.5, -1.0], 1))
    assert page.count("</script>") == page.count("<script") == 2
    assert page.count("</style>") == page.count("<style") == 1
    assert "{{" not in page
    for part in ("src=", "href=", "http:", "@import", "url(", "innerHTML", "insertAdjacentHTML", "eval("):
        assert part not in page.replace('"http://www.w3.org/2000/svg"', "").replace("url(#arrow", "")
    assert "default-src 'none'" in page


def test_text_of_a_title_stays_text():
    start = dp.Network([2, 1], backend="numpy").explain([0.5, -1.0], 1).start
    title = "</title><script>alert('\"&')</script>"
    assert html.escape(title) in explained_page.page(title, start)
    assert title not in explained_page.page(title, start)


def test_a_notebook_has_the_page_in_a_frame(saved):
    seen = dp.Network([2, 3, 1], backend="numpy").explain([0.5, -1.0], 1)
    found = re.fullmatch(
        r'<iframe title="([^"]*)" sandbox="allow-scripts" style="[^"]*" srcdoc="([^"]*)"></iframe>(.*)',
        seen._repr_html_(),
        re.S,
    )
    assert found is not None
    assert found[1] == "One sample through a network 2 → 3 → 1"
    framed = html.unescape(found[2])
    assert unpacked(framed) == unpacked(saved(seen))
    assert NO_TABLES in framed  # the tables stand below the frame
    assert "<" not in found[2]


@pytest.mark.parametrize("format", ["table", "markdown"])
def test_without_a_script_the_page_shows_the_tables(saved, format):
    net = dp.Network([8] * 4, backend="numpy")
    X, Y = np.linspace(-1, 1, 64).reshape(8, 8), np.eye(8)
    page = saved(net.explain(X, Y, format=format))
    found = re.search(r"<noscript>(.*?)<pre class=\"card\">(.*?)</pre></noscript>", page, re.S)
    assert found is not None
    assert html.unescape(found[2]) == str(net.explain(X, Y))
    assert "<" not in found[2]
    assert "needs JavaScript" in found[1]
    assert len(unpacked(page)["steps"]) == 21
    assert len(page.encode()) < 300_000


def test_a_page_cannot_be_written(capsys):
    with pytest.raises(OSError, match=r"cannot write /nowhere/page\.html"):
        dp.Network([2, 3, 1], backend="numpy").explain([0.5, -1.0], 1).save_html("/nowhere/page.html")


def test_the_package_has_every_file_of_the_page():
    folder = files("deltaprop.lecture") / "page"
    names = {path.name for path in folder.iterdir()}
    assert names == {"explained.html", "explained.css", *(f"{name}.js" for name in explained_page.SCRIPTS)}
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "deltaprop.lecture"
    ]
    assert all(any(Path("page", name).match(pattern) for pattern in listed) for name in names)
    assert all(len((folder / name).read_text(encoding="utf-8").splitlines()) <= 300 for name in names)
