"""Checks that forty fits use no more device memory than two, so that no fit leaves memory behind."""

import gc
import tracemalloc
from typing import Any

import deltaprop as dp
from deltaprop.backends.base import Precision

from .channel import Channel
from .part import Options
from .small_fits import WAYS, fit, network, only

FITS, EARLY = 40, 2


def run(options: Options, tell: Channel) -> None:
    if options.rehearse:
        _rehearse(tell)
        return
    import cupy

    pool = cupy.get_default_memory_pool()
    kinds: list[tuple[str, Precision | None]] = [(way, None) for way in WAYS]
    kinds.insert(3, ("captured", "bf16"))
    tell.plan([_name(*kind) for kind in kinds])
    failed = []
    for way, precision in kinds:
        used = {}
        for turn in range(1, FITS + 1):
            with only(way):
                fit(network("cupy", "float32", precision), dp.SGD(0.1), way, epochs=1)
            if turn in (EARLY, FITS):
                gc.collect()
                cupy.cuda.Device().synchronize()
                used[turn] = pool.used_bytes()
        grown = used[FITS] - used[EARLY]
        failed += [f"{_name(way, precision)} keeps {grown} bytes"] if grown else []
        facts: dict[str, Any] = {"failed": True} if grown else {}
        tell.row(
            _name(way, precision), used_after_2=used[EARLY], used_after_40=used[FITS], pool=pool.total_bytes(), **facts
        )
    if failed:
        raise SystemExit("; ".join(failed))


def _name(way: str, precision: str | None) -> str:
    return f"{way} {precision or 'fp32'}"


def _rehearse(tell: Channel) -> None:
    """Run the same fits by NumPy, and report the host's memory without checking it to the byte."""
    tell.plan(["steps fp32"])
    tracemalloc.start()
    used = []
    for _ in range(FITS):
        fit(network("reference", "float32"), dp.SGD(0.1), None, epochs=1)
        gc.collect()
        used.append(tracemalloc.get_traced_memory()[0])
    tell.row("steps fp32", used_after_2=used[EARLY - 1], used_after_40=used[-1])
