"""The blocks of the README, the front page, docs/start and docs/guide run as printed, and print what the pages show.

The blocks of a page run in order, in one namespace that is empty at first, in a folder with the tables of docs/start.
A block of ``text`` below a block is what it prints, or the exception that it raises. In ``console`` blocks a line with
``$`` is a command, and lines below it are its output; commands without output are parsed only. ``...`` stands for any
text, a number may differ by 5 % (compilers and processors round differently), and seconds by anything. Comments in a page:
``<!-- needs: torch -->`` for all that follows, ``<!-- one needs: pandas -->`` for one block, ``<!-- file: train.py -->`` before a block that is written to a file, and
``<!-- not run: REASON -->`` before one that no test can run.
"""

import io
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
from conftest import backend_or_skip, require, require_library
from mpiexec import MPIEXEC, environment

from deltaprop.cli import run
from deltaprop.cli.app import app

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [DOCS.parent / "README.md", DOCS / "index.md"]
PAGES += [page for folder in ("start", "guide") for page in sorted((DOCS / folder).glob("*.md"))]
FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[a-z ]+): (?P<of>.+?) -->|```(?P<language>\S+)[^\n]*\n(?P<text>.*?)^```$)", re.M | re.S
)
NUMBER = r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
SECONDS = re.compile(NUMBER + r"(?= (?:s|ms|µs|samples/s)\b)")
#: The commands of ``sh`` blocks are run by .ci/run, in a fresh environment.
LANGUAGES = {"python", "console", "text", "sh"}


@dataclass
class Block:
    """A block of a page, or a mark between them: what it is (`kind`), and its text."""

    kind: str
    text: str
    shown: str | None = None

    @property
    def commands(self):
        """Each command of a console block, with the output below it."""
        joined = self.text.replace("\\\n", " ")
        return [command.partition("\n")[::2] for command in re.split(r"^\$ ", joined, flags=re.M)[1:]]


def blocks_of(page):
    """Return the blocks of a page and the marks between them; a text belongs to the block of Python above it."""
    blocks: list[Block] = []
    for match in FENCE.finditer(page.read_text(encoding="utf-8")):
        if match["mark"]:
            blocks.append(Block(match["mark"], match["of"]))
        elif match["language"] == "text" and blocks and blocks[-1].kind == "python" and blocks[-1].shown is None:
            blocks[-1].shown = match["text"]
        elif not match["language"].startswith("{"):
            blocks.append(Block(match["language"], match["text"]))
    return blocks


def agrees(shown, printed):
    """Whether the text of a page is what was printed, but for rounding, seconds, spaces and ``...``."""
    shown, printed = (without_layout(text) for text in (shown, printed))
    parts = re.split(f"({NUMBER}|\\.\\.\\.)", shown)
    pattern = "".join(
        re.escape(part) if i % 2 == 0 else ".*" if part == "..." else f"({NUMBER})" for i, part in enumerate(parts)
    )
    found = re.fullmatch(pattern, printed, re.S)
    if found is None:
        return False
    return all(map(is_near, [part for part in parts[1::2] if part != "..."], found.groups()))


def without_layout(text):
    """Leave out lines of tables, seconds and how a text is broken into lines."""
    return SECONDS.sub("#", " ".join(re.sub(r"[─-╿]+", " ", without_column_of_seconds(text)).split()))


def without_column_of_seconds(text):
    """Leave out what a table has below the word seconds."""
    rows = [line.split("│") for line in text.splitlines()]
    column = next(([cell.strip() for cell in row].index("seconds") for row in rows if " seconds " in row), None)
    return "\n".join(
        "│".join(cell for place, cell in enumerate(row) if len(row) == 1 or place != column) for row in rows
    )


def is_near(shown, printed):
    a, b = (float(number.replace(",", "")) for number in (shown, printed))
    last_place = 10.0 ** -len(shown.partition(".")[2]) if "e" not in shown else 0.0
    return abs(a - b) <= 0.05 * max(abs(a), abs(b)) + 1.5 * last_place * ("." in shown)


def check(shown, printed):
    if not agrees(shown, printed):
        pytest.fail(f"the page shows:\n{shown}\nand the block prints:\n{printed}")


def run_python(block, names):
    """Run a block of Python, and compare what it prints, its warnings first, with what the page shows."""
    code, out = compile(block.text, "<page>", "exec"), io.StringIO()
    try:
        with redirect_stdout(out), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            exec(code, names)
    except Exception as error:
        if block.shown is None:
            raise
        out.write(f"{type(error).__name__}: {error}")
    told = "".join(f"{warning.category.__name__}: {warning.message}\n" for warning in caught)
    if block.shown is not None or told:
        check(block.shown or "", told + out.getvalue())


def run_console(block):
    """Run the commands of a block if it shows what one of them prints: ours in this process, others by the shell."""
    if not any(shown.strip() for _, shown in block.commands):
        return
    for command, shown in block.commands:
        words, out = shlex.split(command, comments=True), io.StringIO()
        if words[0] == "deltaprop" and not {"|", ">", "<"} & set(words):
            with redirect_stdout(out), redirect_stderr(out):
                run(words[1:])
            printed = out.getvalue()
        elif os.name == "nt":
            pytest.skip("the commands of the page are those of a POSIX shell")
        else:
            path = os.pathsep.join(str(Path(program).parent) for program in (sys.executable, MPIEXEC) if program)
            done = subprocess.run(
                command,
                shell=True,
                env=environment(PATH=path + os.pathsep + os.environ["PATH"]),
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            printed = done.stdout + done.stderr
        check(shown, printed)


def need(packages):
    """Skip what follows on a page if a package, an MPI or a GPU is not here."""
    for package in packages.split(", "):
        if package == "mpi":
            if MPIEXEC is None:
                pytest.skip("needs mpi4py and an mpiexec: pip install 'deltaprop[mpi]'")
        elif package == "gpu":
            if backend_or_skip("cupy").label.startswith("cuda-on-host"):
                pytest.skip("the emulated device takes no arrays of CuPy")
        elif package == "library":
            require_library()
        else:
            require(package)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_blocks_run_as_printed(page, tmp_path, monkeypatch):
    blocks, names = blocks_of(page), {"__name__": "__main__"}
    for block in blocks:
        if block.kind == "python":
            compile(block.text, str(page), "exec")
    for file in (DOCS / "start").glob("*.csv"):
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("COLUMNS", "72")
    monkeypatch.setattr(logging.root, "handlers", [])
    mark = Block("", "")
    for block in blocks:
        if block.kind == "needs":
            need(block.text)
        elif mark.kind == "file":
            (tmp_path / mark.text).write_text(block.text, encoding="utf-8")
        elif mark.kind == "not run" or (mark.kind == "one needs" and find_spec(mark.text) is None):
            pass
        elif block.kind == "python":
            run_python(block, names)
        elif block.kind == "console":
            run_console(block)
        mark = block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_every_block_is_one_that_a_test_can_run(page):
    blocks = blocks_of(page)
    assert {block.kind for block in blocks} <= LANGUAGES | {"needs", "one needs", "file", "not run"}
    before = ["", *(block.kind for block in blocks)]
    assert all(mark in ("file", "not run") for mark, block in zip(before, blocks, strict=False) if block.kind == "text")
    assert page.stem == "index" or {"python", "console"} & {block.kind for block in blocks}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_every_command_line_parses(page):
    commands = typer.main.get_group(app).commands
    for line, _ in (command for block in blocks_of(page) if block.kind == "console" for command in block.commands):
        words = shlex.split(line, comments=True)
        ends = [place for place, word in enumerate(words) if word in ("|", "&&", "<", ">")]
        for start, end in zip([-1, *ends], [*ends, len(words)], strict=True):
            part = words[start + 1 : end]
            if part[0] in ("mpiexec", "srun") and "deltaprop" in part:
                part = part[part.index("deltaprop") :]
            if Path(part[0]).name == "deltaprop" and not part[1].startswith("--"):
                commands[part[1]].make_context(part[1], part[2:])


@pytest.mark.parametrize(("shown", "printed", "same"), [
    ("cost 0.123 in 3 s", "cost  0.124 in 900 s", True),
    ("cost 0.123", "cost 0.223", False),
    ("a 12 of 30 rows", "a 12 of 60 rows", False),
    ("ValueError: ...got 3", "ValueError: expected 2, got 3", True),
    ("accuracy", "accuracies", False),
    ("(3, 200)", "(3, 200)\n", True),
    ("float32", "float64", False),
    ("│ fit │ seconds │\n│ 3 │ 0.6 │", "│ fit │ seconds │\n│ 3 │ 77.2 │", True),
    ("│ fit │ seconds │\n│ 3 │ 0.6 │", "│ fit │ seconds │\n│ 4 │ 0.6 │", False),
])  # fmt: skip
def test_texts_are_compared(shown, printed, same):
    assert agrees(shown, printed) == same
