"""The built site is whole: links lead somewhere, nothing is loaded from elsewhere, pictures have texts beside them.

Build it, then ``DELTAPROP_SITE=docs/_build/html python -m pytest tests/site``.
"""

import re
from collections import Counter
from pathlib import Path

import pytest
from public_face import CLASSES, PATHS
from site_pages import REASON, Page, pages, site, target

pytestmark = pytest.mark.skipif(site() is None, reason=REASON)

#: The most that the site may take, in bytes: it is published with every version.
LARGEST = 120e6
#: What stands outside of an address that a style sheet may name.
ADDRESS = re.compile(r"""url\(\s*['"]?([^'")]+)|@import\s+['"]([^'"]+)""")
#: What is described on a page, and where its source is.
DESCRIBED = re.compile(r'<dt class="sig[^"]*" id="([^"]+)">(.*?)</dt>', re.DOTALL)
SOURCE = re.compile(r'<a [^>]*href="([^"]+)"><span class="viewcode-link">')
ROOT = Path(__file__).parents[2]


def folder() -> Path:
    found = site()
    assert found is not None
    return found


def shown(page: Page) -> str:
    return page.path.relative_to(folder()).as_posix()


def written() -> list[Page]:
    """Return the pages that somebody wrote: not the lists that Sphinx makes, nor the source files."""
    made = {"genindex.html", "search.html", "py-modindex.html", "404.html"}
    ours = [page for page in pages().values() if page.path.name not in made]
    return [page for page in ours if not shown(page).startswith("code/")]


def test_every_link_leads_to_a_page_and_a_place_on_it():
    broken = []
    for page in pages().values():
        for link in page.links:
            found = target(page, link)
            if found is None:
                continue
            path, fragment = found
            if not path.is_file():
                broken.append((shown(page), link, "no such file"))
            elif fragment and path in pages() and fragment not in pages()[path].ids | {"top"}:
                broken.append((shown(page), link, "no such place on the page"))
    assert broken == []


def test_no_page_loads_anything_from_elsewhere():
    wrong = []
    for page in pages().values():
        for address in page.loads:
            found = target(page, address) if not address.startswith("data:") else (page.path, "")
            if found is None or not found[0].is_file():
                wrong.append((shown(page), address))
    assert wrong == []


def test_no_style_sheet_loads_anything_from_elsewhere():
    wrong = []
    for path in folder().rglob("*.css"):
        for found in ADDRESS.finditer(path.read_text(encoding="utf-8")):
            address = found[1] or found[2]
            if not address.startswith(("data:", "#")) and (
                "//" in address or not (path.parent / address.partition("?")[0].partition("#")[0]).exists()
            ):
                wrong.append((path.name, address))
    assert wrong == []


def test_every_picture_has_a_text_in_its_place():
    """Only the logo, and the thumbnails of the gallery, may have an empty one: their names stand beside them."""
    decoration = ("_static/logo.svg", "_thumb.png")
    without = [
        (shown(page), image.get("src"))
        for page in pages().values()
        for image in page.images
        if not (image.get("alt") or "").strip()
        and not (image.get("alt") == "" and (image.get("src") or "").endswith(decoration))
    ]
    assert without == []


def test_every_page_has_one_heading_a_title_and_a_language():
    wrong = [
        (shown(page), page.headings, page.title)
        for page in pages().values()
        if len(page.headings) != 1 or not page.headings[0].strip() or not page.title.strip() or not page.languages[0]
    ]
    assert wrong == []


def test_every_page_can_be_reached_from_the_front_page():
    start = folder() / "index.html"
    waiting, reached = [start], {start}
    while waiting:
        page = pages()[waiting.pop()]
        following = {found[0] for link in page.links if (found := target(page, link)) is not None}
        new = (following & pages().keys()) - reached
        reached |= new
        waiting += new
    assert sorted(shown(page) for page in written() if page.path not in reached) == []


def test_no_page_shows_an_error_of_the_build():
    wrong = []
    for page in written():
        text = page.path.read_text(encoding="utf-8")
        if "system-message" in page.classes or "problematic" in page.classes or re.search(r">\s*WARNING: ", text):
            wrong.append(shown(page))
    assert wrong == []


def test_no_page_shows_markup_that_was_not_understood():
    """A directive or a role that nothing knows stays in the text as it was written."""
    wrong = []
    for page in written():
        text = re.sub(r"<(pre|code|script|style)\b.*?</\1>", "", page.path.read_text(encoding="utf-8"), flags=re.DOTALL)
        text = re.sub(r"<[^>]*>", "", text)
        found = re.search(r"\{[a-z:-]+\}`|:[a-z]+:`|^```|\{\.[a-z-]+\}|\]\(\.\.?/", text, re.MULTILINE)
        if found is not None:
            wrong.append((shown(page), found.group()))
    assert wrong == []


def test_pages_of_the_lecture_have_formulas():
    lecture = [page for page in written() if shown(page).startswith("lecture/") and shown(page) != "lecture/index.html"]
    assert len(lecture) >= 8
    assert [shown(page) for page in lecture if "math" not in page.classes] == []


def test_every_public_name_and_method_is_described_in_one_place():
    described = Counter(
        name
        for page in pages().values()
        if shown(page).startswith("reference/generated/")
        for name in page.ids & PATHS.keys()
    )
    assert sorted(PATHS.keys() - described.keys()) == []
    assert [name for name, times in described.items() if times > 1] == []


def test_what_is_described_leads_to_the_line_where_it_begins():
    described, wrong = set(), []
    for page in pages().values():
        for name, signature in DESCRIBED.findall(page.path.read_text(encoding="utf-8")):
            described.add(name)
            [link] = SOURCE.findall(signature)
            found = target(page, link)
            assert found is not None
            path = found[0].relative_to(folder() / "code").with_suffix("")  # the test of links knows that it is there
            lines = (ROOT / path).read_text(encoding="utf-8").splitlines()[int(found[1].removeprefix("L-")) - 1 :]
            kind = "class" if name in CLASSES else "def"
            definition = next(line.split() for line in lines if line.split()[:1] in (["def"], ["class"]))
            right = definition[0] == kind and re.match(rf"{name.rpartition('.')[2]}\b", definition[1])
            if not right or not lines[0].strip().startswith(("@", f"{kind} ")) or ".setter" in lines[0]:
                wrong.append((name, lines[0]))
    assert described >= PATHS.keys()
    assert wrong == []
    assert not (folder() / "_modules").exists()  # no second copy of the sources


def test_the_gallery_has_pictures():
    gallery = pages()[folder() / "gallery" / "index.html"]
    pictures = [image for image in gallery.images if "thumb" in (image.get("src") or "")]
    assert len(pictures) >= 16


def test_the_site_is_of_a_sane_size():
    size = sum(path.stat().st_size for path in folder().rglob("*") if path.is_file() and ".doctrees" not in path.parts)
    assert 1e6 < size < LARGEST
