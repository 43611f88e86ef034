"""A compiler as a process that may take so long and say so much, and is ended together with all it has started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from deltaprop.errors import BackendError
from deltaprop.forks import no_fork

#: Bytes of an output that are kept; the rest is read and dropped.
MOST_KEPT = 2**20
#: How long an interrupted start is waited for, so that the process can be ended.
SECONDS_TO_START = 5.0
#: Lines of an error that are shown, and characters of each.
LINES_SHOWN, CHARACTERS_SHOWN = 3, 200


def run_compiler(
    command: Sequence[str], seconds: float, *, scratch: Path | None = None, shown: str | None = None
) -> bytes:
    """What `command` writes to its standard output.

    Parameters
    ----------
    command : sequence of str
    seconds : float
        After so long it is stopped.
    scratch : path, optional
        Where it puts its temporary files.
    shown : str, optional
        What a message calls it, in place of the command.

    Raises
    ------
    BackendError
        If it does not start, fails or takes longer; the message holds the lines that matter of what it said.
    """
    shown = shown or " ".join(command)
    places = dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(scratch)) if scratch else {}
    process = _start(command, os.environ | places | {"LC_ALL": "C"})
    try:
        output, errors = _Beginning(process.stdout), _Beginning(process.stderr)
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        raise BackendError(f"{shown} took more than {seconds:g} s and was stopped") from None
    except BaseException:
        _end(process)
        raise
    if process.returncode:
        number = process.returncode
        how = f"exit status {number}" if number > 0 else f"signal {-number}"
        raise BackendError(f"{shown} failed: {shortened(errors.kept() or output.kept()) or how}")
    return output.kept()


def shortened(said: bytes) -> str:
    """The lines that matter, those with "error" in them where there are any, as one line that says what is left out."""
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    matter = [line for line in lines if "error" in line.lower()] or lines
    shown = [line if len(line) <= CHARACTERS_SHOWN else f"{line[:CHARACTERS_SHOWN]} …" for line in matter[:LINES_SHOWN]]
    left_out = len(lines) - len(shown)
    return "; ".join(shown) + (f" ({left_out} more lines are not shown)" if left_out else "")


class _Beginning(threading.Thread):
    """Reads a stream to its end and keeps its beginning."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        super().__init__(daemon=True)
        self.stream, self._kept = stream, bytearray()
        self.start()

    def run(self) -> None:
        if self.stream is None:
            return
        with self.stream as stream:
            while part := os.read(stream.fileno(), 2**16):
                self._kept += part[: MOST_KEPT - len(self._kept)]

    def kept(self) -> bytes:
        """Waits a moment for the end, no longer: a server that the compiler has left running may hold the stream."""
        self.join(1.0)
        return bytes(self._kept)


def _start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start it in another thread: only the main thread hears Ctrl-C, which within Popen would leave a process behind.

    Raises
    ------
    BackendError
        If it does not start.
    """
    begun: list[subprocess.Popen[bytes]] = []
    failed: list[Exception] = []
    done = threading.Event()

    def start() -> None:
        try:
            # The child of a fork that began meanwhile would hold the pipe that tells this thread whether the process
            # has started. This thread would wait for the child, and the child for a lock that our caller holds.
            with no_fork:
                begun.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        env=environment,
                        start_new_session=True,
                    )
                )
        except Exception as error:  # noqa: BLE001  (it is raised below)
            failed.append(error)
        finally:
            done.set()

    try:
        threading.Thread(target=start, daemon=True).start()
        done.wait()
    except BaseException:
        done.wait(SECONDS_TO_START)
        for process in begun:
            _end(process)
            for stream in filter(None, (process.stdout, process.stderr)):
                stream.close()
        raise
    if not failed:
        return begun[0]
    if isinstance(failed[0], (OSError, ValueError)):
        raise BackendError(f"{command[0]} does not start ({failed[0]})") from failed[0]
    raise failed[0]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill it and its descendants."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5.0)
