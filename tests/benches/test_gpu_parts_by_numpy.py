"""The device code of `benches.gpu`, with NumPy in CuPy's place."""

import os
import sys
import time
import types
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rehearsal
from deltaprop.benches.gpu_parts import (
    bits,
    cases,
    ceilings,
    device,
    epochs,
    markdown,
    members,
    memory,
    peers,
    sanitizer,
    small_fits,
)
from deltaprop.benches.gpu_parts.events import WARM, device_seconds
from deltaprop.benches.gpu_parts.part import Options
from rehearsal import Told

from deltaprop.backends.cuda.shared_memory import CLUSTERS
from deltaprop.backends.cuda.shared_memory_plan import MOST_LAYERS

emulated = rehearsal.emulated


class Instant:
    """Stands for an event."""

    def record(self):
        self.at = time.perf_counter()

    def synchronize(self):
        """Return at once, as the event is over."""


@pytest.fixture
def cupy_by_numpy(emulated):
    pool = SimpleNamespace(used_bytes=lambda: 2**20, total_bytes=lambda: 2**21)
    device = SimpleNamespace(synchronize=lambda: None, compute_capability="90")
    properties = {"name": b"NVIDIA Z1", "totalGlobalMem": 2**30}
    runtime = SimpleNamespace(
        getDeviceProperties=lambda _: properties, driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 13000
    )
    cuda = SimpleNamespace(
        Event=Instant,
        Device=lambda: device,
        get_elapsed_time=lambda begin, end: 1e3 * (end.at - begin.at),
        runtime=runtime,
    )
    module: Any = types.ModuleType("cupy")
    for name in ("arange", "uint32", "where", "exp", "frexp", "ldexp", "ones", "isnan"):
        setattr(module, name, getattr(np, name))
    module.empty = emulated.cp.empty
    module.copyto = lambda target, source: target.__setitem__(..., source)
    module.random = SimpleNamespace(
        standard_normal=lambda size, dtype: emulated.asarray(np.linspace(-3, 3, np.prod(size)).reshape(size), dtype)
    )
    module.cuda, module.get_default_memory_pool = cuda, lambda: pool
    with pytest.MonkeyPatch.context() as patch:  # undone before the emulated device leaves CuPy's place
        patch.setitem(sys.modules, "cupy", module)
        yield module


def planned_and_told(part, options=None):
    told = Told()
    part.run(options or Options(600.0), told)
    (plan,) = (message["plan"] for message in told.messages if "plan" in message)
    assert sorted(plan) == sorted(told.rows)
    assert not any("failed" in row for row in told.rows.values()), told.rows
    return told.rows


def test_the_device_is_named(cupy_by_numpy):
    told = Told()
    device.run(Options(60.0), told)
    assert told.rows["NVIDIA Z1"]["multiprocessors"] >= 1


def test_memory_part(cupy_by_numpy, monkeypatch):
    monkeypatch.setattr(memory, "FITS", 3)
    monkeypatch.setattr(memory, "WAYS", small_fits.WAYS[:3])
    rows = planned_and_told(memory)
    assert list(rows) == ["resident 1 fp32", "resident 8 fp32", "captured fp32", "captured bf16"]
    monkeypatch.setattr(memory, "WAYS", small_fits.WAYS[:2])
    used = iter([1, 1, 5, 7, 9, 9])
    cupy_by_numpy.get_default_memory_pool().used_bytes = lambda: next(used)
    told = Told()
    with pytest.raises(SystemExit, match=r"^resident 8 fp32 keeps 2 bytes$"):
        memory.run(Options(600.0), told)
    assert told.rows["resident 8 fp32"]["failed"]


def test_bits_part(cupy_by_numpy, monkeypatch):
    monkeypatch.setattr(bits, "BLOCK", 2**22)
    monkeypatch.setattr(bits, "PATTERNS", 2**23)
    rows = planned_and_told(bits)
    assert rows["sigmoid, normal results"]["results"] == 2**23


def test_ceilings_part(cupy_by_numpy, monkeypatch):
    for name, value in (("ENTRIES", 2**13), ("ROWS", 64), ("COLUMNS", 32)):
        monkeypatch.setattr(ceilings, name, value)
    rows = planned_and_told(ceilings)
    content = {"parts": {"ceilings": {"rows": [{"name": name, **row} for name, row in rows.items()]}}}
    (line,) = [line for line in markdown.ceilings(content).splitlines() if line.startswith("| sigmoid |")]
    assert line.endswith(f"| {rows['sigmoid']['median'] * 1e6:.0f} µs | {rows['sigmoid']['from_idle'] * 1e6:.0f} µs |")
    seconds = rows["product tf32"]["median"]
    assert rows["product tf32"]["flop_a_second"] == pytest.approx(2 * 64 * 32 * 32 / seconds)
    moved = 7 * 4 * 2**13 / rows["adam"]["median"]
    assert rows["adam"]["share_of_copy"] == pytest.approx(moved / rows["copy"]["bytes_a_second"])
    assert all(("from_idle" in row) != ("flop_a_second" in row) for row in rows.values())


def test_what_is_launched_ahead_is_not_timed(cupy_by_numpy):
    """Each event is recorded after the calls that were launched before it."""
    calls: list[Any] = []
    recorded: list[Any] = []

    class Counting(Instant):
        def record(self):
            self.at = len(calls)
            recorded.append(self.at)

    cupy_by_numpy.cuda.Event = Counting
    assert device_seconds(lambda: calls.append(1), 2, ahead=3) == [1.0, 1.0]
    assert recorded[:4] == [3, 4, 7, 8]
    assert len(calls) == 4 * (2 + WARM)


def test_members_part(cupy_by_numpy, monkeypatch):
    for name, value in (("MEMBERS", 2), ("STEPS", 2), ("REPEATS", 2)):
        monkeypatch.setattr(members, name, value)
    rows = planned_and_told(members)
    one, many = rows["1 network, 1 block each"], rows["2 networks, 1 block each"]
    assert many["ratio"] == pytest.approx(many["median"] / one["median"])
    assert (one["blocks"], many["blocks"]) == (1, 1)
    best = min((row for row in rows.values() if row["members"] == 1), key=lambda row: row["median"])
    assert rows["1 network on its best cluster"]["blocks"] == best["blocks"]


def test_a_line_through_the_times_of_epochs():
    """It is exact for times on a line; a small error of a large time hardly moves a small one."""
    steps = (1, 10, 100, 1000)
    assert epochs.line(steps, [80 + 3.5 * n for n in steps]) == pytest.approx(
        {"microseconds_a_step": 3.5, "microseconds_an_epoch": 80.0}
    )
    bent = epochs.line(steps, [83.5, 115.0, 430.0, 3580 * 1.02])
    assert bent["microseconds_an_epoch"] == pytest.approx(80, rel=0.02)


def test_epochs_part(cupy_by_numpy, monkeypatch):
    small = [((5, 4, 3), 4, None), ((6, 7, 1), 5, None)]
    for name, value in (("STEPS", (1, 3)), ("REPEATS", 2), ("ROW", 2), ("WARM", 1), ("CASES", (1, 0))):
        monkeypatch.setattr(epochs, name, value)
    monkeypatch.setattr(epochs, "SHAPES", small)
    rows = planned_and_told(epochs)
    assert list(rows) == ["6-7-1 b5", "5-4-3 b4"]
    for row in rows.values():
        assert (row["way"], row["steps"]) == ("ResidentEpoch", [1, 3])
        assert set(row["lines"]) == {"whole", "call", "in_a_row", "launch"}
        assert all(
            call < whole for call, whole in zip(*(row["microseconds"][k] for k in ("call", "whole")), strict=True)
        )
        (one, three), of = row["microseconds"]["whole"], row["lines"]["whole"]
        assert of["microseconds_a_step"] == pytest.approx((three - one) / 2)
        assert of["microseconds_an_epoch"] == pytest.approx(one - (three - one) / 2, abs=1e-6 * three)
    assert "6-7-1 b5 | ResidentEpoch" in markdown.epochs({"parts": {"epochs": {"rows": list(rows.values())}}})


def test_sanitizer_part(monkeypatch, tmp_path):
    tool = tmp_path / "compute-sanitizer"
    tool.write_text(
        "#!/bin/sh\ncase $2 in racecheck) echo 'at 0x1 in resident_8'; exit 9;; esac\necho SUMMARY: 0 errors"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    told = Told()
    with pytest.raises(SystemExit, match="something was found by racecheck, "):
        sanitizer.run(Options(60.0), told)
    assert len(told.rows) == 3 * len(small_fits.WAYS)
    assert told.rows["racecheck, resident 8"]["kernels"] == ["resident_8"]
    assert {name.partition(",")[0] for name, row in told.rows.items() if "failed" in row} == {"racecheck"}


#: The messages of compute-sanitizer when it lacks memory for its records (from its manual), and for a real fault.
UNTRACKED = (
    "========= Internal Sanitizer Error: The Sanitizer encountered an error while launching resident_8 and didn't track "
    "the launch. Errors might go undetected. (Unable to allocate enough memory to perform the requested operation)"
)


OVERFLOW = """========= Warning: Detected overflow of tracked cuda::barrier structures.
========= Try using --num-cuda-barriers to fix the issue"""


FOUND = """========= Barrier error detected. Missing init.
=========     at 0x90 in resident_8
=========     by thread (0,0,0) in block (0,0,0)"""


BROKEN = """Traceback (most recent call last):
cupy_backends.cuda.api.runtime.CUDARuntimeError: cudaErrorLaunchFailure: unspecified launch failure
========= Target application returned an error"""


FAR_OFF = """float32 SGD: 1.0e-01 from the reference
========= Target application returned an error"""


HEAD, SUMMARY = "========= COMPUTE-SANITIZER", "========= ERROR SUMMARY: 1 error"


@pytest.mark.parametrize(
    ("said", "of_the_tool"),
    [
        ([UNTRACKED], True),
        ([UNTRACKED, UNTRACKED], True),
        ([OVERFLOW], True),
        ([OVERFLOW, BROKEN], True),
        ([UNTRACKED, BROKEN], True),
        ([FOUND], False),
        ([UNTRACKED, FOUND], False),
        ([OVERFLOW, FOUND, BROKEN], False),
        ([BROKEN], False),
        ([UNTRACKED, FAR_OFF], False),
        (["========= Invalid __shared__ write of size 4 bytes", UNTRACKED], False),
        (["========= Something no manual has a word of", UNTRACKED], False),
        ([], False),
    ],
)
@pytest.mark.parametrize("exit_status", [0, 9])
def test_a_tool_that_fails_has_found_nothing(tmp_path, said, of_the_tool, exit_status):
    """Its other findings are not lost."""
    (tmp_path / "said").write_text("\n".join([HEAD, *said, SUMMARY]))
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\ncat {tmp_path / 'said'}\nexit {exit_status}")
    tool.chmod(0o755)
    facts = sanitizer.look(str(tool), "synccheck", "resident 8", "cupy", 30.0)
    assert facts is not None
    assert ("tool_failed" in facts) == of_the_tool
    assert ("failed" in facts) == (exit_status == 9 and not of_the_tool)
    if of_the_tool:
        assert facts["why"] == said[0].splitlines()[0].strip("= ")


def test_a_tool_that_lacked_memory_has_it_alone(monkeypatch, tmp_path):
    """synccheck fails beside others, and succeeds when called again alone; racecheck fails both times."""
    tool = tmp_path / "compute-sanitizer"
    tool.write_text(
        f"""#!/bin/sh
for last; do :; done
case "$2 $*" in
    "synccheck "*"resident 8"*) mkdir {tmp_path}/second 2>/dev/null && {{ cat {tmp_path}/said; exit 9; }};;
    "racecheck "*"resident 8"*) cat {tmp_path}/said; exit 9;;
esac
echo "========= ERROR SUMMARY: 0 errors"
"""
    )
    (tmp_path / "said").write_text(f"{HEAD}\n{UNTRACKED}\n{SUMMARY}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    told = Told()
    sanitizer.run(Options(60.0), told)
    assert len(told.rows) == 3 * len(small_fits.WAYS)
    assert [name for name, row in told.rows.items() if "tool_failed" in row] == ["racecheck, resident 8"]
    assert not any("failed" in row for row in told.rows.values())
    rows = [{"name": name, **row} for name, row in told.rows.items()]
    content = {"parts": {"sanitizer": {"status": "done", "rows": rows}}, "left_out": {}}
    assert "14 of 15 clean, the tool failed in 1" in markdown.checks(content)


def test_synccheck_is_told_of_more_barriers_than_any_block_has():
    """Each block of a cluster has two barriers a layer, and may use the others' too."""
    given = sanitizer.command("tool", "synccheck", "resident 8", "cupy")
    assert int(given[given.index("--num-cuda-barriers") + 1]) > 2 * MOST_LAYERS * max(CLUSTERS)
    assert "--num-cuda-barriers" not in sanitizer.command("tool", "memcheck", "resident 8", "cupy")
    given = sanitizer.command("tool", "racecheck", "resident 8", "cupy")
    assert given[given.index("--racecheck-report") + 1] == "all"


@pytest.mark.parametrize("precision", cases.PRECISIONS)
def test_who_takes_part(cupy_by_numpy, precision):
    def names(number, *, compiled):
        case: Any = SimpleNamespace(sizes=cases.SHAPES[number][0])
        return set(peers.contestants(case, precision, compiled=compiled, rehearse=False))

    assert names(0, compiled=True) == {"deltaprop", "PyTorch compiled"}
    assert {"deltaprop", "deltaprop, graph", "PyTorch graph", "PyTorch eager"} < names(0, compiled=False)
    assert ("naive CuPy" in names(0, compiled=False)) == (precision == "fp32")
    assert ("JAX scan, graphs" in names(0, compiled=False)) == (precision != "bf16")
    assert "JAX scan, graphs" not in names(4, compiled=False)
    jax = {name for name in names(4, compiled=False) if name.startswith("JAX")}
    expected = {"fp32": {"JAX scan", "JAX jit"}, "tf32": {"JAX scan"}}
    assert jax == expected.get(precision, {"JAX scan, bf16 asked for", "JAX scan, bf16 operands"})
