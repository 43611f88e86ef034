"""The parts of `benches.gpu` by themselves: bits, tests, fits by every way, ceilings, traces."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rehearsal
from conftest import require
from deltaprop.benches.contestants import Case, Ours
from deltaprop.benches.gpu_parts import bits, ceilings, members, sanitizer, small_fits, trace
from deltaprop.benches.gpu_parts import tests as tests_part
from deltaprop.benches.gpu_parts.part import Options
from rehearsal import ROOT, Told

import deltaprop as dp

emulated = rehearsal.emulated


# -- bits ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def comb():
    """Return bits of float32 numbers of every kind, with the edges of each."""
    edges = [0, 1, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x7F800000, 0x80000000, 0x80000001, 0x807FFFFF, 0x80800000]
    return np.concatenate([edges, np.arange(0, 2**32, 9973)]).astype(np.uint32)


def test_float32_is_widened_by_its_bits(comb):
    numbers = comb[~np.isnan(comb.view(np.float32))]
    expected = numbers.view(np.float32).astype(np.float64)
    assert np.array_equal(bits.widened(numbers, np).view(np.uint64), expected.view(np.uint64))


def test_no_subnormal_is_an_operand_of_a_conversion(comb):
    """CuPy's own kernels would flush them."""

    class Flushing(np.ndarray):
        def astype(self, dtype: Any, *_: Any, **__: Any) -> Any:
            plain = np.asarray(self)
            if plain.dtype == np.float32:
                plain = np.where(abs(plain) < np.float32(2.0**-126), np.float32(0), plain)
            return plain.astype(dtype)

    xp = SimpleNamespace(where=lambda *a: np.asarray(np.where(*a)).view(Flushing))
    numbers = comb[~np.isnan(comb.view(np.float32))]
    expected = numbers.view(np.float32).astype(np.float64)
    assert np.array_equal(bits.widened(numbers.view(Flushing), xp), expected)
    flushed = numbers.view(np.float32).view(Flushing).astype(np.float64)
    assert not np.array_equal(flushed, expected)


def exact(x):
    with np.errstate(under="ignore", over="ignore"):
        return bits.true_sigmoid(x.astype(np.float64), np).astype(np.float32)


def test_errors_are_told_apart_and_found_where_they_are(comb):
    def wrong(x):
        s = exact(x)
        s[s < 2.0**-126] = 0
        s[x == 1.0] = np.nextafter(np.nextafter(s[x == 1.0], np.float32(2)), np.float32(2))
        return s

    numbers = np.append(comb, np.float32(1.0).view(np.uint32))
    worst = [bits.Worst(), bits.Worst()]
    bits.examine(exact, bits.true_sigmoid, numbers, np, worst)
    assert all(0 < found.ulp <= 0.5 for found in worst)
    worst = [bits.Worst(), bits.Worst()]
    bits.examine(wrong, bits.true_sigmoid, numbers, np, worst)
    normal, subnormal = (found.facts() for found in worst)
    assert 1.5 <= normal["ulp"] <= 2.5
    assert normal["argument"] == "1.0"
    true = float(subnormal["true"])
    assert subnormal["ulp"] == true / 2.0**-149 > 8e6  # the whole value is missing
    assert float(subnormal["argument"]) == pytest.approx(np.log(true), rel=1e-6)
    finite = np.isfinite(numbers.view(np.float32)).sum()
    assert normal["results"] + subnormal["results"] == finite


def test_what_is_not_a_number_is_infinitely_wrong():
    got, true = np.array([np.nan, 0.5, 1e-10]), np.array([0.5, 0.5, 0.0])
    assert bits.errors(got, true, np).tolist() == [np.inf, 0.0, 1e-10 / 2.0**-149]


# -- the tests' part -----------------------------------------------------------------------------------------------


FAKE_CUPY = """
class CUDARuntimeError(RuntimeError): pass
broken = []
def deviceSynchronize():
    if broken: raise CUDARuntimeError("an illegal memory access was encountered")
class cuda:
    class runtime: pass
cuda.runtime.CUDARuntimeError, cuda.runtime.deviceSynchronize = CUDARuntimeError, deviceSynchronize
"""


BROKEN_TESTS = """
import cupy, pytest
@pytest.mark.parametrize("n", range(12))
def test_of(n):
    if n == 3: cupy.broken.append(n)
    assert not cupy.broken or n == 3
"""


@pytest.mark.parametrize("workers", [True, False])
def test_a_worker_whose_context_is_broken_is_replaced(tmp_path, workers):
    if workers:
        require("xdist")
    (tmp_path / "cupy.py").write_text(FAKE_CUPY)
    (tmp_path / "test_broken.py").write_text(BROKEN_TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "benches.gpu_parts.sticky", "-p", "no:cacheprovider"]
    command += ["-c", "/dev/null", "--rootdir", str(tmp_path), *(["-n", "1"] if workers else []), "test_broken.py"]
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    run = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert "the CUDA context is broken after test_broken.py::test_of[3]" in run.stdout + run.stderr
    if workers:  # the others have passed, in a fresh process
        assert re.search(r"1 failed, 1[12] passed", run.stdout), run.stdout
    else:
        assert run.returncode == 3
        assert "4 passed" in run.stdout


def test_none_passed_is_a_failure(monkeypatch):
    monkeypatch.setattr(pytest, "main", lambda *_, **__: 5)
    monkeypatch.setattr(tests_part, "__file__", str(ROOT / "benches" / "gpu_parts" / "tests.py"))
    told = Told()
    with pytest.raises(SystemExit, match="no test has passed; pytest ended with 5"):
        tests_part.run(Options(60.0), told)
    assert told.rows["counts"]["passed"] == 0


def test_outcomes_are_counted():
    def report(when, outcome, why="E   assert 1 == 2"):
        crash = SimpleNamespace(reprcrash=SimpleNamespace(message=why))
        kinds = {kind: outcome == kind for kind in ("passed", "failed", "skipped")}
        return SimpleNamespace(when=when, nodeid=f"test_{outcome}", longrepr=crash, **kinds)

    told = Told()
    counter = tests_part.Counter(told)
    for when, outcome in (("setup", "passed"), ("call", "passed"), ("call", "failed"), ("setup", "failed")):
        counter.pytest_runtest_logreport(report(when, outcome))
    counter.pytest_runtest_logreport(report("setup", "skipped"))
    counter.pytest_testnodedown(None, "crashed")
    counter.pytest_testnodedown(None, None)
    expected = {"passed": 1, "failed": 1, "errors": 1, "skipped": 1, "workers_replaced": 1}
    assert counter.counts == expected
    assert told.rows["test_failed"]["why"] == "E assert 1 == 2"


# -- fits by every way ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", small_fits.WAYS)
def test_every_way_learns_what_the_reference_learns(emulated, way):
    with small_fits.only(way):
        every = small_fits.fits(way)
        assert {dtype for dtype, *_ in every} == {"float64", "float32"}
        for dtype, optimizer, precision in (every[0], every[3], every[-1]):  # both dtypes, both optimizers, bfloat16
            far = small_fits.distance(emulated, way, dtype, optimizer, precision)
            assert far < small_fits.FAR[precision or dtype]


def test_nothing_runs_under_the_name_of_another_way(emulated):
    with small_fits.only("steps"), pytest.raises(RuntimeError, match="expected the way 'captured', got NoneType"):
        small_fits.distance(emulated, "captured", "float32", dp.SGD(0.1))


@pytest.mark.parametrize(("found", "exit_status"), [("0 errors", 0), ("1 error", 9)])
def test_what_a_tool_says_is_told(tmp_path, found, exit_status):
    tool = tmp_path / "tool"
    lines = ['echo \'{"fit": "x", "distance": 0.25}\'', f"echo '========= ERROR SUMMARY: {found}'"]
    tool.write_text("\n".join(["#!/bin/sh", *lines, f"exit {exit_status}"]))
    tool.chmod(0o755)
    facts = sanitizer.look(str(tool), "memcheck", "steps", "cupy", 30.0)
    assert facts is not None
    assert (facts["exit"], facts["fits"], facts["largest_distance"]) == (exit_status, 1, 0.25)
    assert facts["said"] == f"ERROR SUMMARY: {found}"
    assert ("failed" in facts) == bool(exit_status)


def test_members_on_equally_many_blocks(emulated):
    """Each of three members learns what one network does, and that learns what NumPy does step by step."""
    case = Case((5, 4, 3), 4, 6)
    learned = {}
    for count, blocks in ((1, 1), (3, 1), (1, 2)):
        call, parameters = members.epoch_of(emulated, case, count, blocks)
        call()
        learned[count, blocks] = parameters.get()
    reference = Ours(case, "reference")
    reference.epoch()
    flat = reference.net.parameters
    for parameters in learned.values():
        for each in parameters:
            assert np.linalg.norm(each - flat) < 1e-6 * np.linalg.norm(flat)
    assert np.array_equal(learned[3, 1][2], learned[1, 1][0])


def test_elementwise_ceilings_are_calls_of_the_backend(emulated):
    a = emulated.asarray(np.linspace(-3, 3, 2 * 4096), np.float32)
    b = emulated.empty(a.shape, np.float32)
    calls = ceilings.elementwise(emulated, a, b)
    for name, (_, call) in calls.items():
        b[...] = 1.0
        call()
        assert not np.array_equal(b.get(), np.ones(b.shape)), name


def test_a_trace_is_made_compact():
    names = ["gemm", "sgd", "gemm", "sgd"]
    events = [{"name": n, "ts": 10.0 * i, "dur": 4.0 if n == "gemm" else 1.0} for i, n in enumerate(names)]
    facts = trace.compact(events, 2)
    assert facts["kernels"] == {"gemm": [1.0, 4.0], "sgd": [1.0, 1.0]}
    assert facts["microseconds_a_step"] == 31.0 / 2
    assert facts["busy_microseconds_a_step"] == 5.0


def test_a_trace_is_of_what_follows_the_mark():
    names = ["capture", "void at::native::add", "b", "a"]
    events = [{"cat": "kernel", "name": n, "ts": t} for n, t in zip(names, (0, 1, 3, 2), strict=True)]
    assert [event["name"] for event in trace.after_mark([{"cat": "cpu_op"}, *events])] == ["a", "b"]
    assert trace.after_mark(events[:1]) == []
