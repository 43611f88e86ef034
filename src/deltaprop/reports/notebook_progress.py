"""A progress bar in a notebook: one output, drawn anew; it needs no widgets, which not every front end has."""

from __future__ import annotations

import time
from html import escape
from types import TracebackType
from typing import Any, Self

from deltaprop.reports.html_table import html_output
from deltaprop.reports.notebook import display_bundle

#: Seconds between two redraws; each is a message to the front end.
REDRAW = 0.1


class NotebookTask:
    """How far a task is, with the names that rich gives to it.

    Parameters
    ----------
    total : float
        How much there is to do.
    fields : dict of str to str
        What the columns show.
    """

    total: float
    completed: float
    fields: dict[str, str]

    def __init__(self, total: float, fields: dict[str, str]) -> None:
        self.total, self.completed, self.fields = total, 0.0, fields


class NotebookProgress:
    """Draws one task in the output of the cell; it has the methods of rich's `Progress` that the bars call.

    Parameters
    ----------
    before : str
        What stands before the bar, such as ``"epoch {task.fields[epoch]}"``.
    after : sequence of str
        What stands behind it.
    elapsed : bool
        Whether the seconds since the start stand at the end.
    """

    before: str
    after: tuple[str, ...]
    elapsed: bool

    def __init__(self, before: str, after: tuple[str, ...], elapsed: bool) -> None:
        self.before, self.after, self.elapsed = before, after, elapsed
        self.tasks: list[NotebookTask] = []
        self._handle: Any = None
        self._start = self._drawn = 0.0

    def add_task(self, name: str, total: float, **fields: str) -> int:
        """Add the task and return its number."""
        self.tasks.append(NotebookTask(total, fields))
        return len(self.tasks) - 1

    def update(self, task: int, *, completed: float | None = None, advance: float = 0, **fields: str) -> None:
        """Note how far the task is, and redraw at most ten times a second."""
        changed = self.tasks[task]
        changed.completed = changed.completed + advance if completed is None else completed
        changed.fields.update(fields)
        if self._handle is not None and time.perf_counter() - self._drawn >= REDRAW:
            self._draw()

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        self._handle = display_bundle(self._bundle(), updated=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draw()
        self._handle = None

    def _draw(self) -> None:
        self._drawn = time.perf_counter()
        self._handle.update(self._bundle(), raw=True)

    def _bundle(self) -> dict[str, str]:
        """Write the line as text and as HTML."""
        (task,) = self.tasks
        before = self.before.format(task=task)
        after = [text for column in self.after if (text := column.format(task=task))]
        if self.elapsed:
            minutes, seconds = divmod(int(time.perf_counter() - self._start), 60)
            after.append(f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}")
        spans = [f"<span>{escape(text)}</span>" for text in (before, *after)]
        bar = f'<progress value="{task.completed:g}" max="{task.total:g}"></progress>'
        line = "".join([spans[0], bar, *spans[1:]])
        html = html_output(f'<div class="progress">{line}</div>')
        return {"text/plain": "  ".join([before, *after]), "text/html": html}
