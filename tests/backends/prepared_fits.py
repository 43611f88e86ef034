"""Runs fits in processes of their own with a prepared compiler, for the tests of the cache.

The compiler is a program that copies what the real one made (`prepared_compiler`), and that can fail in every
way.
"""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import require_compiler
from prepared_compiler import prepared_compiler
from processes import outputs_of

TESTS = Path(__file__).parents[1]
#: A program that fits on "numpy" and on "reference", and prints the parameters and every warning as JSON.
FIT = f"""
import json, os, sys, time, warnings
sys.path.insert(0, {str(TESTS)!r})
import numpy as np
{{before}}
import deltaprop as dp
from deltaprop.backends import cache_folder, compiled_files
from deltaprop.backends.native import compiler_process
from deltaprop.backends.native import compiler as native_compiler
{{prepare}}
from prepared_compiler import fitted
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    ours = fitted("numpy")
for a, b, tolerance in zip(ours, fitted("reference"), (2e-5, 1e-12), strict=True):
    assert np.allclose(a, b, rtol=tolerance, atol=tolerance)
{{after}}
numbers = b"".join(a.tobytes() for a in ours).hex()
print(json.dumps({{{{"numbers": numbers, "warnings": [str(w.message) for w in caught]}}}}))
"""


AS_NUMPY = "; epochs are trained step by step, by NumPy"


@pytest.fixture(scope="module")
def compiler(tmp_path_factory):
    require_compiler()
    return _prepared(tmp_path_factory.getbasetemp() / "prepared")


@cache
def _prepared(folder):
    """Prepare it once for all modules, as the real compiler is slow."""
    folder.mkdir()
    return prepared_compiler(folder / "compiler")


@pytest.fixture
def setting(compiler, tmp_path):
    """The environment of a process, with a cache, temporary files and a home of its own."""
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    return os.environ | {
        "CXX": str(compiler),
        "DELTAPROP_LIBRARY": "native",  # whatever came with the package
        "DELTAPROP_CACHE_DIR": str(tmp_path / "cache"),
        "PREPARED_LOG": str(tmp_path / "log"),
        "TMPDIR": str(tmp_path / "tmp"),
        "HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": "",
    }


def start(setting, *, before="", prepare="", after="", prefix=(), **options):
    code = FIT.format(before=before, prepare=prepare, after=after)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*prefix, sys.executable, "-c", code], env=setting, text=True, **pipes, **options)


def end(process):
    """Return what a process printed; it must have ended with status 0."""
    output, errors = outputs_of(process)
    assert process.returncode == 0, errors
    return json.loads(output)


def fit(setting, **options):
    return end(start(setting, **options))


def compilations(setting):
    log = Path(setting["PREPARED_LOG"])
    return len(log.read_text().splitlines()) if log.exists() else 0


def cached(setting):
    return sorted(Path(setting["DELTAPROP_CACHE_DIR"]).glob("*.so"))


def another_compiler(tmp_path, compiler, body):
    """Make a compiler that runs `body`, lines of sh, before it compiles to $output."""
    command = tmp_path / "another" / "c++"
    shutil.copytree(compiler.parent, command.parent)
    text = compiler.read_text()
    assert text.count('\ncp "$') == 1
    command.write_text(text.replace('\ncp "$', f'\n{body}\ncp "$'))
    return command


@pytest.fixture
def clean(setting):
    """The result with a cache that was empty."""
    found = fit(setting)
    assert found["warnings"] == []
    assert compilations(setting) == 2
    assert [path.name.split("-")[:2] for path in cached(setting)] == [["epoch", "double"], ["epoch", "float"]]
    return found
