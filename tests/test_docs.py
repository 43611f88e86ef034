"""The pages refer to files, functions, kernels and tests that exist, and their examples run."""

import re
from pathlib import Path

import pytest

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
