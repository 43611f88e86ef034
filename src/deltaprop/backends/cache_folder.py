"""The folder that keeps compiled files from process to process, and folders that serve one process only.

What lies there is loaded and run. So the folder has to be this user's, and neither it nor any folder on the way to it
may be open to others, as ssh wants it of its keys.
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from deltaprop.errors import callers_level

if TYPE_CHECKING:
    from filelock import BaseFileLock

#: How the name of a folder of one process begins, and seconds after which one is removed whose process is gone.
PREFIX, LEFT_BEHIND_AFTER = "deltaprop-", 3600.0


def cache_folder() -> Path | None:
    """``$DELTAPROP_CACHE_DIR``, else the user's cache folder as `platformdirs` has it, made where it is missing.

    None where it cannot be made, or where others could write in it; a warning says so.
    """
    folder = _named(*(os.environ.get(name) for name in ("DELTAPROP_CACHE_DIR", "XDG_CACHE_HOME", "HOME")))
    try:
        problem = None if folder is None else _made(folder)
    except OSError:
        return None
    if problem is None:
        return folder
    _warn(f"compiled files are not kept in {folder}, for {problem}")
    return None


def private_folders() -> Iterator[Path]:
    """Folders of this process, removed when it ends, each made when it is asked for.

    Several, for one may be full, or mounted not to run programs.
    """
    for place in _places():
        with suppress(OSError, RuntimeError):  # no room; no locks (NotImplementedError)
            yield _private_folder(place)


def private_folders_so_far() -> list[Path]:
    """Those that have been made."""
    return [folder for (_, process), folder in list(_private.items()) if process == os.getpid()]


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for temporary files, removed in the end.

    Raises
    ------
    OSError
        If there is no room for any.
    """
    problem: Exception | None = None
    for place in _places():
        try:
            folder, lock = _new_folder(place)
        except (OSError, RuntimeError) as error:
            problem = error
            continue
        try:
            yield folder
        finally:
            _remove(folder, lock)
        return
    raise OSError(f"there is no folder for temporary files ({problem})")


def is_own(status: os.stat_result) -> bool:
    """Whether a file or folder belongs to this user and nobody else may write to it."""
    return not hasattr(os, "geteuid") or (status.st_uid == os.geteuid() and not _is_open(status))


@cache
def _named(named: str | None, *_homes: str | None) -> Path | None:
    """Found out once: a later change of the current folder is not to change it."""
    from platformdirs import user_cache_path

    try:
        folder = Path(named).expanduser() if named else user_cache_path("deltaprop", appauthor=False)
        # With its symbolic links resolved: what is checked is what is used.
        return Path(os.path.realpath(folder))
    except (
        OSError,
        RuntimeError,
        ValueError,
    ):  # no current folder, no home, no name of a folder
        return None


@cache
def _warn(what: str) -> None:
    """Once a process."""
    folder = next(private_folders(), None)
    instead = f"{folder} is used instead, until this process ends" if folder else "no other folder can be had"
    warnings.warn(f"{what}; {instead}", RuntimeWarning, stacklevel=callers_level())


def _made(folder: Path) -> str | None:
    """Make it and what is missing on the way to it, for this user alone; what speaks against it, if anything."""
    for part in (*reversed(folder.parents), folder):
        if not part.exists():
            part.mkdir(mode=0o700, exist_ok=True)
            part.chmod(0o700)  # whatever the umask takes away
        status = part.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(str(part))
        if not hasattr(os, "geteuid"):
            continue
        # Above it, root and whoever owns the interpreter are trusted too: they run what they like anyway.
        trusted = {os.geteuid()} if part == folder else {0, os.geteuid(), Path(sys.executable or "/").stat().st_uid}
        if status.st_uid not in trusted:
            return f"{part} belongs to another user ({status.st_uid})"
        # In a sticky folder, such as /tmp, nobody can replace what is another's.
        if _is_open(status) and not (status.st_mode & stat.S_ISVTX and part != folder):
            return f"other users can write to {part} (mode {stat.S_IMODE(status.st_mode):o})"
    return None


def _is_open(status: os.stat_result) -> bool:
    """Whether others than the owner may write to it."""
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and not _is_group_of_one(status.st_gid)


@cache
def _is_group_of_one(number: int) -> bool:
    """Whether a group is this user's alone: many systems give every user one, and let it write what he makes."""
    import grp
    import pwd

    try:
        group, user = grp.getgrgid(number), pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return False
    return group.gr_name == user and set(group.gr_mem) <= {user}


#: By place and process: the child of a fork does not use what its parent removes.
_private: dict[tuple[str, int], Path] = {}


def _private_folder(place: str) -> Path:
    """The one of this process at `place`, made when first asked for."""
    process = os.getpid()
    known = _private.get((place, process))
    if known is not None:
        return known
    folder, lock = _new_folder(place)
    kept = _private.setdefault((place, process), folder)
    if kept != folder:  # another thread was quicker
        _remove(folder, lock)
        return kept

    def remove() -> None:
        if os.getpid() == process:
            _remove(folder, lock)

    atexit.register(remove)
    return folder


def _places() -> Iterator[str]:
    """Where folders of this process may be made."""
    for place in (tempfile.gettempdir, Path.home):
        with suppress(OSError, RuntimeError):  # none can be written to; a user without a home
            yield str(place())


def _new_folder(place: str) -> tuple[Path, BaseFileLock]:
    """A folder for this user alone, and what the process holds as long as it uses it."""
    _remove_left_behind(Path(place))
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    lock = _lock(folder)
    try:
        folder.chmod(0o700)  # whatever the umask takes away
        lock.acquire()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder, lock


def _remove(folder: Path, lock: BaseFileLock) -> None:
    lock.release()
    shutil.rmtree(folder, ignore_errors=True)


def _lock(folder: Path) -> BaseFileLock:
    from filelock import FileLock

    return FileLock(folder / ".in-use", timeout=0, mode=0o600)


def _remove_left_behind(place: Path) -> None:
    """Folders of processes that were killed: old ones, which nobody holds any more."""
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError):
            status, lock = folder.lstat(), _lock(folder)
            old = time.time() - status.st_mtime > LEFT_BEHIND_AFTER
            if old and is_own(status) and stat.S_ISDIR(status.st_mode) and Path(lock.lock_file).is_file():
                lock.acquire()
                _remove(folder, lock)
