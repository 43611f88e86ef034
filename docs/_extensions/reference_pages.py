"""The reference: a page a class with all that this package defines on it, and the command line's options as tables.

Both are made from the code when the site is built: methods by looking at the class, options by asking typer. What is
described leads to the line of the source where it begins.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from functools import cache
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from shown_members import function_of, inherits_from_sklearn, members_of
from source_pages import reference_to, repository
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.locale import _
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

#: Where names stand that docstrings write without their module.
MODULES = ("deltaprop", "deltaprop.callbacks", "deltaprop.accel")


def options_of(command: Any) -> dict[str, list[tuple[str, str, str]]]:
    """Return name, default and help of each argument and option of a command, by the title of its group."""
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for parameter in command.params:
        is_argument = parameter.param_type_name == "argument"
        written = parameter.name.upper() if is_argument else ", ".join([*parameter.opts, *parameter.secondary_opts])
        default = parameter.default
        if parameter.required:
            shown = "required"
        else:
            shown = "" if default in (None, False, "", []) or callable(default) else str(default)
        title = getattr(parameter, "rich_help_panel", None) or ""
        groups.setdefault(title, []).append((written, shown, parameter.help or ""))
    return groups


class CommandLine(SphinxDirective):
    """``.. command-line::`` makes a section for each command of ``deltaprop``."""

    def run(self) -> list[nodes.Node]:
        """Write the sections as reStructuredText and parse them."""
        from typer.main import get_command

        from deltaprop.cli.app import app

        group = get_command(app)
        lines: list[str] = []
        for name, command in sorted(group.commands.items()):  # type: ignore[attr-defined]
            lines += _section(name, command)
        node = nodes.section()
        node.document = self.state.document
        self.state.nested_parse(StringList(lines, source="deltaprop.cli"), 0, node, match_titles=True)
        return node.children


def _section(name: str, command: Any) -> list[str]:
    """Return the section of a command as lines of reStructuredText."""
    title = f"deltaprop {name}"
    groups = options_of(command)
    written = [row[0] for rows in groups.values() for row in rows]
    arguments = " ".join(each for each in written if not each.startswith("-"))
    lines = [f".. _command-{name}:", "", title, "-" * len(title), ""]
    lines += [*inspect.cleandoc(command.help or "").splitlines(), "", ".. code-block:: text", ""]
    options = "[OPTIONS]" if any(each.startswith("-") for each in written) else ""
    lines += [f"   {' '.join(filter(None, ('deltaprop', name, options, arguments)))}", ""]
    for heading, rows in groups.items():
        if heading:
            lines += [f".. rubric:: {heading}", ""]
        lines += [".. list-table::", "   :header-rows: 1", "   :widths: 30 15 55", "   :class: options", ""]
        lines += ["   * - option", "     - default", "     - what it does"]
        for option, default, text in rows:
            cells = (f"``{option}``", f"``{default}``" if default else "", _escaped(text))
            lines += [f"   {'* -' if i == 0 else '  -'} {cell}".rstrip() for i, cell in enumerate(cells)]
        lines.append("")
    return lines


def _escaped(text: str) -> str:
    """Return text in which no character is markup."""
    return " ".join(text.replace("\\", "\\\\").replace("*", r"\*").replace("`", r"\`").replace("|", r"\|").split())


def find_in_package(app: Sphinx, env: Any, node: addnodes.pending_xref, content: nodes.Element) -> Any:
    """Find names that a docstring writes without their module, such as ``Network.fit`` on a page of a callback."""
    if node.get("reftype") == "term" and node.get("refdoc", "").startswith("reference/generated"):
        return content  # a word of scikit-learn's glossary, in a docstring of its own
    if node.get("refdomain") != "py":
        return None
    known = env.get_domain("py").objects
    for name in (f"{module}.{node['reftarget']}" for module in MODULES):
        if name in known:
            return make_refnode(app.builder, node["refdoc"], known[name].docname, known[name].node_id, content, name)
    return None


def link_own_types(app: Sphinx) -> None:
    """Let numpydoc link the types of parameters to pages of ours, and to no documentation elsewhere."""
    pages = sorted((Path(app.srcdir) / "reference").glob("*.md"))
    paths = [path for page in pages for path in re.findall(r"^   ~([\w.]+)$", page.read_text("utf-8"), re.MULTILINE)]
    app.config.numpydoc_xref_aliases_complete = {path.rpartition(".")[2]: path for path in paths}


def place_of(root: Path, module: str, name: str) -> tuple[str, int] | None:
    """Return the file of the repository that defines ``module.name``, and the line where it begins; None if none does.

    The package that is imported may be installed elsewhere, so its file is found by the name of the module.
    """
    first, *rest = name.split(".")
    found = getattr(import_module(module), first)
    for part in rest:
        found = inspect.getattr_static(found, part)
    defined = inspect.unwrap(function_of(found))
    path = file_of_module(root, defined.__module__) if isinstance(defined, type | FunctionType) else None
    return None if path is None else (path, inspect.getsourcelines(defined)[1])


@cache
def file_of_module(root: Path, module: str) -> str | None:
    """Return the path in the repository of a module's file; None if the module is another package's."""
    folders = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["package-dir"]
    package = max((each for each in folders if f"{module}.".startswith(f"{each}.")), key=len, default=None)
    if package is None:
        return None
    path = Path(folders[package], *module.removeprefix(package).split("."))
    return (path / "__init__.py" if (root / path).is_dir() else path.with_suffix(".py")).as_posix()


def link_to_sources(app: Sphinx, doctree: nodes.document) -> None:
    """Let each description lead to where its object is defined."""
    root, docname = repository(app), app.env.docname
    for signature in list(doctree.findall(addnodes.desc_signature)):
        place = place_of(root, signature["module"], signature["fullname"]) if "fullname" in signature else None
        if place is not None:
            app.env.note_dependency(str(root / place[0]))
            text = nodes.inline("", _("[source]"), classes=["viewcode-link"])
            signature += addnodes.only("", reference_to(app, docname, *place, text), expr="html")


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx of this extension."""
    app.add_directive("command-line", CommandLine)
    app.connect("missing-reference", find_in_package)
    app.connect("doctree-read", link_to_sources)
    app.connect("builder-inited", link_own_types, priority=900)  # after numpydoc has added its links to others
    app.config.autosummary_context = {
        "members_of": members_of,
        "inherits_from_sklearn": inherits_from_sklearn,
    }
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
