"""`benches.gpu`, as far as it can be tried without a GPU: the whole program rehearsed, and each piece by itself."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import cuda_on_host, missing, require
from deltaprop.benches import gpu
from deltaprop.benches.contestants import Case, Jax, Ours, Torch
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
    trace,
)
from deltaprop.benches.gpu_parts import tests as tests_part
from deltaprop.benches.gpu_parts.channel import Channel
from deltaprop.benches.gpu_parts.events import WARM, device_seconds
from deltaprop.benches.gpu_parts.part import USUAL, Options
from deltaprop.benches.gpu_parts.process import Log, PartProcess
from deltaprop.benches.gpu_parts.results import Results, file_of, merged
from host_cuda import compiler_problem, in_place_of_cupy

import deltaprop as dp
from deltaprop.backends.cuda.shared_memory import CLUSTERS, MOST_LAYERS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def emulated():
    if problem := compiler_problem():
        missing("g++", problem)
    with in_place_of_cupy(cuda_on_host()) as backend:
        yield backend


class Told(Channel):
    """A channel whose messages are kept."""

    def __init__(self):
        self.messages = []

    def _send(self, message):
        self.messages.append(json.loads(json.dumps(message)))

    @property
    def rows(self):
        return {message["row"]["name"]: message["row"] for message in self.messages if "row" in message}


def program(*arguments, script=("-m", "benches.gpu")):
    return subprocess.run(
        [sys.executable, *script, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_rehearsal_writes_every_section(tmp_path):
    file = tmp_path / "gpu.json"
    run = program("--rehearse", "--budget", 60, "--json", file)
    assert run.returncode == 0, run.stdout + run.stderr
    content = json.loads(file.read_text())
    assert content["rehearsed"]
    ended = {name: entry["status"] for name, entry in content["parts"].items()} | content["left_out"]
    assert set(ended) == set(USUAL)
    assert all(entry["status"] in ("rehearsed", "cut off") for entry in content["parts"].values())
    done = {name: entry["rows"] for name, entry in content["parts"].items() if entry["status"] == "rehearsed"}
    assert {"bits", "tests"} <= set(done)
    assert {row["name"]: row for row in done["tests"]}["counts"]["passed"] >= 3
    for name, rows in done.items():
        assert rows, name
        assert all(row["device"] == "CPU" and not row.get("failed") for row in rows), name
        assert any(line.startswith(f"{name}: {rows[0]['name']}") for line in run.stdout.splitlines())
    assert "passed" in file.with_suffix(".log").read_text()
    shown = program("--markdown", file)
    assert shown.returncode == 0, shown.stderr
    for title in markdown.SECTIONS:
        assert f"**{title}**" in shown.stdout


def test_from_a_checkout_without_an_installed_package(tmp_path):
    """The package that is found is the one put together, for parts in other processes too."""
    where = "import deltaprop, deltaprop.benches.gpu, deltaprop.kernels as k; print(deltaprop.__file__, k.__path__[0])"
    code = (
        "import sys, subprocess; from pathlib import Path; sys.path.insert(0, 'benches'); import gpu_checkout as g;"
        f"g.put_together(Path({str(tmp_path)!r}))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", where], env=environment, capture_output=True, text=True, check=False)
    assert found.stdout.split() == [
        str(tmp_path / "deltaprop" / "__init__.py"),
        str(tmp_path / "deltaprop" / "kernels"),
    ], found.stderr
    file = tmp_path / "bits.json"
    run = program("--rehearse", "--only", "bits", "--json", file, script=("benches/gpu_checkout.py",))
    assert run.returncode == 0, run.stdout + run.stderr
    assert json.loads(file.read_text())["parts"]["bits"]["status"] == "rehearsed"


def test_without_a_device_it_says_so(tmp_path):
    if dp.available_backends()[0] == "cupy":
        pytest.skip("there is one")
    run = program("--only", "bits", "--json", tmp_path / "gpu.json")
    assert run.returncode == 1
    assert "no CUDA device answers" in run.stderr
    assert "--rehearse" in run.stderr


# -- a process a part ---------------------------------------------------------------------------------------------


def finished(name, seconds=60.0, log=None, **options):
    rows = []
    process = PartProcess(name, Options(seconds, **options), lambda row, text: rows.append(row), log or Log(None))
    return process, process.finish(time.monotonic() + seconds, threading.Event()), rows


def test_a_part_that_cannot_run_here_has_not_failed():
    process, status, rows = finished("mnist")
    assert (status, process.why, rows) == ("not here", "no --mnist FOLDER was given", [])


def test_a_part_is_ended_when_its_time_is_over():
    require("torch")  # whose import alone takes longer
    began = time.monotonic()
    process, status, _ = finished("peers", 0.3, rehearse=True)
    assert status == "cut off"
    assert time.monotonic() - began < 10
    assert process.process.returncode == -signal.SIGKILL


def test_work_that_takes_too_long_is_ended():
    process = PartProcess("peers", Options(60.0, rehearse=True), lambda *_: None, Log(None))
    process.overdue = time.monotonic()  # as if it had begun something long ago
    assert process.finish(time.monotonic() + 60.0, threading.Event()) == "stuck"
    assert process.process.returncode == -signal.SIGKILL


def test_a_part_that_fails_says_why(tmp_path):
    with (tmp_path / "log").open("w") as file:
        process, status, _ = finished("mnist", mnist=str(tmp_path / "nowhere"), log=Log(file))
    assert status == "failed"
    assert "nowhere" in process.why
    assert "mnist: Traceback" in (tmp_path / "log").read_text()


class FakeProcess:
    """A part of three works, each a row, of which some break the process."""

    breaking, made = {"two"}, []

    def __init__(self, name, options, on_row, log):
        self.planned, self.work, self.why = ["one", "two", "three"], None, "it broke"
        FakeProcess.made.append((options.avoid, options.done))
        self.status = "done"
        for work in self.planned:
            if work in options.done:
                continue
            self.work = work
            if work in FakeProcess.breaking and work not in options.avoid:
                self.status = "failed"
                return
            facts = {"avoided": work in options.avoid, "contestants": {}, "precision": "fp32"}
            on_row({"name": work, **facts}, work)

    def finish(self, until, stopped):
        return self.status


@pytest.fixture
def run_parts(monkeypatch, tmp_path):
    FakeProcess.made = []
    monkeypatch.setattr(gpu, "PartProcess", FakeProcess)

    def run(names, seconds=1000.0):
        results = Results(tmp_path / "r.json", {"device": {"name": "GPU"}})
        every = gpu.Run(Options(0.0), results, Log(None), time.monotonic() + seconds)
        return every(names), json.loads((tmp_path / "r.json").read_text())

    return run


def test_what_breaks_a_part_that_resumes_is_avoided(run_parts, capsys):
    good, content = run_parts(["peers"])
    assert good
    assert FakeProcess.made == [({}, []), ({"two": "it broke"}, ["one"])]
    assert [(row["name"], row["avoided"]) for row in content["parts"]["peers"]["rows"]] == [
        ("one", False),
        ("two", True),
        ("three", False),
    ]
    assert "broke off at two (it broke)" in capsys.readouterr().out


def test_a_part_that_does_not_resume_fails_and_the_next_one_runs(run_parts):
    good, content = run_parts(["bits", "ceilings"])
    assert not good
    entry = content["parts"]["bits"]
    assert (entry["status"], entry["why"], entry["left_out"]) == ("failed", "it broke", ["two", "three"])
    assert [row["device"] for row in entry["rows"]] == ["GPU"]
    assert content["parts"]["ceilings"]["status"] == "failed"


def test_what_does_not_fit_the_budget_is_named(run_parts, capsys):
    FakeProcess.breaking = set()
    try:
        _, content = run_parts(["mnist", "peers", "trace"], seconds=40.0)
    finally:
        FakeProcess.breaking = {"two"}
    assert set(content["parts"]) == {"mnist", "peers", "trace"}
    _, content = run_parts(["mnist", "peers", "trace"], seconds=16.0)
    assert set(content["left_out"]) == {"mnist", "peers"}  # trace is asked for by name; what follows has its least
    assert "peers: LEFT OUT" in capsys.readouterr().out


def test_a_run_that_is_ended_keeps_what_it_has(tmp_path):
    """As by ``timeout``; nothing that it has started goes on."""
    require("torch")  # else the rows come so fast that nothing is left to be ended
    file = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benches.gpu", "--rehearse", "--budget", "300", "--json", str(file)]
    command += ["--only", "bits", "memory", "peers", "--mnist", str(tmp_path)]  # what its processes are told, too
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        line = ""
        while "peers: 784-30-10" not in line:
            line = run.stdout.readline()
            assert line, "it ended before it was ended"
        going = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout
        assert f'"mnist": "{tmp_path}"' in going
        run.send_signal(signal.SIGTERM)
        said = run.stdout.read()
    content = json.loads(file.read_text())
    entry = content["parts"]["peers"]
    assert (entry["status"], entry["why"]) == ("cut off", "the run was ended")
    assert [row["name"] for row in entry["rows"]] == ["784-30-10 b10 fp32"]
    assert entry["left_out"] == ["64-32-1 b32 fp32"]
    assert content["parts"]["bits"]["status"] == "rehearsed"
    assert "left out: 64-32-1 b32 fp32" in said
    going = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout
    assert f'"mnist": "{tmp_path}"' not in going


def test_options_survive_a_command_line():
    options = Options(3.5, "a b", ["0"], ["tf32"], True, {"x": 'why "so"'}, ["row"])
    assert Options.loads(options.dumps()) == options


# -- the file of results -------------------------------------------------------------------------------------------


def test_the_file_is_whole_after_every_row(tmp_path):
    path = tmp_path / "r.json"
    results = Results(path, {"device": {"name": "GPU"}})
    results.begin("bits")
    for value in (1, 2):
        results.row("bits", {"name": "a", "value": value})
        assert json.loads(path.read_text())["parts"]["bits"]["rows"] == [{"name": "a", "value": value, "device": "GPU"}]
    assert results.end("bits", ["a", "b"], status="cut off") == ["b"]
    assert json.loads(path.read_text())["parts"]["bits"]["left_out"] == ["b"]


def content_of(device, part, *rows, missing=()):
    entry = {"status": "done", "rows": list(rows), "left_out": list(missing)}
    return {"device": {"name": device}, "parts": {part: entry}, "left_out": {}}


def test_runs_on_one_kind_of_device_are_merged():
    first = content_of("GPU", "peers", {"name": "a", "t": 1}, {"name": "b", "t": 2}, missing=["c"])
    second = content_of("GPU", "peers", {"name": "b", "t": 3}, {"name": "c", "t": 4})
    whole = merged([first, second])
    assert whole["parts"]["peers"]["rows"] == [{"name": "a", "t": 1}, {"name": "b", "t": 3}, {"name": "c", "t": 4}]
    assert whole["parts"]["peers"]["left_out"] == []
    with pytest.raises(ValueError, match="one kind of device, got GPU, Other"):
        merged([first, content_of("Other", "peers")])


def test_each_device_has_its_file():
    assert file_of("NVIDIA H200").name == "gpu-nvidia-h200.json"
    assert file_of("NVIDIA H100 80GB HBM3").name == "gpu-nvidia-h100-80gb-hbm3.json"


def test_tables_of_several_files_and_the_merged_file(tmp_path, capsys):
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    top = {"date": "2026-01-02", "machine": {"versions": {"numpy": "2.0", "jax": None}}, "command": "c"}
    rows = [{"name": "copy", "bytes_a_second": 3e12}, {"name": "product tf32", "flop_a_second": 4e14}]
    for file, row in zip(files, rows, strict=True):
        file.write_text(json.dumps(top | content_of("NVIDIA Z1", "ceilings", row)))
    gpu.main(["--markdown", *map(str, files), "--json", str(tmp_path / "whole.json")])
    shown = capsys.readouterr().out
    assert shown.startswith("NVIDIA Z1, 2026-01-02 (numpy 2.0); `c`")
    assert "| copy | 3.00 TB/s |" in shown
    assert "| product tf32 | 400.0 TFLOP/s |" in shown
    whole = json.loads((tmp_path / "whole.json").read_text())
    assert [row["name"] for row in whole["parts"]["ceilings"]["rows"]] == ["copy", "product tf32"]


def test_results_hold_no_path_of_a_machine():
    given = ["--budget", "440", "--mnist", "/a/b", "--json=/c/d.json", "--only", "bits"]
    shown = "python -m benches.gpu --budget 440 --mnist FOLDER --json FILE --only bits"
    assert gpu.command_of(given) == shown


def peer_row(**named):
    row = {"name": "n", "network": "3-2", "batch": 4, "precision": "fp32", "compiled": False, "way": "ResidentEpoch"}
    row |= {"blocks": 4, "flop_a_step": 8e6, "errors": {}} | named
    row["contestants"] = {
        who: {"median": t, "spread": [t, 2 * t], "agrees": agrees, "distance": 0.0}
        for who, (t, agrees) in row["contestants"].items()
    }
    return row | peers.compare(row)


def test_the_table_of_peers():
    """Whoever disagrees does not count; the second pass counts by its own ratio; the share is of one large product."""
    first = peer_row(contestants={"deltaprop": (10.0, True), "JAX scan": (30.0, True), "cheat": (1.0, False)})
    second = peer_row(compiled=True, contestants={"deltaprop": (20.0, True), "PyTorch compiled": (25.0, True)})
    assert (first["best_peer"], first["ratio"]) == ("JAX scan", 3.0)
    content = content_of("GPU", "peers", second, first)
    content["parts"]["ceilings"] = {"rows": [{"name": "product fp32", "flop_a_second": 1e12}]}
    header, _, line = markdown.peers(content).splitlines()
    cells = dict(zip(header.split(" | "), line.split(" | "), strict=True))
    assert cells["best peer / deltaprop"] == "1.25 (PyTorch compiled)"
    assert cells["cheat"] == "1 (disagrees)"
    assert cells["deltaprop"] == "10 (10–20)"
    assert cells["way"] == "ResidentEpoch, 4 blocks"
    assert markdown.share(first, {"fp32": 1e12}) == pytest.approx(0.8)
    assert "80.0%" in line  # 8e6 operations in 10 µs are 0.8e12 a second


def test_cases_by_number_and_by_name():
    assert cases.find_cases(["784-30-10", "0"]) == [1, 0]
    assert cases.find_cases([]) == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match=r"--cases: expected some of 0 \(784-100-10\).* got '9-9'"):
        cases.find_cases(["9-9"])


# -- bits ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def comb():
    """Bits of float32 of every kind, with the edges of each."""
    edges = [0, 1, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x7F800000, 0x80000000, 0x80000001, 0x807FFFFF, 0x80800000]
    return np.concatenate([edges, np.arange(0, 2**32, 9973)]).astype(np.uint32)


def test_float32_is_widened_by_its_bits(comb):
    numbers = comb[~np.isnan(comb.view(np.float32))]
    expected = numbers.view(np.float32).astype(np.float64)
    assert np.array_equal(bits.widened(numbers, np).view(np.uint64), expected.view(np.uint64))


def test_no_subnormal_is_an_operand_of_a_conversion(comb):
    """As CuPy's own kernels flush them."""

    class Flushing(np.ndarray):
        def astype(self, dtype, **_):
            plain = np.asarray(self)
            if plain.dtype == np.float32:
                plain = np.where(abs(plain) < np.float32(2.0**-126), np.float32(0), plain)
            return plain.astype(dtype)

    xp = SimpleNamespace(where=lambda *a: np.where(*a).view(Flushing))
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
    assert subnormal["ulp"] == true / 2.0**-149 > 8e6  # all of it is missing
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
    if workers:  # the others have passed, in a process that is whole
        assert re.search(r"1 failed, 1[12] passed", run.stdout), run.stdout
    else:
        assert run.returncode == 3
        assert "4 passed" in run.stdout


def test_none_passed_is_a_failure(monkeypatch):
    monkeypatch.setattr(tests_part.pytest, "main", lambda *_, **__: 5)
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
    assert (facts["exit"], facts["fits"], facts["largest_distance"]) == (exit_status, 1, 0.25)
    assert facts["said"] == f"ERROR SUMMARY: {found}"
    assert ("failed" in facts) == bool(exit_status)


def test_members_on_equally_many_blocks(emulated):
    """Each of three learns what one does, and one what NumPy's does step by step."""
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


# -- what the parts do on a device, with NumPy in CuPy's place ------------------------------------------------------


class Instant:
    """An event."""

    def record(self):
        self.at = time.perf_counter()

    def synchronize(self):
        """It is over."""


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
    module = types.ModuleType("cupy")
    for name in ("arange", "uint32", "where", "exp", "frexp", "ldexp", "ones", "isnan"):
        setattr(module, name, getattr(np, name))
    module.empty = emulated.cp.empty
    module.copyto = lambda target, source: target.__setitem__(..., source)
    module.random = SimpleNamespace(
        standard_normal=lambda size, dtype: emulated.asarray(np.linspace(-3, 3, np.prod(size)).reshape(size), dtype)
    )
    module.cuda, module.get_default_memory_pool = cuda, lambda: pool
    with pytest.MonkeyPatch.context() as patch:  # undone before the emulated device gives CuPy's place back
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
    calls, recorded = [], []

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
    """Exactly where they lie on one; a large time that is off by a little moves a small one hardly."""
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


#: What compute-sanitizer says where it has no memory for its own records, as its manual has it, and of a real fault.
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
    """And what it has found beside that is not lost."""
    (tmp_path / "said").write_text("\n".join([HEAD, *said, SUMMARY]))
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\ncat {tmp_path / 'said'}\nexit {exit_status}")
    tool.chmod(0o755)
    facts = sanitizer.look(str(tool), "synccheck", "resident 8", "cupy", 30.0)
    assert ("tool_failed" in facts) == of_the_tool
    assert ("failed" in facts) == (exit_status == 9 and not of_the_tool)
    if of_the_tool:
        assert facts["why"] == said[0].splitlines()[0].strip("= ")


def test_a_tool_that_lacked_memory_has_it_alone(monkeypatch, tmp_path):
    """Where synccheck has failed beside others, it is called again by itself and does not; racecheck fails both times."""
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
    """Each block of a cluster has two a layer, and may reach the others' too."""
    given = sanitizer.command("tool", "synccheck", "resident 8", "cupy")
    assert int(given[given.index("--num-cuda-barriers") + 1]) > 2 * MOST_LAYERS * max(CLUSTERS)
    assert "--num-cuda-barriers" not in sanitizer.command("tool", "memcheck", "resident 8", "cupy")


@pytest.mark.parametrize("precision", cases.PRECISIONS)
def test_who_takes_part(cupy_by_numpy, precision):
    def names(number, *, compiled):
        case = SimpleNamespace(sizes=cases.SHAPES[number][0])
        return set(peers.contestants(case, precision, compiled=compiled, rehearse=False))

    assert names(0, compiled=True) == {"deltaprop", "PyTorch compiled"}
    assert {"deltaprop", "deltaprop, graph", "PyTorch graph", "PyTorch eager"} < names(0, compiled=False)
    assert ("naive CuPy" in names(0, compiled=False)) == (precision == "fp32")
    assert ("JAX scan, graphs" in names(0, compiled=False)) == (precision != "bf16")
    assert "JAX scan, graphs" not in names(4, compiled=False)
    jax = {name for name in names(4, compiled=False) if name.startswith("JAX")}
    expected = {"fp32": {"JAX scan", "JAX jit"}, "tf32": {"JAX scan"}}
    assert jax == expected.get(precision, {"JAX scan, bf16 asked for", "JAX scan, bf16 operands"})


# -- peers ---------------------------------------------------------------------------------------------------------

SMALL = Case((6, 5, 3), 4, 3)


def steps_in_float64(case, rounded):
    """Plain steps with operands of every product rounded."""
    W, b = [x.astype(float) for x in case.W], [x.astype(float) for x in case.b]
    for rows in case.order.reshape(-1, case.batch):
        A = [case.X[rows].astype(float)]
        for l in range(len(W)):
            Z = rounded(A[-1]) @ rounded(W[l]).T + b[l]
            e = np.exp(Z - Z.max(axis=1, keepdims=True))
            A.append(1 / (1 + np.exp(-Z)) if l < len(W) - 1 else e / e.sum(axis=1, keepdims=True))
        delta = (A[-1] - case.Y[rows]) / len(rows)
        for l in reversed(range(len(W))):
            of_W, of_b = rounded(delta).T @ rounded(A[l]), delta.sum(axis=0)
            if l:
                delta = rounded(delta) @ rounded(W[l]) * (A[l] * (1 - A[l]))
            W[l] -= 0.1 * of_W
            b[l] -= 0.1 * of_b
    return [x for pair in zip(W, b, strict=True) for x in pair]


def test_jax_with_operands_of_bfloat16_rounds_them_and_nothing_else():
    require("jax")
    ml_dtypes = require("ml_dtypes")
    one = Jax(SMALL, "cpu", "bf16", operands="bfloat16")
    one.epoch()
    one.wait()
    got = one.parameters()
    rounded = steps_in_float64(SMALL, lambda x: x.astype(ml_dtypes.bfloat16).astype(float))
    plain = steps_in_float64(SMALL, lambda x: x)
    assert peers.distance(got, rounded) < 2e-5  # a rounding may fall the other way
    assert peers.distance(got, plain) > 1e-4


def test_contestants_agree_with_the_formulas():
    expected = steps_in_float64(SMALL, lambda x: x)
    makers = {"ours": lambda: Ours(SMALL, "reference")}
    if require("torch"):
        makers["torch"] = lambda: Torch(SMALL, "cpu")
    for name, make in makers.items():
        one = make()
        one.epoch()
        one.wait()
        assert peers.distance(one.parameters(), expected) < 1e-6, name


def test_tf32_is_allowed_where_it_is_asked_for():
    torch = require("torch")
    for precision, allowed in (("tf32", True), ("fp32", False), ("bf16", False)):
        Torch(SMALL, "cpu", precision)
        assert torch.backends.cuda.matmul.allow_tf32 is allowed


def test_a_peer_that_cannot_run_is_named_in_its_row(monkeypatch):
    def broken():
        raise RuntimeError("no such thing\nmore")

    entries = {"deltaprop": lambda: Ours(SMALL, "reference"), "other": broken}
    monkeypatch.setattr(peers, "contestants", lambda *_, **__: entries)
    table = peers.Peers(Options(60.0, rehearse=True, avoid={"row: third": "it broke"}), Told())
    table.cases[0] = SMALL
    entries["third"] = broken
    row = table.row("row", 0, "fp32", compiled=False)
    assert row["errors"] == {"other": "RuntimeError: no such thing", "third": "it broke"}
    assert list(row["contestants"]) == ["deltaprop"]
    assert row["contestants"]["deltaprop"]["agrees"]
    assert peers.compare(row) == {"best_peer": None, "ratio": None}


def test_a_peer_that_computes_something_else_disagrees(monkeypatch):
    class Cheat(Ours):
        def epoch(self):
            """Nothing."""

    entries = {"deltaprop": lambda: Ours(SMALL, "reference"), "cheat": lambda: Cheat(SMALL, "reference")}
    monkeypatch.setattr(peers, "contestants", lambda *_, **__: entries)
    table = peers.Peers(Options(60.0, rehearse=True), Told())
    table.cases[0] = SMALL
    row = table.row("row", 0, "fp32", compiled=False)
    assert not row["contestants"]["cheat"]["agrees"]
    assert peers.compare(row)["best_peer"] is None


def test_no_time_stands_under_the_name_of_a_way_that_was_refused():
    one = Ours(SMALL, "reference")
    assert one.way == "RecordedEpoch"
    one.epoch()
    one.trainer.whole_epoch = None
    with pytest.raises(RuntimeError, match="expected epochs by RecordedEpoch, got NoneType"):
        one.epoch()


def test_graphs_that_are_refused_are_no_graphs(emulated, monkeypatch):
    monkeypatch.setattr(type(emulated), "captures", False, raising=False)
    with small_fits.only("captured"), pytest.raises(RuntimeError, match="one by one, for graphs are refused"):
        small_fits.distance(emulated, "captured", "float32", dp.SGD(0.1))
