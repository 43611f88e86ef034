"""A pytest plug-in: a worker whose CUDA context is broken ends, and pytest-xdist starts another in its place.

After an error such as an illegal address every call of CUDA fails in that process: without this, one broken kernel
fails all tests that follow it.
"""

import os

import pytest


class Watch:
    """Asks the device, after each test, whether it still answers."""

    def __init__(self, *, replaced: bool) -> None:
        self.replaced = replaced

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """After a test of this process."""
        import cupy

        try:
            cupy.cuda.runtime.deviceSynchronize()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            why = f"the CUDA context is broken after {nodeid}: {error}"
            if not self.replaced:  # nobody would take this one's place
                pytest.exit(why, returncode=3)
            os.write(2, f"{why}\n".encode())
            os._exit(3)


def pytest_configure(config: pytest.Config) -> None:
    """Watch where tests run: not in the process that only hands them to workers."""
    is_worker = hasattr(config, "workerinput")
    if is_worker or not config.getoption("numprocesses", None):
        config.pluginmanager.register(Watch(replaced=is_worker))
