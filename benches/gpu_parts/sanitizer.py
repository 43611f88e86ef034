"""Runs compute-sanitizer (memcheck, synccheck, racecheck) over small fits by every way of training."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .channel import Channel, NotHereError
from .part import SPARE, Options
from .small_fits import WAYS

TOOLS = ("memcheck", "synccheck", "racecheck")
#: Tools that run at a time, and the exit status of a tool that has found something.
SIDE_BY_SIDE, FOUND = 8, 9
#: Barriers in shared memory that synccheck tracks for a block. Its default is too small for a cluster of 8, and so is
#: 256, though its blocks have fewer; with 65536 it takes all memory of an H200.
BARRIERS = 4096
#: Further options of a tool. racecheck names the addresses, which tell races from its own errors: before 2025.4 it had
#: "multiple false-positives [...] involving mbarrier" (its release notes).
OPTIONS_OF = {
    "synccheck": ("--num-cuda-barriers", str(BARRIERS)),
    "racecheck": ("--racecheck-report", "all", "--print-limit", "20"),
}
#: Messages of a tool about itself, not about the program; it may miss what comes after.
OF_THE_TOOL = ("Internal Sanitizer Error", "Warning: Detected overflow of tracked cuda::barrier")
#: Other lines that report nothing.
REMARKS = ("COMPUTE-SANITIZER", "ERROR SUMMARY", "RACECHECK SUMMARY", "LEAK SUMMARY", "Try using --num-cuda-barriers")
#: How the end of a program is reported, and the errors of a program when the tool has taken all memory or broken a
#: launch.
ENDED = "Target application returned an error"
NO_DEVICE = re.compile(r"^[\w.]*(?:CUDARuntimeError|CUDADriverError|OutOfMemoryError)\b", re.MULTILINE)


def problem_of_the_tool(output: str) -> str | None:
    """Return what kept the tool from its work, if it has found nothing in the program, else None.

    Any unknown line that begins a report counts as a finding.
    """
    said = [found[1] for found in re.finditer(r"^=+ (\S.*)$", output, re.MULTILINE)]
    own = [line for line in said if line.startswith(OF_THE_TOOL)]
    others = [line for line in said if not line.startswith((*OF_THE_TOOL, *REMARKS))]
    if NO_DEVICE.search(output):
        others = [line for line in others if not line.startswith(ENDED)]
    return own[0] if own and not others else None


def command(tool: str | None, check: str, way: str, backend: str) -> list[str]:
    program = [sys.executable, "-m", f"{__package__}.small_fits", way, "--backend", backend]
    if tool is None:
        return program
    options = OPTIONS_OF.get(check, ())
    return [tool, "--tool", check, *options, "--error-exitcode", str(FOUND), *program]


def look(tool: str | None, check: str, way: str, backend: str, seconds: float) -> dict[str, Any] | None:
    """Run a tool on one way; return its row, or None if the time is over."""
    began = time.monotonic()
    try:
        done = subprocess.run(
            command(tool, check, way, backend),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=max(0.1, seconds),
        )
    except subprocess.TimeoutExpired:
        return None
    print(f"== {check}, {way}\n{done.stdout}", flush=True)
    lines = done.stdout.splitlines()
    found = [json.loads(line) for line in lines if line.startswith('{"fit"')]
    facts: dict[str, Any] = {
        "exit": done.returncode,
        "fits": len(found),
        "largest_distance": max((each["distance"] for each in found), default=None),
        "said": next((line.strip("= ") for line in reversed(lines) if "SUMMARY" in line), None),
        "seconds": round(time.monotonic() - began, 1),
    }
    problem = problem_of_the_tool(done.stdout)
    if problem is not None:
        facts |= {"tool_failed": True, "why": problem}
    elif done.returncode:
        facts |= {"failed": True, "tail": lines[-40:]}
        places = re.findall(r"\bat (?:0x[0-9a-f]+ in )?([A-Za-z_]\w+)", done.stdout)
        facts["kernels"] = sorted(set(places))[:8]
    return facts


def run(options: Options, tell: Channel) -> None:
    until = time.monotonic() + options.seconds - SPARE
    tool, backend, work = None, "reference", [("no tool", WAYS[-1])]
    if not options.rehearse:
        tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
        if tool is None:
            raise NotHereError("compute-sanitizer is neither on the path nor in /usr/local/cuda/bin")
        backend, work = "cupy", [(check, way) for check in TOOLS for way in WAYS]
    tell.plan([f"{check}, {way}" for check, way in work])
    failed, again = list[str](), dict[tuple[str, str], dict[str, Any]]()

    def row(check: str, way: str, facts: dict[str, Any]) -> None:
        tell.row(f"{check}, {way}", **facts)
        if "failed" in facts:
            failed.append(f"{check}, {way}")

    def one(check: str, way: str) -> None:
        left = until - time.monotonic()
        facts = look(tool, check, way, backend, left) if left > 1 else None
        if facts is not None and "tool_failed" in facts:
            again[check, way] = facts
        elif facts is not None:
            row(check, way, facts)

    with ThreadPoolExecutor(min(SIDE_BY_SIDE, os.cpu_count() or 1)) as pool:
        list(pool.map(lambda each: one(*each), work))
    for (check, way), facts in again.items():  # alone, with all memory of the device
        left = until - time.monotonic()
        row(check, way, (look(tool, check, way, backend, left) if left > 1 else None) or facts)
    if failed:
        raise SystemExit(f"something was found by {'; '.join(failed)}")
