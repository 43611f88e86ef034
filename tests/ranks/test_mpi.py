"""Processes under mpiexec: trained, killed and resumed, and ended together."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mpiexec import end, needs_mpi, run_ranks, start_ranks, wait_for
from trains import WAYS, trained

from deltaprop.ranks.launchers import VARIABLES, LauncherError
from deltaprop.ranks.mpi import mpi_ranks

SCRIPT = Path(__file__).with_name("trains.py")
#: A rank that is gone ends the others within so many seconds.
SECONDS = 10


@needs_mpi
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_train_as_one(tmp_path, size):
    done = run_ranks(size, SCRIPT, tmp_path, "once")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{name} {size} the same" for name in WAYS]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{name}.{kind}" for name in WAYS for kind in ("npz", "safetensors")
    )
    for name, options in WAYS.items():
        net, history = trained(None, **options)
        found = np.load(tmp_path / f"{name}.npz")
        np.testing.assert_allclose(found["parameters"], net.parameters, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found["cost"], history.cost, rtol=1e-12)


@needs_mpi
def test_killed_by_three_and_resumed_by_two_and_four(tmp_path):
    for size, epoch in ((3, 5), (2, 25)):
        process = start_ranks(size, SCRIPT, tmp_path, "long")
        try:
            while int(wait_for(tmp_path / "epoch")) < epoch:
                assert process.poll() is None, process.communicate()
                time.sleep(0.01)
            os.kill(int(wait_for(tmp_path / f"process-{size - 1}")), signal.SIGKILL)
            process.communicate(timeout=SECONDS)  # the others are ended by their launcher
        finally:
            end(process)
        assert process.returncode != 0
        assert not (tmp_path / "done.npz").exists()
    done = run_ranks(4, SCRIPT, tmp_path, "long")
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "done.npz")
    net, history = trained(None, 60, dropout=0.2, l2=0.1)
    np.testing.assert_allclose(found["parameters"], net.parameters, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found["cost"], history.cost, rtol=1e-12)


@needs_mpi
def test_a_signal_to_one_process_ends_all_and_loses_nothing(tmp_path):
    process = start_ranks(2, SCRIPT, tmp_path, "long")
    try:
        while int(wait_for(tmp_path / "epoch")) < 3:
            time.sleep(0.01)
        os.kill(int(wait_for(tmp_path / "process-1")), signal.SIGTERM)
        process.communicate(timeout=SECONDS)
    finally:
        end(process)
    assert process.returncode != 0
    (tmp_path / "epoch").unlink()
    done = run_ranks(2, SCRIPT, tmp_path, "long")
    assert done.returncode == 0, done.stderr
    net, _ = trained(None, 60, dropout=0.2, l2=0.1)
    np.testing.assert_allclose(np.load(tmp_path / "done.npz")["parameters"], net.parameters, rtol=0, atol=1e-12)


@needs_mpi
@pytest.mark.parametrize(
    ("mode", "told"),
    [
        ("callback", ["LookupError: a callback of rank 0", "RankError: rank 0 failed: LookupError"]),
        ("caught", ["LookupError: which rank 0 does not catch"]),
        ("diverges", ["DivergenceError: training diverged"]),
        ("afterwards", ["LookupError: after training, on rank 1"]),
    ],
)
def test_an_exception_ends_all_ranks(tmp_path, mode, told):
    done = run_ranks(3, SCRIPT, tmp_path, mode, timeout=60)
    assert done.returncode != 0
    for words in told:
        assert words in done.stderr


@needs_mpi
@pytest.mark.parametrize("variable", VARIABLES)
def test_a_launcher_of_another_mpi_is_refused(variable):
    code = """
import numpy as np, deltaprop as dp
dp.Network([2, 3, 1], backend="numpy").fit(np.zeros((8, 2)), np.zeros(8), ranks="mpi")
"""
    others = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    # A program of its own, which no launcher has started, but which is told so.
    done = subprocess.run(
        [sys.executable, "-c", code], env=others | {variable: "4"}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    if "MPI cannot be had" not in done.stderr:  # the library is found by mpiexec alone
        assert "LauncherError: ranks: expected 4 ranks, as " in done.stderr
        assert f"({variable}=4), got 1 from " in done.stderr


def test_a_process_that_a_rank_has_started_is_refused(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: "the rank")
    with pytest.raises(LauncherError, match="ranks: expected a process that mpiexec of Open MPI has started, got one"):
        mpi_ranks("mpi")


def test_the_import_leaves_mpi_alone():
    code = "import sys, deltaprop as dp; dp.Network([2, 3, 1]).fit([[0, 1]], [1]); print('mpi4py' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr
