"""The command under launchers of several processes, which are played by their variables; tests/ranks has the real ones."""

import os
import re
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import numpy as np
import pytest
from processes import python

from deltaprop.cli import info, processes, run
from deltaprop.cli.ending import ending_by
from deltaprop.errors import BackendError
from deltaprop.ranks import choice
from deltaprop.ranks.base import ALONE
from deltaprop.ranks.launchers import NUMBERS, VARIABLES, LauncherError

VARIABLE = "SLURM_STEP_NUM_TASKS"


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """No launcher has started these tests; returns how long processes wait for the first."""
    for name in (*VARIABLES, *NUMBERS.values()):
        monkeypatch.delenv(name, raising=False)
    waited: list[float] = []
    monkeypatch.setattr(processes, "time", SimpleNamespace(sleep=waited.append))
    return waited


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.safetensors"
    assert run(["train", "digits", "--epochs", "1", "--no-progress", "--out", str(path)]) == 0
    return str(path)


@pytest.mark.parametrize("command", [
    ["train", "digits", "--out", "new"],
    ["train", "table.csv", "--out", "new"],
    ["sweep", "digits", "--grid", "lr=0.1", "--csv", "new"],
    ["predict", "MODEL", "digits", "--out", "new"],
    ["predict", "MODEL", "digits"],
    ["weights", "MODEL", "--plot", "new.png"],
    ["bench", "--json", "new"],
    ["doctor", "--json", "new"],
], ids=lambda command: " ".join(command[:2] + command[-1:]))  # fmt: skip
@pytest.mark.parametrize("variable", VARIABLES)
def test_what_several_processes_would_do_alike_is_refused(command, variable, monkeypatch, capsys, tmp_path, waits):
    """Nothing is written, and the first process alone tells; the others wait for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "4")
    said = []
    for number in range(4):
        monkeypatch.setenv(NUMBERS[variable], str(number))
        assert run(command) == 2
        said.append(capsys.readouterr())
    assert list(tmp_path.iterdir()) == []
    assert [one.out for one in said] == [""] * 4
    assert [one.err.count("\n") for one in said] == [1, 0, 0, 0]
    way = "add --ranks mpi, or start one process" if command[0] == "train" else "start one process"
    assert said[0].err.startswith("deltaprop: error: expected one process, but ")
    assert f"has started 4 ({variable}=4)" in said[0].err
    assert f"; {way}, or unset {variable} where each has work of its own" in said[0].err
    assert waits == [processes.SECONDS_FOR_THE_FIRST] * 3


def test_what_only_prints_runs(model, monkeypatch, capsys, waits):
    capsys.readouterr()
    monkeypatch.setenv(VARIABLE, "4")
    monkeypatch.setenv(NUMBERS[VARIABLE], "3")
    for command in (["evaluate", model, "digits"], ["gradcheck"], ["info"], ["--version"], ["sweep", "--help"]):
        assert run(command) == 0
        assert capsys.readouterr().out
    assert waits == []


def test_one_process_of_a_launcher_runs(monkeypatch, capsys):
    for name in VARIABLES:
        monkeypatch.setenv(name, "1")
    for ranks in ([], ["--ranks", "mpi"]):
        if ranks:
            pytest.importorskip("mpi4py")
            monkeypatch.setattr(choice, "find_ranks", lambda asked: ALONE)
        assert run(["train", "digits", "--epochs", "1", "--no-progress", *ranks]) == 0
        assert "accuracy" in capsys.readouterr().out


def test_errors_of_the_command_line_are_told_once(monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, "2")
    for number, lines in ((0, 1), (1, 0)):
        monkeypatch.setenv(NUMBERS[VARIABLE], str(number))
        assert run(["train", "digits", "--lr", "fast", "--ranks", "mpi"]) == 2
        assert capsys.readouterr().err.count("\n") == lines


@pytest.mark.parametrize(("error", "of_others"), [
    (LauncherError("ranks: expected 2 ranks, as srun says (SLURM_STEP_NUM_TASKS=2), got 1 from Open MPI"), ""),
    (BackendError("ranks: MPI cannot be had"), "deltaprop: error: ranks: MPI cannot be had\n"),
])  # fmt: skip
def test_ranks_that_cannot_be_had(error, of_others, monkeypatch, capsys):
    """With the launcher of another MPI, no process has its ranks. MPI may lack on one machine alone."""

    def fail(asked):
        raise error

    monkeypatch.setattr(choice, "find_ranks", fail)
    monkeypatch.setenv(VARIABLE, "2")
    said = []
    for number in range(2):
        monkeypatch.setenv(NUMBERS[VARIABLE], str(number))
        assert run(["train", "digits", "--ranks", "mpi"]) == 2
        said.append(capsys.readouterr().err)
    assert said == [f"deltaprop: error: {error}\n", of_others]


def test_other_words_than_mpi(capsys):
    assert run(["train", "digits", "--ranks", "nccl"]) == 2
    assert capsys.readouterr().err == "deltaprop: error: --ranks: expected mpi, got 'nccl'\n"


@pytest.mark.parametrize(("error", "status", "line"), [
    (ValueError("bad\n  input"), 2, "deltaprop: error: bad input"),
    (MemoryError("no room"), 2, "deltaprop: error: not enough memory: no room"),
    (KeyboardInterrupt(), 130, "deltaprop: interrupted"),
    (SystemExit(143), 143, "deltaprop: terminated"),
    (SystemExit(), 0, ""),
    (SystemExit("a reason"), 1, "deltaprop: error: a reason"),
], ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value))  # fmt: skip
def test_endings(error, status, line):
    ending = ending_by(error)
    assert ending is not None
    assert ending.status == status
    assert ending.line.startswith(line)
    assert ending_by(TypeError("a fault of the program")) is None


def test_info_names_the_library_of_mpi(monkeypatch):
    pytest.importorskip("mpi4py")
    monkeypatch.setattr(info, "MPI_LIBRARY", "print('MPICH Version:      5.0.2\\nMPICH Release date: none')")
    monkeypatch.setenv(VARIABLE, "3")
    of_mpi, launcher = info._mpi()
    assert re.fullmatch(r"MPI          MPICH 5\.0\.2, by mpi4py \d\S+", of_mpi)
    assert launcher == "started by   srun, as one of 3 processes (SLURM_STEP_NUM_TASKS=3)"
    monkeypatch.setattr(info, "MPI_LIBRARY", "raise RuntimeError('cannot load MPI library')")
    assert "no library that can be loaded (RuntimeError: cannot load MPI library)" in info._mpi()[0]
    monkeypatch.setattr(info, "MPI_LIBRARY", "import os; os._exit(7)")
    assert "no library that can be loaded (exit status 7)" in info._mpi()[0]


def test_info_without_mpi(monkeypatch):
    def no_version(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr(info, "version", no_version)
    assert info._mpi() == ["MPI          mpi4py is not installed"]


BOUND = """
from threadpoolctl import threadpool_limits
from deltaprop.backends.native.scipy_threads import own_threads
net = dp.Network([784, 512, 10], backend="numpy")
with threadpool_limits(8):
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    print(own_threads(), useful_threads(net, 1e9, 100))
"""


def test_a_process_that_is_bound_to_a_core_later_takes_one_thread():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("the system binds no processes")
    program = "import os\nimport deltaprop as dp\nfrom deltaprop.epochs.compiled import useful_threads\n" + BOUND
    assert python("-c", program) == "1 1\n"


def test_the_command_starts_without_mpi_and_backends():
    program = (
        "import sys, deltaprop.cli; print([name for name in ('deltaprop.backends', 'mpi4py') if name in sys.modules])"
    )
    assert python("-c", program) == "[]\n"


def test_ranks_are_no_option_of_the_line_of_a_sweep(capsys, tmp_path):
    X = np.random.default_rng(0).random((40, 3))
    np.savez(tmp_path / "d.npz", X=X, y=(X[:, 0] > 0.5).astype(int))
    command = ["sweep", str(tmp_path / "d.npz"), "--grid", "lr=0.1", "--cv", "2", "--epochs", "1", "--no-progress"]
    assert run(command) == 0
    assert "--ranks" not in capsys.readouterr().err
