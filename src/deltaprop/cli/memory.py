"""What the command line says if memory does not suffice: how much is needed, and how much is free."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path


def not_enough(error: MemoryError) -> str:
    """Say in one sentence what is known."""
    what = str(error).strip()
    needed = _needed(error)
    if needed is not None:
        what = f"{needed} bytes needed at once"
    free = None if "device" in what else _free()  # what a device has free is said by whoever ran out of it
    if free is not None:
        what += f"{', ' if what else ''}{free} bytes free"
    return f"not enough memory: {what}" if what else "not enough memory"


def _needed(error: MemoryError) -> int | None:
    """Find the size of the array for which there was no room, if NumPy asked for it."""
    shape, dtype = getattr(error, "shape", None), getattr(error, "dtype", None)
    return None if shape is None or dtype is None else math.prod(shape) * dtype.itemsize


def _free() -> int | None:
    """Count the bytes that this process may still take: what the system has, or what limits leave if that is less."""
    found = [room for room in (_available(), _address_space(), _of_the_group()) if room is not None]
    return max(0, min(found)) if found else None


def _available() -> int | None:
    """Count what Linux can give without swapping; elsewhere the unused pages, if the system tells."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # macOS counts no such pages, Windows has no sysconf
        return None


def _address_space() -> int | None:
    """Count what the limit on this process's address space leaves, on Linux; None if there is no limit."""
    if sys.platform != "linux":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return limit - pages * resource.getpagesize()


def _of_the_group() -> int | None:
    """Count what the limit on a container leaves; None if there is none."""
    folder = Path("/sys/fs/cgroup")
    try:
        return int((folder / "memory.max").read_text()) - int((folder / "memory.current").read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None
