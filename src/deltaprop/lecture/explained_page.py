"""The page that steps through both passes: its numbers, packed, in a skeleton with its style and its script.

The numbers are written as text here, by `number`, so that the page has the digits that tables have; its script shows
them and computes none. They travel as JSON, compressed and in base64, in which no text can end the script element.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np

from deltaprop.derivation.backprop import Objective
from deltaprop.lecture.descent import Descent, Start
from deltaprop.lecture.passes import Matrix, Passes, number
from deltaprop.reports.html_table import LINE

#: What can be drawn: units of a layer, and layers. A training step of the largest takes less than 40 kB of a page.
WIDEST, DEEPEST = 8, 12
#: A page has fewer bytes than this.
BYTES = 300_000
#: What a page without tables says where no script runs.
NO_TABLES = '<p class="notice">This page needs JavaScript. The text of explain() has the same numbers as tables.</p>'
#: The script, in the order in which a reader needs it.
SCRIPTS = ("data", "elements", "formulas", "arithmetic", "matrices", "steps", "layout", "graph", "panels", "controls")


def is_possible(widths: Sequence[int]) -> bool:
    """Tell whether the network is small enough for a page that can be read."""
    return max(widths) <= WIDEST and len(widths) <= DEEPEST


def check_widths(widths: Sequence[int], name: str = "page") -> None:
    """Refuse a network that is too large to be drawn; an error begins with `name`.

    Raises
    ------
    ValueError
        If a layer is too wide, or there are too many layers.
    """
    if not is_possible(widths):
        raise ValueError(
            f"{name}: expected at most {DEEPEST} layers of at most {WIDEST} units for a page, which draws each, got "
            f"{list(widths)}; tables show larger networks"
        )


def page(title: str, start: Start, tables: str = "") -> str:
    """Write the page, with as many of the training steps as it has room for.

    `tables` are shown where no script runs, unless they would take the room of a training step.

    Raises
    ------
    ValueError
        If a layer is too wide, or there are too many layers.
    """
    check_widths(start.network.layer_sizes)
    descent = start.descend()
    skeleton = _skeleton(title)
    room = BYTES - len(skeleton.encode()) - len(NO_TABLES.encode()) - 1
    kept = len(descent.passes)
    packed = _packed(_content(start, descent, kept))
    while len(packed) > room:
        kept = min(kept - 1, int(kept * room / len(packed)))
        packed = _packed(_content(start, descent, kept))
    return skeleton.replace("{{unscripted}}", _unscripted(tables, room - len(packed))).replace("{{numbers}}", packed)


def _unscripted(tables: str, room: int) -> str:
    """Write what is shown where no script runs, in at most so many bytes: the tables, or where else they are."""
    if tables:
        told = (
            "To step through the passes, this page needs JavaScript. These are the numbers before training, as tables."
        )
        written = f'<p class="notice">{told}</p><pre class="card">{escape(tables)}</pre>'
        if len(written.encode()) <= room + len(NO_TABLES.encode()):
            return written
    return NO_TABLES


def frame(title: str, start: Start) -> str:
    """Write the page as a frame in a notebook: its style and script stay inside, and it reaches nothing outside."""
    style = f"width:100%;height:60rem;max-height:92vh;border:{LINE};border-radius:8px;resize:vertical"
    content = escape(page(title, start))
    return f'<iframe title="{escape(title)}" sandbox="allow-scripts" style="{style}" srcdoc="{content}"></iframe>'


def _skeleton(title: str) -> str:
    """Fill everything but the numbers into the skeleton."""
    skeleton, style, script = _parts()
    return skeleton.replace("{{title}}", escape(title)).replace("{{style}}", style).replace("{{script}}", script)


@cache
def _parts() -> tuple[str, str, str]:
    folder = files("deltaprop.lecture") / "page"
    script = "\n".join((folder / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    return (
        (folder / "explained.html").read_text(encoding="utf-8"),
        (folder / "explained.css").read_text(encoding="utf-8"),
        script,
    )


def _packed(content: dict[str, Any]) -> str:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _content(start: Start, descent: Descent, kept: int) -> dict[str, Any]:
    """Make what the page knows, with the numbers of the first so many training steps."""
    network, m = start.network, start.X.shape[0]
    after = descent.passes[kept].Theta if kept < len(descent.passes) else descent.after
    return {
        "layers": network.layer_sizes,
        "activations": network.activations,
        "loss": network.loss if isinstance(network.loss, str) else "",
        "outputError": network.output_error,
        "dtype": network.dtype.name,
        "learningRate": f"{start.learning_rate:g}",
        "objective": _objective(start.objective, m),
        "asked": start.steps,
        "finite": descent.is_finite,
        "samples": m,
        "y": _text(descent.passes[0].y),
        "J": " ".join(number(passes.cost) for passes in descent.passes),
        "x": _text(descent.passes[0].a[0]),
        "steps": [_step(passes) for passes in descent.passes[:kept]],
        "after": [_text(theta) for theta in after],
    }


def _objective(objective: Objective, m: int) -> dict[str, Any]:
    return {
        "lambda": f"{objective.l2:g}",
        "scaling": objective.l2_scaling,
        "reduction": objective.reduction,
        "penalty": number(objective.penalty(m)),
    }


def _step(passes: Passes) -> dict[str, Any]:
    """Write one training step; a D that is Δ to the last digit is left out."""
    Delta, D = [_text(each) for each in passes.Delta], [_text(each) for each in passes.D]
    slope = ["" if each is None else _text(each) for each in passes.slope]
    return {
        "Theta": [_text(each) for each in passes.Theta],
        "z": [_text(each) for each in passes.z],
        "a": [_text(each) for each in passes.a[1:]],
        "slope": slope,
        "costs": " ".join(map(number, passes.costs)),
        "squares": number(passes.squares),
        "J": number(passes.cost),
        "costSlope": "" if passes.cost_slope is None else _text(passes.cost_slope),
        "delta": [_text(each) for each in passes.delta],
        "Delta": Delta,
        "D": [] if Delta == D else D,
    }


def _text(values: Matrix) -> str:
    """Write a matrix: numbers apart by spaces, rows by semicolons."""
    return ";".join(" ".join(map(number, row)) for row in np.atleast_2d(values).tolist())
