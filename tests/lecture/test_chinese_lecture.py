"""The lecture in Chinese: every message of the pages is translated, with the same formulas, roles, code and links."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pofile = pytest.importorskip("babel.messages.pofile")
ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CATALOGUES = sorted((DOCS / "locales" / "zh_CN" / "LC_MESSAGES" / "lecture").glob("*.po"))
#: What stays as it is: formulas, roles and code, targets of links.
KEPT = re.compile(r"\$[^$]*\$|\{\w+\}`[^`]*`|`[^`]*`|\]\([^)]*\)")
#: The displayed formulas of all pages. Sphinx does not put a translation in their place.
DISPLAYED = {
    formula.strip()
    for page in (DOCS / "lecture").glob("*.md")
    for formula in re.findall(r"^\$\$\n(.*?)^\$\$$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
}
#: What makes a message one to be translated.
WORD = re.compile(r"[A-Za-z]{2,}")
CHINESE = "\u4e00-\u9fff"
FULL_WIDTH = "，。；：！？（）、"


def read(path):
    with path.open("rb") as file:
        return pofile.read_po(file)


def messages_of(path):
    return [message for message in read(path) if message.id]


def prose(text):
    """A message with a letter in place of each formula, role and piece of code, and without the targets of links."""
    return KEPT.sub(lambda kept: "]" if kept[0].startswith("]") else "X", text)


def is_formula(text):
    """Whether a message is a displayed formula, a number or code: nothing to translate."""
    return text in DISPLAYED or not WORD.search(prose(text))


@pytest.fixture(scope="module")
def current(tmp_path_factory):
    """The messages of the pages as they are now."""
    for module in ("sphinx", "myst_parser", "sphinx_design", "sphinx_copybutton", "pydata_sphinx_theme"):
        pytest.importorskip(module)
    out = tmp_path_factory.mktemp("gettext")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "gettext", "-c", DOCS / "zh", "-d", out / "doctrees"]
    done = subprocess.run(
        [*command, "-D", "language=en", DOCS, out], check=False, timeout=300, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return {path.stem: {message.id for message in messages_of(path)} for path in (out / "lecture").glob("*.pot")}


def test_every_message_of_the_pages_is_in_the_catalogues(current):
    """If not: CONTRIBUTING.md says how catalogues are brought up to date."""
    assert {path.stem for path in CATALOGUES} == set(current)
    for path in CATALOGUES:
        assert {message.id for message in messages_of(path)} == current[path.stem], path.name


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_every_message_is_translated(path):
    for message in messages_of(path):
        assert message.string, message.id
        assert not message.fuzzy, message.id
        if not is_formula(message.id) and message.id not in ("jvp", "vjp"):
            assert re.search(f"[{CHINESE}{FULL_WIDTH}]", message.string), message.id
    assert not read(path).obsolete


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_formulas_roles_code_and_links_are_the_same(path):
    for message in messages_of(path):
        assert sorted(KEPT.findall(message.string)) == sorted(KEPT.findall(message.id)), message.string
        if is_formula(message.id):
            assert message.string == message.id


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_punctuation_is_full_width_and_spaces_are_where_they_belong(path):
    for message in messages_of(path):
        text = prose(message.string)
        if not re.search(f"[{CHINESE}]", text):
            continue
        assert not re.search(f"[{CHINESE}][,;:!?()]|[,;:!?(][{CHINESE}]", text), message.string
        assert not re.search(f"[{CHINESE}] +[{CHINESE}]", text), message.string
        assert not re.search(f"[{CHINESE}][A-Za-z0-9]|[A-Za-z0-9][{CHINESE}]", text), message.string
        assert not re.search(f" [{FULL_WIDTH}]|[{FULL_WIDTH}] ", text), message.string


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_markdown_takes_no_asterisk_for_text(path):
    """It does where ** stands between full-width punctuation and a character."""
    markdown_it = pytest.importorskip("markdown_it")
    for message in messages_of(path):
        if not is_formula(message.id):
            assert "*" not in markdown_it.MarkdownIt().render(prose(message.string)), message.string


def test_emphasis_beside_full_width_punctuation_is_noticed():
    markdown_it = pytest.importorskip("markdown_it")
    assert "*" in markdown_it.MarkdownIt().render("**偏置不正则化。**权重大时")
