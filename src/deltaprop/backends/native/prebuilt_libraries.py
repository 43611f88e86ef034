"""The libraries that came with the package, compiled when its wheel was built.

The end of a file's name is a digest of what it holds, as in `compiled_files`; the part before is a digest of what it
was compiled from. So a library of other sources has another name, and one that is damaged is not loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

from deltaprop.backends.compiled_files import CompiledFile
from deltaprop.backends.kernel_sources import kernel_sources
from deltaprop.errors import BackendError

T = TypeVar("T")

#: Where they are; an editable installation has none.
FOLDER = Path(__file__).parent / "prebuilt"
SUFFIX = ".so"


def prebuilt_file(name: str, options: Sequence[str], load: Callable[[Path], T]) -> CompiledFile[T]:
    """A library with this name, from these kernels, with these options of the compiler, and what loads it."""
    key = hashlib.sha256("\0".join((*options, *kernel_sources())).encode(errors="surrogateescape")).hexdigest()[:24]
    return CompiledFile(f"{name}-{key}", SUFFIX, load, trusted=True)


def load_prebuilt(name: str, options: Sequence[str], load: Callable[[Path], T]) -> T:
    """What `load` makes of the library with this name.

    Raises
    ------
    BackendError
        If there is none, or it is not what the sources here would give; the message says which.
    """
    file = prebuilt_file(name, options, load)
    found = file.loaded_from([FOLDER])
    if found is None:
        raise BackendError(_problem(file, name))
    return found


def _problem(file: CompiledFile[T], name: str) -> str:
    """Say why a library was not loaded."""
    paths = sorted(FOLDER.glob(f"{name}-*{SUFFIX}"))
    own = [path for path in paths if path.name.startswith(f"{file.stem}-")]
    if not paths:
        return f"this installation has no prebuilt library {name}"
    if not own:
        return f"the prebuilt library {name} was compiled from other sources than are installed"
    if any(file.content(path) is not None for path in own):
        return f"the prebuilt library {name} does not load"
    return f"the prebuilt library {name} is damaged"


@cache
def any_prebuilt() -> bool:
    """Whether this installation came with libraries at all."""
    return any(FOLDER.glob(f"*{SUFFIX}"))
