"""Run a script, a module or a piece of code as ``python`` itself would."""

from __future__ import annotations

import builtins
import io
import linecache
import os
import runpy
import sys
import zipfile
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any


def check_readable(path: str) -> None:
    """Check that a script is there.

    Raises
    ------
    OSError
        If it is not, or cannot be read.
    """
    if not Path(path).is_dir():
        with io.open_code(os.path.abspath(path)):  # noqa: PTH100
            pass


def is_there(module: str) -> bool:
    """Return whether there is a module of this name."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def run_script(path: str, arguments: Sequence[str]) -> None:
    """Run a script as ``python path arguments`` does.

    Parameters
    ----------
    path : str
        A file, or a folder or zip file with a ``__main__.py``.
    arguments : sequence of str
        The script's own.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    sys.argv[:] = [path, *arguments]
    if Path(path).is_dir() or zipfile.is_zipfile(path):
        _first_place(os.path.abspath(path))  # noqa: PTH100  (as above)
        _run_as_main("__main__")
        return
    with io.open_code(os.path.abspath(path)) as file:  # noqa: PTH100  (a script may be reached through a link)
        source = file.read()
    _first_place(str(Path(path).resolve().parent))
    file_name = os.path.abspath(path)  # noqa: PTH100
    main = _new_main(file_name)
    main.__loader__ = SourceFileLoader("__main__", file_name)
    _run(source, file_name, main)


def run_module(name: str, arguments: Sequence[str]) -> None:
    """Run a module as ``python -m name arguments`` does."""
    sys.argv[:] = [name, *arguments]
    _first_place(str(Path.cwd()))
    _run_as_main(name)


def run_code(code: str, arguments: Sequence[str]) -> None:
    """Run a piece of code as ``python -c code arguments`` does."""
    sys.argv[:] = ["-c", *arguments]
    _first_place("")
    if sys.version_info >= (3, 13):  # from then on tracebacks quote the lines of such code
        linecache.cache["<string>"] = len(code), None, code.splitlines(keepends=True), "<string>"
    _run(code, "<string>", _new_main(None))


def _first_place(folder: str) -> None:
    """Have modules be looked for in a folder first, unless Python was told to be safe."""
    if not sys.flags.safe_path:
        sys.path[0] = folder


def _new_main(file_name: str | None) -> ModuleType:
    """Make an empty ``__main__``, which stays when the script has ended: threads and `atexit` may still need it."""
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    if sys.version_info < (3, 14):  # from then on the code of a module makes them when somebody asks for them
        main.__annotations__ = {}
    if file_name is not None:
        main.__file__ = file_name
        main.__dict__["__cached__"] = None
    sys.modules["__main__"] = main
    return main


def _run(source: bytes | str, file_name: str, main: ModuleType) -> None:
    _leave_out_our_frames()
    code: CodeType = compile(source, file_name, "exec", dont_inherit=True)
    exec(code, vars(main))


def _run_as_main(module: str) -> None:
    """Run a module as Python itself runs one that it is told to run, with its errors where that cannot be."""
    _new_main(None)
    _leave_out_our_frames()
    runpy._run_module_as_main(module, alter_argv=module != "__main__")  # type: ignore[attr-defined]


def _leave_out_our_frames() -> None:
    """Let a traceback begin with the script, as without us; a script may still have another ``excepthook``."""
    before = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> Any:
        before(kind, error.with_traceback(_of_the_script(traceback)), error.__traceback__)

    sys.excepthook = excepthook


def _of_the_script(traceback: TracebackType | None) -> TracebackType | None:
    """Return what follows the last frame of this file."""
    rest = traceback
    while traceback is not None:
        name, traceback = traceback.tb_frame.f_code.co_filename, traceback.tb_next
        if name == __file__:
            rest = traceback
    return rest
