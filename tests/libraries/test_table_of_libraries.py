"""The table in docs/guide/libraries.md, the extra `libraries` and these tests name the same libraries."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_library_has_a_row_a_requirement_and_a_test():
    page = (ROOT / "docs/guide/libraries.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| \[([\w-]+)\]\(https://[^)]+\) \| .+ \| \[test\]\(\.\./\.\./(.+?)\) \| [\d.]+ \|$", page, re.M
    )
    assert len(rows) == 11
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    required = {re.split(r"[\[>=]", requirement)[0] for requirement in extras["libraries"]}
    assert {name for name, _ in rows} | {"onnxruntime"} == required
    tests = {str(path.relative_to(ROOT).as_posix()) for path in Path(__file__).parent.glob("test_*.py")}
    assert {test for _, test in rows} == tests - {"tests/libraries/test_table_of_libraries.py"}
