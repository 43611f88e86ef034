"""Lists the kernels of a captured step with their counts and times, by CUPTI through torch.profiler."""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from ..contestants import Case, Ours
from .cases import SHAPES, find_cases, name_of
from .channel import Channel, NotHereError
from .part import SPARE, Options

#: Steps of the traced epoch; fewer for the largest network.
STEPS, FEW = 32, 4
LARGE = 4096
#: Letters of a kernel's name.
LETTERS = 80
#: Part of the names of PyTorch's own kernels; one such kernel stands between the two epochs.
MARK = "at::native"


def kernels(case: Case, precision: str) -> list[dict[str, Any]]:
    """Return the kernels of the second epoch in the order of time; CUPTI sees only graphs made while it watches."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        one = Ours(case, "cupy", precision, "graph")
        one.epoch()  # this epoch captures
        one.wait()
        torch.cuda.synchronize()
        torch.ones(1, device="cuda").add_(1)
        torch.cuda.synchronize()
        one.epoch()
        one.wait()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        return after_mark(json.loads(path.read_text())["traceEvents"])


def after_mark(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the kernels after the last of PyTorch's own, in the order of time."""
    every = sorted((event for event in events if event.get("cat") == "kernel"), key=lambda event: event["ts"])
    marks = [place for place, event in enumerate(every) if MARK in event["name"]]
    return every[marks[-1] + 1 :] if marks else []


def compact(events: list[dict[str, Any]], steps: int) -> dict[str, Any]:
    """Return count a step and mean time by name; the time of a step, and the part of it with a kernel running."""
    by_name: dict[str, list[float]] = {}
    for event in events:
        by_name.setdefault(event["name"][:LETTERS], []).append(event["dur"])
    longest = sorted(by_name.items(), key=lambda item: -sum(item[1]))
    span = events[-1]["ts"] + events[-1]["dur"] - events[0]["ts"]
    return {
        "microseconds_a_step": span / steps,
        "kernels_a_step": len(events) / steps,
        "busy_microseconds_a_step": sum(event["dur"] for event in events) / steps,
        "kernels": {name: [len(each) / steps, sum(each) / len(each)] for name, each in longest},
    }


def run(options: Options, tell: Channel) -> None:
    if options.rehearse:
        raise NotHereError("there is no device to trace")
    import torch

    until = time.monotonic() + options.seconds - SPARE
    torch.zeros(1, device="cuda")
    work = [(number, precision) for precision in options.precisions for number in find_cases(options.cases)]
    names = [f"{name_of(SHAPES[number][0])} b{SHAPES[number][1]} {precision}" for number, precision in work]
    tell.plan(names)
    for name, (number, precision) in zip(names, work, strict=True):
        if time.monotonic() > until:
            break
        sizes, batch, _ = SHAPES[number]
        steps = FEW if max(sizes) >= LARGE else STEPS
        events = kernels(Case(sizes, batch, steps), precision)
        if not events:
            tell.row(name, failed=True, why="CUPTI has seen no kernel")
            continue
        facts = compact(events, steps)
        listed = ", ".join(
            f"{kernel[:40]} {count:g} × {mean:.2f}" for kernel, (count, mean) in facts["kernels"].items()
        )
        tell.row(name, f"{name}: {facts['microseconds_a_step']:.1f} µs a step; {listed}", **facts)
