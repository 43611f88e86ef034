"""The files under kernels/ have short lines, open in an editor, and include by right paths."""

import shlex
import subprocess
from pathlib import Path

import pytest
from conftest import require_emulation

from deltaprop.backends.kernel_sources import included, kernel_files, read

ROOT = Path(__file__).parents[2]
FILES = sorted(kernel_files())


def test_there_are_files():
    assert len(FILES) > 40


@pytest.mark.parametrize("name", FILES)
def test_lines_have_120_columns(name):
    long = [number for number, line in enumerate(read(name).splitlines(), 1) if len(line) > 120]
    assert not long


@pytest.mark.parametrize("name", FILES)
def test_an_editor_opens_it(name):
    """Each file compiles by itself, with just the flags that clangd finds beside the sources."""
    require_emulation()
    flags = shlex.split((ROOT / "compile_flags.txt").read_text())
    command = ["g++", "-fsyntax-only", "-w", *flags, str(ROOT / "kernels" / name)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_a_file_includes():
    assert included("shared/quotient.cuh") == frozenset()
    assert included("cuda/optimizer.cu") >= {"cuda/pack.cuh", "cuda/real.cuh", "shared/optimizer.cuh"}
    assert {"shared/dispatch.cuh", "shared/names.cuh", "shared/quotient.cuh"} <= included("cuda/resident.cu")
