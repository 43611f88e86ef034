"""Damages caches of compiled files as a full disk, a careless program or another user might do."""

import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

#: The harms to a cache, by name; some of them need the superuser.
HARMS: dict[str, Any] = {}
HARMS_BY_ROOT: dict[str, Any] = {}


@dataclass
class Target:
    """A file in a cache that is to be harmed.

    Attributes
    ----------
    cache, stale : Path
        The folder, and one with libraries of an older version.
    path, other : Path
        The file, and one that may be the same.
    content : bytearray
        What the file holds, up to a MiB.
    generator : Random
    """

    cache: Path
    stale: Path
    path: Path
    other: Path
    content: bytearray
    generator: Random


def harm(name, *, instead=False, table=HARMS):
    """Register a function as a harm; if it puts something `instead` of the file, the file is removed first."""

    def named(function):
        def whole(target):
            if instead:
                remove(target.path)
            function(target)

        table[name] = whole
        return function

    return named


def remove(path):
    """Remove a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def plant(cache, stale, generator):
    """Harm one of the files of a cache at random; return the name of the harm."""
    files = sorted(cache.glob("epoch-*.so"))
    if not files:
        return "nothing"
    path, other = generator.choice(files), generator.choice(files)
    if not path.is_file() or path.is_symlink():  # it was harmed before
        remove(path)
        path.write_bytes(b"?")
    with path.open("rb") as file:
        content = bytearray(file.read(2**20) or b"?")
    harms = HARMS | (HARMS_BY_ROOT if os.geteuid() == 0 else {})
    kind = generator.choice(list(harms))
    harms[kind](Target(cache, stale, path, other, content, generator))
    return kind


# -- its content ----------------------------------------------------------------------------------------------------


@harm("truncated")
def truncate(target):
    target.path.write_bytes(target.content[: target.generator.randrange(len(target.content))])


@harm("empty")
def empty(target):
    target.path.write_bytes(b"")


@harm("flipped")
def flip(target):
    for _ in range(target.generator.choice((1, 10, 1000))):
        target.content[target.generator.randrange(len(target.content))] ^= 1 << target.generator.randrange(8)
    target.path.write_bytes(target.content)


@harm("garbage")
def write_garbage(target):
    target.path.write_bytes(target.generator.choice((b"", b"\x7fELF\2\1\1")) + target.generator.randbytes(5000))


@harm("stale")
def make_stale(target):
    shutil.copy(target.generator.choice(sorted(target.stale.glob("*.so"))), target.path)


@harm("huge")
def make_huge(target):
    os.truncate(target.path, target.generator.choice((2**29, 2**42)))


# -- its name -------------------------------------------------------------------------------------------------------


@harm("swapped")
def swap(target):
    if target.path != target.other:
        target.path.rename(target.cache / "aside")
        target.other.rename(target.path)
        (target.cache / "aside").rename(target.other)


@harm("misnamed")
def misname(target):
    """Give the file the key of another, and keep its digest."""
    target.path.rename(
        target.cache / (target.other.name.rpartition("-")[0] + "-" + target.path.name.rpartition("-")[2])
    )


@harm("renamed")
def rename(target):
    name = target.path.name
    target.path.rename(target.path.with_name(name[:-10] + target.generator.choice("0123456789abcdef") + name[-9:]))


@harm("no digest")
def take_digest(target):
    target.path.rename(target.path.with_name(target.path.name.rpartition("-")[0] + ".so"))


@harm("gone")
def take_away(target):
    target.path.unlink()


# -- something else in its place or beside it -----------------------------------------------------------------------


@harm("folder", instead=True)
def put_folder(target):
    target.path.mkdir()
    (target.path / "content").write_bytes(target.content)


@harm("link", instead=True)
def put_link(target):
    elsewhere = ("/dev/zero", "/etc/passwd", "/nowhere", str(next(target.stale.glob("*.so"))))
    target.path.symlink_to(target.generator.choice(elsewhere))


@harm("loop", instead=True)
def put_loop(target):
    target.path.symlink_to(target.path.name)


@harm("pipe", instead=True)
def put_pipe(target):
    os.mkfifo(target.path)


@harm("socket", instead=True)
def put_socket(target):
    os.mknod(target.path, stat.S_IFSOCK | 0o600)


@harm("device", instead=True, table=HARMS_BY_ROOT)
def put_device(target):
    os.mknod(target.path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # as /dev/zero


@harm("left over")
def leave_over(target):
    (target.cache / f".{target.path.stem.rpartition('-')[0]}.abc.part").write_bytes(target.content[:1000])


@harm("lock")
def put_lock(target):
    lock = target.cache / f".{target.path.stem.rpartition('-')[0]}.lock"
    remove(lock)
    lock.mkdir()


# -- who may do what with it ----------------------------------------------------------------------------------------


@harm("unreadable")
def make_unreadable(target):
    target.path.chmod(0)


@harm("open file")
def open_file(target):
    target.path.chmod(0o666)


@harm("open folder")
def open_folder(target):
    target.cache.chmod(0o777)


@harm("another's file", table=HARMS_BY_ROOT)
def give_file_away(target):
    os.chown(target.path, 65534, 65534)


@harm("another's folder", table=HARMS_BY_ROOT)
def give_folder_away(target):
    os.chown(target.cache, 65534, 65534)
