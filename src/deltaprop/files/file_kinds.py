"""What a model file holds, by the keys of its configuration, and who reads it."""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

from deltaprop.derivation.state import Configuration

Kind = Literal["tabular", "stack", "network"]


class Description(NamedTuple):
    """The words for a kind of file."""

    what: str
    reader: str


#: Each key says what a file is, whatever else is in it: the first that is there counts.
KINDS: dict[Kind, Description] = {
    "tabular": Description("a tabular estimator", "deltaprop.load"),
    "stack": Description("a stack of networks", "NetworkStack.load"),
    "network": Description("a network", "Network.load"),
}


def kind_of(path: str | os.PathLike[str], configuration: Configuration) -> Kind:
    """Find the kind of a file; whether the content is right is not checked.

    Raises
    ------
    ValueError
        If there is no such kind; the message begins with `path`.
    """
    for kind in KINDS:
        if kind in configuration:
            return kind
    raise ValueError(f"{path}: holds no network, no stack of networks and no tabular estimator")


def require_kind(path: str | os.PathLike[str], configuration: Configuration, expected: Kind) -> None:
    """Check that a file is not of another kind.

    Raises
    ------
    ValueError
        If it is; the message begins with `path`, and names what the file holds and the function that reads it.
    """
    found = KINDS[kind_of(path, configuration)]
    if found is not KINDS[expected]:
        raise ValueError(f"{path}: holds {found.what}, not {KINDS[expected].what}; {found.reader} reads it")
