"""The drawings of the page "How it is built" show the contract of imports, and the ways of training that there are."""

import ast
import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def drawing():
    pytest.importorskip("sphinx")
    spec = importlib.util.spec_from_file_location("house_drawing", ROOT / "docs" / "_extensions" / "house_drawing.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def layers():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return next(each["layers"] for each in contracts if each["name"].startswith("Rooms: "))


class Everywhere(dict):  # type: ignore[type-arg]
    """Every box leads somewhere."""

    def __missing__(self, key: str) -> str:
        return f"{key}.html"


def test_floors_of_the_house_are_the_layers_of_the_contract(drawing):
    svg = drawing.house(ROOT / "pyproject.toml", Everywhere())
    boxes = re.findall(r'class="house-name" x="[^"]+" y="([^"]+)">([^<]+)<', svg)
    heights = sorted({float(y) for y, _ in boxes})
    shown = [[name for y, name in boxes if float(y) == height] for height in heights]
    assert shown == [[name.strip() for name in layer.split(":")] for layer in layers()] + [["kernels"]]
    assert all(f'<a href="{name}.html">' in svg for _, name in boxes)


def test_the_page_on_contributing_lists_the_same_floors():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    [listed] = re.findall(r"^```text\n(__main__\n.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert [line.split(" · ") for line in listed.splitlines()] == [
        [name.strip() for name in layer.split(":")] for layer in layers()
    ]


def test_boxes_neither_overlap_nor_leave_the_drawing(drawing):
    svg = drawing.house(ROOT / "pyproject.toml", Everywhere())
    width, height = map(float, re.findall(r'viewBox="0 0 (\S+) (\S+)"', svg)[0])
    rects = [
        tuple(map(float, each)) for each in re.findall(r'<rect x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)"', svg)
    ]
    for number, (x, y, w, h) in enumerate(rects):
        assert x >= 0
        assert y >= 0
        assert x + w <= width
        assert y + h <= height
        for other in rects[:number]:
            assert x >= other[0] + other[2] or other[0] >= x + w or y >= other[1] + other[3] or other[1] >= y + h


def test_a_room_that_the_drawing_does_not_know_is_named(drawing, tmp_path):
    text = (ROOT / "pyproject.toml").read_text().replace('"arguments : forks"', '"arguments : spoons"')
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(ValueError, match=r"\['forks', 'spoons'\]"):
        drawing.house(tmp_path / "pyproject.toml", Everywhere())


def test_ways_of_training_are_those_of_the_engines_in_their_order(drawing):
    tree = ast.parse((ROOT / "src" / "deltaprop" / "epochs" / "engines.py").read_text())
    returned = {}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and function.name in ("_on_numpy", "_on_cuda"):
            [answer] = [each.value for each in ast.walk(function) if isinstance(each, ast.Return)]
            assert isinstance(answer, ast.Tuple)
            returned[function.name] = [each.id for each in answer.elts if isinstance(each, ast.Name)]
    assert {backend: list(steps) for backend, steps in drawing.WAYS.items()} == {
        "numpy": returned["_on_numpy"],
        "cupy": returned["_on_cuda"],
    }
    svg = drawing.ways(Everywhere())
    assert re.findall(r"<title>(\w+)</title>", svg) == [*returned["_on_numpy"], "Steps", *returned["_on_cuda"], "Steps"]
