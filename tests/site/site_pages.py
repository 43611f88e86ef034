"""Reads the pages of a built site: links, ids, pictures, headings, and what a page loads."""

import os
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: The variable that names the folder of the site.
VARIABLE = "DELTAPROP_SITE"
REASON = f"{VARIABLE} does not name the folder of a built site"
#: Tags without an end, and the attribute by which a tag loads something.
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
LOADS = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
}
#: Kinds of <link> that load a file; the others only name one.
LOADED_LINKS = {"stylesheet", "icon", "preload", "modulepreload", "manifest"}


class Page(HTMLParser):
    """What a page holds.

    Attributes
    ----------
    links, loads : list of str
        Where ``<a>`` leads, and what the page loads.
    ids : set of str
        The places in the page that a link may lead to.
    images : list of dict
        The attributes of each picture.
    headings : list of str
        The texts of ``<h1>``.
    classes : set of str
        All classes of all tags.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.path = path
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.images: list[dict[str, str | None]] = []
        self.headings: list[str] = []
        self.classes: set[str] = set()
        self.title = ""
        self.languages: list[str | None] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in VOID:
            self._open.append(tag)
        self.ids |= {value for key in ("id", "name") if (value := found.get(key)) and (key == "id" or tag == "a")}
        self.classes |= set((found.get("class") or "").split())
        if tag in ("a", "area") and found.get("href") is not None:
            self.links.append(found["href"] or "")
        if tag == "img":
            self.images.append(found)
        if tag == "h1":
            self.headings.append("")
        if tag == "html":
            self.languages.append(found.get("lang"))
        loaded = found.get(LOADS.get(tag, ""))
        if tag == "link" and LOADED_LINKS & set((found.get("rel") or "").split()):
            loaded = found.get("href")
        if loaded:
            self.loads.append(loaded)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if "h1" in self._open:
            self.headings[-1] += data
        if self._open[-1:] == ["title"] and "svg" not in self._open:
            self.title += data


def site() -> Path | None:
    """Return the folder of the site; None if none is named."""
    return Path(os.environ[VARIABLE]).resolve() if os.environ.get(VARIABLE) else None


@cache
def pages() -> dict[Path, Page]:
    """Read all pages of the site, by path; only files end in ``.html`` that are whole pages."""
    folder = site()
    assert folder is not None
    found = sorted(path for path in folder.rglob("*.html") if "_static" not in path.parts)
    assert folder.joinpath("index.html") in found, f"{VARIABLE}: expected the folder of a built site, got {folder}"
    return {path: Page(path) for path in found}


def target(page: Page, link: str) -> tuple[Path, str] | None:
    """Return the file and the fragment that a link leads to; None if it leads out of the site."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    path = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
    return (path / "index.html" if path.is_dir() else path), unquote(parts.fragment)
