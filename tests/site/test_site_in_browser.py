"""Pages of the built site in headless Chromium: wide and narrow, light and dark."""

import pytest
from chromium import chromium
from site_pages import REASON, site

pytestmark = pytest.mark.skipif(site() is None, reason=REASON)

WIDTHS = (1280, 360)
SCHEMES = ("light", "dark")
#: Contrast that the Web Content Accessibility Guidelines ask for of text.
CONTRAST = 4.5
#: Kinds of pages, and where to look for one of each.
KINDS = {
    "front": "index.html",
    "lecture": "lecture/*.html",
    "chinese": "zh/lecture/*.html",
    "gallery": "gallery/*.html",
    "reference": "reference/generated/*.html",
    "benchmarks": "benchmarks/training.html",
    "built": "built/index.html",
    "file": "code/src/deltaprop/derivation/backprop.py.html",
}
#: The ratio of the luminances of text and what stands behind it, as the guidelines compute it, for visible texts.
CONTRASTS = """
() => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const pen = canvas.getContext("2d", {willReadFrequently: true});
  const rgba = colour => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const luminance = ([r, g, b]) => {
    const linear = [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const over = (top, below) => [0, 1, 2].map(i => top[3] * top[i] + (1 - top[3]) * below[i]).concat(1);
  const behind = element => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const found = [];
  for (const element of document.querySelectorAll("article p, article li, article td, article th, article h1, article h2, article a, article code")) {
    if (!element.innerText || !element.checkVisibility() || element.closest("svg")) continue;
    const back = behind(element);
    const text = over(rgba(getComputedStyle(element).color), back);
    const [light, dark] = [luminance(text), luminance(back)].sort((a, b) => b - a);
    found.push([(light + 0.05) / (dark + 0.05), element.tagName, element.innerText.slice(0, 40)]);
  }
  return found.sort((a, b) => a[0] - b[0]).slice(0, 3);
}
"""
#: What is wider than the window and does not scroll by itself; the theme's hidden side bar is no part of it.
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
FORMULAS = "() => [document.querySelectorAll('.math').length, document.querySelectorAll('mjx-container').length]"


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


def page_of(kind):
    """Return the longest page of a kind."""
    folder = site()
    assert folder is not None
    found = sorted(folder.glob(KINDS[kind]), key=lambda path: path.stat().st_size)
    assert found, f"expected a page {KINDS[kind]} of the site, found none"
    return found[-1]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_pages_are_shown_well(browser, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    # What the theme remembers of an earlier visit; without it, it complains of the first visit to its console.
    context.add_init_script("localStorage.getItem('mode') || localStorage.setItem('mode', 'auto')")
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("requestfailed", lambda request: errors.append(f"{request.url}: {request.failure}"))
    page.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else errors.append(request.url)
    )
    for kind in KINDS:
        page.goto(page_of(kind).as_uri())
        assert page.evaluate("document.documentElement.dataset.theme") == scheme, kind
        if page.evaluate(FORMULAS)[0]:
            page.wait_for_selector("mjx-container", state="attached", timeout=60_000)
            page.wait_for_function("() => MathJax.startup.promise.then(() => true)", timeout=60_000)
        written, set_by_mathjax = page.evaluate(FORMULAS)
        assert set_by_mathjax >= min(written, 1), kind
        assert page.evaluate("() => [...document.querySelectorAll('mjx-merror')].map(e => e.innerText)") == [], kind
        assert page.evaluate(OVERFLOW) <= 0, f"{kind}: the page scrolls sideways"
        for contrast, tag, text in page.evaluate(CONTRASTS):
            assert contrast >= CONTRAST, (kind, tag, text)
        assert errors == [], kind
    context.close()
