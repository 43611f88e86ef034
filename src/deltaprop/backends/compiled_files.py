"""Where compiled files are kept from process to process."""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path


def compiled_file(name: str, suffix: str, identity: Iterable[str], compile_it: Callable[[], bytes]) -> Path:
    """Path of a compiled file, made by `compile_it` where no earlier process has.

    The cache lies in ``$DELTAPROP_CACHE_DIR``, else in ``deltaprop`` under ``$XDG_CACHE_HOME`` or ``~/.cache``. What
    `identity` lists (sources, options, versions) decides which file it is. Where that folder cannot be written, the
    file lives as long as this process.
    """
    base = _cache_folder()
    digest = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:24]
    path = base / f"{name}-{digest}{suffix}"
    if not path.exists():
        content = compile_it()
        try:
            base.mkdir(parents=True, exist_ok=True)
            # Written aside and renamed, so that another process never loads half a file.
            with tempfile.NamedTemporaryFile(dir=base, delete=False) as temporary:
                temporary.write(content)
            Path(temporary.name).replace(path)
        except OSError:
            path = _folder_of_this_process() / path.name
            path.write_bytes(content)
    return path


def _cache_folder() -> Path:
    root, cache_home = os.environ.get("DELTAPROP_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME")
    if root:
        return Path(root)
    try:
        return Path(cache_home or Path.home() / ".cache") / "deltaprop"
    except RuntimeError:  # a user without a home
        return _folder_of_this_process()


@cache
def _folder_of_this_process() -> Path:
    folder = tempfile.mkdtemp(prefix="deltaprop-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
