"""compute-sanitizer over small fits: memcheck, synccheck and racecheck, each over every way of training."""

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
#: How many run at a time, and what a tool exits with where it has found something.
SIDE_BY_SIDE, FOUND = 8, 9
#: Barriers in shared memory that synccheck keeps track of: by default too few for a cluster that runs many steps.
BARRIERS = 2**16


def command(tool: str | None, check: str, way: str, backend: str) -> list[str]:
    program = [sys.executable, "-m", f"{__package__}.small_fits", way, "--backend", backend]
    if tool is None:
        return program
    room = ["--num-cuda-barriers", str(BARRIERS)] if check == "synccheck" else []
    return [tool, "--tool", check, *room, "--error-exitcode", str(FOUND), *program]


def look(tool: str | None, check: str, way: str, backend: str, seconds: float) -> dict[str, Any] | None:
    """What a tool says of one way; None where the time was over."""
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
    if done.returncode:
        facts |= {"failed": True, "tail": lines[-12:]}
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
    failed = []

    def one(check: str, way: str) -> None:
        left = until - time.monotonic()
        facts = look(tool, check, way, backend, left) if left > 1 else None
        if facts is not None:
            tell.row(f"{check}, {way}", **facts)
            if "failed" in facts:
                failed.append(f"{check}, {way}")

    with ThreadPoolExecutor(min(SIDE_BY_SIDE, os.cpu_count() or 1)) as pool:
        list(pool.map(lambda each: one(*each), work))
    if failed:
        raise SystemExit(f"something was found by {'; '.join(failed)}")
