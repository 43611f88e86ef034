"""The one style of all pictures: colours, markers and lines, sizes, and legends below the axes.

Matplotlib is loaded when the first picture is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deltaprop.reports.notebook import notebook_shell

INSTALL = "plotting needs matplotlib: pip install 'deltaprop[plot]'"

#: The colours of Okabe and Ito, which people with any colour vision tell apart: blue, vermilion, bluish green, reddish
#: purple, orange, sky blue. Their yellow is too pale on white, and their black is lost on a dark background.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
#: Markers and lines differ as well, for pictures that are printed in grey. There are not as many as colours, so that a
#: colour that comes again has another marker.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":")
#: What only guides the eye; it can be seen on light and on dark backgrounds.
GREY = "0.55"
#: Signed quantities: dark blue below 0, grey at 0, yellow above. Its lightness only rises, so it works in grey too.
SIGNED_COLOURS = "cividis"

#: Width and height of one panel, inches.
PANEL = (4.5, 3.5)
#: A figure has at most so many panels in a row.
COLUMNS = 3
#: Inches that one character takes in a label, about.
CHARACTER = 0.085
#: A curve that is positive gets a logarithmic axis if its highest value is more than so many times its lowest one.
LOG_SPAN = 20.0
#: About how many markers a curve has.
MARKED = 12
#: Longer names are cut off.
LONGEST_NAME = 40
#: Longer labels would not fit beside a panel.
LONGEST_BESIDE = 35


def pyplot() -> Any:
    """Import matplotlib.pyplot.

    Raises
    ------
    ImportError
        If matplotlib is not installed; the message names the extra that installs it.
    """
    try:
        return import_module("matplotlib.pyplot")
    except ImportError as error:
        raise ImportError(f"{INSTALL} ({error})") from error


def subplots(rows: int, columns: int, **options: Any) -> Any:
    """Make a figure by pyplot, with constrained layout, and its axes; a notebook shows it once."""
    drawing = pyplot()
    if notebook_shell() is not None:
        from deltaprop.reports.notebook_figure import NotebookFigure

        options["FigureClass"] = NotebookFigure
    return drawing.subplots(rows, columns, layout="constrained", **options)


def panels(count: int, size: tuple[float, float] = PANEL, columns: int = COLUMNS, **options: Any) -> tuple[Any, Any]:
    """Make a figure of `count` panels of a size in inches, at most so many in a row; return it and its panels."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure, axes = subplots(rows, columns, figsize=(size[0] * columns, size[1] * rows), squeeze=False, **options)
    for axis in axes.flat[count:]:
        axis.remove()
    for axis in axes.flat[:count]:
        axis.grid(alpha=0.3)
        axis.set_axisbelow(True)
    return figure, axes.flat[:count]


def look(k: int, points: int = 1) -> dict[str, Any]:
    """Return colour, line and marker of curve `k`, which has so many points, as arguments of ``Axes.plot``."""
    return {
        "color": COLOURS[k % len(COLOURS)],
        "linestyle": LINES[k % len(LINES)],
        "marker": MARKERS[k % len(MARKERS)],
        "markevery": max(1, math.ceil(points / MARKED)),
        "markersize": 4.5,
    }


def legend_below(figure: Any, columns: int = 6) -> None:
    """Give a figure one legend of all its axes, below them, and make the figure larger by the room that this takes.

    The legend has at most so many columns, and fewer where they would leave the figure. Of the same label in many axes,
    the first one is shown.
    """
    shown: dict[str, Any] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, handle)
    if not shown:
        return
    width, height = figure.get_size_inches()
    options = {"loc": "outside lower center", "frameon": False, "fontsize": 9}
    for count in range(min(columns, len(shown)), 0, -1):
        legend = figure.legend(list(shown.values()), list(shown), ncols=count, **options)
        box = legend.get_window_extent()
        needed = (box.width / figure.dpi + 0.2, box.height / figure.dpi + 0.05)
        if needed[0] <= width or count == 1:
            break
        legend.remove()
    figure.set_size_inches(max(width, needed[0]), height + needed[1])


def finite(*lists: ArrayLike) -> np.ndarray[Any, Any]:
    """Return all finite numbers of some lists, as one array."""
    values: np.ndarray[Any, Any] = np.concatenate([np.ravel(np.asarray(each, float)) for each in lists])
    kept: np.ndarray[Any, Any] = values[np.isfinite(values)]
    return kept


def scale_for(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Choose the scale of a quantity for ``Axes.set_yscale``.

    It is logarithmic where values are positive and span more than `LOG_SPAN`. It is logarithmic below −1 alone where
    a few of them lie far below the others, as R² does in the first epochs.
    """
    if values.size and values.min() > 0 and values.max() > LOG_SPAN * values.min():
        return {"value": "log"}
    if values.size and values.min() < -1 and far_below(values) is not None:
        return {"value": "symlog", "linthresh": 1.0}
    return {"value": "linear"}


def far_below(values: np.ndarray[Any, Any]) -> float | None:
    """Return below which value a few lie so far that the others could not be told apart; None if there are none."""
    if not values.size:
        return None
    top, middle = float(values.max()), float(np.median(values))
    if top > middle and top - values.min() > 30 * (top - middle):
        return top - 10 * (top - middle)
    return None


def shortened(value: object, longest: int = LONGEST_NAME, *, keeps_end: bool = False) -> str:
    """Return a value as one short line of text. Of one that is too long, the beginning stays, or the end."""
    text = " ".join(str(value).split())
    if len(text) <= longest:
        return text
    return f"…{text[1 - longest :]}" if keeps_end else f"{text[: longest - 1]}…"


def as_label(value: object, longest: int = LONGEST_NAME, *, keeps_end: bool = False) -> str:
    """Return a name that users have chosen as one short line that matplotlib shows as it is.

    Matplotlib reads what stands between dollars as a formula, and leaves labels that begin with "_" out of a legend.
    """
    text = shortened(value, longest, keeps_end=keeps_end)
    return f"{' ' if text.startswith('_') else ''}{text}".replace("$", r"\$")


def label_height(labels: Sequence[str], rotation: float) -> float:
    """Return about how many inches labels take below an axis that is `rotation` degrees turned, beyond one line."""
    longest = max(map(len, labels), default=0)
    return longest * CHARACTER * math.sin(math.radians(rotation))
