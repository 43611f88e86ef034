"""scipy's solvers on one BLAS thread, for they are called between our own matrix products.

The wheels of NumPy and of SciPy each bring an OpenBLAS with threads of its own, and OpenBLAS's threads spin while they
wait. Where both have as many as there are cores, each keeps the other from running: an L-BFGS iteration over 100 000
parameters, all of it vector operations that gain nothing from threads, then takes several times as long.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from pathlib import Path
from typing import Any, Self

from deltaprop.forks import in_child


class OneThread:
    """A limit of one thread for some BLAS, while anybody wants it.

    Several threads may want it at a time, and each of them within what wants it already: the first to begin sets the
    limit, the last to end lifts it. The child of a fork has but one of its parent's threads, and with it what that one
    wants.
    """

    of_scipy: bool

    def __init__(self, *, of_scipy: bool) -> None:
        self.of_scipy, self._lock = of_scipy, threading.Lock()
        #: How often each thread, by its number, is inside.
        self._inside: dict[int, int] = {}
        #: Those whose number of threads has been changed, and what it was.
        self._changed: list[tuple[Any, int]] = []
        in_child(self._begin_again)

    def __call__(self) -> Self:
        """Return the context."""
        return self

    def __enter__(self) -> Self:
        # Not by `contextlib`, whose contexts take as long as a step of a small network.
        thread = threading.get_ident()
        with self._lock:
            if not self._inside:
                self._set_limit()
            self._inside[thread] = self._inside.get(thread, 0) + 1
        return self

    def __exit__(self, *raised: object) -> None:
        thread = threading.get_ident()
        with self._lock:
            self._inside[thread] -= 1
            if not self._inside[thread]:
                del self._inside[thread]
                self._lift()

    def _set_limit(self) -> None:
        # A context of threadpoolctl does the same, and takes longer than a small epoch.
        for library in _blas(of_scipy=self.of_scipy).lib_controllers:
            threads = library.get_num_threads()
            if threads != 1:
                self._changed.append((library, threads))
                library.set_num_threads(1)

    def _lift(self) -> None:
        """End the limit, where nobody wants it any more."""
        while not self._inside and self._changed:
            library, threads = self._changed.pop()
            library.set_num_threads(threads)

    def _begin_again(self) -> None:
        """Forget the threads that are not here; one of them may have held the lock."""
        self._lock = threading.Lock()
        own = threading.get_ident()
        self._inside = {own: self._inside[own]} if own in self._inside else {}
        self._lift()


#: Within these contexts, scipy's own BLAS has one thread, or NumPy's has.
scipy_on_one_thread: OneThread = OneThread(of_scipy=True)
numpy_on_one_thread: OneThread = OneThread(of_scipy=False)


def own_threads() -> int:
    """How many threads of our own may each call scipy's BLAS: as many as NumPy's uses, by whoever that has been set.

    Where NumPy and scipy share a BLAS, one: it has threads for each call itself.
    """
    if not _blas(of_scipy=True).lib_controllers:
        return 1
    return threads_of_numpy()


def threads_of_numpy() -> int:
    """How many threads NumPy's BLAS uses: what somebody has set for it is meant for our own threads too.

    No more than there are cores that this process may use. The BLAS counts them when it is loaded, and a process may be
    bound to some of them later: by MPI_Init, for one.
    """
    return min(max((library.num_threads for library in _blas(of_scipy=False).lib_controllers), default=1), own_cores())


def own_cores() -> int:
    """How many cores this process may use: those that it is bound to, where the system tells, else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _blas(*, of_scipy: bool) -> Any:
    """The controller of the BLAS that scipy's wheel brings, or of all others."""
    import scipy.linalg  # noqa: F401  (loads them)
    from threadpoolctl import ThreadpoolController

    controller = ThreadpoolController().select(user_api="blas")
    paths = [library.filepath for library in controller.lib_controllers]
    return controller.select(filepath=[path for path in paths if _belongs_to_scipy(Path(path)) is of_scipy])


def _belongs_to_scipy(path: Path) -> bool:
    """Whether a library lies where wheels of scipy put theirs: ``scipy.libs`` (Linux, Windows), ``scipy/.dylibs``."""
    return path.parent.name == "scipy.libs" or path.parent.parts[-2:] == ("scipy", ".dylibs")
