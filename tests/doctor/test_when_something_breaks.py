"""A stage that crashes, hangs, raises or is interrupted costs no other stage, and leaves no process behind."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import examined
import pytest
from processes import outputs_of
from processes import run as run_program

import deltaprop as dp
from deltaprop.cli import run
from deltaprop.doctor import run as running
from deltaprop.doctor.process import module_command, run_process
from deltaprop.doctor.stages import Trial, trials_of

no_device = examined.no_device


#: A process that reports what it tries and then runs until its parent ends.
ENDLESS = """
import os, sys, time
from pathlib import Path
from deltaprop.doctor.process import end_with_parent, events_to_stdout
end_with_parent()
tell = events_to_stdout()
tell(("trying", "to wait"))
Path(sys.argv[1]).write_text(str(os.getpid()))
def waits_for_ever():
    while True:
        time.sleep(0.01)
waits_for_ever()
"""


@pytest.fixture
def instead(monkeypatch):
    """A function that runs a program in place of a stage."""

    def replace(stage, program, *arguments):
        command = module_command

        def chosen(module, backend, name, *options):
            if name == stage:
                return [sys.executable, "-c", program, *map(str, arguments)]
            return command(module, backend, name, *options)

        monkeypatch.setattr(running, "module_command", chosen)

    return replace


CRASH = """
import os, signal, sys
print('["check", ["float64 SGD", 1e-15, 1e-12, ""]]')
print('["trying", "float64 Adam"]', flush=True)
print("what it had to say", file=sys.stderr, flush=True)
print('["tryi', end="", flush=True)
os.kill(os.getpid(), signal.SIGSEGV)
"""


#: A stage that waits until so many stages have begun.
MEETING = """
import os, sys, time
from pathlib import Path
folder, count = Path(sys.argv[1]), int(sys.argv[2])
(folder / str(os.getpid())).touch()
end = time.monotonic() + 20
while len(list(folder.iterdir())) < count and time.monotonic() < end:
    time.sleep(0.01)
print('["check", ["met", %d, 0, ""]]' % (len(list(folder.iterdir())) < count))
print('["done", null]')
"""


def never(*_):
    raise AssertionError("a trial by name alone was run")


def trials(*names, alone=()):
    return tuple(Trial(name, never, alone=name in alone) for name in names)


def test_which_stages_run_side_by_side():
    names = [[trial.name for trial in batch] for batch in running.batches(trials(*"abcdefg", alone="de"))]
    assert names == [["a"], ["b", "c"], ["d"], ["e"], ["f", "g"]]
    for kind in ("cupy", "numpy"):
        for batch in running.batches(trials_of(kind)):
            assert len(batch) == 1 or not any("fits" in trial.name or "memory" in trial.name for trial in batch)
    assert [trial.name for trial in running.batches(trials_of("cupy"))[1]] == ["kernel files"]


@pytest.mark.parametrize("exclusive", [False, True])
def test_side_by_side_and_in_order(monkeypatch, tmp_path, exclusive):
    """Two stages wait for each other, unless a device serves one process at a time; the table is in order."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(running, "trials_of", lambda kind, *, emulated=False: trials("first", "second", "third"))
    told = [["exclusive", None]] if exclusive else []
    first = "\n".join(map(json.dumps, [*told, ["done", None]]))
    programs = {"first": ["print(__import__('sys').argv[1])", first]}
    folders = {name: tmp_path / (name if exclusive else "together") for name in ("second", "third")}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)

    def command(module, backend, name, *options):
        program = programs.get(name) or [MEETING, str(folders[name]), "1" if exclusive else "2"]
        return [sys.executable, "-c", *program]

    most, at_once = [], []
    run = run_process

    def counted(command, *rest):
        at_once.append(command)
        most.append(len(at_once))
        try:
            return run(command, *rest)
        finally:
            at_once.remove(command)

    monkeypatch.setattr(running, "module_command", command)
    monkeypatch.setattr(running, "run_process", counted)
    report = dp.check_backend("numpy")
    assert [(stage.name, stage.status) for stage in report.stages] == [
        ("first", "ok"), ("second", "ok"), ("third", "ok")
    ]  # fmt: skip
    assert max(most) == (1 if exclusive else 2)
    assert (report.seconds < sum(stage.seconds for stage in report.stages)) == (not exclusive)


def test_an_interrupt_ends_all_that_run_side_by_side(tmp_path):
    program = (
        "import os, sys; import deltaprop as dp; from deltaprop.doctor import run; "
        "from deltaprop.doctor.stages import Trial; os.cpu_count = lambda: 2; "
        "run.trials_of = lambda kind, *, emulated: tuple(Trial(name, None) for name in 'abcd'); "
        f"run.module_command = lambda module, backend, name: [sys.executable, '-c', {ENDLESS!r} if name != 'a' else '', "
        "sys.argv[1] + name]; dp.check_backend('numpy')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, f"{tmp_path}/"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    for name in "bc":
        wait_for(lambda name=name: (tmp_path / name).exists() and (tmp_path / name).read_text())
    process.send_signal(signal.SIGINT)
    _, errors = outputs_of(process, 60)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in errors
    assert not (tmp_path / "d").exists()
    for name in "bc":
        assert_gone(tmp_path / name)


def test_a_crash_costs_one_stage(instead, no_device, capsys, tmp_path):
    instead("recorded epochs", CRASH)
    path = tmp_path / "found.json"
    assert run(["doctor", "--backend", "numpy", "--json", str(path)]) == 1
    text = " ".join(capsys.readouterr().out.split())
    why = f"its process was ended by signal {int(signal.SIGSEGV)}, SIGSEGV, during float64 Adam"
    assert f"numpy, recorded epochs: failed: {why}" in text
    stages = json.loads(path.read_text())["stages"]
    assert [stage["status"] == "failed" for stage in stages] == [False, True, False, False]
    assert stages[1]["found"] == 1e-15
    assert stages[1]["log"].startswith("what it had to say")


def test_what_a_stage_raises_is_what_it_found(instead):
    program = 'print(\'["raised", "ValueError: no"]\'); print(\'["done", null]\')'
    instead("single steps", program)
    (stage,) = dp.check_backend("numpy", only="single").stages
    assert (stage.status, stage.why) == ("failed", "ValueError: no")
    instead("single steps", 'print(\'["trying", "float64 Adam"]\')')
    (stage,) = dp.check_backend("numpy", only="single").stages
    assert (stage.status, stage.why) == ("failed", "its process ended before the stage did, during float64 Adam")
    instead("single steps", "raise SystemExit(3)")
    (stage,) = dp.check_backend("numpy", only="single").stages
    assert stage.why == "its process ended with status 3"


@pytest.mark.parametrize("found", [1e-3, math.nan])
def test_a_wrong_number_is_a_failure(instead, found, capsys, tmp_path):
    events = [["check", ["float64 SGD", 1e-13, 1e-12, ""]], ["check", ["float32 SGD", found, 4e-5, ""]], ["done", None]]
    instead("single steps", "import sys; print(sys.argv[1])", "\n".join(map(json.dumps, events)))
    path = tmp_path / "found.json"
    assert run(["doctor", "--backend", "numpy", "--only", "single", "--json", str(path)]) == 1
    assert f"failed: float32 SGD: {found:.1e}, allowed 4.0e-05" in capsys.readouterr().out
    (stage,) = json.loads(path.read_text())["stages"]
    assert stage["found"] == (found if math.isfinite(found) else "nan")


def test_a_crash_of_the_device_ends_what_would_wait_for_it(instead, monkeypatch):
    instead("device", CRASH)
    report = dp.check_backend("cupy")
    assert [(stage.name, stage.status) for stage in report.stages] == [("device", "failed")]
    assert not report.ok


def test_a_stage_that_takes_too_long_is_ended(instead, monkeypatch, tmp_path):
    steps = next(trial for trial in trials_of("numpy") if trial.name == "single steps")
    hurried = dataclasses.replace(steps, limit=2.0)
    monkeypatch.setattr(running, "trials_of", lambda kind, *, emulated=False: (hurried,))
    instead("single steps", ENDLESS, tmp_path / "pid")
    (stage,) = dp.check_backend("numpy").stages
    assert (stage.status, stage.why) == ("failed", "it took more than 2 s and was stopped, during to wait")
    assert "waits_for_ever" in stage.log  # the line where it was
    assert_gone(tmp_path / "pid")


def test_what_does_not_listen_is_killed(monkeypatch, tmp_path):
    program = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    ending = run_process([sys.executable, "-c", program, str(tmp_path / "pid")], 1.0, lambda event: None)
    assert ending.problem == "it took more than 1 s and was stopped"
    assert ending.seconds < 30
    assert_gone(tmp_path / "pid")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_no_process_outlives_the_one_that_started_it(number, tmp_path):
    """The parent ends by Ctrl-C, or by a signal that it cannot handle."""
    program = (
        "import sys; from deltaprop.doctor.process import run_process; "
        f"run_process([sys.executable, '-c', {ENDLESS!r}, sys.argv[1]], 600.0, lambda event: None)"
    )
    pid = tmp_path / "pid"
    process = subprocess.Popen([sys.executable, "-c", program, str(pid)], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: pid.exists() and pid.read_text())
    process.send_signal(number)
    _, errors = outputs_of(process, 60)
    assert process.returncode == -number
    assert ("KeyboardInterrupt" in errors) == (number == signal.SIGINT)
    assert_gone(pid)


def test_ctrl_c_at_the_command(tmp_path):
    """The running process is ended, no other is started, and the exit status is the usual one."""
    errors = tmp_path / "errors"
    with errors.open("w") as file:
        command = [sys.executable, "-m", "deltaprop", "doctor", "--backend", "numpy"]
        process = subprocess.Popen(command, stderr=file, stdout=subprocess.PIPE, text=True)
        wait_for(lambda: "numpy: compiled epochs" in errors.read_text())
        process.send_signal(signal.SIGINT)
        out, _ = outputs_of(process, 60)
    assert process.returncode == 130
    assert out == ""
    assert errors.read_text().splitlines()[-1] == "deltaprop: interrupted"


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def assert_gone(file):
    """Assert that the process whose number is in the file ends soon."""

    def gone():
        try:
            os.kill(int(file.read_text()), 0)
        except ProcessLookupError:
            return True
        stat = Path(f"/proc/{file.read_text()}/stat")
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"

    wait_for(gone)


def test_a_script_needs_no_guard(tmp_path):
    """It need not be a file, and modules beside it are not imported in place of others."""
    (tmp_path / "numpy.py").write_text("raise RuntimeError('not NumPy')")
    script = "print(dp.check_backend('numpy', only='single').ok)"
    assert run_program(script, cwd=tmp_path, env=os.environ | {"PYTHONSAFEPATH": "1"}) == ["True"]


def test_an_application_that_is_no_python(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/opt/application")
    with pytest.raises(dp.BackendError, match=r"as sys\.executable, got '/opt/application'"):
        module_command("deltaprop.doctor")


def test_the_command_as_a_module():
    command = [sys.executable, "-m", "deltaprop", "doctor", "--backend", "zig"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("deltaprop: error: --backend: expected one of")
