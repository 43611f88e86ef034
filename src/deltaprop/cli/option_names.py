"""Errors of the library name arguments of Python; here they get the names of the options that the user has typed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any

from typer.core import TyperCommand

#: Arguments whose options have other names.
OTHER_NAMES = {"layer_sizes": "layers", "hidden_activation": "activation", "learning_rate": "lr", "l": "layer"}
#: The options that were typed: for each name the option as it is written, and its value.
_typed: ContextVar[Mapping[str, tuple[str, Any]]] = ContextVar("_typed", default={})  # noqa: B039  (nobody changes it)
#: The files that were typed: an error about one begins with its name, and that may be the name of an option.
_files: ContextVar[frozenset[str]] = ContextVar("_files", default=frozenset())


class Command(TyperCommand):
    """A command that knows which options were typed, for an error that ends it."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        typed, files = {}, set[str]()
        for parameter in self.params:
            source = ctx.get_parameter_source(parameter.name)
            if parameter.param_type_name == "option" and source is not None and source.name == "COMMANDLINE":
                typed[str(parameter.name)] = (max(parameter.opts, key=len), ctx.params[parameter.name])
            if parameter.param_type_name == "argument":
                files.add(str(ctx.params[parameter.name]))
        _typed.set(typed)
        _files.set(frozenset(files))
        return super().invoke(ctx)


def forget_options() -> None:
    """Forget the options of the command that ran before."""
    _typed.set({})
    _files.set(frozenset())


def expect_grid(names: Iterable[str]) -> None:
    """Take these names, of options of another command, for parameters of ``--grid``."""
    _typed.set({**_typed.get(), **{name: (f"--grid {name.replace('_', '-')}", None) for name in names}})


def by_option(message: str) -> str:
    """Write a message about an argument as one about the option that was typed; other messages stay.

    Where the option is a list of numbers, the message ends with what was typed.
    """
    found = re.match(r"(--)?([\w-]+): ", message)
    if found is None or (not found[1] and found[2] in _files.get()):
        return message
    name = found[2].replace("-", "_")
    option, value = _typed.get().get(OTHER_NAMES.get(name, name), (None, None))
    if option is None:
        return message
    told = f"{option}: {message[found.end() :]}"
    if found[1] or not isinstance(value, str) or value in message or not re.search("[,;]", value):
        return told
    return f"{told}, from {value!r}"
