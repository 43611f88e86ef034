"""The command line, as users call it: exit status, standard output, errors of one line."""

import csv
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import MISSING, fields
from importlib.metadata import version
from pathlib import Path

import joblib
import numpy as np
import pytest
from conftest import require
from processes import outputs_of
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

import deltaprop as dp
from deltaprop.cli import run
from deltaprop.cli.app import app
from deltaprop.cli.options import SweepOptions, TrainOptions
from deltaprop.cli.sweep_folds import Fold, score_candidates
from deltaprop.cli.sweep_grid import base_options
from deltaprop.cli.train_network import widths_of
from deltaprop.inputs.files import Dataset, load_dataset


def accuracy(text):
    found = re.search(r"accuracy ([\d.]+) %", text)
    assert found is not None
    return float(found[1])


def test_train_digits_in_a_process_of_its_own(tmp_path):
    """It shows a progress bar, then at least 97 % accuracy on the held-out part."""
    program = Path(sys.executable).with_name("deltaprop")
    result = subprocess.run([program, "train", "digits"], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert accuracy(result.stdout) >= 97.0
    for figure in ("epoch 50/50", "cost ", "validation accuracy ", "samples/s"):
        assert figure in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def table(tmp_path, rng):
    """Write a table of two named classes, which the first of two features tells apart."""
    a, b = rng.standard_normal(300), rng.standard_normal(300)
    lines = ["a,b,kind", *(f"{x},{y},{'up' if x > 0 else 'down'}" for x, y in zip(a, b, strict=True))]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines))
    return str(path)


def test_train_predict_evaluate(table, tmp_path, capsys):
    model, output = str(tmp_path / "m.safetensors"), tmp_path / "p.csv"
    assert run(["train", "--plain", table, "--epochs", "60", "--out", model, "--no-progress"]) == 0
    assert accuracy(capsys.readouterr().out) > 95
    assert run(["evaluate", model, table]) == 0
    assert accuracy(capsys.readouterr().out) > 95
    unlabelled = tmp_path / "new.csv"
    unlabelled.write_text("b,a\n0,-3\n0,3\n")
    assert run(["predict", model, str(unlabelled)]) == 0
    assert capsys.readouterr().out == "kind\ndown\nup\n"
    assert run(["predict", model, str(unlabelled), "--proba", "--out", str(output)]) == 0
    header, first, second = (line.split(",") for line in output.read_text().splitlines())
    assert header == ["kind", "kind=down", "kind=up"]
    assert float(first[1]) > 0.9
    assert float(second[2]) > 0.9
    assert dp.load(model).network.layer_sizes == (2, 100, 2)


def test_features_beyond_the_dtype_of_the_network_are_refused(table, tmp_path, capsys):
    model, beyond = str(tmp_path / "m.safetensors"), tmp_path / "beyond.csv"
    assert run(["train", "--plain", table, "--epochs", "1", "--out", model, "--no-progress"]) == 0
    beyond.write_text("a,b,kind\n1,2,up\n1,1e300,down\n")
    for command in ("predict", "evaluate"):
        assert run([command, model, str(beyond)]) == 2
        assert "X: expected finite numbers in float32, got inf at X[1, 1]" in capsys.readouterr().err


def test_regression_on_a_target_of_its_own_scale(tmp_path, rng, capsys):
    X = rng.standard_normal((400, 3))
    y = 5000 + 700 * X[:, 0] - 300 * X[:, 1]
    np.savez(tmp_path / "d.npz", X=X, y=y)
    model = str(tmp_path / "m")
    assert run(["train", str(tmp_path / "d.npz"), "--epochs", "60", "--out", model, "--no-progress"]) == 0
    found = re.search(r"R² ([\d.]+)", capsys.readouterr().out)
    assert found is not None
    assert float(found[1]) > 0.98
    np.save(tmp_path / "new.npy", X[:5])
    assert run(["predict", model, str(tmp_path / "new.npy")]) == 0
    predicted = [float(line) for line in capsys.readouterr().out.split()[1:]]
    assert np.allclose(predicted, y[:5], atol=250)


def test_the_same_seed_gives_the_same_line(table, capsys):
    command = [
        "train",
        "--plain",
        table,
        "--epochs",
        "3",
        "--seed",
        "4",
        "--no-progress",
        "--hidden",
        "8,4",
        "--l2",
        "0.1",
    ]
    lines = []
    for _ in range(2):
        assert run([*command]) == 0
        lines.append(re.sub(r"in [\d.]+ s, [\d,]+ samples/s", "", capsys.readouterr().out))
    assert lines[0] == lines[1]
    assert "2-8-4-2" in lines[0]


def test_gradcheck(capsys):
    assert run(["gradcheck", "--layers", "4,6,3", "--activation", "tanh", "--backend", "numpy"]) == 0
    out = capsys.readouterr().out
    assert "weights[1]" in out
    assert re.search(r"passed: relative difference \d\.\d+e-1\d", out)
    assert run(["gradcheck", "--loss", "categorical_cross_entropy", "--activation", "relu", "--l2", "0"]) == 0


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"deltaprop {version('deltaprop')}\n"


def test_info(capsys):
    assert run(["info"]) == 0
    out = capsys.readouterr().out
    for word in ("deltaprop", "numpy: works", "BLAS", "threads", "cupy", "auto", "GPU"):
        assert word in out


@pytest.mark.parametrize(("arguments", "message"), [
    (["train", "nowhere.npy"], "nowhere.npy: no such file"),
    (["train", "--plain", "nowhere.csv"], "nowhere.csv: no such file"),
    (["train", "digits", "--lr", "-1"], "error: --lr: expected a finite number above 0, got -1.0"),
    (["train", "digits", "--lr", "fast"], "--lr"),
    (["train", "digits", "--hidden", "10,x"], "--hidden: expected whole numbers such as 300,100, got '10,x'"),
    (["train", "digits", "--hidden", "0"], "--hidden: expected widths of at least 1"),
    (["train", "digits", "--activation", "zig"], "unknown activation 'zig'; known are 'sigmoid'"),
    (["train", "digits", "--loss", "zig"], "error: --loss: unknown loss 'zig'; known are"),
    (["train", "digits", "--init", "zig"], "error: --init: unknown initialisation 'zig'"),
    (["train", "digits", "--optimizer", "zig"], "--optimizer: expected sgd, adam or adamw, got 'zig'"),
    (["train", "digits", "--backend", "zig"], "error: --backend: expected one of"),
    (["train", "digits", "--task", "zig"], "--task: expected auto"),
    (["train", "digits", "--scale", "zig"], "--scale: expected auto"),
    (["train", "digits", "--test", "1.5"], "--test: expected a share in [0, 1), got 1.5"),
    (["train", "digits", "--epochs", "0"], "error: --epochs: expected a whole number of at least 1, got 0"),
    (["train", "digits", "--momentum", "0.5"], "--momentum: expected optimizer sgd with it"),
    (["train", "digits", "--out", "/nowhere/at/all/m"], "cannot write /nowhere/at/all/m: there is no folder"),
    (["train", "digits", "--out", "/"], "cannot write /: it is a folder"),
    (["predict", "nowhere", "digits"], "nowhere"),
    (["gradcheck", "--layers", "3"], "error: --layers: expected at least an input and an output layer"),
    (["gradcheck", "--samples", "0"], "--samples: expected at least 1"),
    (["dance"], "dance"),
    (["train"], "Missing argument"),
])  # fmt: skip
def test_bad_input_is_told_in_one_line(arguments, message, capsys):
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("deltaprop: error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_bad_cells_and_labels(table, tmp_path, capsys):
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b,kind\n1,2,up\n3,oops,down\n")
    assert run(["train", "--plain", str(bad)]) == 2
    assert "row 2, column 'b': expected a finite number, got 'oops'" in capsys.readouterr().err
    model = str(tmp_path / "m")
    assert run(["train", "--plain", table, "--epochs", "1", "--out", model, "--no-progress"]) == 0
    bad.write_text("a,b,kind\n1,2,sideways\n")
    assert run(["evaluate", model, str(bad)]) == 2
    assert "row 1: 'sideways' is no class of the training data" in capsys.readouterr().err
    bad.write_text("a,b,kind\n1,2,up\n1,3,up\n1,3,up\n1,3,up\n")
    assert run(["train", "--plain", str(bad)]) == 2
    assert "at least two classes" in capsys.readouterr().err


def test_a_network_without_its_data_is_refused(tmp_path, capsys):
    dp.Network([64, 10]).save(tmp_path / "m")
    assert run(["evaluate", str(tmp_path / "m"), "digits"]) == 2
    assert "got a network without the preparation of its data" in capsys.readouterr().err


def test_divergence_is_exit_status_one(capsys):
    command = ["train", "digits", "--optimizer", "sgd", "--lr", "1e30", "--loss", "squared_error", "--no-progress"]
    assert run(command) == 1
    assert "training diverged" in capsys.readouterr().err


COMMANDS = ("train", "sweep", "predict", "evaluate", "gradcheck", "explain", "weights", "bench", "info", "doctor")


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=["deltaprop", *COMMANDS])
def test_help(command, capsys):
    """-h shows the page that --help shows: what the command is for, and its options."""
    pages = []
    for option in ("-h", "--help"):
        assert run([*command, option]) == 0
        pages.append(capsys.readouterr())
    short, long = pages
    assert short == long
    assert short.err == ""
    assert f"Usage: {' '.join(['deltaprop', *command])} " in short.out
    assert "-h" in short.out
    assert "--help" in short.out
    if not command:
        assert all(re.search(rf"\b{name}  +[A-Z]", short.out) for name in COMMANDS)
        assert run([]) == 0
        assert capsys.readouterr() == short


def test_every_command_has_its_page_looked_at():
    assert {each.name or getattr(each.callback, "__name__", "") for each in app.registered_commands} == {*COMMANDS}


def test_as_a_module(tmp_path):
    """`python -m deltaprop` is the command, and calls itself `deltaprop`."""
    for arguments, status, out, err in (
        ([], 0, "Usage: deltaprop ", ""),
        (["--version"], 0, f"deltaprop {version('deltaprop')}\n", ""),
        (["evaluate", "-h"], 0, "Usage: deltaprop evaluate ", ""),
        (["nothing"], 2, "", "deltaprop: error: No such command 'nothing'"),
    ):
        command = [sys.executable, "-m", "deltaprop", *arguments]
        result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=tmp_path, check=False)
        assert result.returncode == status
        assert out in result.stdout
        assert err in result.stderr


def alone_in_folds(table, folds, lr, hidden):
    """Scores of the network of `train --plain` in each fold, trained by itself on data scaled by its rows."""
    data = load_dataset(table)
    assert data.y is not None
    number = np.array([int(label == "up") for label in data.y])
    scores = []
    for train, test in folds.split(data.X, number):
        scaler = StandardScaler().fit(data.X[train])
        net = dp.Network([2, *hidden, 2], loss="categorical_cross_entropy", init="he", hidden_activation="relu", seed=0)
        net.fit(scaler.transform(data.X[train]), number[train], optimizer=dp.Adam(lr), epochs=20, batch_size=32)
        scores.append((net.predict(scaler.transform(data.X[test])).argmax(axis=1) == number[test]).mean())
    return scores


def test_sweep(table, tmp_path, capsys):
    """The scores are those of the network that `train --plain` makes, in folds that are scaled by themselves."""
    output = tmp_path / "sweep.csv"
    options = ["--grid", "lr=0.0001,0.03", "--grid", "hidden=4,8x3", "--cv", "3", "--epochs", "20"]
    options += ["--dtype", "float64"]
    assert run(["sweep", table, *options, "--csv", str(output)]) == 0
    shown = capsys.readouterr()
    assert "candidate 4/4, the best so far" in shown.err
    rows = list(csv.DictReader(output.read_text().splitlines()))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    means = [float(row["mean_score"]) for row in rows]
    assert means == sorted(means, reverse=True)
    assert {(row["lr"], row["hidden"]) for row in rows} == {(lr, h) for lr in ("0.0001", "0.03") for h in ("4", "8x3")}
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    for row in rows:
        alone = alone_in_folds(table, folds, float(row["lr"]), [int(width) for width in row["hidden"].split("x")])
        assert [float(row[f"fold{s}"]) for s in (1, 2, 3)] == pytest.approx(alone)
        assert float(row["mean_score"]) == pytest.approx(np.mean(alone))
    best = rows[0]
    first, line = shown.out.splitlines()
    assert first == f"best        score {float(best['mean_score']):.4f}, by the command"
    hidden = best["hidden"].replace("x", ",")
    expected = f"train --plain {table} --hidden {hidden} --epochs 20 --lr {best['lr']} --dtype float64"
    assert line == f"deltaprop {expected}"
    assert run(["sweep", table, *options, "--n-iter", "2", "--no-progress"]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("\n") == 3
    assert shown.err.count("\n") == 2


def test_the_best_of_a_sweep_is_what_its_line_trains(table, tmp_path, capsys):
    swept, pasted = tmp_path / "swept.safetensors", tmp_path / "pasted.safetensors"
    grid = ["--grid", "lr=0.0001,0.05", "--grid", "optimizer=adam,sgd", "--epochs", "5"]
    assert run(["sweep", table, *grid, "--out", str(swept), "--csv", str(tmp_path / "s.csv"), "--no-progress"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("deltaprop train"))
    assert run([*shlex.split(line)[1:], "--out", str(pasted), "--no-progress"]) == 0
    one, other = (dp.load(path, backend="numpy") for path in (swept, pasted))
    assert np.array_equal(one.network.parameters, other.network.parameters)
    assert np.array_equal(one.input_scale, other.input_scale)
    assert one.network.layer_sizes == (2, 100, 2)


def test_ctrl_c_ends_a_sweep_with_the_best_so_far(table, capsys, monkeypatch):
    """It comes when the second few of candidates are tried."""
    calls: list[object] = []

    def interrupted(*arguments):
        if calls:
            raise KeyboardInterrupt
        calls.append(arguments)
        return score_candidates(*arguments)

    monkeypatch.setattr("deltaprop.cli.sweep.score_candidates", interrupted)
    rates = ",".join(f"0.{k:03}" for k in range(1, 13))
    assert run(["sweep", table, "--grid", f"lr={rates}", "--epochs", "1", "--cv", "2", "--no-progress"]) == 130
    shown = capsys.readouterr()
    assert len(list(csv.DictReader(shown.out.splitlines()))) == 8
    assert re.match(r"best so far +score [\d.]+, by the command\ndeltaprop train --plain ", shown.err)
    assert shown.err.endswith("deltaprop: interrupted\n")


def test_processes_of_a_sweep_find_the_same_and_share_the_memory(table, tmp_path, capsys, monkeypatch):
    """In threads, which start sooner: 24 candidates are 3 batches, each of 3 folds that are tasks of their own."""
    memories = []

    def watched(dataset, classes, folds, candidates, memory):
        memories.append(memory)
        return score_candidates(dataset, classes, folds, candidates, memory)

    monkeypatch.setattr("deltaprop.cli.sweep.score_candidates", watched)
    rates = ",".join(f"{rate:.4f}" for rate in np.linspace(0.01, 0.5, 24))
    options = ["--grid", f"lr={rates}", "--epochs", "2", "--cv", "3", "--no-progress"]
    with joblib.parallel_config("threading"):
        for jobs in ("1", "2"):
            assert run(["sweep", table, *options, "--jobs", jobs, "--csv", str(tmp_path / f"{jobs}.csv")]) == 0
    one, two = (
        [row.rsplit(",", 1)[0] for row in (tmp_path / f"{jobs}.csv").read_text().splitlines()] for jobs in (1, 2)
    )
    assert len(one) == 25
    assert one == two  # but for the seconds
    assert memories == [2**30] * 3 + [2**29] * 9
    capsys.readouterr()


def test_sweep_and_train_share_every_default():
    """A sweep over one learning rate tries the network that `train --plain` would train with it."""
    train = {field.name: field.default for field in fields(TrainOptions)}
    base = base_options(SweepOptions("d.csv", ["lr=1"]))
    assert widths_of(base) == widths_of(TrainOptions("d.csv")) == (100,)
    differ = {name for name in train if getattr(base, name) != train[name] and train[name] is not MISSING}
    assert differ == {"plain", "hidden"}
    assert run(["train", "--help"]) == 0


def test_folds_do_not_leak(tmp_path):
    """A feature that is huge in the rows of one fold is scaled, in the others, as if it were not there."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((60, 2))
    y = (X[:, 0] > 0).astype(int)
    X[:20] *= 1e6
    dataset = Dataset(X, y, ["a", "b"])
    fold = Fold(np.arange(20, 60), np.arange(20))
    options = TrainOptions("d.csv", lr=0.01, epochs=3, plain=True, dtype="float64", hidden="4", backend="numpy")
    ((score,),), _ = score_candidates(dataset, [0, 1], [fold], [options])
    offset, spread = X[20:].mean(axis=0), X[20:].std(axis=0)
    net = dp.Network(
        [2, 4, 2], loss="categorical_cross_entropy", init="he", hidden_activation="relu", backend="numpy", seed=0
    )
    net.fit((X[20:] - offset) / spread, y[20:], optimizer=dp.Adam(0.01), epochs=3, batch_size=32)
    assert score == (net.predict((X[:20] - offset) / spread).argmax(axis=1) == y[:20]).mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--grid"),
        (["--grid", "lr"], "--grid: expected NAME=VALUE,VALUE such as lr=0.001,0.01, got 'lr'"),
        (["--grid", "rate=1"], "--grid: expected one of lr, l2,"),
        (["--grid", "lr=a"], "--grid: expected numbers for lr, got 'a'"),
        (["--grid", "hidden=a"], "--grid: expected widths such as 32 or 64x32 for hidden, got 'a'"),
        (["--grid", "lr=1", "--cv", "1"], "--cv: expected at least 2 folds"),
        (["--grid", "lr=1", "--csv", "no/such/folder.csv"], "there is no folder"),
        (["--grid", "lr=1", "--out", "results.csv"], "the results as CSV go to --csv"),
        (["--grid", "lr=-1"], "error: --grid lr: expected a finite number above 0, got -1.0"),
    ],
)
def test_a_sweep_that_cannot_be(table, options, message, capsys):
    assert run(["sweep", table, *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_terminated_training_goes_on(tmp_path):
    """SIGTERM and SIGINT end it with 143 and 130 and a checkpoint; the same command then does the rest."""
    program = Path(sys.executable).with_name("deltaprop")
    model, checkpoint = tmp_path / "model.safetensors", tmp_path / "run.safetensors"
    command: list[str | Path] = ["train", "digits", "--epochs", "200", "--no-progress", "--dtype", "float64"]
    resumed = [program, *command, "--checkpoint", checkpoint, "--checkpoint-every", "10", "--resume", "--out", model]
    for number, status, said in ((signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")):
        process = subprocess.Popen(resumed, stderr=subprocess.PIPE, text=True)
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        deadline = time.monotonic() + 60
        while (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        _, errors = outputs_of(process, 60)
        assert (process.returncode, errors) == (status, f"deltaprop: {said}\n")
        assert model.exists() == (number == signal.SIGINT)  # Ctrl-C keeps what has been learned
    subprocess.run(resumed, check=True, capture_output=True)
    alone = tmp_path / "alone.safetensors"
    assert run([*map(str, command), "--out", str(alone)]) == 0
    assert np.array_equal(*(dp.load(path, backend="numpy").network.parameters for path in (model, alone)))


def test_resume_goes_with_a_checkpoint(table, capsys):
    assert run(["train", "--plain", table, "--resume"]) == 2
    assert "--resume: expected --checkpoint FILE with it" in capsys.readouterr().err


def test_bench(tmp_path, capfd, monkeypatch):
    require("pytest_benchmark")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # pytest-benchmark measures nothing where it is set
    picture, record = tmp_path / "bench.png", tmp_path / "bench.json"
    only = "64-32-1 and float32 and numpy and (minibatch10 or minibatch32-) and (forward or epoch)"
    options = ["--seconds", "0.01", "--plot", str(picture), "--json", str(record)]
    assert run(["bench", "--only", only, *options]) == 0
    shown = capfd.readouterr().out
    rows = json.loads(record.read_text())["rows"]
    assert {(row["operation"], row["minibatch"]) for row in rows} == {
        (operation, batch) for operation in ("forward", "epoch") for batch in (10, 32)
    }
    for row in rows:
        assert row["samples_a_second"] == pytest.approx(row["samples"] / row["seconds"])
        assert row["over_floor"] == pytest.approx(row["seconds"] / row["floor_seconds"])
    assert re.search(r"BLAS +\w+ .* threads", shown)
    assert re.search(r"epoch +64-32-1, 32 +float32 +numpy +[\d,.]+ µs +[\d,]+ samples/s +[\d.]+\n", shown)
    assert picture.stat().st_size > 10_000
    assert run(["bench", "--only", "elementwise and 1024 and float64 and not sigmoid_grad", "--seconds", "0.01"]) == 0
    assert re.search(r"sigmoid +1,024 elements +float64 +numpy +[\d,.]+ µs +[\d.]+ GB/s", capfd.readouterr().out)
    assert run(["bench", "--only", "no_such_thing"]) == 2
    assert "--only: 'no_such_thing' names no benchmark" in capfd.readouterr().err
