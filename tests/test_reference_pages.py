"""The pages of the reference name everything public, each thing once, and the command line's page every command."""

import re
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from conftest import require
from public_face import CLASSES, OBJECTS, PUBLIC, methods

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted((DOCS / "reference").glob("*.md"))}


def extension():
    require("sphinx")
    sys.path.insert(0, str(DOCS / "_extensions"))
    try:
        return import_module("reference_pages")
    finally:
        sys.path.remove(str(DOCS / "_extensions"))


def test_every_public_name_is_on_one_page():
    listed = Counter(path for text in PAGES.values() for path in re.findall(r"^   ~([\w.]+)$", text, re.MULTILINE))
    assert set(listed) == set(OBJECTS)
    assert set(listed.values()) == {1}
    assert len(PUBLIC) >= 45


def test_the_front_page_leads_to_every_page_and_public_name():
    toctree = PAGES["index.md"].partition("```{toctree}")[2]
    for name in PAGES:
        if name != "index.md":
            assert f"]({name})" in PAGES["index.md"]
            assert f"\n{name.removesuffix('.md')}\n" in toctree
    assert [path for path in PUBLIC if path not in PAGES["index.md"]] == []


def test_a_page_of_a_class_has_all_that_this_package_defines():
    reference_pages = extension()
    for path, cls in CLASSES.items():
        found = [name for names in reference_pages.members_of(path).values() for name in names]
        assert sorted(found) == sorted(methods(cls))
    search = reference_pages.members_of("deltaprop.SweepCV")
    assert {"fit", "fit_transform", "set_output"} <= set(search["methods"])  # also those that available_if wraps
    assert "partial_fit" in reference_pages.members_of("deltaprop.MLPClassifier")["methods"]
    assert {"weights", "parameters"} <= set(reference_pages.members_of("deltaprop.Network")["properties"])
    backend = reference_pages.members_of("deltaprop.backends.base.Backend")  # of its many methods, those for users
    assert backend["methods"] == ["asarray", "to_numpy", "zeros"]
    assert backend["properties"] == ["label"]


@pytest.mark.parametrize(
    ("module", "name", "file", "beginning"),
    [
        ("", "Network", "network.py", ["@methods_on_its_device", "class Network("]),
        ("", "Network.load", "files/saved_network.py", ["@classmethod", "def load("]),  # inherited
        ("", "Network.weights", "derivation/state.py", ["@property", "def weights("]),  # its setter is below
        ("", "NetworkStack.fit", "stack.py", ["def fit("]),
        ("", "SweepCV.set_output", "estimators/stacked_search.py", ["@keeps_type(available_if(", "def set_output("]),
        ("", "TabularRegressor.fit", "tabular/estimator.py", ["@keeps_type(_fit_context(", "def fit("]),
        ("", "sigmoid", "derivation/activations.py", ["def sigmoid("]),
        (".accel", "install", "accel/__init__.py", ["def install("]),
        (".callbacks", "EpochEnd", "training/callbacks.py", ["@dataclass(frozen=True)", "class EpochEnd"]),
        (".backends.kernel_names", "Rule.values", "backends/kernel_names.py", ["@cached_property", "def values("]),
    ],
)
def test_a_description_leads_to_its_source(module, name, file, beginning):
    path, line = extension().place_of(DOCS.parent, f"deltaprop{module}", name)
    assert path == f"src/deltaprop/{file}"
    lines = (DOCS.parent / path).read_text(encoding="utf-8").splitlines()[line - 1 :]
    for text, expected in zip(lines, beginning, strict=False):
        assert text.strip().startswith(expected)


def test_files_of_modules_are_found_by_name():
    """Two packages stand at the top of the repository, and what another package defines has no file there."""
    file_of_module = extension().file_of_module
    assert file_of_module(DOCS.parent, "deltaprop.callbacks.csv_logger") == "src/deltaprop/callbacks/csv_logger.py"
    assert file_of_module(DOCS.parent, "deltaprop") == "src/deltaprop/__init__.py"
    assert file_of_module(DOCS.parent, "deltaprop.kernels") == "kernels/__init__.py"
    assert file_of_module(DOCS.parent, "deltaprop.benches.peers") == "benches/peers.py"
    assert file_of_module(DOCS.parent, "sklearn.base") is None


def test_the_tables_of_the_command_line_have_every_option():
    from typer.main import get_command

    from deltaprop.cli.app import app

    reference_pages = extension()
    group: Any = get_command(app)
    commands = group.commands
    assert set(commands) >= {"train", "sweep", "predict", "evaluate", "gradcheck", "doctor"}
    for command in commands.values():
        rows = [row for group in reference_pages.options_of(command).values() for row in group]
        assert len(rows) == len(command.params)
        assert all(text for _, _, text in rows)
    tables = reference_pages.options_of(commands["train"])
    assert ("--members", "16", commands["train"].params[11].help) in tables["Tables"]
    assert ("DATA", "required", commands["train"].params[0].help) in tables[""]
    assert "command-line::" in PAGES["command_line.md"]
