"""Tables and pages of HTML, for notebooks and for files: no scripts, and nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from deltaprop.reports.text_table import Table

#: Lines are half-transparent grey and there is no background, so that light and dark themes both show through.
LINE = "1px solid rgba(128,128,128,.45)"
STYLE = (
    "<style>"
    "div.deltaprop{overflow-x:auto;line-height:1.35}"
    "div.deltaprop h3{margin:.3em 0 .4em;font-size:1.1em;font-weight:600}"
    "div.deltaprop h4{margin:1.1em 0 .4em;font-size:1em;font-weight:600}"
    "div.deltaprop h5{margin:.3em 0;font-size:.9em;font-weight:400}"
    "div.deltaprop p{margin:.4em 0}"
    "div.deltaprop table{border-collapse:collapse;margin:.3em 0;font-size:.9em;font-variant-numeric:tabular-nums}"
    "div.deltaprop th,div.deltaprop td{padding:.15em .7em;text-align:right;white-space:pre;vertical-align:top}"
    f"div.deltaprop th{{font-weight:600;border-bottom:{LINE};vertical-align:bottom}}"
    "div.deltaprop sup{font-size:.75em;line-height:0}"
    "div.deltaprop th.left,div.deltaprop td.left{text-align:left}"
    "div.deltaprop tr.strong td{font-weight:600}"
    "div.deltaprop table.facts td:first-child{opacity:.7}"
    "div.deltaprop div.side{display:flex;flex-wrap:wrap;gap:.4em 2.5em}"
    "div.deltaprop div.side>div{max-width:100%;overflow-x:auto}"
    "div.deltaprop div.progress{display:flex;flex-wrap:wrap;gap:0 1.5em;align-items:center}"
    "div.deltaprop div.progress span{white-space:pre-wrap}"
    "div.deltaprop progress{flex:1 1 8em;max-width:24em}"
    "</style>"
)
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>body{{margin:2em;font-family:system-ui,sans-serif}}</style>
</head>
<body>
{body}
</body>
</html>
"""


def html_table(table: Table) -> str:
    """Write a table as HTML; every cell is text, and none of it is taken for HTML."""

    def row(tag: str, cells: Sequence[str]) -> str:
        sides = (' class="left"' if position < table.left else "" for position in range(len(cells)))
        return "".join(f"<{tag}{side}>{escape(cell)}</{tag}>" for side, cell in zip(sides, cells, strict=True))

    body = []
    for position, cells in enumerate(table.rows):
        strong = ' class="strong"' if position in table.strong else ""
        body.append(f"<tr{strong}>{row('td', cells)}</tr>")
    head = row("th", table.headers)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def html_facts(facts: Mapping[str, str]) -> str:
    """Write names and values as a table of two columns without a header."""
    rows = (
        f'<tr><td class="left">{escape(name)}</td><td class="left">{escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    return f'<table class="facts"><tbody>{"".join(rows)}</tbody></table>'


def html_output(*parts: str) -> str:
    """Join pieces of HTML to the output of a cell, with the style that they need."""
    return f'<div class="deltaprop">{STYLE}{"".join(parts)}</div>'


def html_page(title: str, body: str) -> str:
    """Make a page of its own from the output of a cell; it follows the reader's choice of light or dark."""
    return PAGE.format(title=escape(title), body=body)
