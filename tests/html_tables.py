"""Read the HTML that the package writes: its tables as rows of cells, and whether it is whole."""

from __future__ import annotations

from html.parser import HTMLParser

#: Elements without an end.
VOID = {"meta"}


class Reader(HTMLParser):
    """Collects tables and elements; every element has to be closed in its turn."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.elements: list[str] = []
        self.strong: list[str] = []
        self._open: list[str] = []
        self._cell: list[str] | None = None
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
            self._strong = ("class", "strong") in attrs
        elif tag in ("td", "th"):
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag in ("td", "th"):
            assert self._cell is not None
            self.tables[-1][-1].append("".join(self._cell))
            self._cell = None
        elif tag == "tr" and self._strong:
            self.strong.append(self.tables[-1][-1][0])

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)


def read_html(html: str) -> Reader:
    """Read HTML; nothing in it may be run, come from elsewhere or set a colour or a background."""
    reader = Reader(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(reader.elements)
    for part in ("http:", "https:", "url(", "@import", "background", "{color", ";color"):
        assert part not in html
    return reader
