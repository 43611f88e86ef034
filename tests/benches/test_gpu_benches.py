"""`benches.gpu` without a GPU: the whole program is rehearsed, and its processes are tested."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from conftest import require
from deltaprop.benches import gpu
from deltaprop.benches.gpu_parts import markdown
from deltaprop.benches.gpu_parts.part import USUAL, Options
from deltaprop.benches.gpu_parts.process import Log, PartProcess
from deltaprop.benches.gpu_parts.results import Results
from rehearsal import ROOT, program

import deltaprop as dp


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
    """The assembled package is imported, in other processes too."""
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


def finished(name, seconds=60.0, log=None, **options):
    rows = []
    process = PartProcess(name, Options(seconds, **options), lambda row, text: rows.append(row), log or Log(None))
    return process, process.finish(time.monotonic() + seconds, threading.Event()), rows


def test_a_part_that_cannot_run_here_has_not_failed():
    process, status, rows = finished("mnist")
    assert (status, process.why, rows) == ("not here", "no --mnist FOLDER was given", [])


def test_a_part_is_ended_when_its_time_is_over():
    require("torch")  # its import alone takes longer
    began = time.monotonic()
    process, status, _ = finished("peers", 0.3, rehearse=True)
    assert status == "cut off"
    assert time.monotonic() - began < 30
    assert process.process.returncode == -signal.SIGKILL


def test_work_that_takes_too_long_is_ended():
    process = PartProcess("peers", Options(60.0, rehearse=True), lambda *_: None, Log(None))
    process.overdue = time.monotonic()  # as if it had begun long ago
    assert process.finish(time.monotonic() + 60.0, threading.Event()) == "stuck"
    assert process.process.returncode == -signal.SIGKILL


def test_a_part_that_fails_says_why(tmp_path):
    with (tmp_path / "log").open("w") as file:
        process, status, _ = finished("mnist", mnist=str(tmp_path / "nowhere"), log=Log(file))
    assert status == "failed"
    assert "nowhere" in process.why
    assert "mnist: Traceback" in (tmp_path / "log").read_text()


class FakeProcess:
    """Stands for the process of a part with three works, a row each; some works break the process."""

    breaking, made = {"two"}, list[Any]()

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
        every = gpu.BenchRun(Options(0.0), results, Log(None), time.monotonic() + seconds)
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
    assert set(content["left_out"]) == {"mnist", "peers"}  # trace runs only if named
    assert "peers: LEFT OUT" in capsys.readouterr().out


def test_a_run_that_is_ended_keeps_what_it_has(tmp_path):
    """It ends as by ``timeout``, and no process that it has started goes on."""
    require("torch")  # else all rows are done before the signal
    file = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benches.gpu", "--rehearse", "--budget", "300", "--json", str(file)]
    command += ["--only", "bits", "memory", "peers", "--mnist", str(tmp_path)]  # its processes get them too
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
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
