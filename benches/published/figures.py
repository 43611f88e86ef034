"""Reads the files of results: what is missing there, or is no number, is an error that names file and place."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Where the files lie in a checkout.
RESULTS: Path = Path(__file__).parents[1] / "results"


class MissingFigureError(LookupError):
    """A file of results does not hold what a table shows."""


class Node:
    """A place in a file of results: a mapping, a list, a text or a number."""

    def __init__(self, value: Any, path: str) -> None:
        self.value: Any = value
        self.path: str = path

    def __getitem__(self, key: str | int) -> Node:
        """Return the place below; MissingFigureError if it is not there."""
        there = isinstance(self.value, dict) if isinstance(key, str) else isinstance(self.value, list)
        if not there or (
            key not in self.value if isinstance(key, str) else not -len(self.value) <= key < len(self.value)
        ):
            what = f"the keys {sorted(self.value)}" if isinstance(self.value, dict) else type(self.value).__name__
            raise MissingFigureError(f"{self.path}: expected {key!r}, got {what}")
        return Node(self.value[key], f"{self.path}[{key!r}]")

    def __iter__(self) -> Iterator[Node]:
        """Yield the places of a list."""
        if not isinstance(self.value, list):
            raise MissingFigureError(f"{self.path}: expected a list, got {type(self.value).__name__}")
        return (self[index] for index in range(len(self.value)))

    def __contains__(self, key: str) -> bool:
        return isinstance(self.value, dict) and key in self.value

    def names(self) -> list[str]:
        """Return the keys of a mapping, in the order of the file."""
        if not isinstance(self.value, dict):
            raise MissingFigureError(f"{self.path}: expected a mapping, got {type(self.value).__name__}")
        return list(self.value)

    def where(self, **wanted: Any) -> Node:
        """Return the only row of a list with these values."""
        found = [row for row in self if all(key in row and row[key].value == value for key, value in wanted.items())]
        if len(found) != 1:
            raise MissingFigureError(f"{self.path}: expected one row with {wanted}, got {len(found)}")
        return found[0]

    @property
    def number(self) -> float:
        """The number that stands here."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float) or not math.isfinite(self.value):
            raise MissingFigureError(f"{self.path}: expected a finite number, got {self.value!r}")
        return float(self.value)

    @property
    def text(self) -> str:
        """The text that stands here."""
        if not isinstance(self.value, str) or not self.value:
            raise MissingFigureError(f"{self.path}: expected a text, got {self.value!r}")
        return self.value


class Figures:
    """The files of a folder, each read when it is first asked for.

    Parameters
    ----------
    folder : Path
        The folder with the files, ``benches/results``.
    """

    def __init__(self, folder: Path = RESULTS) -> None:
        self.folder: Path = folder
        self._read: dict[str, Node] = {}

    def __getitem__(self, name: str) -> Node:
        """Return the content of ``name.json``; MissingFigureError if there is no such file."""
        if name not in self._read:
            path = self.folder / f"{name}.json"
            if not path.is_file():
                raise MissingFigureError(f"{path.name}: there is no such file in {self.folder}")
            self._read[name] = Node(json.loads(path.read_text(encoding="utf-8")), path.name)
        return self._read[name]

    def files(self) -> list[Path]:
        """Return the files that were read, in this order."""
        return [self.folder / f"{name}.json" for name in self._read]
