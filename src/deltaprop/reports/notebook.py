"""Notebooks: whether this is one, and results that are shown in a cell once, however they get there."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def notebook_shell() -> Any:
    """Return IPython's shell if it runs in a kernel, as under Jupyter, VS Code and Colab; else None.

    IPython is never imported for this: where it has not been, there is no notebook.
    """
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell if getattr(shell, "kernel", None) is not None else None


def display_bundle(bundle: dict[str, str], *, updated: bool = False) -> Any:
    """Show an output, a text for each kind of front end; return what updates it, if it will be."""
    options = {"display_id": True} if updated else {}
    return import_module("IPython.display").display(bundle, raw=True, **options)


class ShownOnce:
    """A result that its method shows at once; if it is also the value of the cell, it is not shown again there.

    A subclass has ``str()`` for terminals and ``_repr_html_`` for notebooks.
    """

    _shown_in: int | None = None

    def show(self) -> None:
        """Print the text, or in a notebook show the HTML."""
        shell = notebook_shell()
        if shell is None:
            self.print()
            return
        display_bundle({"text/plain": str(self), "text/html": self._repr_html_()})
        self._remember(shell)

    def print(self) -> None:
        """Print the text."""
        sys.stdout.write(f"{self}\n")
        self._remember(notebook_shell())

    def _remember(self, shell: Any) -> None:
        """Note in which cell it was shown."""
        if shell is not None:
            object.__setattr__(self, "_shown_in", shell.execution_count)  # the subclass may be frozen

    def _repr_html_(self) -> str:
        raise NotImplementedError

    def _ipython_display_(self) -> None:
        """Show nothing in the cell that has shown it; by NotImplementedError IPython goes on to the HTML."""
        shell = notebook_shell()
        if shell is None or self._shown_in != shell.execution_count:
            raise NotImplementedError
