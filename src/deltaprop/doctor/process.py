"""A process that tells of itself line by line, may take so long, and never outlives the one that started it."""

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

#: Seconds that a process has to end by itself after it was told to, and after it was killed.
TO_END, TO_DIE = 2.0, 5.0
#: Characters of standard error that are kept: its end.
MOST_KEPT = 8000


@dataclass(frozen=True)
class Ending:
    """How a process ended.

    Attributes
    ----------
    seconds : float
        From its start.
    problem : str
        What went wrong; "" where it ended by itself with status 0.
    log : str
        The end of what it wrote to standard error.
    """

    seconds: float
    problem: str
    log: str


def interpreter() -> str:
    """The command of this Python.

    Raises
    ------
    BackendError
        If this process has none: an application that brings its own interpreter is no Python for others.
    """
    if getattr(sys, "frozen", False) or not Path(sys.executable or "").name.lower().startswith(("python", "pypy")):
        raise BackendError(
            f"check_backend: each stage is a process of its own, for which sys.executable has to be Python; it is "
            f"{sys.executable!r}"
        )
    return sys.executable


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours; no module of the current folder takes the place of another."""
    return [interpreter(), "-P", "-X", "faulthandler", "-m", module, *arguments]


class Processes:
    """Those that run side by side, each waited for by a thread, and are ended together."""

    def __init__(self) -> None:
        self._lock, self._running, self._ended = threading.Lock(), set[subprocess.Popen[bytes]](), False

    @contextlib.contextmanager
    def among_them(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """While it runs. Where the others have been ended, it is told to end as well."""
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
        """End all of them, and those that are only about to begin."""
        with self._lock:
            self._ended, running = True, list(self._running)
        with ThreadPoolExecutor(max(1, len(running))) as pool:
            list(pool.map(end, running))


def run_process(
    command: Sequence[str], limit: float, hear: Callable[[Event], None], processes: Processes | None = None
) -> Ending:
    """Run `command` and `hear` each event that it writes to standard output, a JSON array a line.

    Its standard input stays open as long as this process lives and wants it to go on. Whatever is raised here, such as
    KeyboardInterrupt, ends it, and so does the end of `processes`.
    """
    processes = processes or Processes()
    began = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
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
                    if line.endswith(b"\n"):  # else it is half a line, by a process that has crashed
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
    """Let it end by itself, now that nobody waits for it; else kill it and its descendants."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(TO_END)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # a compiler may be left where it has ended
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs in a driver
        process.wait(TO_DIE)


def _environment() -> dict[str, str]:
    """The environment of this process, and in it the place where this one has found the package."""
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


# -- on the other side ------------------------------------------------------------------------------------------


def events_to_stdout() -> Callable[[Event], None]:
    """What writes events to standard output, which from then on nobody else does: libraries write to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()

    def tell(event: Event) -> None:
        with lock:
            out.write(json.dumps(event) + "\n")
            out.flush()

    return tell


def end_with_parent() -> None:
    """From now on this process is interrupted, and then ended, when its standard input is at an end."""
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
