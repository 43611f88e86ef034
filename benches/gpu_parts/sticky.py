"""A pytest plug-in: a worker whose CUDA context is broken ends, and pytest-xdist starts another in its place.

After an error such as an illegal address every call of CUDA fails in that process: without this, one broken kernel
fails all tests that follow it.
"""

import os

import pytest


def pytest_runtest_logfinish(nodeid: str) -> None:
    """Ask the device, after each test, whether it still answers."""
    import cupy

    try:
        cupy.cuda.runtime.deviceSynchronize()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        why = f"the CUDA context is broken after {nodeid}: {error}"
        if "PYTEST_XDIST_WORKER" not in os.environ:  # nobody would take this one's place
            pytest.exit(why, returncode=3)
        os.write(2, f"{why}\n".encode())
        os._exit(3)
