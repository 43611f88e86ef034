"""The workflows run the README's commands on every supported Python, with pinned actions."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

import deltaprop

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def readme_block(heading):
    """Return the first sh block under a heading of the README."""
    found = re.search(
        rf"^## {heading}$.*?^```sh\n(.*?)\n```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert found is not None
    return found[1]


@pytest.mark.parametrize("heading", ["Quick start", "Tests"])
def test_the_commands_of_the_readme_are_run_as_they_stand(heading):
    assert f"run: {readme_block(heading)}\n" in (ROOT / ".github" / "workflows" / "tests.yml").read_text()


def test_every_python_that_is_promised_is_tested():
    promised = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    assert len(promised) >= 4
    listed = re.findall(r"python: \[(.*)\]", (ROOT / ".github" / "workflows" / "tests.yml").read_text())
    assert listed == [", ".join(f'"{python}"' for python in promised)] * 2


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_may_only_read(path):
    text = path.read_text()
    actions = re.findall(r"uses: (.*)", text)
    assert actions
    assert [action for action in actions if not re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v[\d.]+", action)] == []
    assert re.findall(r"^permissions:\n((?:  .*\n)+)", text, re.MULTILINE) == ["  contents: read\n"]
    assert text.count("permissions:") == 1


def test_the_version_stands_in_one_place():
    assert deltaprop.__version__ == version("deltaprop")
    holders = [
        path for path in (ROOT / "pyproject.toml", ROOT / "CITATION.cff") if deltaprop.__version__ in path.read_text()
    ]
    assert holders == []
