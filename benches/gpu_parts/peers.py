"""Measures microseconds a step of all contestants in turn, for each precision and case.

A second pass, at the end, has ``torch.compile(mode="max-autotune")``, which takes up to a minute a configuration,
beside us once more. A contestant that computes something else, by its distance from us in float32, is named and does
not count.
"""

import gc
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from ..contestants import Case, Jax, Naive, Ours, Torch
from .cases import REHEARSED, SHAPES, find_cases, in_order, make_case, name_of
from .channel import Channel
from .part import SPARE, Options

#: How far parameters may be from ours in float32 after an epoch, ‖a − b‖/‖b‖, by precision.
AGREEMENT = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 5e-2}
#: Rounds, and seconds after which a contestant takes part only in the first two.
ROUNDS, LONG = 5, 0.3
#: Seconds of an epoch before which another one is not timed: others have just used the caches of processor and device.
QUICK = 0.05
#: Seconds that a contestant may take to start, and that a row takes, roughly.
WITHIN, ROW = {False: 60.0, True: 150.0}, {False: 12.0, True: 45.0}
#: Up to this width XLA also makes all graphs that it can, which takes seconds more a row.
SMALL = 784
OURS, GRAPH = "deltaprop", "deltaprop, graph"


def contestants(case: Case, precision: str, *, compiled: bool, rehearse: bool) -> dict[str, Callable[[], Any]]:
    """Return functions that make the contestants."""
    if rehearse:
        return {
            OURS: lambda: Ours(case, "reference"),
            "PyTorch eager": lambda: Torch(case, "cpu", precision),
            "JAX scan": lambda: Jax(case, "cpu", precision),
            "naive NumPy": lambda: Naive(case, np),
        }
    entries: dict[str, Callable[[], Any]] = {OURS: lambda: Ours(case, "cupy", precision)}
    if compiled:
        return entries | {"PyTorch compiled": lambda: Torch(case, "cuda", precision, "compiled")}
    # XLA may use TF32 for bfloat16: such a scan has a name of its own
    scan = "JAX scan, bf16 asked for" if precision == "bf16" else "JAX scan"
    entries |= {
        GRAPH: lambda: Ours(case, "cupy", precision, "graph"),
        scan: lambda: Jax(case, "cuda", precision),
        "PyTorch graph": lambda: Torch(case, "cuda", precision, "graph"),
        "PyTorch eager": lambda: Torch(case, "cuda", precision),
    }
    if max(case.sizes) <= SMALL and precision != "bf16":  # launches matter there
        entries["JAX scan, graphs"] = lambda: Jax(case, "cuda", precision, "scan, graphs")
    if precision == "bf16":
        entries["JAX scan, bf16 operands"] = lambda: Jax(case, "cuda", precision, operands="bfloat16")
    if precision == "fp32":
        import cupy

        entries["JAX jit"] = lambda: Jax(case, "cuda", precision, "jit")

        entries["naive CuPy"] = lambda: Naive(case, cupy)
    return entries


def distance(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """‖a − b‖/‖b‖ over all arrays."""
    numerator = sum(float(((x - y).astype(float) ** 2).sum()) for x, y in zip(a, b, strict=True))
    return (numerator / sum(float((y.astype(float) ** 2).sum()) for y in b)) ** 0.5


class Peers:
    """The rows, with the data that several of them need: cases, and our parameters after an epoch in float32."""

    options: Options
    tell: Channel

    def __init__(self, options: Options, tell: Channel) -> None:
        self.options, self.tell = options, tell
        self.until: float = time.monotonic() + options.seconds - SPARE
        self.cases: dict[int, Case] = {}
        self.references: dict[int, list[np.ndarray]] = {}

    def case(self, number: int) -> Case:
        if number not in self.cases:
            self.cases[number] = make_case(number, rehearse=self.options.rehearse)
        return self.cases[number]

    def reference(self, name: str, number: int) -> list[np.ndarray] | None:
        """Return our parameters after an epoch in float32, or None if we cannot run."""
        work = f"{name}: reference"
        if number not in self.references and work not in self.options.avoid:
            self.tell.begins(work, WITHIN[False])
            try:
                one = Ours(self.case(number), "reference" if self.options.rehearse else "cupy")
                one.epoch()
                self.references[number] = one.parameters()
            except Exception:  # noqa: BLE001  (our own row will name it)
                traceback.print_exc(limit=3)
                self.check()
        return self.references.get(number)

    def check(self) -> None:
        """Fail if the CUDA context of this process is broken: another process continues without the cause."""
        if not self.options.rehearse:
            import cupy

            cupy.cuda.runtime.deviceSynchronize()

    def begin(self, name: str, number: int, precision: str, *, compiled: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        """Run an epoch of each contestant; return them with their distances from us in float32, and the errors."""
        case, rehearse = self.case(number), self.options.rehearse
        reference = None if precision == "fp32" and not compiled else self.reference(name, number)
        running: dict[str, Any] = {}
        errors: dict[str, str] = {}
        for who, make in contestants(case, precision, compiled=compiled, rehearse=rehearse).items():
            if who == GRAPH and OURS in running and running[OURS][0].way == "GraphEpoch":
                continue  # it is the reference already
            work = f"{name}: {who}"
            if work in self.options.avoid:
                errors[who] = self.options.avoid[work]
                continue
            self.tell.begins(work, WITHIN[compiled])
            began = time.perf_counter()
            try:
                one = make()
                one.epoch()
                one.wait()
                first = time.perf_counter() - began
                after = one.parameters()
            except Exception as error:  # noqa: BLE001  (a peer that cannot run is named in the row)
                errors[who] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                traceback.print_exc(limit=3)
                self.check()
                continue
            reference = reference or after
            if who == OURS and precision == "fp32":
                self.references[number] = after
            far = distance(after, reference)
            agrees = far < AGREEMENT[precision]
            running[who] = one, {"distance": far, "agrees": agrees, "seconds_to_begin": round(first, 2)}
        return running, errors

    def row(self, name: str, number: int, precision: str, *, compiled: bool) -> dict[str, Any]:
        """Measure all contestants that can run, in turn, in microseconds a step."""
        case = self.case(number)
        running, errors = self.begin(name, number, precision, compiled=compiled)
        seconds: dict[str, list[float]] = {who: [] for who in running}
        for number_of_round in range(ROUNDS):
            for who, (one, _) in running.items():
                if number_of_round >= 2 and sum(seconds[who]) > LONG:
                    continue
                self.tell.begins(f"{name}: {who}", WITHIN[False])
                taken = _epoch(one)
                seconds[who].append(_epoch(one) if taken < QUICK else taken)
        listed = {who: facts | _microseconds(seconds[who], case.steps) for who, (_, facts) in running.items()}
        ours = running[OURS][0] if OURS in running else None
        return {
            "network": case.name,
            "batch": case.batch,
            "precision": precision,
            "compiled": compiled,
            "contestants": listed,
            "way": None if ours is None else ours.way,
            "blocks": None if ours is None else ours.blocks,
            "flop_a_step": case.floating_point_operations,
            "errors": errors,
        }


def _epoch(one: Any) -> float:
    """Return the seconds of an epoch, until the device has done it."""
    began = time.perf_counter()
    one.epoch()
    one.wait()
    return time.perf_counter() - began


def _microseconds(seconds: list[float], steps: int) -> dict[str, Any]:
    """Return median and spread of a step."""
    each = [1e6 * epoch / steps for epoch in seconds]
    return {"median": statistics.median(each), "spread": [min(each), max(each)], "rounds": len(each)}


def compare(row: dict[str, Any]) -> dict[str, Any]:
    """Return the best peer that agrees, and its time over ours."""
    listed = row["contestants"]
    agreeing = {who: each["median"] for who, each in listed.items() if not who.startswith(OURS) and each["agrees"]}
    best = min(agreeing, key=lambda who: agreeing[who]) if agreeing else None
    ours = listed.get(OURS, {}).get("median")
    return {"best_peer": best, "ratio": agreeing[best] / ours if best and ours else None}


def text_of(name: str, row: dict[str, Any]) -> str:
    """Return the row as a line."""
    listed = sorted(row["contestants"].items(), key=lambda item: item[1]["median"])
    times = "  ".join(f"{who} {each['median']:.1f}{'' if each['agrees'] else ' DISAGREES'}" for who, each in listed)
    ratio = "no ratio" if row["ratio"] is None else f"best peer / ours {row['ratio']:.2f}"
    blocks = "" if row["blocks"] is None else f", {row['blocks']} blocks"
    errors = f"  cannot run: {row['errors']}" if row["errors"] else ""
    return f"{name} ({row['way']}{blocks}): {ratio}; {times}{errors}"


def release() -> None:
    """Free the memory of finished contestants, which their libraries keep in pools."""
    gc.collect()
    if "cupy" in sys.modules:
        sys.modules["cupy"].get_default_memory_pool().free_all_blocks()
    if "torch" in sys.modules:
        sys.modules["torch"].cuda.empty_cache()


def run(options: Options, tell: Channel) -> None:
    peers, numbers = Peers(options, tell), find_cases(options.cases)
    precisions = options.precisions
    passes: tuple[bool, ...] = (False, True)
    if options.rehearse:
        numbers, precisions, passes = [number for number in numbers if number in REHEARSED], ["fp32"], (False,)
    work = {
        f"{_name(number)} {precision}{', compiled' if compiled else ''}": (number, precision, compiled)
        for compiled in passes
        for number, precision in in_order(numbers, precisions)
    }
    tell.plan(list(work))
    for name, (number, precision, compiled) in work.items():
        if name in options.done:
            continue
        if not options.rehearse and time.monotonic() + ROW[compiled] > peers.until:
            break
        row = peers.row(name, number, precision, compiled=compiled)
        row |= compare(row)
        tell.row(name, text_of(name, row), **row)
        if not options.rehearse:
            release()


def _name(number: int) -> str:
    sizes, batch, _ = SHAPES[number]
    return f"{name_of(sizes)} b{batch}"
