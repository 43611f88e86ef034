"""Pages, docstrings, comments and messages name each thing, for readers whose English is a second language."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
THIS = Path(__file__)
KERNELS = [path for path in sorted((ROOT / "kernels").rglob("*.*")) if path.suffix in (".cu", ".cuh", ".cpp", ".h")]
PYTHON = [path for folder in ("src", "benches", "tests") for path in sorted((ROOT / folder).rglob("*.py"))]
#: The gallery, the parts of the site, and the page that shows backpropagation; not what a build writes.
SITE = [path for folder in ("_extensions", "examples", "zh") for path in sorted((ROOT / "docs" / folder).rglob("*.*"))]
SITE = [ROOT / "docs" / "conf.py", *(path for path in SITE if path.suffix in (".py", ".rst"))]
SHOWN = [path for path in sorted((ROOT / "src").rglob("*.*")) if path.suffix in (".html", ".css", ".js")]
SOURCES = [*(path for path in PYTHON if path != THIS), *KERNELS, *SITE, *SHOWN]
#: Phrases that stand for a thing without naming it. They may be broken over two lines, also of a comment.
PHRASES = ("that of", "of which", "none but", "what is handed")
BETWEEN_WORDS = r"(?:\s|#:?|//|>)+"
PATTERN = re.compile("|".join(rf"\b{phrase.replace(' ', BETWEEN_WORDS)}\b" for phrase in PHRASES), re.IGNORECASE)


def test_the_phrases_are_found():
    for text in ("That of a layer", "none\n    but", "# a batch, each row of\n    #: which", "see what is\nhanded on"):
        assert PATTERN.search(text)
    for text in ("that often", "roof which", "none, but", "what is it handed"):
        assert not PATTERN.search(text)


@pytest.mark.parametrize("path", [*PAGES, *SOURCES], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_names_what_it_speaks_of(path):
    assert [found.group() for found in PATTERN.finditer(path.read_text(encoding="utf-8"))] == []


def test_every_file_is_looked_at():
    assert len(PAGES) > 10
    assert {
        "network.py",
        "stack.py",
        "state.py",
        "library.cpp",
        "resident.cu",
        "reference.py",
        "peers.py",
        "digits.py",
        "conf.py",
    } <= {path.name for path in SOURCES}
