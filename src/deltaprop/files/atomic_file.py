"""Files that are written whole or not at all; a device or a pipe is written into instead."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

from deltaprop.arguments import check_path

if sys.platform != "win32":
    import fcntl

#: How often a name for a temporary file is drawn; the first one is free unless the folder is hostile.
ATTEMPTS = 100
#: The end of the names of temporary files.
SUFFIX = ".part"


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path`, all or nothing.

    The file is written beside its final name, flushed to the disk and renamed: whatever fails, a file that was there
    stays whole. Its mode and, if that is permitted, its owner stay too. A symbolic link is followed. Temporary files
    that killed processes left beside it are removed. A device, a pipe, a socket or a descriptor of this process
    (``/dev/stdout``) is written into, and never replaced.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    place = _place(path)
    try:
        if place.is_stream:
            _write_into(place, content)
            return
        with _temporary(place) as file:
            file.write(content)
            file.flush()
            if place.status is not None:
                _take_after(file.fileno(), place.status)
            os.fsync(file.fileno())
            if sys.platform == "win32":  # which renames no file that is open
                file.close()
            Path(file.name).replace(place.path)
        _flush_folder(place.path.parent)
    except OSError as error:
        raise _refusal(path, error) from error


def check_writable(path: str | os.PathLike[str]) -> None:
    """Find out now whether `write_atomically` will be able to write `path`, leaving no trace.

    Raises
    ------
    OSError
        If it will not.
    """
    place = _place(path)
    try:
        if not place.is_stream:
            with _temporary(place):
                _check_replaceable(place)
        elif place.descriptor is None and not os.access(place.path, os.W_OK):
            raise PermissionError("it may not be written to")
    except OSError as error:
        raise _refusal(path, error) from error


def _refusal(path: str | os.PathLike[str], error: OSError) -> OSError:
    """Make the same error with the name of the file that was asked for."""
    what = f"cannot write {path}: {error.strerror or error}"
    return OSError(what) if error.errno is None else OSError(error.errno, what)


@dataclass(frozen=True)
class _Place:
    """Where a path leads.

    Parameters
    ----------
    path : Path
        The end of all symbolic links, or the path itself if it does not lead to a regular file.
    status : os.stat_result or None
        The status of what is there.
    descriptor : int or None
        The open file of this process that it is, if it is one.
    """

    path: Path
    status: os.stat_result | None
    descriptor: int | None = None

    @property
    def is_stream(self) -> bool:
        """Whether it can only be written into, since no file could replace it."""
        return self.descriptor is not None or (self.status is not None and not stat.S_ISREG(self.status.st_mode))


def _place(path: str | os.PathLike[str]) -> _Place:
    """Find where `path` leads; refuse it if nothing could be written there."""
    target = check_path("path", path)
    try:
        status = target.stat()
    except FileNotFoundError:
        status = None
    except OSError as error:  # such as a loop, or a name that is too long
        raise _refusal(target, error) from error
    except ValueError as error:  # a zero byte in the name
        raise OSError(f"cannot write {str(target)!r}: {error}") from error
    if status is not None:
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(f"cannot write {target}: it is a folder")
        place = _Place(target, status, _descriptor(target))
        if place.is_stream:
            return place
    end = Path(os.path.realpath(target))
    if not end.parent.is_dir():
        raise FileNotFoundError(f"cannot write {target}: there is no folder {end.parent}")
    return _Place(end, status)


def _descriptor(path: Path) -> int | None:
    """Find the number in ``/dev/fd/N``, in a path that this leads to, or in a link to it such as ``/dev/stdout``."""
    folder = os.path.realpath("/dev/fd")
    while True:
        if path.name.isdecimal() and os.path.realpath(path.parent) == folder:
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()


def _write_into(place: _Place, content: bytes) -> None:
    """Write all of `content` into something that stays where it is."""
    if place.descriptor is None:
        handle = os.open(place.path, os.O_WRONLY | getattr(os, "O_NOCTTY", 0))
    else:
        if sys.stdout is not None:
            sys.stdout.flush()  # what has been printed comes before it
        handle = os.dup(place.descriptor)
    with os.fdopen(handle, "wb", buffering=0) as file:
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]


@contextmanager
def _temporary(place: _Place) -> Iterator[BinaryIO]:
    """Open a new file beside `place` for writing; it is gone at the end. Leftovers of others are removed first.

    The file is locked while it is open; a leftover is not. Nobody else may read the file before it has the mode of the
    file that it replaces.
    """
    folder = place.path.parent
    # Short, whatever the name of the file is, and the same for everyone who writes this file.
    prefix = f".{blake2b(os.fsencode(place.path.name), digest_size=6).hexdigest()}-"
    _remove_leftovers(folder, prefix)
    with _create(folder, prefix, 0o666 if place.status is None else 0o600) as file:
        try:
            yield file
        finally:
            Path(file.name).unlink(missing_ok=True)


def _create(folder: Path, prefix: str, mode: int) -> BinaryIO:
    """Create a file, open and locked; the system applies the umask to `mode`."""
    for _ in range(ATTEMPTS):
        name = folder / f"{prefix}{secrets.token_hex(4)}{SUFFIX}"
        with suppress(FileExistsError):
            file = open(name, "xb", opener=lambda path, flags: os.open(path, flags, mode))  # noqa: SIM115
            if _lock(file.fileno(), name):
                return file
            file.close()
    raise FileExistsError(f"found no free name for a temporary file in {folder}")


def _check_replaceable(place: _Place) -> None:
    """Check that the rules of a folder such as ``/tmp`` let this user replace the file that is there."""
    folder = place.path.parent.stat()
    if place.status is None or sys.platform == "win32" or not folder.st_mode & stat.S_ISVTX:
        return
    if os.geteuid() not in (0, folder.st_uid, place.status.st_uid):
        raise PermissionError("it belongs to somebody else, and so does its folder")


def _lock(handle: int, name: Path) -> bool:
    """Lock the new file; False if it was removed as a leftover before."""
    if sys.platform == "win32":  # where nobody can remove a file that is open
        return True
    with suppress(OSError):  # a file system without locks, where nobody takes leftovers away either
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        return os.path.samestat(name.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _remove_leftovers(folder: Path, prefix: str) -> None:
    """Remove the temporary files of killed processes, on which nobody holds a lock."""
    try:
        found = [entry for entry in os.scandir(folder) if entry.name.startswith(prefix) and entry.name.endswith(SUFFIX)]
    except OSError:  # a folder that may be written to and not read
        return
    for entry in found:
        with suppress(OSError):
            if entry.is_file(follow_symlinks=False):
                _remove_leftover(entry.path)


def _remove_leftover(path: str) -> None:
    if sys.platform == "win32":
        os.unlink(path)  # noqa: PTH108
        return
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)  # noqa: PTH108
    finally:
        os.close(handle)


def _take_after(handle: int, status: os.stat_result) -> None:
    """Give an open file the mode of the file that it replaces and, if that is permitted, its owner."""
    mode = stat.S_IMODE(status.st_mode)
    if sys.platform == "win32":
        return
    own = os.fstat(handle)
    if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
        try:
            os.fchown(handle, status.st_uid, status.st_gid)
        except OSError:
            with suppress(OSError):
                os.fchown(handle, -1, status.st_gid)
            mode &= 0o777  # never run as somebody else than before
    os.fchmod(handle, mode)


def _flush_folder(folder: Path) -> None:
    """Flush the folder, if that is possible, so that the new name survives a power failure too."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
