"""Measures the cost of an epoch beside its steps: times of short and long epochs, and the line through them.

It times single epochs, from the call until the cost is on the host; the call alone; epochs in a row, waiting only for
the last, so that host and device work at once; and, where an epoch is one launch, this launch on the device, between
two events.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

from ..contestants import Case, Ours
from .cases import REHEARSED, SHAPES, name_of
from .channel import Channel
from .part import Options

#: Numbers of cases: two whose networks stay in shared memory, and one whose steps are captured.
CASES = (1, 2, 0)
#: Steps an epoch; in a rehearsal, too.
STEPS, FEW = (1, 10, 100, 1000), (1, 5, 20)
#: Epochs before timing, timed epochs, and epochs in a row.
WARM, REPEATS, ROW = 3, 15, 10
#: The goal: microseconds of an epoch of 1000 steps, by case.
TO_REACH = {1: 4300.0, 2: 2100.0}


def line(steps: Sequence[int], microseconds: Sequence[float]) -> dict[str, float]:
    """Fit a line to the times of epochs of so many steps, by least squares of relative errors."""
    of_step, of_epoch = np.polyfit(steps, microseconds, 1, w=1.0 / np.array(microseconds))
    return {"microseconds_a_step": float(of_step), "microseconds_an_epoch": float(of_epoch)}


@contextmanager
def timed_launches(one: Ours) -> Iterator[list[float]]:
    """Inside, collect the seconds of each launch of an epoch on the device, and wait for each."""
    import cupy

    kind: Any = type(one.net.backend)
    seconds: list[float] = []
    launch = kind.run_resident

    def timed(*arguments: Any) -> None:
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record()
        launch(*arguments)
        end.record()
        end.synchronize()
        seconds.append(1e-3 * cupy.cuda.get_elapsed_time(begin, end))

    with patch.object(kind, "run_resident", timed):
        yield seconds


def measure(one: Ours) -> dict[str, float]:
    """Time an epoch, its call, epochs in a row and, if an epoch is one launch, this launch, in microseconds."""
    for _ in range(WARM):
        one.epoch()
        one.wait()
    calls, wholes = [], []
    for _ in range(REPEATS):
        began = time.perf_counter()
        one.epoch()
        calls.append(time.perf_counter() - began)
        one.wait()
        wholes.append(time.perf_counter() - began)
    rows = []
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(ROW):
            one.epoch()
        one.wait()
        rows.append((time.perf_counter() - began) / ROW)
    times = {"whole": wholes, "call": calls, "in_a_row": rows}
    if one.blocks is not None:
        with timed_launches(one) as times["launch"]:
            for _ in range(REPEATS):
                one.epoch()
    return {name: 1e6 * statistics.median(seconds) for name, seconds in times.items()}


def look(make: Callable[[Case], Ours], number: int, steps: Sequence[int]) -> dict[str, Any]:
    """Measure a row: the times for each number of steps, and a line for each kind of time."""
    sizes, batch, _ = SHAPES[number]
    times: dict[str, list[float]] = {}
    for count in steps:
        one = make(Case(sizes, batch, count))
        for name, microseconds in measure(one).items():
            times.setdefault(name, []).append(microseconds)
    lines = {name: line(steps, each) for name, each in times.items()}
    goal = {"to_reach": TO_REACH[number]} if number in TO_REACH else {}
    return {"way": one.way, "blocks": one.blocks, "steps": list(steps), "microseconds": times, "lines": lines} | goal


def text_of(name: str, row: dict[str, Any]) -> str:
    """Return the row as a line."""
    each = ", ".join(
        f"{kind} {of['microseconds_an_epoch']:.0f} + {of['microseconds_a_step']:.3f} n"
        for kind, of in row["lines"].items()
    )
    goal = f" (to reach: {row['to_reach']:.0f})" if "to_reach" in row else ""
    last = row["microseconds"]["whole"][-1]
    return f"{name} ({row['way']}), µs an epoch of n steps: {each}; {row['steps'][-1]} steps take {last:.0f}{goal}"


def run(options: Options, tell: Channel) -> None:
    rehearse = options.rehearse
    numbers, steps = (REHEARSED, FEW) if rehearse else (CASES, STEPS)
    names = {f"{name_of(SHAPES[number][0])} b{SHAPES[number][1]}": number for number in numbers}
    tell.plan(list(names))
    for name, number in names.items():
        row = look(lambda case: Ours(case, "reference" if rehearse else "cupy"), number, steps)
        tell.row(name, text_of(name, row), **row)
