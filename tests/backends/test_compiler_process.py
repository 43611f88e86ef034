"""A compiler that is interrupted leaves no process behind."""

import os
import signal
import subprocess
import time

import pytest

from deltaprop.backends.native.compiler_process import run_compiler
from deltaprop.errors import BackendError


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="this system has no groups of processes")
def test_an_interrupt_while_it_starts_ends_it(monkeypatch):
    begun: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            begun.append(self)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)  # so that the main thread hears it within this call

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_compiler(["sleep", "60"], 60.0)
    finally:
        signal.signal(signal.SIGINT, before)
    (process,) = begun
    assert process.poll() == -signal.SIGKILL


def test_a_command_that_does_not_start():
    with pytest.raises(BackendError, match="no-such-compiler does not start"):
        run_compiler(["no-such-compiler"], 60.0)
