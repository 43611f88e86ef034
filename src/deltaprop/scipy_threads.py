"""scipy's solvers on one BLAS thread, for they are called between our own matrix products.

The wheels of NumPy and of SciPy each bring an OpenBLAS with threads of its own, and OpenBLAS's threads spin while they
wait. Where both have as many as there are cores, each keeps the other from running: an L-BFGS iteration over 100 000
parameters, all of it vector operations that gain nothing from threads, then takes several times as long.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any


class OneThread:
    """A limit of one thread for some BLAS, while anybody wants it.

    Several threads may want it at a time: the first to begin sets the limit, the last to end lifts it.
    """

    def __init__(self, *, of_scipy: bool) -> None:
        self.of_scipy, self._lock, self._inside = of_scipy, threading.Lock(), 0
        self._limit: Any = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Within this context."""
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._limit = _blas(of_scipy=self.of_scipy).limit(limits=1)
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._limit.restore_original_limits()


#: Within these contexts, the BLAS that scipy alone uses has one thread, or that of NumPy.
scipy_on_one_thread, numpy_on_one_thread = OneThread(of_scipy=True), OneThread(of_scipy=False)


def own_threads() -> int:
    """How many threads of our own may each call scipy's BLAS: as many as NumPy's uses, by whoever that has been set.

    Where NumPy and scipy share a BLAS, one: it has threads for each call itself.
    """
    if not _blas(of_scipy=True).lib_controllers:
        return 1
    return max((pool["num_threads"] for pool in _blas(of_scipy=False).info()), default=1)


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
