"""`deltaprop train --ranks mpi` under mpiexec: rank 0 speaks and writes, and all ranks end in the same way."""

import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from mpiexec import end, needs_mpi, run_ranks, start_ranks

import deltaprop as dp
from deltaprop.cli import run

pytestmark = needs_mpi

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "many_processes.md"
OPTIONS = ["--epochs", "2", "--dtype", "float64", "--hidden", "20", "--no-progress"]
#: Runs the command as main does; RANK stands for the number of the rank.
MAIN = """
import os, sys
rank = os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK"))
sys.argv = [word.replace("RANK", rank) for word in sys.argv]
from deltaprop.cli import main
"""


def complaints(text):
    return [line for line in text.splitlines() if line.startswith("deltaprop: ")]


def test_two_ranks_train_as_one(tmp_path, capsys):
    files = [tmp_path / name for name in ("model", "state", "curves.png")]
    named = [word for pair in zip(("--out", "--checkpoint", "--plot"), files, strict=True) for word in pair]
    done = run_ranks(2, "-m", "deltaprop", "train", "digits", *OPTIONS, "--ranks", "mpi", *named)
    assert done.returncode == 0, done.stderr
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert run(["train", "digits", *OPTIONS, "--out", str(tmp_path / "alone")]) == 0
    alone, together = capsys.readouterr().out.splitlines(), done.stdout.splitlines()
    assert [line.split()[0] for line in together] == ["data", "network", "training", "test", "model", "curves"]
    assert together[0] == alone[0]
    assert together[1] == f"{alone[1]}, by 2 ranks"
    assert together[3] == alone[3]
    found, expected = (dp.load(path).network.parameters for path in (files[0], tmp_path / "alone"))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_networks_of_a_table_have_the_bits_of_one_process(tmp_path, capsys):
    rng = np.random.default_rng(1)
    rows = [
        f"{x},{wood},{'long' if x > 0 else 'short'}"
        for x, wood in zip(rng.normal(size=80), "ashelmoak" * 9, strict=False)
    ]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["length,wood,class", *rows]))
    options = ["train", str(table), "--members", "3", "--hidden", "4", "--no-progress"]
    done = run_ranks(2, "-m", "deltaprop", *options, "--ranks", "mpi", "--out", tmp_path / "together")
    assert done.returncode == 0, done.stderr
    assert run([*options, "--out", str(tmp_path / "alone")]) == 0
    alone, together = capsys.readouterr().out, done.stdout
    assert "3 networks by 2 ranks; " in together
    assert (
        alone[alone.index("score ") : alone.index("model ")]
        == together[together.index("score ") : together.index("model ")]
    )
    found, expected = dp.load(tmp_path / "together"), dp.load(tmp_path / "alone")
    assert found.stack_.parameters.tobytes() == expected.stack_.parameters.tobytes()


def test_the_script_of_the_page(tmp_path, monkeypatch):
    """It trains, writes its two files, and goes on from the checkpoint, which has nothing left to do."""
    monkeypatch.chdir(tmp_path)
    (script,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "train.py").write_text(script)
    for size in (2, 1):
        done = run_ranks(size, "train.py")
        assert done.returncode == 0, done.stderr
        assert re.fullmatch(r"cost 0\.\d{4}\n", done.stdout)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.safetensors", "run.safetensors", "train.py"]


@pytest.mark.parametrize(("arguments", "status", "told"), [
    (["d-RANK.npz"], 2, "d-1.npz: no such file or folder ('digits' is the data set that needs none) (on rank 1)"),
    (["d-0.npz", "--epochs", "1RANK"], 2, "--ranks: expected the same epochs on every rank, got 10 on rank 0 and 11 on"),
    (["d-0.npz", "--out", "no/where/m"], 2, "cannot write no/where/m: there is no folder"),
    (["d-0.npz", "--optimizer", "sgd", "--lr", "1e300", "--task", "regression"], 1, "training diverged: "),
    (["d-0.npz", "--lr", "fast"], 2, "Invalid value for '--lr'"),
], ids=["on one rank", "another argument", "on rank 0", "divergence", "usage"])  # fmt: skip
def test_a_failure_is_told_once_and_ends_all_ranks(tmp_path, monkeypatch, arguments, status, told):
    monkeypatch.chdir(tmp_path)
    X = np.random.default_rng(0).random((60, 3))
    np.savez("d-0.npz", X=X, y=(X[:, 0] > 0.5).astype(int))
    done = run_ranks(2, "-c", f"{MAIN}main()", "train", *arguments, "--no-progress", "--ranks", "mpi", timeout=60)
    assert done.returncode == status, done.stderr
    (line,) = complaints(done.stderr)
    assert line.startswith(f"deltaprop: error: {told}")


def test_a_rank_that_fails_unforeseen_ends_all(tmp_path):
    """Rank 1 waits for rank 0 meanwhile, which cannot print."""
    fail = f"{MAIN}import typer\ndef fail(line): raise OSError('standard output is gone')\ntyper.echo = fail\nmain()"
    done = run_ranks(2, "-c", fail, "train", "digits", *OPTIONS, "--ranks", "mpi", timeout=60)
    assert done.returncode != 0
    assert complaints(done.stderr) == ["deltaprop: error: standard output is gone"]


def test_a_signal_to_one_rank_ends_all_and_keeps_what_was_learned(tmp_path):
    out, state = tmp_path / "model", tmp_path / "state"
    options = ["--epochs", "100000", "--no-progress", "--out", out, "--checkpoint", state, "--ranks", "mpi"]
    write = f"{MAIN}open(os.path.join({str(tmp_path)!r}, 'process-' + rank), 'w').write(str(os.getpid()))\nmain()"
    process = start_ranks(2, "-c", write, "train", "digits", *options)
    try:
        until = time.monotonic() + 60
        while not state.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.02)
        os.kill(int((tmp_path / "process-1").read_text()), signal.SIGINT)
        printed, errors = process.communicate(timeout=60)
    finally:
        end(process)
    assert process.returncode == 130
    assert complaints(errors) == ["deltaprop: interrupted"]
    assert f"model       {out} (what has been learned so far)" in printed
    assert dp.load(out).network.layer_sizes == (64, 100, 10)
