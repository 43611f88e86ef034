"""The pages refer to files, functions, kernels and tests that exist, and their examples run."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import require

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PACKAGE = ROOT / "src" / "deltaprop"
#: The rooms: folders of the package, and the kernels, which stand beside it.
ROOMS = [*(path for path in sorted(PACKAGE.iterdir()) if (path / "__init__.py").exists()), ROOT / "kernels"]
#: How a file may define a name: as a Python definition or key, or a CUDA function or struct.
DEFINITION = r"(?:def|class|struct|void|T)\s+{0}\b|^\s+{0}\s*:|void {0}\(|\b{0}_##"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_every_name_in_the_table_of_formulas_is_defined_where_it_points():
    page = ROOT / "docs" / "formulas.md"
    references = re.findall(r"\[`(\w+)`\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    assert len(references) > 60
    missing = []
    for name, link in references:
        text = (page.parent / link).read_text(encoding="utf-8")
        if not re.search(DEFINITION.format(name), text, re.MULTILINE):
            missing.append((name, link))
    assert missing == []


def test_every_formula_of_the_table_has_a_test():
    rows = [
        line for line in (ROOT / "docs" / "formulas.md").read_text(encoding="utf-8").splitlines() if "](../src/" in line
    ]
    assert len(rows) >= 25
    assert [row for row in rows if "](../tests/" not in row] == []


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_the_page_of_a_room_names_every_file_in_it(room):
    page = (ROOT / "docs" / "rooms" / f"{room.name}.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    kinds = (".py", ".cu", ".cuh", ".cpp", ".h", ".html", ".css", ".js")
    there = [str(path.relative_to(room)) for path in room.rglob("*.*") if path.suffix in kinds]
    assert sorted(named) == sorted(name for name in there if not name.endswith(("__init__.py", "__main__.py")))
    for part in ("**Doors.**", "## Example: "):
        assert part in page
    assert f"docs/rooms/{room.name}.md" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_api_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    """The Python blocks run line by line as printed, on data of their shapes."""
    import matplotlib
    from sklearn.datasets import load_digits

    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    network, others, tables, stacks, estimators = re.findall(
        r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    X, y = load_digits(return_X_y=True)
    X = X / 16
    names = {"X": X[:200], "y": y[:200], "Xv": X[200:300], "yv": y[200:300], "x": X[:5], "z": X[:5]}
    rng = np.random.default_rng(0)
    names |= {"dX": X[:200], "dY": rng.random((200, 10)), "v": rng.standard_normal(64 * 100 + 100 * 10 + 110)}
    names |= {"Theta1": rng.standard_normal((100, 65)), "Theta2": rng.standard_normal((10, 101))}
    names |= {"f": np.exp, "g": np.sin, "h": np.square, "df": np.exp, "dg": np.cos, "dh": lambda w: 2 * w}
    exec(network, names)
    assert "passed: relative difference" in capsys.readouterr().out
    exec(stacks, dict(names))
    exec(estimators, names)
    assert len(names["clf"].validation_loss_curve_) == names["clf"].n_iter_
    assert len(names["net"].hvp(X[:5], y[:5], names["v"])) == len(names["v"])
    for package in ("torch", "onnx"):
        require(package)
    exec(others, names)
    rows = np.arange(60)
    sides = [f"{row % 7},{'north' if row % 3 else 'south'},{2 * (row % 7) + (row % 3)}" for row in rows]
    for name in ("houses", "new"):
        (tmp_path / f"{name}.csv").write_text("\n".join(["rooms,side,price", *sides]))
    new = {"age": rng.random(60), "sex": np.where(rows % 2, "female", "male")}
    exec(tables, {"dp": names["dp"], "frame": new | {"survived": rows % 2}, "new": new})
    assert "sex" in capsys.readouterr().out
    assert names["net"].layer_sizes == (64, 100, 10)


def test_the_examples_of_the_page_on_onnx_run(tmp_path, monkeypatch):
    for package in ("onnx", "onnxruntime", "skl2onnx"):
        require(package)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "onnx.md").read_text(encoding="utf-8"), re.DOTALL):
        exec(block, names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["iris.onnx", "pipeline.onnx"]
