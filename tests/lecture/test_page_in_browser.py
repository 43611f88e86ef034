"""The explained page in headless Chromium: it shows the loop's numbers, by keys and by pointer, at every width."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import PAIRS, targets_for
from chromium import chromium
from descending import CLOSE, descent

import deltaprop as dp

#: Text of every colour, and what has it.
COLOURED = (
    "#subtitle",
    "#why",
    ".number.a",
    ".number.delta",
    ".number.slope",
    ".result.delta",
    ".number.weight, .weight",
)
RESULTS = """() => [...document.querySelectorAll("#numbers .result")].map((each) => [
    each.dataset.quantity, Number(each.dataset.layer), Number(each.dataset.unit), each.dataset.column ?? null,
    Number(each.dataset.sample ?? 0), each.textContent])"""
CONTRAST = """(selector) => {
    const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const luminance = (colour) => channels(colour).slice(0, 3).map((c) => c / 255)
        .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (node) => {
        for (; node; node = node.parentElement) {
            const colour = getComputedStyle(node).backgroundColor;
            if (channels(colour)[3] !== 0) return colour;
        }
    };
    return [...document.querySelectorAll(selector)].filter((node) => node.checkVisibility()).map((node) => {
        const style = getComputedStyle(node), svg = node.closest("svg");
        const levels = [luminance(svg ? style.fill : style.color), luminance(behind(node))].sort((a, b) => b - a);
        return (levels[0] + 0.05) / (levels[1] + 0.05);
    });
}"""


@dataclass
class Browser:
    """One tab, and what it has complained about or asked the network for."""

    tab: Any
    folder: Path
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def show(self, explanation: Any, width: int = 1280, scheme: str = "light") -> Any:
        """Open the page of an explanation."""
        path = self.folder / "page.html"
        explanation.save_html(path)
        self.tab.set_viewport_size({"width": width, "height": 800})
        self.tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        self.tab.goto(path.as_uri())
        self.tab.wait_for_selector("html[data-ready]")
        return self.tab

    def press(self, key: str, times: int = 1) -> None:
        for _ in range(times):
            self.tab.keyboard.press(key)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """Start Chromium once for all tests here."""
    with chromium() as program:
        tab = program.new_context().new_page()
        browser = Browser(tab, tmp_path_factory.mktemp("pages"))
        tab.on("console", lambda message: browser.complaints.append(message.text))
        tab.on("pageerror", lambda error: browser.complaints.append(str(error)))
        tab.on("request", lambda request: browser.requests.append(request.url))
        yield browser


@pytest.fixture
def browser(started, capsys):
    """Check after each test that the page was content and asked for nothing."""
    started.complaints.clear()
    started.requests.clear()
    yield started
    assert started.complaints == []
    assert all(re.match(r"file:.*/page\.html$|about:|data:", url) for url in started.requests)


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def softmax_network() -> tuple[dp.Network, Any, Any]:
    rng = np.random.default_rng(4)
    net = dp.Network([3, 4, 3, 2], hidden_activation="tanh", loss="categorical_cross_entropy", backend="numpy", seed=2)
    return net, rng.standard_normal((3, 3)), np.eye(2)[[0, 1, 1]]


def small() -> Any:
    return dp.Network([2, 3, 1], backend="numpy").explain([0.5, -1.0], 1)


def steps_of(layers: int) -> list[tuple[str, int | None]]:
    """The order of the derivation: a quantity and its layer."""
    forward = [(quantity, l) for l in range(2, layers + 1) for quantity in ("z", "a")]
    gradient = [(quantity, l) for quantity in ("Δ", "D") for l in range(1, layers)]
    return [*forward, ("J", None), *(("δ", l) for l in range(layers, 1, -1)), *gradient, ("Θ", None)]


def expected_results(loops, quantity, layer, sample):
    """What one step has to show: the place of each number, and the number."""
    if quantity == "J":
        return {("J", 0, 0, None, 0): loops["J"]}
    if quantity == "Θ":
        return {
            ("Θ", l + 1, j + 1, str(k), 0): v for l, t in enumerate(loops["after"]) for (j, k), v in np.ndenumerate(t)
        }
    if quantity in ("Δ", "D"):
        values = loops["Delta" if quantity == "Δ" else "D"][layer - 1]
        return {(quantity, layer, j + 1, str(k), 0): v for (j, k), v in np.ndenumerate(values)}
    values = {"z": loops["z"], "a": loops["a"][1:], "δ": loops["delta"]}[quantity][layer - 2]
    if sample is None:
        return {(quantity, layer, j + 1, None, i + 1): v for (i, j), v in np.ndenumerate(values)}
    return {(quantity, layer, j + 1, None, 0): v for j, v in enumerate(values[sample])}


def assert_results(tab, expected):
    found = {(q, l, j, k, i): number(text) for q, l, j, k, i, text in tab.evaluate(RESULTS) if q != "cost"}
    assert found.keys() == expected.keys()
    for place, value in expected.items():
        assert np.isclose(found[place], value, **CLOSE), place


@pytest.mark.parametrize(("form", "sample", "training"), [
    ("theta", 0, 0), ("theta", None, 1), ("wb", 2, 2), ("wb", None, 0),
])  # fmt: skip
def test_every_step_shows_the_loops_numbers(browser, form, sample, training):
    net, X, Y = softmax_network()
    tab = browser.show(net.explain(X, Y, l2=0.3, learning_rate=0.2, steps=2))
    loops = descent(net, X, Y, 2, 0.2, l2=0.3)[training]
    tab.locator(f"label:has(input[value={form}])").click()
    tab.locator("#samples label").nth(3 if sample is None else sample).click()
    browser.press("PageDown", training)
    steps = steps_of(4)
    for at, (quantity, layer) in enumerate(steps):
        assert f"step {at + 1} of {len(steps)}" in tab.locator("#phase").inner_text()
        assert tab.locator(".chips [aria-current]").get_attribute("data-at") == str(at)
        assert_results(tab, expected_results(loops, quantity, layer, sample))
        browser.press("ArrowRight")
    assert tab.locator("#next").is_disabled()
    costs = f"training step {training}, J = "
    shown = tab.locator("#training-slider").get_attribute("aria-valuetext")
    assert shown.startswith(costs)
    assert np.isclose(float(shown.removeprefix(costs)), loops["J"], **CLOSE)


def test_the_digits_are_those_of_the_tables(browser):
    seen = small()
    tab, numbers = browser.show(seen), {*re.findall(r"-?\d[\d.e+-]*", str(seen)), f"{seen.cost:.6g}", "0.5"}
    either = numbers | {text.removeprefix("-") for text in numbers}  # "+ -0.5 · 2" is written "− 0.5 · 2"
    for _ in steps_of(3)[:-1]:
        shown = tab.locator("#numbers .number, #numbers .result").all_inner_texts()
        assert {text.replace("−", "-") for text in shown} <= either
        assert {text.replace("−", "-") for text in tab.locator("#numbers .result").all_inner_texts()} <= numbers
        browser.press("ArrowRight")


def test_the_next_training_step_begins_with_the_update(browser):
    tab = browser.show(small())
    browser.press("End")
    updated = [text for *_, text in tab.evaluate(RESULTS)]
    tab.locator("#go-on").click()
    assert "Training step 1" in tab.locator("#training-title").inner_text()
    assert "step 1 of 12" in tab.locator("#phase").inner_text()
    tab.locator("#tables summary").click()
    tables = tab.locator("#tables table")
    tables.nth(1).wait_for()
    began = [text for place in (0, 1) for text in tables.nth(place).locator("td").all_inner_texts()]
    assert began == updated


@pytest.mark.parametrize(("loss", "output"), [*PAIRS, (None, "tanh"), (None, "softmax")])
def test_every_loss_shows_its_cost_and_output_error(browser, rng, loss, output):
    pair = (lambda h, y: 0.5 * (h - y) ** 2, lambda h, y: h - y)
    net = dp.Network([2, 3, 2], loss=loss or pair, output_activation=output, backend="numpy", hidden_activation="gelu")
    X, Y = 0.5 * rng.standard_normal((2, 2)), targets_for(loss or "squared_error", rng, 2, 2)
    tab = browser.show(net.explain(X, Y, steps=0))
    browser.press("ArrowRight", 4)
    assert_results(tab, {("J", 0, 0, None, 0): net.cost(X, Y)})
    assert "undefined" not in tab.locator("#page").inner_text()
    browser.press("ArrowRight")
    errors = net.deltas(X, Y)[-1]
    assert_results(tab, {("δ", 3, j + 1, None, 0): errors[0, j] for j in range(2)})
    tab.locator("#samples label").nth(2).click()
    assert_results(tab, {("δ", 3, j + 1, None, i + 1): v for (i, j), v in np.ndenumerate(errors)})
    assert tab.locator("#training").is_hidden()


def test_a_unit_shows_its_row_of_every_quantity(browser):
    net, X, Y = softmax_network()
    seen = net.explain(X, Y, l2=0.3, learning_rate=0.2, steps=1)
    tab = browser.show(seen)
    loops = descent(net, X, Y, 0, 0.2, l2=0.3)[0]
    for way in ("hover", "focus"):
        getattr(tab.locator('.unit[data-layer="3"][data-unit="2"]'), way)()
        assert tab.locator("#unit-title").inner_text() == "Unit 2 of layer 3"
        for quantity, values in (
            ("z", loops["z"][1]),
            ("a", loops["a"][2]),
            ("slope", loops["slope"][1]),
            ("delta", loops["delta"][1]),
        ):
            (text,) = tab.locator(f'#unit-rows [data-row="{quantity}"] td').all_inner_texts()
            assert np.isclose(number(text), values[0, 1], **CLOSE)
        for row, values in (
            ("Theta", loops["Theta"]),
            ("Delta", loops["Delta"]),
            ("D", loops["D"]),
            ("updated", loops["after"]),
        ):
            texts = tab.locator(f'#unit-rows [data-row="{row}"]').all_inner_texts()
            assert np.allclose([number(text) for text in texts], values[1][1], **CLOSE)
        tab.locator('.unit[data-layer="2"][data-unit="1"]').hover()
        assert tab.locator("#unit-title").inner_text() == "Unit 1 of layer 2"
    tab.mouse.move(2, 2)
    tab.locator('.unit[data-layer="4"][data-unit="1"]').focus()
    browser.press("Enter")
    tab.locator("#next").focus()
    assert tab.locator("#unit-title").inner_text() == "Unit 1 of layer 4, kept"
    assert tab.locator('.unit[aria-pressed="true"]').count() == 1
    browser.press("Escape")
    assert tab.locator('.unit[aria-pressed="true"]').count() == 0


def test_lit_edges_are_those_that_the_step_concerns(browser):
    tab = browser.show(small())
    lit = {at: tab.locator(".edge.lit").count() for at in (*range(12),) if browser.press("ArrowRight", at > 0) is None}
    # z (2) and (3), δ (2) without the bias unit, Δ and D of both layers, and the update of all.
    assert lit == {0: 9, 1: 0, 2: 4, 3: 0, 4: 0, 5: 0, 6: 3, 7: 9, 8: 4, 9: 9, 10: 4, 11: 13}
    browser.press("Home")
    tab.locator('.unit[data-layer="2"][data-unit="2"]').hover()
    assert tab.locator(".edge.lit").count() == 3
    shown = tab.locator(".labels text").all_text_contents()
    theta = dp.Network([2, 3, 1], backend="numpy").thetas[0][1]
    assert [number(text) for text in shown] == pytest.approx(theta, rel=6e-6)
    negative = tab.locator(".edge.lit").evaluate_all("edges => edges.map((e) => getComputedStyle(e).strokeDasharray)")
    assert [dashes != "none" for dashes in negative] == [value < 0 for value in theta]


def test_keys_buttons_and_sliders_lead_to_the_same_steps(browser):
    tab = browser.show(small())
    at = lambda: int(re.search(r"step (\d+) of", tab.locator("#phase").inner_text())[1])  # type: ignore[index] # noqa: E731
    browser.press("End")
    assert at() == 12
    browser.press("ArrowLeft")
    assert at() == 11
    browser.press("Home")
    assert at() == 1
    tab.locator("#next").click()
    assert at() == 2
    tab.locator("#back").click()
    tab.locator("#last").click()
    assert at() == 12
    tab.locator("#slider").fill("4")
    assert at() == 5
    tab.locator('.chips [data-at="7"]').click()
    assert at() == 8
    browser.press("PageDown", 3)
    assert "Training step 3" in tab.locator("#training-title").inner_text()
    tab.locator("#training-slider").fill("7")
    assert "Training step 7" in tab.locator("#training-title").inner_text()
    point = tab.locator("#curve circle").nth(12).bounding_box()
    tab.mouse.click(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    assert "Training step 12" in tab.locator("#training-title").inner_text()
    assert at() == 8


def test_it_can_be_used_without_seeing_it(browser):
    tab = browser.show(small())
    assert tab.locator("#spoken[aria-live=polite]").inner_text().startswith("Step 1 of 12, z of layer 2. unit 1: ")
    assert tab.evaluate("document.querySelectorAll('button:not([aria-label])').length") == tab.evaluate(
        "[...document.querySelectorAll('button:not([aria-label])')].filter((b) => b.textContent.trim()).length"
    )
    for drawing in ("#graph svg", "#curve svg"):
        assert tab.locator(f"{drawing} > title").text_content()
        assert tab.locator(f"{drawing} > desc").text_content()
    names = tab.locator(".unit").evaluate_all("units => units.map((unit) => unit.getAttribute('aria-label'))")
    assert len(names) == 8
    assert names[0] == "Layer 1, bias unit: a = 1"
    assert all(names)
    unlabelled = (
        "[...document.querySelectorAll('input')].filter((input) => !input.closest('label')?.textContent.trim())"
    )
    assert tab.evaluate(f"{unlabelled}.length") == 0
    for _ in range(40):  # every focus can be seen
        browser.press("Tab")
        assert tab.evaluate("""() => {
            const node = document.activeElement, shape = node.querySelector("rect") ?? node.parentElement.querySelector("input:checked + span");
            const outlined = (each) => each && getComputedStyle(each).outlineStyle !== "none" && getComputedStyle(each).outlineWidth !== "0px";
            return node === document.body || outlined(node) || outlined(shape) || (node.matches(".unit") && getComputedStyle(shape).strokeWidth === "4.5px");
        }""")
    assert tab.evaluate("getComputedStyle(document.querySelector('.edge')).transitionDuration") == "0s"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(browser, scheme):
    net, X, Y = softmax_network()
    tab = browser.show(net.explain(X, Y), scheme=scheme)
    seen = set()
    for _ in steps_of(4):
        for selector in (
            *COLOURED,
            ".number.z",
            ".result",
            ".number.grad",
            ".number.cost",
            ".number.target",
            ".legend",
            "button:enabled",
            "caption",
        ):
            found = tab.evaluate(CONTRAST, selector)
            assert min(found, default=21.0) >= 4.5, selector
            seen |= {selector} if found else set()
        browser.press("ArrowRight")
    assert {*COLOURED, ".result", ".number.grad"} <= seen
    assert min(tab.evaluate(CONTRAST, "#graph .value")) >= 4.5


def test_nothing_is_wider_than_a_narrow_screen(browser):
    rng = np.random.default_rng(0)
    wide = dp.Network([8] * 4, hidden_activation="relu", loss="squared_error", backend="numpy")
    net, X, Y = softmax_network()
    for seen in (
        small(),
        net.explain(X, Y),
        wide.explain(rng.standard_normal((8, 8)), rng.standard_normal((8, 8)), steps=1),
    ):
        tab = browser.show(seen, width=360)
        for choice in (0, -1):
            if seen.y.ndim > 1:
                tab.locator("#samples label").nth(choice).click()
            browser.press("Home")
            for _ in range(int(tab.locator("#slider").get_attribute("max")) + 1):
                assert tab.evaluate("document.documentElement.scrollWidth") <= 360
                browser.press("ArrowRight")


def test_labels_do_not_cover_each_other(browser):
    tab = browser.show(small())
    for _ in steps_of(3):
        boxes = tab.locator(".labels rect").evaluate_all(
            "labels => labels.map((each) => { const b = each.getBoundingClientRect(); return [b.left, b.right, b.top, b.bottom]; })"
        )
        for i, one in enumerate(boxes):
            for other in boxes[:i]:
                assert one[0] >= other[1] or one[1] <= other[0] or one[2] >= other[3] or one[3] <= other[2]
        browser.press("ArrowRight")


def test_the_frame_of_a_notebook_runs(browser):
    browser.tab.goto("about:blank")
    browser.tab.set_content(small()._repr_html_())
    frame = browser.tab.frame_locator("iframe")
    frame.locator("#next").click()
    assert "step 2 of 12" in frame.locator("#phase").inner_text()


def test_fewer_steps_than_asked_for_are_told(browser):
    rng = np.random.default_rng(1)
    wide = dp.Network([8] * 5, loss="squared_error", backend="numpy")
    tab = browser.show(
        wide.explain(rng.standard_normal((8, 8)), rng.standard_normal((8, 8)), steps=50, learning_rate=0.01)
    )
    kept = int(tab.locator("#training-slider").get_attribute("max"))
    assert kept < 50
    assert (
        f"numbers of training steps 0 … {kept}; the curve goes on to 50" in tab.locator("#training-note").inner_text()
    )
    assert tab.locator("#curve circle").count() == 51
    assert tab.locator("#curve circle.beyond").count() == 50 - kept
    diverging = dp.Network([2, 3, 1], loss="squared_error", hidden_activation="relu", backend="numpy", seed=1)
    tab = browser.show(diverging.explain([3.0, 4.0], 9.0, steps=50, learning_rate=1e6))
    assert "no longer finite" in tab.locator("#training-note").inner_text()
    diverging.parameters[...] = np.inf
    with np.errstate(invalid="ignore"):
        tab = browser.show(diverging.explain([3.0, 4.0], 9.0))
    assert tab.locator("#training-cost").inner_text() == "inf"
    assert tab.locator(".labels text").all_text_contents() == ["inf"] * 9


def test_costs_fall_along_the_curve(browser):
    """The curve is drawn from the top down where J falls."""
    tab = browser.show(small())
    heights = [
        float(y) for y in tab.locator("#curve circle").evaluate_all("points => points.map((p) => p.getAttribute('cy'))")
    ]
    assert len(heights) == 21
    assert all(later > earlier for earlier, later in pairwise(heights))
