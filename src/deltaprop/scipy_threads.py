"""scipy's solvers on one BLAS thread, for they are called between our own matrix products.

The wheels of NumPy and of SciPy each bring an OpenBLAS with threads of its own, and OpenBLAS's threads spin while they
wait. Where both have as many as there are cores, each keeps the other from running: an L-BFGS iteration over 100 000
parameters, all of it vector operations that gain nothing from threads, then takes several times as long.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any


@contextmanager
def scipy_on_one_thread() -> Iterator[None]:
    """Within the context, the BLAS that scipy alone uses has one thread; one that NumPy uses as well is left alone."""
    with _blas_of_scipy().limit(limits=1):
        yield


@cache
def _blas_of_scipy() -> Any:
    """The controller of the libraries that scipy's wheel brings."""
    import scipy.linalg  # noqa: F401  (loads them)
    from threadpoolctl import ThreadpoolController

    controller = ThreadpoolController()
    paths = [library.filepath for library in controller.lib_controllers]
    return controller.select(filepath=[path for path in paths if _belongs_to_scipy(Path(path))])


def _belongs_to_scipy(path: Path) -> bool:
    """Whether a library lies where wheels of scipy put theirs: ``scipy.libs`` (Linux, Windows), ``scipy/.dylibs``."""
    return path.parent.name == "scipy.libs" or path.parent.parts[-2:] == ("scipy", ".dylibs")
