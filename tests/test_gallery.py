"""The examples of the gallery have what a reader needs, use public names alone, and stand in the order of the gallery.

Building the site runs them.
"""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

import deltaprop as dp

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "docs" / "examples").rglob("*.py"))
#: A cell of text between cells of code: a line that begins it, and the comments below.
TEXT = re.compile(r"^# %%\n((?:#.*\n)+)", re.MULTILINE)
#: What makes a figure.
PICTURES = ("subplots", "plot", "plot_weights", "plot_importances")
each_example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)


def sections():
    """Read the order of the gallery without importing it, since matplotlib may be missing."""
    tree = ast.parse((ROOT / "docs" / "_extensions" / "gallery_order.py").read_text(encoding="utf-8"))
    (value,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name) and target.id == "SECTIONS"
    )
    return ast.literal_eval(value)


def labels_of(text):
    return re.findall(r":ref:`(sphx_glr_gallery_[\w.]+)`", text)


def test_there_are_at_least_sixteen_and_each_has_a_place_in_the_order():
    assert len(EXAMPLES) >= 16
    named = [(section, name) for section, names in sections().items() for name in names]
    assert sorted(named) == sorted((path.parent.name, path.stem) for path in EXAMPLES)
    for section in sections():
        header = (ROOT / "docs" / "examples" / section / "README.rst").read_text(encoding="utf-8")
        title, line, *text = header.splitlines()
        assert line == "-" * len(title)
        assert any(text)


@each_example
def test_an_example_has_a_title_a_summary_texts_and_a_picture(path):
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    docstring = ast.get_docstring(tree)
    assert docstring
    title, line, empty, *summary = docstring.splitlines()
    assert line == "=" * len(title)
    assert not empty
    assert "see" in " ".join(summary).split()  # what the reader sees
    texts = TEXT.findall(source)
    assert len(texts) >= 2
    assert "Read on: " in texts[-1]
    # Or whoever runs the file sees nothing.
    assert source.rstrip().endswith("plt.show()\n\n# %%\n" + texts[-1].rstrip())
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert [call.attr for call in calls if isinstance(call, ast.Attribute) and call.attr in PICTURES]


@each_example
def test_an_example_is_short_and_imports_public_names_alone(path):
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    assert len(source.splitlines()) <= 120
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "dp"
    }
    assert used <= set(dp.__all__)
    private = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("_")]
    assert private == []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "deltaprop":
            assert node.module in ("deltaprop", "deltaprop.callbacks")
            assert {alias.name for alias in node.names} <= set(import_module(node.module).__all__)
    plain = [alias for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert [(alias.name, alias.asname) for alias in plain if alias.name.startswith("deltaprop")] == [
        ("deltaprop", "dp")
    ]


@each_example
def test_the_examples_that_an_example_leads_to_exist(path):
    places = {f"sphx_glr_gallery_{other.parent.name}_{other.name}" for other in EXAMPLES}
    assert set(labels_of(path.read_text(encoding="utf-8"))) <= places


@each_example
def test_what_deltaprop_says_an_example_refers_to_exists(path):
    for role, target in re.findall(r":(class|meth|func|mod):`~?deltaprop\.([\w.]+)`", path.read_text(encoding="utf-8")):
        found = dp
        for name in target.split("."):
            found = getattr(found, name)
        assert callable(found) or role == "mod"
