"""Lines for a terminal: tables of text as wide as it is."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

#: Columns of a terminal, where none is there to tell; and the least that the last cells of a table get.
WIDTH, LEAST = 120, 24
#: No name is shown in more characters than these.
LONGEST_NAME = 40


def terminal_width() -> int:
    """Return how many characters a line of the terminal has."""
    return shutil.get_terminal_size((WIDTH, 24)).columns


def columns_of_text(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table; the cells of its last column take the rest of the line, and go on below."""
    rows = [[shortened(cell, LONGEST_NAME) for cell in row[:-1]] + [printable(row[-1])] for row in rows]
    widths = [max(len(row[place]) for row in [headers, *rows]) for place in range(len(headers) - 1)]
    room = max(LEAST, terminal_width() - sum(widths) - 2 * len(headers))
    lines = []
    for row in [headers, *rows]:
        first = "".join(f"  {cell:<{width}}" for cell, width in zip(row, widths, strict=False))
        parts = textwrap.wrap(row[-1], room) or [""]
        lines.append(f"{first}  {parts[0]}".rstrip())
        lines += [f"{' ' * len(first)}  {part}" for part in parts[1:]]
    return lines


def in_lines(label: str, text: str) -> list[str]:
    """Return text behind a label of twelve characters, in lines as wide as the terminal."""
    return textwrap.wrap(
        printable(text),
        max(40, terminal_width()),
        initial_indent=f"{label:<12}",
        subsequent_indent=" " * 12,
        break_long_words=False,
        break_on_hyphens=False,
    )


def printable(text: str) -> str:
    """Return text with tabs, line ends, escape characters and the like as Python writes them, since terminals obey."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shortened(text: str, longest: int) -> str:
    """Return printable text, with its end replaced by "…" if it is too long."""
    text = printable(text)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def counted(count: int, noun: str) -> str:
    """Write a number of things: "1 row", "1,200 rows"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
