"""The explained page for those who use keys, forced colours or paper, and with numbers too large to be drawn as usual."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from page_browser import started_browser

import deltaprop as dp


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """Start Chromium once for all tests here."""
    with started_browser(tmp_path_factory.mktemp("pages")) as browser:
        yield browser


@pytest.fixture
def browser(started, capsys):
    """Check after each test that the page was content and asked for nothing."""
    with started.content():
        yield started


def small() -> Any:
    return dp.Network([2, 3, 1], backend="numpy").explain([0.5, -1.0], 1)


def test_keys_do_not_lose_their_place(browser):
    """A button that leads no further keeps the focus, and the focus goes along the chips with the steps."""
    tab = browser.show(small())
    for button, presses in (("next", 13), ("back", 13), ("training-next", 21), ("training-back", 21)):
        tab.locator(f"#{button}").focus()
        browser.press("Enter", presses)
        assert tab.evaluate("document.activeElement.id") == button
        assert tab.locator(f"#{button}").get_attribute("aria-disabled") == "true"
    tab.locator(".chips [aria-current]").focus()
    browser.press("ArrowRight", 3)
    assert tab.evaluate("document.activeElement.dataset.at") == "3"
    browser.press("Enter")
    assert "step 4 of 12" in tab.locator("#phase").inner_text()


def test_the_way_back_shows_what_is_chosen(browser):
    tab = browser.show(small())
    address = tab.url
    tab.locator("label:has(input[value=wb])").click()
    browser.press("End")
    tab.goto("about:blank")
    tab.go_back()
    tab.wait_for_selector("html[data-ready]")
    assert tab.url == address
    form = tab.locator("input[name=form]:checked").get_attribute("value")
    assert (tab.locator(".unit.one").count() > 0) == (form == "theta")
    step = re.search(r"step (\d+) of", tab.locator("#phase").inner_text())
    assert step is not None
    assert int(tab.locator("#slider").input_value()) == int(step[1]) - 1


def test_what_is_chosen_can_be_seen_in_forced_colours_and_on_paper(browser):
    tab = browser.show(small())
    background = "(node) => getComputedStyle(node).backgroundColor"
    try:
        tab.emulate_media(forced_colors="active")
        for chosen, other in (
            (".chips [aria-current]", ".chips button:not([aria-current])"),
            ("fieldset input:checked + span", "fieldset input:not(:checked) + span"),
        ):
            assert tab.locator(chosen).first.evaluate(background) != tab.locator(other).first.evaluate(background)
        tab.emulate_media(forced_colors="none", media="print")
        adjusted = tab.locator(".chips [aria-current]").evaluate("(node) => getComputedStyle(node).printColorAdjust")
        assert adjusted == "exact"  # its text is white
        assert not tab.locator("#next").is_visible()
    finally:
        tab.emulate_media(forced_colors="none", media="screen")


def test_long_numbers_stay_inside_of_their_units(browser):
    net = dp.Network([2, 3, 1], loss="squared_error", hidden_activation="identity", backend="numpy", seed=0)
    with np.errstate(all="ignore"):
        seen = net.explain([1e300, -1e300], 1e300, steps=0)
    tab = browser.show(seen)
    widths = tab.locator(".unit").evaluate_all(
        "units => units.map((unit) => ['.value', 'rect'].map((part) => unit.querySelector(part).getBBox().width))"
    )
    assert len(widths) == 8
    assert max(text for text, _ in widths) > 60
    assert all(text < box - 2 for text, box in widths)


def test_a_cost_beyond_all_numbers_is_told_from_steps_that_diverge(browser):
    net = dp.Network([2, 3, 1], loss="squared_error", hidden_activation="identity", backend="numpy", seed=0)
    with np.errstate(all="ignore"):
        seen = net.explain([1e300, 1e300], 1)
    tab = browser.show(seen)
    assert tab.locator("#training-note").inner_text() == "J is not finite: the samples or the parameters are too large."
    assert "inf" in tab.locator("#training-cost").inner_text()
