"""Names at the top, lines of a file and lines of a function are few; mypy reads every folder of tests."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "deltaprop"
PYTHON = sorted(
    path for folder in ("src", "benches", "tests", "docs/_extensions") for path in (ROOT / folder).rglob("*.py")
)
#: The most names in the package's folder, lines of a file without notes and examples in docstrings, and lines of a function
#: without its docstring.
NAMES, FILE_LINES, FUNCTION_LINES = 25, 450, 60


def functions_of(path):
    """Yield each function's name and its number of lines, with the signature and without the docstring."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            assert first.end_lineno is not None
            assert node.end_lineno is not None
            documented = ast.get_docstring(node) is not None
            docstring = first.end_lineno - first.lineno + 1 if documented else 0
            yield node.name, node.end_lineno - node.lineno + 1 - docstring


def lines_after_results(path):
    """Count the lines of the sections that end docstrings: See Also, Notes, References and Examples."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, documented)]
    ends = [
        re.search(r"\n(See Also|Notes|References|Examples)\n---.*", ast.get_docstring(node) or "", re.S)
        for node in nodes
    ]
    return sum(len(end.group().splitlines()) for end in ends if end)


def test_few_names_stand_at_the_top():
    names = sorted(path.name for path in PACKAGE.iterdir() if path.name not in ("__pycache__", "kernels", "benches"))
    assert len(names) <= NAMES, names


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path):
    assert len(path.read_text().splitlines()) - lines_after_results(path) <= FILE_LINES
    assert [(name, lines) for name, lines in functions_of(path) if lines > FUNCTION_LINES] == []


def test_mypy_finds_the_modules_of_every_folder_of_tests():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["mypy_path"]
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    expected = {f"$MYPY_CONFIG_FILE_DIR/{path.relative_to(ROOT).as_posix()}" for path in folders}
    assert {path for path in listed if "/tests" in path} == expected
