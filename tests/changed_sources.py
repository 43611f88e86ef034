"""A copy of the sources with some insertions, and a program that runs there: what the tests of adding things share."""

import json
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

from conftest import require_compiler
from host_cuda import compiler_problem

import deltaprop as dp

TESTS = Path(__file__).parent


def changed(folder, edits):
    """A copy of the sources with these edits, and the path that imports it."""
    # Where the package is installed, the kernels stand in its folder; in a checkout, beside src/.
    beside = shutil.ignore_patterns("__pycache__", "kernels", "benches")
    shutil.copytree(Path(dp.__file__).parent, folder / "src" / "deltaprop", ignore=beside)
    shutil.copytree(
        Path(str(files("deltaprop.kernels"))), folder / "kernels", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name, insertions in edits.items():
        text = (folder / name).read_text()
        for before, new in insertions.items():
            assert text.count(before) == 1, (name, before)
            text = text.replace(before, new + before)
        (folder / name).write_text(text)
    (folder / "src/deltaprop/kernels").symlink_to("../../kernels", target_is_directory=True)
    return folder / "src"


def run_in_copy(program, edits, options, folder, monkeypatch):
    """What a program prints as JSON; its arguments are whether kernels can be compiled as C++, and `options`.

    It imports the package from a copy of the sources with these edits.
    """
    require_compiler()
    source = changed(folder, edits)
    monkeypatch.setenv("PYTHONPATH", f"{source}:{TESTS}")
    monkeypatch.setenv("DELTAPROP_CACHE_DIR", str(folder / "cache"))
    monkeypatch.chdir(folder)
    arguments = json.dumps(compiler_problem() is None), json.dumps(options)
    command = [sys.executable, "-W", "error", "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert Path(found["file"]).is_relative_to(folder)
    return found
