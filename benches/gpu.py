"""Measures within minutes what only a GPU can show: tests, accuracy, steps beside peers.

    python -m benches.gpu [--budget SECONDS] [--json FILE] [--mnist FOLDER] [--only PART ...] [--skip PART ...]
    python -m benches.gpu --markdown FILE ...
    python benches/gpu_checkout.py ...        the same where deltaprop is not installed

The parts, most valuable first, each in a process of its own:

tests      the tests marked gpu, side by side; a worker whose CUDA context is broken is replaced
sanitizer  compute-sanitizer's memcheck, synccheck and racecheck over small fits by every way of training
bits       every float32 bit pattern through sigmoid and its derivative
memory     40 fits by every way of training use no more memory than two
ceilings   bandwidth of a copy, rates of matrix products, elementwise kernels against the copy
members    128 networks at once against one, on equally many blocks each
epochs     the cost of an epoch beside its steps
nccl       what the sum over ranks costs a step, by one rank; captured or not, the same numbers
mnist      a whole fit, by the clock
peers      microseconds a step beside PyTorch, JAX and plain CuPy; with torch.compile in a second pass
trace      the kernels of a captured step, and how long each takes (only if named)

The first four measure no time and run side by side. The file of results is rewritten after every row; parts that do
not fit the budget are named there and on the screen as left out. The output of the parts goes to FILE with suffix .log.
Without --json the results of a device are kept under benches/results. `--rehearse` runs the parts on the CPU, at small
sizes, to try this program where there is no GPU; its figures mean nothing. `--markdown` prints the tables of files of
results, merged where there are several of one kind of device; with --json the merged file is kept.
"""

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

from .gpu_parts.cases import PRECISIONS, find_cases
from .gpu_parts.markdown import markdown, rates, share
from .gpu_parts.part import PARTS, USUAL, Options, Part
from .gpu_parts.process import Log, PartProcess
from .gpu_parts.results import Results, dumps, file_of, merged
from .machine import machine

#: The share of the budget for the parts that measure no time, if others follow.
SHARE = 0.4
#: Seconds kept back at the end of the budget.
SPARE = 3.0
#: Arguments that are paths, and their names in the results.
PATHS = {"--json": "FILE", "--mnist": "FOLDER"}


class BenchRun:
    """The parts, one after the other or side by side, within the budget."""

    options: Options
    results: Results
    log: Log
    until: float

    def __init__(self, options: Options, results: Results, log: Log, until: float) -> None:
        self.options, self.results, self.log, self.until = options, results, log, until
        self.stopped: Event = threading.Event()

    def __call__(self, names: list[str]) -> bool:
        """Run them all; return whether none has failed."""
        parts = [part for name, part in PARTS.items() if name in names]
        timed = [part for part in parts if part.timed]
        beside = [part for part in parts if not part.timed]
        end = self.until
        if timed:
            end = time.monotonic() + SHARE * (self.until - time.monotonic())
        with ThreadPoolExecutor(len(beside) or 1) as pool:
            outcomes = list(pool.map(lambda part: self.part(part, end), beside))
        for number, part in enumerate(timed):
            later = sum(self.least(other) for other in timed[number + 1 :])
            outcomes.append(self.part(part, self.until - later))
        return "failed" not in outcomes

    def least(self, part: Part) -> float:
        """The fewest seconds with which it is started."""
        return 1.0 if self.options.rehearse else part.least

    def part(self, part: Part, until: float) -> str:
        """Run a part; return how it ended."""
        began = time.monotonic()
        if self.stopped.is_set() or until - began < self.least(part):
            why = "the run was ended" if self.stopped.is_set() else f"{max(0.0, until - began):.0f} s were left"
            self.results.leave_out(part.name, why)
            say(f"{part.name}: LEFT OUT ({why})")
            return "left out"
        until = min(until, began + part.most)
        self.results.begin(part.name)
        process, status = self.process(part, until, {})
        avoid: dict[str, str] = {}
        while part.resumes and status in ("failed", "stuck") and process.work not in (None, *avoid):
            avoid[str(process.work)] = "took too long" if status == "stuck" else process.why
            say(f"{part.name}: broke off at {process.work} ({avoid[str(process.work)]}), continues without it")
            if time.monotonic() > until - self.least(part):
                break
            process, status = self.process(part, until, avoid)
        if status == "done" and self.options.rehearse:
            status = "rehearsed"
        facts: dict[str, Any] = {"status": status, "seconds": round(time.monotonic() - began, 1)}
        if status in ("failed", "stuck", "not here"):
            facts["why"] = process.why
        if status == "cut off":
            facts["why"] = "the run was ended" if self.stopped.is_set() else "its time was over"
        missing = self.results.end(part.name, process.planned, **facts)
        say(f"{part.name}: {status.upper()} after {facts['seconds']} s{why_of(facts)}{left_out(missing)}")
        return "failed" if status == "stuck" else status

    def process(self, part: Part, until: float, avoid: dict[str, str]) -> tuple[PartProcess, str]:
        """Run one process of the part; return how it ended."""
        seconds = until - time.monotonic()
        done = self.results.names(part.name)
        options = Options(**vars(self.options) | {"seconds": seconds, "avoid": avoid, "done": done})
        process = PartProcess(part.name, options, self.on_row(part.name), self.log)
        return process, process.finish(until, self.stopped)

    def on_row(self, part: str) -> Callable[[dict[str, Any], str], None]:
        def add(row: dict[str, Any], text: str) -> None:
            if part == "peers":
                row["share_of_ceiling"] = of = share(row, rates(self.results.content))
                text += "" if of is None else f"  {of:.1%} of one large product"
            self.results.row(part, row)
            say(f"{part}: {text}")

        return add


def say(line: str) -> None:
    print(line[:400], flush=True)


def why_of(facts: dict[str, Any]) -> str:
    return f": {facts['why']}" if "why" in facts else ""


def left_out(names: list[str]) -> str:
    return f"; left out: {', '.join(names)}" if names else ""


def device(log: Log) -> dict[str, Any]:
    """Return what CUDA says about the device."""
    found: dict[str, Any] = {}
    process = PartProcess("device", Options(60.0), lambda row, _: found.update(row), log)
    status = process.finish(time.monotonic() + 60.0, threading.Event())
    if status != "done":
        raise SystemExit(f"no CUDA device answers: {process.why}; --rehearse tries the program on the CPU")
    return found


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benches.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", type=float, default=600.0, metavar="SECONDS", help="for all (default 600)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--mnist", metavar="FOLDER", help="with the four idx files; without it mnist is left out")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART")
    parser.add_argument("--skip", nargs="+", choices=PARTS, metavar="PART", default=[])
    parser.add_argument("--cases", nargs="+", default=[], metavar="N", help="of peers: numbers or names as 784-30-10")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--markdown", nargs="+", type=Path, metavar="FILE")
    return parser


def command_of(given: list[str]) -> str:
    """Return the command without the paths of this machine, for publication."""
    shown = ["python -m benches.gpu"]
    for before, each in zip(["", *given], given, strict=False):
        name, is_one, _ = each.partition("=")
        if before in PATHS:
            shown.append(PATHS[before])
        elif name in PATHS and is_one:
            shown.append(f"{name} {PATHS[name]}")
        else:
            shown.append(each)
    return " ".join(shown)


def tables(files: list[Path], kept: Path | None) -> None:
    """Print the tables of files of results."""
    whole = merged([json.loads(file.read_text(encoding="utf-8")) for file in files])
    print(markdown(whole))
    if kept is not None:
        kept.write_bytes(dumps(whole))


def main(given: list[str] | None = None) -> None:
    began = time.monotonic()
    arguments = parser().parse_args(given)
    if arguments.markdown:
        tables(arguments.markdown, arguments.json)
        return
    find_cases(arguments.cases)  # a wrong name is noticed now
    options = Options(0.0, arguments.mnist, arguments.cases, arguments.precisions, arguments.rehearse)
    chosen = [name for name in arguments.only or USUAL if name not in arguments.skip]
    with ExitStack() as stack:
        file = arguments.json
        log = Log(None if file is None else stack.enter_context(file.with_suffix(".log").open("w", encoding="utf-8")))
        facts: dict[str, Any] = {"command": command_of(sys.argv[1:] if given is None else given)}
        facts["date"] = datetime.now(UTC).date().isoformat()
        facts["machine"] = machine(
            "cupy-cuda13x", "nvmath-python", "nvidia-cuda-nvrtc", "nvidia-nccl-cu13", "torch", "jax"
        )
        facts["rehearsed"] = options.rehearse
        facts["device"] = {"name": "CPU"} if options.rehearse else device(log)
        say(f"device: {facts['device']}")
        if file is None and not options.rehearse:
            file = file_of(facts["device"]["name"])
            log.file = stack.enter_context(file.with_suffix(".log").open("w", encoding="utf-8"))
        results = Results(file, facts | {"budget": arguments.budget})
        run = BenchRun(options, results, log, began + arguments.budget - min(SPARE, 0.1 * arguments.budget))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: run.stopped.set())
        good = run(chosen)
        say(f"all: {time.monotonic() - began:.0f} of {arguments.budget:.0f} s")
    if not good:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
