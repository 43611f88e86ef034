"""Compiled files, kept from process to process and loaded only if they are what was compiled.

A file's name ends with a digest of what it holds, as in ``epoch-double-<key>-<digest>.so``. So one rename puts both in
place, and what lies under a name never changes, whoever has it mapped.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Generic, TypeVar

from deltaprop.backends.cache_folder import (
    cache_folder,
    is_own,
    private_folders,
    private_folders_so_far,
    scratch_folder,
)

T = TypeVar("T")

#: Seconds that one process waits for another that compiles the same; a compiler may take fewer.
SECONDS_TO_WAIT = 200.0
#: Bytes beyond which a file is not read.
LARGEST = 2**28
#: What this process has compiled, because no earlier one had: the beginnings of the files' names, and the seconds.
compiled_here: list[tuple[str, float]] = []


def load_compiled(
    name: str,
    suffix: str,
    identity: Iterable[str],
    compile_it: Callable[[Path], bytes],
    load: Callable[[Path], T],
    trial: Callable[[Path], None] | None = None,
) -> T:
    """What `load` makes of a compiled file, which `compile_it` makes where no earlier process has.

    Processes and threads that begin at once wait for the first to compile it. Where the cache cannot be used, or
    another takes too long, the file lives as long as this process.

    Parameters
    ----------
    name, suffix : str
        How the file's name begins and ends.
    identity : iterable of str
        What decides which file it is: sources, options, versions.
    compile_it : callable
        Given a folder for temporary files, returns what the file is to hold.
    load : callable
        Given the file's path. If it raises OSError, a copy in another folder is tried.
    trial : callable, optional
        Given the path of a file that was just compiled, raises OSError if it cannot be loaded; such a file is not kept.

    Raises
    ------
    OSError
        If the file cannot be loaded from any folder.
    """
    key = hashlib.sha256("\0".join(identity).encode(errors="surrogateescape")).hexdigest()[:24]
    file, cache = CompiledFile(f"{name}-{key}", suffix, load), cache_folder()
    shared = [] if cache is None else [cache]
    found = file.loaded_from([*shared, *private_folders_so_far()])
    if found is not None:
        return found
    with _by_itself(file, shared) as writable:
        found = file.loaded_from([*shared, *private_folders_so_far()])
        if found is not None:  # while this process waited
            return found
        with scratch_folder() as scratch:
            began = time.perf_counter()
            content = compile_it(scratch)
            compiled_here.append((name, time.perf_counter() - began))
        if trial is not None:
            file.try_out(content, trial, chain(writable, private_folders()))
        return file.put(content, chain(writable, private_folders()))


@dataclass(frozen=True)
class CompiledFile(Generic[T]):
    """A file of a certain name, whatever its content, and what loads it.

    A `trusted` one lies where this package's own code lies: whoever owns it may change that code too.
    """

    stem: str
    suffix: str
    load: Callable[[Path], T]
    trusted: bool = False

    def name(self, content: bytes) -> str:
        """The digest is of the name's beginning too: a file that was renamed is another."""
        digest = hashlib.sha256(self.stem.encode() + b"\0" + content).hexdigest()[:32]
        return f"{self.stem}-{digest}{self.suffix}"

    def loaded_from(self, folders: Iterable[Path]) -> T | None:
        """What the first file that is whole and loads is loaded as."""
        for folder in folders:
            for path in sorted(folder.glob(f"{self.stem}-*{self.suffix}")):
                content = self.content(path)
                if content is not None:
                    with suppress(OSError):
                        return self.put(content, chain([folder], private_folders()))
        return None

    def content(self, path: Path) -> bytes | None:
        """What a file holds, if that is what its name says, and nobody else may write into it."""
        # A symbolic link is not followed, and a pipe not waited for. Some installers make links of all files.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        if not self.trusted:
            flags |= getattr(os, "O_NOFOLLOW", 0)
        try:
            with open(os.open(path, flags), "rb") as file:  # noqa: PTH123  (a path has no flags)
                status = os.fstat(file.fileno())
                may_change_it = self.trusted or is_own(status)
                if not stat.S_ISREG(status.st_mode) or not may_change_it or status.st_size > LARGEST:
                    return None
                content = file.read()
        except OSError:
            return None
        return content if path.name == self.name(content) else None

    def try_out(self, content: bytes, trial: Callable[[Path], None], folders: Iterable[Path]) -> None:
        """Raise what `trial` raises, unless it is content in some folder."""
        problem: OSError | None = None
        for folder in folders:
            try:
                path = _written(folder, self.stem, content)
                try:
                    return trial(path)
                finally:
                    path.unlink(missing_ok=True)
            except OSError as error:
                problem = error
        raise problem or OSError("there is no folder to put it in")

    def put(self, content: bytes, folders: Iterable[Path]) -> T:
        """Write it where it is not there, and load it: from the first folder that allows both."""
        problem: OSError | None = None
        for folder in folders:
            path = folder / self.name(content)
            try:
                if self.content(path) is None:
                    part = _written(folder, self.stem, content)
                    try:
                        part.replace(path)
                    finally:
                        part.unlink(missing_ok=True)
                    _flush(folder)
                return self.load(path)
            except OSError as error:
                problem = error
        raise problem or OSError("there is no folder to put it in")

    def clean(self, folder: Path) -> None:
        """Remove what killed processes have left, and files that are not what their names say."""
        for path in folder.glob(f".{self.stem}.*.part"):
            _remove(path)
        for path in folder.glob(f"{self.stem}-*{self.suffix}"):
            if self.content(path) is None:
                _remove(path)


@contextmanager
def _by_itself(file: CompiledFile[T], shared: list[Path]) -> Iterator[list[Path]]:
    """Within, no other process or thread compiles this file. Yields the folders of `shared` that may be written to."""
    from filelock import FileLock, Timeout

    writable = shared
    for folder in chain(shared, islice(private_folders(), 1)):
        lock = FileLock(folder / f".{file.stem}.lock", timeout=SECONDS_TO_WAIT, mode=0o600)
        try:
            lock.acquire()
        except Timeout:  # whoever holds it may write there at any time
            writable = [other for other in writable if other != folder]
            continue
        except (OSError, RuntimeError):  # it cannot be written to, or has no locks (NotImplementedError)
            continue
        try:
            file.clean(folder)
            yield writable
        finally:
            lock.release()
        return
    yield writable


def _written(folder: Path, stem: str, content: bytes) -> Path:
    """A new file beside those that are kept, on the disk."""
    handle, name = tempfile.mkstemp(dir=folder, prefix=f".{stem}.", suffix=".part")
    try:
        with open(handle, "wb") as file:  # noqa: PTH123  (a path has no handle)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def _flush(folder: Path) -> None:
    """Let the new name survive a power failure too, where folders can be flushed."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with suppress(OSError):  # not every filesystem can
                os.fsync(handle)
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    """A file, a link or a folder; what cannot be removed is left."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
