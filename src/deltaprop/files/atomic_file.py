"""Files that are there whole or not at all; what is no file, such as a device or a pipe, is written into."""

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

if sys.platform != "win32":
    import fcntl

#: How often a name is drawn for a temporary file before giving up; the first is free but for a hostile folder.
ATTEMPTS = 100
#: The end of the names of temporary files.
SUFFIX = ".part"


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path`, all or nothing.

    The file is written beside its final name, flushed to the disk and renamed: whatever fails, a file that was there
    stays whole. Its mode and, where that is permitted, its owner stay too. A symbolic link is followed. What was left
    beside it by processes that were killed while they wrote it is removed. A device, a pipe, a socket or a descriptor
    of this process (``/dev/stdout``) is written into, and never replaced.

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
    """The same, with the name of the file that was asked for."""
    what = f"cannot write {path}: {error.strerror or error}"
    return OSError(what) if error.errno is None else OSError(error.errno, what)


@dataclass(frozen=True)
class _Place:
    """Where a path leads.

    Attributes
    ----------
    path : Path
        The end of all symbolic links; the path itself, where it leads to no regular file.
    status : os.stat_result or None
        Of what is there.
    descriptor : int or None
        Which open file of this process it is, where it is one.
    """

    path: Path
    status: os.stat_result | None
    descriptor: int | None = None

    @property
    def is_stream(self) -> bool:
        """Whether it can be written into only, as nothing could take its place."""
        return self.descriptor is not None or (self.status is not None and not stat.S_ISREG(self.status.st_mode))


def _place(path: str | os.PathLike[str]) -> _Place:
    """Where `path` leads; refused where nothing could be written there."""
    target = Path(path)
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
    """The number in ``/dev/fd/N``, in what that leads to, or in a link to it such as ``/dev/stdout``."""
    folder = os.path.realpath("/dev/fd")
    while True:
        if path.name.isdecimal() and os.path.realpath(path.parent) == folder:
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()


def _write_into(place: _Place, content: bytes) -> None:
    """All of `content` into what stays where it is."""
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
    """A new file beside `place`, open for writing, which is gone at the end; leftovers of others go first.

    It is locked as long as it is open, by which a leftover is told from it. Where it is to replace a file, nobody else
    may read it before it has that one's mode.
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
    """A new file, open and locked; what the umask takes off `mode`, the system does."""
    for _ in range(ATTEMPTS):
        name = folder / f"{prefix}{secrets.token_hex(4)}{SUFFIX}"
        with suppress(FileExistsError):
            file = open(name, "xb", opener=lambda path, flags: os.open(path, flags, mode))  # noqa: SIM115
            if _lock(file.fileno(), name):
                return file
            file.close()
    raise FileExistsError(f"found no free name for a temporary file in {folder}")


def _check_replaceable(place: _Place) -> None:
    """Whether the rules of a folder such as ``/tmp`` let this user put another file in the place of the one there."""
    folder = place.path.parent.stat()
    if place.status is None or sys.platform == "win32" or not folder.st_mode & stat.S_ISVTX:
        return
    if os.geteuid() not in (0, folder.st_uid, place.status.st_uid):
        raise PermissionError("it belongs to somebody else, and so does its folder")


def _lock(handle: int, name: Path) -> bool:
    """Whether the new file is this process's own, and not taken for a leftover before it was locked."""
    if sys.platform == "win32":  # where nobody can remove a file that is open
        return True
    with suppress(OSError):  # a file system without locks, where nobody takes leftovers away either
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        return os.path.samestat(name.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _remove_leftovers(folder: Path, prefix: str) -> None:
    """Remove the temporary files of processes that were killed: those that nobody holds a lock on."""
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
    """Give an open file the owner, where that is permitted, and the mode of the one that it is to replace."""
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
    """Let the new name survive a power failure too, where folders can be flushed."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
