"""A sheet: a title, tables, facts by name and sentences, as text for a terminal and as HTML for a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TypeAlias

from deltaprop.reports.html_table import html_facts, html_output, html_table
from deltaprop.reports.text_table import Table

Part: TypeAlias = Table | Mapping[str, str] | str


class Sheet:
    """What an object shows of itself, written once for terminals and for notebooks.

    Parameters
    ----------
    title : str
        The first line.
    *parts : Table, mapping of str to str, or str
        A table, facts by their names, or a sentence; an empty one is left out.
    """

    title: str
    parts: list[Part]

    def __init__(self, title: str, *parts: Part) -> None:
        self.title, self.parts = title, [part for part in parts if part]

    def text(self) -> str:
        """Write the sheet as text, without a newline at its end."""
        return "\n".join([self.title, *map(_as_text, self.parts)])

    def html(self) -> str:
        """Write the sheet as HTML."""
        return html_output(f"<h3>{escape(self.title)}</h3>", *map(_as_html, self.parts))


def _as_text(part: Part) -> str:
    if isinstance(part, Table):
        return part.render()
    if isinstance(part, str):
        return part
    width = max(map(len, part))
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in part.items())


def _as_html(part: Part) -> str:
    if isinstance(part, Table):
        return html_table(part)
    return f"<p>{escape(part)}</p>" if isinstance(part, str) else html_facts(part)
