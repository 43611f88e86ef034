"""Draws the house of rooms from the contract in pyproject.toml, and which way of training is taken when.

``{house}`` and ``{ways}`` put the drawings into a page, as SVG whose colours are the theme's. A room that the
contract names and this file does not, or the other way round, ends the build.
"""

from __future__ import annotations

import posixpath
import tomllib
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

#: What each room holds, in a few words.
ROOMS = {
    "__main__": "python -m deltaprop",
    "cli": "the deltaprop command",
    "doctor": "tries this machine",
    "accel": "scikit-learn's own scripts",
    "loading": "dp.load: what was saved",
    "estimators": "scikit-learn's interface",
    "tabular": "from table to answer",
    "stack": "NetworkStack: many networks",
    "network": "Network: parameters and fit",
    "callbacks": "what listens to training",
    "network_function": "what Network computes",
    "lecture": "explains and checks",
    "training": "the loop over epochs",
    "epochs": "ways to train one epoch",
    "files": "models and checkpoints",
    "derivation": "the formulas, by line",
    "inputs": "arrays, files, chunks",
    "ranks": "several processes",
    "backends": "NumPy, library, CUDA",
    "errors": "errors and warnings",
    "reports": "history, tables, pictures",
    "arguments": "checks of arguments",
    "forks": "forks beside threads",
}
#: What stands below the ground: it is compiled, not imported.
CELLAR = ("kernels", "C++ and CUDA, compiled")

#: By backend, its ways of training one network, the fastest first: the question that it answers with yes, and what it
#: does.
WAYS = {
    "numpy": {
        "CompiledEpoch": (
            ("Is the compiled library there,", "and are loss and rule built in?"),
            ("whole epochs", "in C++"),
        ),
        "RecordedEpoch": (
            ("Built in, shuffled, dense, no", "weights, and are steps short?"),
            ("NumPy's calls,", "replayed"),
        ),
    },
    "cupy": {
        "ResidentEpoch": (
            ("No dropout, all built in, and does", "it fit into shared memory?"),
            ("an epoch", "in one launch"),
        ),
        "GraphEpoch": (
            ("No dropout, all built in, and can", "its products be captured?"),
            ("a CUDA graph,", "replayed"),
        ),
    },
}
LAST = ("Steps", ("step by step,", "from Python"))
TITLES = {"numpy": "On NumPy (the CPU)", "cupy": "On CuPy (a GPU)"}

WIDTH, LEFT, FLOOR, GAP = 402, 36, 46, 8


class Room(NamedTuple):
    """A box of the drawing: where it is, what it says, where it leads."""

    name: str
    words: str
    x: float
    y: float
    width: float


def floors(pyproject: Path) -> list[list[str]]:
    """Return the rooms floor by floor, from the top, as the contract of import-linter names them."""
    contracts = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    [house] = [each for each in contracts if each["type"] == "layers" and each["containers"] == ["deltaprop"]]
    return [[name.strip() for name in layer.split(":")] for layer in house["layers"]]


def rooms(pyproject: Path) -> list[Room]:
    """Return the boxes of the house.

    Raises
    ------
    ValueError
        If the contract and `ROOMS` do not name the same rooms.
    """
    layers = floors(pyproject)
    named = {name for floor in layers for name in floor}
    if named != ROOMS.keys():
        raise ValueError(f"the house: only in pyproject.toml or only in ROOMS: {sorted(named ^ ROOMS.keys())}")
    found = []
    for number, floor in enumerate(layers):
        width = (WIDTH - 2 - LEFT - GAP * (len(floor) - 1)) / len(floor)
        for place, name in enumerate(floor):
            y = 8 + number * (FLOOR + GAP)
            found.append(Room(name, ROOMS[name], LEFT + place * (width + GAP), y, width))
    return found


def house(pyproject: Path, leads: dict[str, str]) -> str:
    """Return the house as SVG; `leads` has where each room's box leads."""
    boxes = rooms(pyproject)
    ground = max(box.y for box in boxes) + FLOOR + 14
    boxes.append(Room(*CELLAR, LEFT, ground + 14, WIDTH - 2 - LEFT))
    height = ground + 14 + FLOOR + 8
    parts = [
        f'<path class="house-arrow" d="M22 20 V{ground - 22} m-6 -10 l6 10 l6 -10"/>',
        f'<text class="house-note" transform="translate(12 {ground / 2:.0f}) rotate(-90)">imports go down</text>',
        f'<path class="house-ground" d="M0 {ground} H{WIDTH}"/>',
    ]
    parts += [_room(box, leads[box.name]) for box in boxes]
    return _svg(height, "The rooms of the package, floor by floor; a file imports from floors below", parts)


def _room(box: Room, lead: str) -> str:
    rect = f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{FLOOR}" rx="5"/>'
    name = f'<text class="house-name" x="{box.x + 10:g}" y="{box.y + 19:g}">{escape(box.name)}</text>'
    words = f'<text x="{box.x + 10:g}" y="{box.y + 36:g}">{escape(box.words)}</text>'
    return f'<a href="{escape(lead)}">{rect}{name}{words}</a>'


def ways(leads: dict[str, str]) -> str:
    """Return the decision drawing as SVG; `leads` has where the box of each way leads."""
    parts, y = [], 8.0
    for backend, steps in WAYS.items():
        parts.append(f'<text class="house-name" x="0" y="{y + 14:g}">{TITLES[backend]}</text>')
        y += 28
        for name, (question, answer) in steps.items():
            parts += [
                f'<rect class="house-question" x="1" y="{y:g}" width="226" height="{FLOOR}" rx="{FLOOR / 2}"/>',
                *_lines(question, 113, y, "middle"),
                f'<path class="house-arrow" d="M226 {y + FLOOR / 2:g} h30 m-9 -6 l9 6 l-9 6"/>',
                f'<text class="house-note" x="240" y="{y + 14:g}" text-anchor="middle">yes</text>',
                f'<path class="house-arrow" d="M113 {y + FLOOR:g} v22 m-6 -9 l6 9 l6 -9"/>',
                f'<text class="house-note" x="124" y="{y + FLOOR + 15:g}">no</text>',
                *_way(name, answer, 258, y, leads),
            ]
            y += FLOOR + 24
        parts += _way(*LAST, 42, y, leads)
        y += FLOOR + 26
    return _svg(y - 10, "Which way of training is taken when, on a CPU and on a GPU", parts)


def _way(name: str, answer: tuple[str, str], x: float, y: float, leads: dict[str, str]) -> list[str]:
    box = f'<rect x="{x:g}" y="{y:g}" width="142" height="{FLOOR}" rx="5"/>'
    return [f'<a href="{escape(leads[name])}"><title>{name}</title>{box}', *_lines(answer, x + 71, y, "middle"), "</a>"]


def _lines(texts: tuple[str, str], x: float, y: float, anchor: str) -> list[str]:
    return [
        f'<text x="{x:g}" y="{y + height:g}" text-anchor="{anchor}">{escape(text)}</text>'
        for text, height in zip(texts, (20, 36), strict=True)
    ]


def _svg(height: float, title: str, parts: list[str]) -> str:
    head = f'<svg class="house-drawing" viewBox="0 0 {WIDTH} {height:g}" role="group" aria-label="{title}">'
    return "\n".join([head, *parts, "</svg>"])


class _Drawing(SphinxDirective):
    """A drawing, whose boxes lead to pages of rooms or of files."""

    def leads(self, files: dict[str, str]) -> dict[str, str]:
        """Return where each of `files` is shown, and have their pages made."""
        found = {}
        here = posixpath.dirname(self.env.docname)
        for name, path in files.items():
            if path.startswith("docs/"):
                page = path.removeprefix("docs/").removesuffix(".md")
            else:
                self.env.__dict__.setdefault("source_pages", {}).setdefault(self.env.docname, set()).add(path)
                page = f"code/{path}"
            found[name] = posixpath.relpath(page, here) + ".html"
        return found

    def raw(self, svg: str) -> list[nodes.Node]:
        """Put a drawing into the page."""
        return [nodes.raw("", svg, format="html")]


class House(_Drawing):
    """The house of rooms."""

    def run(self) -> list[nodes.Node]:
        """Draw it."""
        root = Path(self.env.srcdir).parent
        self.env.note_dependency(str(root / "pyproject.toml"))
        files = {name: self._page(root, name) for name in [*ROOMS, CELLAR[0]]}
        return self.raw(house(root / "pyproject.toml", self.leads(files)))

    @staticmethod
    def _page(root: Path, name: str) -> str:
        page = f"docs/rooms/{name}.md"
        return page if (root / page).is_file() else f"src/deltaprop/{name}.py"


class Ways(_Drawing):
    """Which way of training is taken when."""

    def run(self) -> list[nodes.Node]:
        """Draw it."""
        files = {name: f"src/deltaprop/epochs/{_file_of(name)}" for steps in WAYS.values() for name in steps}
        return self.raw(ways(self.leads(files | {LAST[0]: "src/deltaprop/epochs/steps.py"})))


def _file_of(name: str) -> str:
    return name.removesuffix("Epoch").lower() + ".py"


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx of this extension."""
    app.add_directive("house", House)
    app.add_directive("ways", Ways)
    return {"version": "1", "env_version": 1, "parallel_read_safe": True, "parallel_write_safe": True}
