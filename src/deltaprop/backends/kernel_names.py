"""The numbers by which compiled code knows activations, losses, optimizers: their places in tables of ``kernels/``.

The tables are macros in ``kernels/shared/``. Python reads them from the text of these files. A compiled file holds the
same tables as text (see ``names.cuh``), and `check_names` compares them before the file is used.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Self, TypeAlias

from deltaprop.backends import kernel_sources
from deltaprop.errors import BackendError

#: The file that includes the tables of all kinds, and exports them.
NAMES = "shared/names.cuh"
#: For each kind, the file that holds its table, and the macro that is its table.
TABLES = {
    "activations": ("shared/activation.cuh", "DELTAPROP_ACTIVATIONS(DO, WITH)"),
    "losses": ("shared/loss.cuh", "DELTAPROP_FOR_EACH_LOSS(DO)"),
    "optimizers": ("shared/optimizer.cuh", "DELTAPROP_FOR_EACH_OPTIMIZER(DO)"),
    "constants": ("shared/optimizer.cuh", "DELTAPROP_FOR_EACH_CONSTANT(DO)"),
}
#: The tables as a compiled file holds them.
EXPORTED_TABLES = re.compile(rb"deltaprop " + b"".join(kind.encode() + rb" ([\w: ]*)" for kind in TABLES) + rb"\0")
#: The size of a structure, as a compiled file holds it.
EXPORTED_SIZE = re.compile(rb"deltaprop sizeof (\w+)\0(\d+)\0")

#: Names, and for losses and optimizers what else stands in their row, such as "poisson:exp".
Rows: TypeAlias = tuple[str, ...]


@cache
def table(kind: str) -> Rows:
    """The rows of the table of one kind, in order, read from the text of its file.

    Parameters
    ----------
    kind : {"activations", "losses", "optimizers", "constants"}

    Raises
    ------
    BackendError
        If the file holds no such table.
    """
    file, macro = TABLES[kind]
    text = kernel_sources.read(file)
    found = re.search(rf"#define {re.escape(macro)}((?:.*\\\n)+.*)", text)
    cells = re.findall(r"DO\(([\w, :]+)\)", found[1]) if found else []
    if not cells:
        raise BackendError(f"kernels/{file}: expected the table {macro}, found none")
    rows = [[cell.strip() for cell in row.split(",")] for row in cells]
    return tuple(row[1] if kind == "activations" else ":".join(row) for row in rows)


@cache
def numbers(kind: str) -> dict[str, int]:
    """The number of each name of one kind."""
    return {row.partition(":")[0]: number for number, row in enumerate(table(kind))}


def number_of(kind: str, name: str) -> int:
    """The number of one name.

    Raises
    ------
    BackendError
        If no compiled code knows it.
    """
    found = numbers(kind).get(name)
    if found is None:
        known = ", ".join(map(repr, numbers(kind)))
        raise BackendError(f"{kind}: {name!r} is not in the table of kernels/{TABLES[kind][0]}; it has {known}")
    return found


def activation_number(name: str) -> int:
    """The number of an activation. Softmax has −1: it acts on rows, and the losses that it goes with hold it."""
    return -1 if name == "softmax" else number_of("activations", name)


def loss_number(name: str) -> int:
    """The number of a loss."""
    return number_of("losses", name)


@dataclass(frozen=True)
class Rule:
    """An update rule that every backend knows by name, and its constants.

    Attributes
    ----------
    name : str
        As in ``kernels/shared/optimizer.cuh`` and ``backends/numpy/optimizer.py``.
    constants : dict of str to float
        By the names that the rule gives them. For several members, lists with one number a member.
    descends : bool
        Whether a step is θ := θ − η ∂J/∂θ and nothing else, so that η may go into δ.
    """

    name: str
    constants: Mapping[str, Any] = field(default_factory=dict)
    descends: bool = False

    @classmethod
    def of_members(cls, rules: Sequence[Self]) -> Self:
        """Make the rule of several members, who have one rule with constants of their own."""
        first = rules[0]
        constants = {name: [rule.constants[name] for rule in rules] for name in first.constants}
        return cls(first.name, constants, first.descends)

    def of_member(self, k: int) -> Rule:
        """Return the rule of one of these members."""
        own = {name: x[k] if isinstance(x, list) else x for name, x in self.constants.items()}
        return Rule(self.name, own, self.descends)

    @property
    def number(self) -> int:
        """The rule's number."""
        return number_of("optimizers", self.name)

    @property
    def moments(self) -> int:
        """How many vectors as long as the parameters it carries from step to step."""
        return int(table("optimizers")[self.number].partition(":")[2])

    @cached_property
    def values(self) -> tuple[float, ...]:
        """The constants as compiled code takes them: one for each name in its table, 0 if this rule has no such."""
        values = [0.0] * len(table("constants"))
        for name, value in self.constants.items():
            values[number_of("constants", name)] = value
        return tuple(values)


def check_names(code: bytes, file: str, structures: Sequence[type[ctypes.Structure]] = ()) -> None:
    """Compare what a compiled file knows by number with what Python knows.

    Parameters
    ----------
    code : bytes
        The compiled file.
    file : str
        The name of its source, such as "cpu/library.cpp".
    structures : sequence of ctypes structure
        Those that Python fills in for it. The file has structures of the same names.

    Raises
    ------
    BackendError
        If a table or a size differs; the message says which, what the file has, and what Python has.
    """
    found = EXPORTED_TABLES.search(code)
    there = [text.decode().strip() for text in found.groups()] if found else ["missing"] * len(TABLES)
    for kind, rows in zip(TABLES, there, strict=True):
        expected = " ".join(table(kind))
        if rows != expected:
            raise _differs(file, f"its {kind} are {rows}", expected)
    sizes: dict[str, Any] = {name.decode(): int(size) for name, size in EXPORTED_SIZE.findall(code)}
    for structure in structures:
        name, size = structure.__name__, ctypes.sizeof(structure)
        if sizes.get(name) != size:
            raise _differs(file, f"its {name} has {sizes.get(name, 'an unknown number of')} bytes", f"{size}")


def _differs(file: str, what: str, expected: str) -> BackendError:
    return BackendError(
        f"kernels/{file} was compiled from other sources than Python reads: {what}, expected {expected}"
    )
