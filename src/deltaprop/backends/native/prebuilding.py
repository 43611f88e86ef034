"""Compiles the libraries that a wheel holds. ``setup.py`` calls it; the rest of the package does not."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from deltaprop.backends.native import compiler, processor
from deltaprop.backends.native.compiler_process import run_compiler
from deltaprop.backends.native.prebuilt_libraries import prebuilt_file
from deltaprop.backends.native.selection import NATIVE, VARIABLE
from deltaprop.backends.native.variants import variants_of
from deltaprop.errors import BackendError

REALS = ("float", "double")


@dataclass(frozen=True)
class Job:
    """A library to compile: its name, its file under ``kernels/``, the compiler's options, functions that it offers."""

    name: str
    unit: str
    options: tuple[str, ...]
    functions: tuple[str, ...]
    #: Which variant it belongs to; None for the library that tells what the processor can do.
    variant: str | None = None


def prebuild(folder: Path, say: Callable[[str], None], machine: str | None = None, system: str | None = None) -> bool:
    """Compile the libraries for a machine into a folder. Never fails: a package without them compiles when it is used.

    Parameters
    ----------
    folder : path
        It is emptied first; it is there afterwards if it holds libraries.
    say : callable
        It is told, in lines, what has been compiled, and why something has not.
    machine, system : str, optional
        As `platform.machine` and `sys.platform` name them; by default the ones here.

    Returns
    -------
    bool
        Whether there are libraries.
    """
    for path in folder.glob("*") if folder.is_dir() else ():
        path.unlink()
    jobs, command = jobs_for(machine, system), compiler.find_compiler()
    if not jobs:
        asked = os.environ.get(VARIABLE)
        say(f"no library is compiled: {VARIABLE} is {asked}" if asked else "no library is compiled for this system")
        return False
    if command is None:
        say(f"no library is compiled: {compiler.NO_COMPILER}")
        return False
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, ThreadPoolExecutor(_processors()) as pool:
        scratch = Path(name)
        linking = _linking(command, scratch, system or sys.platform, machine)
        made = list(pool.map(lambda job: _compiled(job, (*command, *linking(job)), scratch, say), jobs))
    failed = {job.variant for job, content in zip(jobs, made, strict=True) if content is None}
    kept = [
        (job, content)
        for job, content in zip(jobs, made, strict=True)
        if content is not None and not failed & {None, job.variant}
    ]
    if not any(job.variant for job, _ in kept):
        return False
    folder.mkdir(parents=True, exist_ok=True)
    for job, content in kept:
        path = folder / prebuilt_file(job.name, job.options, Path).name(content)
        path.write_bytes(content)
        say(f"{path.name}: {len(content) / 1000:.0f} kB")
    return True


def jobs_for(machine: str | None = None, system: str | None = None) -> list[Job]:
    """What is to be compiled for a machine; ``DELTAPROP_LIBRARY`` may name the one variant, or "native": nothing."""
    wanted = os.environ.get(VARIABLE)
    if wanted == NATIVE:
        return []
    variants = [each for each in variants_of(machine, system) if wanted in (None, "", each.name)]
    jobs = []
    for variant in variants:
        for real in REALS:
            name, options = f"{compiler.NAME}-{real}-{variant.name}", compiler.library_options(real, variant.options)
            jobs.append(Job(name, compiler.UNIT, options, compiler.FUNCTIONS, variant.name))
    if any(variant.needs for variant in variants):
        jobs.append(Job(processor.NAME, processor.UNIT, processor.OPTIONS, (processor.FUNCTION,)))
    return jobs


def _compiled(job: Job, command: Sequence[str], scratch: Path, say: Callable[[str], None]) -> bytes | None:
    """The library, or None if the compiler refuses it."""
    try:
        with tempfile.TemporaryDirectory(dir=scratch) as own:
            return compiler.compile_unit((*command, *job.options), job.unit, Path(own))
    except (BackendError, OSError) as error:
        say(f"{job.name} is not compiled: {error}")
        return None


def _linking(
    command: Sequence[str], scratch: Path, system: str, machine: str | None
) -> Callable[[Job], tuple[str, ...]]:
    """What links each library so that it runs on other systems than this one, and meets no symbols of others."""
    common: tuple[str, ...] = ()
    if system == "darwin":
        common = ("-arch", machine) if machine else ()
    else:
        static, empty = ("-static-libgcc", "-static-libstdc++"), scratch / "empty.cpp"
        empty.write_text("")
        try:
            trial = [*command, "-shared", "-fPIC", *static, str(empty), "-o", str(scratch / "empty.so")]
            run_compiler(trial, compiler.SECONDS_TO_ANSWER)
            common = ("-s", *static)
        except BackendError:  # some systems have no static library of C++
            common = ("-s",)

    def linking(job: Job) -> tuple[str, ...]:
        symbols = scratch / f"{job.name}.symbols"
        if system == "darwin":
            symbols.write_text("".join(f"_{function}\n" for function in job.functions))
            return (*common, f"-Wl,-exported_symbols_list,{symbols}")
        symbols.write_text(f"{{ global: {'; '.join(job.functions)}; local: *; }};\n")
        return (*common, f"-Wl,--version-script={symbols}")

    return linking


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
