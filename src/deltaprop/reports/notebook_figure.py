"""Matplotlib's figure in a notebook, which shows the value of a cell and, at its end, all figures of pyplot as well.

Importing this file imports Matplotlib.
"""

from __future__ import annotations

import matplotlib
from matplotlib import pyplot
from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A figure that a cell shows once: as its value, or at its end."""

    def _ipython_display_(self) -> None:
        """Take the figure from pyplot, which would show it again; by NotImplementedError IPython goes on to show it."""
        if "inline" in matplotlib.get_backend():
            pyplot.close(self)
        raise NotImplementedError
