"""Tables of text: boxes for a terminal, or Markdown. rich draws them and is loaded only then."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO

#: Wider than any table, so that no cell is ever broken or shortened.
WIDTH = 100_000


class Table:
    """Rows of cells under headers; the first columns are aligned to the left, the others, numbers, to the right.

    Parameters
    ----------
    headers : sequence of str
        One a column.
    left : int, default 1
        How many columns are aligned to the left.
    """

    headers: list[str]
    rows: list[tuple[str, ...]]
    left: int

    def __init__(self, headers: Sequence[str], left: int = 1) -> None:
        self.headers, self.rows, self.left = list(headers), list[tuple[str, ...]](), left
        self.strong: set[int] = set()

    def add(self, *cells: str, strong: bool = False) -> None:
        """Add a row, one cell a column; a notebook shows a strong row in bold."""
        if strong:
            self.strong.add(len(self.rows))
        self.rows.append(cells)

    def render(self, *, markdown: bool = False) -> str:
        """Return the table as text, without a newline at its end."""
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable

        drawn = RichTable(box=box.MARKDOWN if markdown else box.ROUNDED)
        for position, header in enumerate(self.headers):
            drawn.add_column(header, justify="left" if position < self.left else "right", no_wrap=True)
        for row in self.rows:
            drawn.add_row(*row)
        text = StringIO()
        # Cells such as "[0, 3]" are text, not rich's markup. A notebook would get the table from rich, and we nothing.
        console = Console(
            file=text,
            width=WIDTH,
            color_system=None,
            markup=False,
            emoji=False,
            highlight=False,
            force_jupyter=False,
        )
        console.print(drawn)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())
