"""The candidates of a sweep: options of ``train --plain`` from the grid, and the line that trains one of them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from deltaprop.cli.options import SweepOptions, TrainOptions, hidden_sizes
from deltaprop.cli.train import is_table

Candidate = dict[str, Any]

#: Options of ``train --plain`` that a grid may name; those of each kind of value.
NUMBERS, WHOLE, WORDS, WIDTHS = (
    ("lr", "l2", "momentum"),
    ("epochs", "batch_size", "seed"),
    ("optimizer", "activation"),
    "hidden",
)
NAMES = ("lr", "l2", "hidden", "epochs", "optimizer", "batch_size", "activation", "momentum", "seed")


def read_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read the parameters to vary, each with its values, from texts such as "lr=0.001,0.01".

    Raises
    ------
    ValueError
        If a text is not like that, or names no parameter.
    """
    grid = dict(_parsed(text) for text in texts)
    if not grid:
        raise ValueError("--grid: expected at least one, such as --grid lr=0.001,0.01")
    return grid


def _parsed(text: str) -> tuple[str, list[Any]]:
    name, equals, values = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or not values.strip():
        raise ValueError(f"--grid: expected NAME=VALUE,VALUE such as lr=0.001,0.01, got {text!r}")
    if name not in NAMES:
        raise ValueError(f"--grid: expected one of {', '.join(NAMES)}, got {name!r}")
    try:
        return name, [_value(name, value.strip()) for value in values.split(",")]
    except ValueError:
        hint = "widths such as 32 or 64x32" if name == WIDTHS else "numbers"
        raise ValueError(f"--grid: expected {hint} for {name}, got {values!r}") from None


def _value(name: str, text: str) -> Any:
    if name == WIDTHS:
        return ",".join(map(str, hidden_sizes(text.replace("x", ","))))
    if name in WORDS:
        return text
    return int(text) if name in WHOLE else float(text)


def base_options(options: SweepOptions) -> TrainOptions:
    """Return the options of ``train --plain`` for what the grid does not name."""
    shared = {field.name for field in fields(TrainOptions)} & {field.name for field in fields(SweepOptions)}
    given = {name: getattr(options, name) for name in shared - {"out"}}
    return replace(TrainOptions(options.data, plain=is_table(options.data)), **given)


def line_of(options: TrainOptions, named: Sequence[str]) -> str:
    """Write the command that trains with these options: those in `named`, and those that are not as by default."""
    words = ["deltaprop", "train", *(["--plain"] if options.plain else []), options.data]
    usual = TrainOptions(options.data)
    for field in fields(TrainOptions):
        value, name = getattr(options, field.name), field.name
        if name in ("data", "plain", "progress", "out", "given"):
            continue
        if name in named or value != getattr(usual, name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)
