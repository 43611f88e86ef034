"""Runs a process with a time limit, which writes events line by line and never outlives the process that started it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import deltaprop
from deltaprop.doctor.record import Event
from deltaprop.errors import BackendError
from deltaprop.forks import no_fork

#: Seconds that a process has to end by itself once it is told to, and to be gone once it is killed.
TO_END, TO_DIE = 2.0, 5.0
#: Characters of standard error that are kept, from its end.
MOST_KEPT = 8000


@dataclass(frozen=True)
class Ending:
    """How a process ended.

    Attributes
    ----------
    seconds : float
        From its start.
    problem : str
        What went wrong; "" if it ended by itself with status 0.
    log : str
        The end of its standard error.
    """

    seconds: float
    problem: str
    log: str


def interpreter() -> str:
    """Return the path of this Python.

    Raises
    ------
    BackendError
        If there is none, as in an application that brings its own interpreter.
    """
    if getattr(sys, "frozen", False) or not Path(sys.executable or "").name.lower().startswith(("python", "pypy")):
        raise BackendError(
            f"check_backend: each stage runs in a Python process of its own; expected a Python interpreter as "
            f"sys.executable, got {sys.executable!r}"
        )
    return sys.executable


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of the package; modules of the current folder are not imported."""
    return [interpreter(), "-P", "-X", "faulthandler", "-m", module, *arguments]


class Processes:
    """Processes that run side by side, each with a thread that waits for it, and are ended together."""

    def __init__(self) -> None:
        self._lock, self._running, self._ended = threading.Lock(), set[subprocess.Popen[bytes]](), False

    @contextlib.contextmanager
    def among_them(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """Count `process` among them while it runs; if the others have been ended, end it too."""
        with self._lock:
            self._running.add(process)
            ended = self._ended
        try:
            if ended:
                end(process)
            yield
        finally:
            with self._lock:
                self._running.discard(process)

    def end(self) -> None:
        """End all of them, and any that starts later."""
        with self._lock:
            self._ended, running = True, list(self._running)
        with ThreadPoolExecutor(max(1, len(running))) as pool:
            list(pool.map(end, running))


def run_process(
    command: Sequence[str], limit: float, hear: Callable[[Event], None], processes: Processes | None = None
) -> Ending:
    """Run `command` and `hear` each event that it writes to standard output, one JSON array a line.

    Its standard input stays open until this process ends or stops it. Any exception here, such as KeyboardInterrupt,
    ends it, and so does ``processes.end()``.
    """
    processes = processes or Processes()
    began = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        with no_fork:  # a child would hold the pipes open, whose end tells that this process has ended
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for this process, which then ends that one
            )
        lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        problem = ""
        try:
            with processes.among_them(process):
                threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
                while (line := lines.get(timeout=max(0.0, began + limit - time.perf_counter()))) is not None:
                    if line.endswith(b"\n"):  # else the process crashed within a line
                        hear(tuple(json.loads(line)))
                process.wait(max(0.0, began + limit - time.perf_counter()))
        except (queue.Empty, subprocess.TimeoutExpired):
            problem = f"it took more than {limit:g} s and was stopped"
        finally:
            end(process)
        if not problem and process.returncode:
            problem = _described(process.returncode)
        errors.seek(0)
        log = errors.read().decode(errors="replace")[-MOST_KEPT:]
    return Ending(time.perf_counter() - began, problem, log)


def end(process: subprocess.Popen[bytes]) -> None:
    """Close its standard input, so that it ends by itself; then kill what is left of it and of its descendants."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(TO_END)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended, but may have left a compiler
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):  # it may hang in a driver
        process.wait(TO_DIE)


def _environment() -> dict[str, str]:
    """Return the environment of this process, with the folder of this package in PYTHONPATH."""
    package = str(Path(deltaprop.__file__).parents[1])
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return os.environ | {"PYTHONPATH": os.pathsep.join([*paths, package])}


def _read(stream: IO[bytes] | None, lines: queue.SimpleQueue[bytes | None]) -> None:
    if stream is not None:
        with stream:
            for line in stream:
                lines.put(line)
    lines.put(None)


def _described(status: int) -> str:
    if status > 0:
        return f"its process ended with status {status}"
    try:
        return f"its process was ended by signal {-status}, {signal.Signals(-status).name}"
    except ValueError:
        return f"its process was ended by signal {-status}"


# -- in the process that is started -----------------------------------------------------------------------------


def events_to_stdout() -> Callable[[Event], None]:
    """Return a function that writes events to standard output; all other output goes to standard error from now on."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()

    def tell(event: Event) -> None:
        with lock:
            out.write(json.dumps(event) + "\n")
            out.flush()

    return tell


def end_with_parent() -> None:
    """Interrupt this process, and then end it, as soon as its standard input is closed."""
    threading.Thread(target=_watch, args=(os.dup(0),), daemon=True).start()


def _watch(handle: int) -> None:
    import _thread
    import faulthandler

    while os.read(handle, 4096):
        pass
    faulthandler.dump_traceback()  # where it was, for the log
    _thread.interrupt_main()
    time.sleep(0.8 * TO_END)
    os._exit(1)
