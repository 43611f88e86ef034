"""A pytest plug-in that ends a worker whose CUDA context is broken, so that pytest-xdist starts another.

After an error such as an illegal address, every call of CUDA fails in that process: so one broken kernel would fail all
tests that follow it.
"""

import os

import pytest


class Watch:
    """Checks after each test whether the device still answers."""

    def __init__(self, *, replaced: bool) -> None:
        self.replaced = replaced

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """End this process if the device does not answer after a test."""
        import cupy

        try:
            cupy.cuda.runtime.deviceSynchronize()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            why = f"the CUDA context is broken after {nodeid}: {error}"
            if not self.replaced:  # no other worker would replace this process
                pytest.exit(why, returncode=3)
            os.write(2, f"{why}\n".encode())
            os._exit(3)


def pytest_configure(config: pytest.Config) -> None:
    """Watch in workers only, not in the process that gives them tests."""
    is_worker = hasattr(config, "workerinput")
    if is_worker or not config.getoption("numprocesses", None):
        config.pluginmanager.register(Watch(replaced=is_worker))
