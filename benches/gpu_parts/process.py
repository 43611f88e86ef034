"""Runs a part in a process of its own, reads its rows, and ends it in time with all processes that it started."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, TextIO

from .channel import NOT_HERE
from .part import Options

#: Seconds between two looks at a running process, and to wait for a killed one.
LOOK, END = 0.05, 5.0


@dataclass
class Log:
    """A file, or nothing, that takes the lines of several processes as they come."""

    file: TextIO | None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, part: str, line: str) -> None:
        with self.lock:
            if self.file is not None:
                self.file.write(f"{part}: {line}\n")
                self.file.flush()


class PartProcess:
    """One process of a part.

    Parameters
    ----------
    name : str
        The module.
    options : Options
    on_row : callable
        It is called, in another thread, with each row and its line of text.
    log : Log
        It gets the output of the process.

    Attributes
    ----------
    planned : list of str
        The names of the rows that it has announced.
    work : str or None
        The work that it began last.
    last_line : str
        Its last line of output: if it failed, the reason.
    """

    name: str
    on_row: Callable[[dict[str, Any], str], None]
    log: Log
    overdue: float

    def __init__(self, name: str, options: Options, on_row: Callable[[dict[str, Any], str], None], log: Log) -> None:
        self.name, self.on_row, self.log = name, on_row, log
        self.planned: list[str] = []
        self.work: str | None = None
        self.overdue = float("inf")
        self.reason: str | None = None
        self.last_line: str = ""
        reader, writer = os.pipe()
        command = [sys.executable, "-m", __package__, name, str(writer), options.dumps()]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(writer,),
            start_new_session=True,
            env=_environment(),
        )
        os.close(writer)
        self.threads: list[Thread] = [threading.Thread(target=self._listen, args=(reader,), daemon=True)]
        self.threads.append(threading.Thread(target=self._copy, daemon=True))
        for thread in self.threads:
            thread.start()

    def finish(self, until: float, stopped: threading.Event) -> str:
        """Wait for its end, or end it; return "done", "failed", "not here", "stuck" or "cut off"."""
        ended = None
        while self.process.poll() is None and ended is None:
            now = time.monotonic()
            if now > until or stopped.is_set():
                ended = "cut off"
            elif now > self.overdue:
                ended = "stuck"
            else:
                time.sleep(LOOK)
        self._kill()
        if ended is not None:
            return ended
        return {0: "done", NOT_HERE: "not here"}.get(self.process.returncode, "failed")

    @property
    def why(self) -> str:
        """Return why it ended so."""
        code = self.process.returncode
        if self.reason is not None:
            return self.reason
        if code and code < 0:
            return f"{signal.Signals(-code).name}; {self.last_line}"
        return self.last_line or f"exit status {code}"

    def _kill(self) -> None:
        """Kill it and the processes that it started, which are in its group."""
        with suppress(ProcessLookupError):  # no process is left
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(END)
        for thread in self.threads:
            thread.join(END)

    def _listen(self, descriptor: int) -> None:
        with os.fdopen(descriptor, encoding="utf-8") as pipe:
            for line in pipe:
                if not line.endswith("\n"):
                    return  # cut off within a message
                message = json.loads(line)
                if "plan" in message:
                    self.planned = message["plan"]
                elif "begins" in message:
                    self.work, self.overdue = message["begins"], time.monotonic() + message["within"]
                elif "not_here" in message:
                    self.reason = message["not_here"]
                else:
                    self.on_row(message["row"], message["text"])

    def _copy(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                text = line.decode(errors="replace").rstrip()
                self.log(self.name, text)
                if text:
                    self.last_line = text[:300]


def _environment() -> dict[str, str]:
    """Return our environment, with unbuffered output, and with this package on the path."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    package = str(__package__)
    if not package.startswith("deltaprop."):  # a checkout, whose benches/ are in the current folder
        root = str(Path(__file__).resolve().parents[package.count(".") + 1])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), root)))
    return environment
