"""Forks while other threads are at work: the child has one thread of its parent's, and locks that the others held.

Our own locks are made anew in the child, by `in_child`. Python's locks of modules are not: a child that imports what
another thread was importing waits for ever. Much of this library imports what it needs when it is first used, so that a
fork waits for imports of ours that are under way.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

#: Whose imports a fork waits for, and for how many seconds at most.
PACKAGES = ("deltaprop", "numpy", "scipy", "sklearn", "joblib", "threadpoolctl", "safetensors", "rich", "pyarrow")
LONGEST_WAIT = 10.0


def in_child(callback: Callable[[], None]) -> None:
    """Let `callback` run in every child of a fork, where the system has such a thing, before anything else does."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=callback)


def _imports_elsewhere() -> bool:
    """Whether another thread is importing something of `PACKAGES`."""
    # Python offers no other way to ask: each module that is being imported has a lock, which knows its thread.
    locks = getattr(sys.modules.get("_frozen_importlib"), "_module_locks", {})
    here = threading.get_ident()
    for name, reference in list(locks.items()):
        if name.partition(".")[0] in PACKAGES and getattr(reference(), "owner", None) not in (None, here):
            return True
    return False


def _wait_for_imports() -> None:
    until = time.monotonic() + LONGEST_WAIT
    while _imports_elsewhere() and time.monotonic() < until:
        time.sleep(0.001)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_for_imports)
