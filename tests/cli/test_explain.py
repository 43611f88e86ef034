"""``deltaprop explain``: the tables and the page of `Network.explain`, from the command line."""

import re

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.cli import run

SAMPLES = ["--x", "0.5,-1;2,0.25", "--y", "1;0"]


def test_tables_of_given_samples(capsys):
    assert run(["explain", "--layers", "2,3,1", *SAMPLES, "--l2", "0.5", "--activation", "tanh", "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    net = dp.Network([2, 3, 1], hidden_activation="tanh", seed=3)
    net.explain([[0.5, -1.0], [2.0, 0.25]], [1, 0], l2=0.5)
    assert printed == capsys.readouterr().out
    assert f"J = {net.cost([[0.5, -1.0], [2.0, 0.25]], [1, 0], l2=0.5):.9g}, binary_cross_entropy" in printed


def test_a_page(tmp_path, capsys):
    path, expected = tmp_path / "page.html", tmp_path / "expected.html"
    assert run(["explain", *SAMPLES, "--steps", "3", "--lr", "0.25", "--out", str(path), "--backend", "numpy"]) == 0
    assert capsys.readouterr().out == f"page        {path}\n"
    net = dp.Network([2, 3, 1], backend="numpy")
    net.explain([[0.5, -1.0], [2.0, 0.25]], [1, 0], steps=3, learning_rate=0.25).save_html(expected)
    assert path.read_bytes() == expected.read_bytes()


def test_a_network_in_a_file(tmp_path, capsys):
    net = dp.Network([2, 4, 3], loss="categorical_cross_entropy", seed=9)
    net.save(tmp_path / "m.safetensors")
    assert run(["explain", str(tmp_path / "m.safetensors"), "--x", "1,2", "--y", "2"]) == 0
    printed = capsys.readouterr().out
    assert f"{net.deltas([[1.0, 2.0]], [2])[0][0, 1]:.6g}" in printed
    assert run(["explain", str(tmp_path / "m.safetensors"), "--loss", "squared_error"]) == 2
    assert "--loss: expected none beside a model file, which has its own" in capsys.readouterr().err
    dp.Network([2, 9, 1]).save(tmp_path / "wide.safetensors")
    path = str(tmp_path / "wide.safetensors")
    assert run(["explain", path, "--out", str(tmp_path / "page.html")]) == 2
    assert f"error: {path}: expected at most 12 layers of at most 8 units" in capsys.readouterr().err


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "categorical_cross_entropy", "poisson", "squared_error"])
def test_random_samples_are_in_range(loss, capsys):
    texts = []
    for seed in (1, 1, 2):
        assert run(["explain", "--layers", "2,3,2", "--loss", loss, "--samples", "3", "--seed", str(seed)]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    (found,) = re.findall(r"\ny\n(.*?)\n\n", texts[0], re.S)
    rows = [
        [float(cell) for cell in line.strip("│").split("│")[1:]]
        for line in found.splitlines()
        if re.match("│ [1-3] ", line)
    ]
    Y = np.array(rows)
    assert Y.shape == (3, 2)
    assert Y.min() >= 0.0
    assert loss != "categorical_cross_entropy" or Y.sum(axis=1).tolist() == [1.0, 1.0, 1.0]
    assert loss == "squared_error" or np.array_equal(Y, np.round(Y))


@pytest.mark.parametrize(("arguments", "message"), [
    (["--samples", "9"], "--samples: expected 1 … 8, got 9"),
    (["--samples", "0"], "--samples: expected 1 … 8, got 0"),
    (["--x", "1,2", "--samples", "2"], "--samples: expected 1, as --x has so many rows, got 2"),
    (["--x", "1,two"], "--x: expected numbers such as 0.5,-1 with ';' between samples, got '1,two'"),
    (["--x", "1,2;3"], "--x: expected as many numbers in every sample, got '1,2;3'"),
    (["--x", "1,2,3"], "--x: expected 2 features (shape (m, 2)), got shape (1, 3), from '1,2,3'"),
    (["--x", "1,2", "--y", "1;0"], "--y: expected 1 rows, as many as there are samples, got 2"),
    (["--y", "1;0;1;7"], "--y: expected targets in [0, 1], got 7 at y[3, 0], from '1;0;1;7'"),
    (["--x", ";".join(["1,2"] * 9)], "--x: expected 1 … 8 samples, got 9, from '1,2;"),
    (["--layers", "2,9,1", "--out", "page.html"], "--layers: expected at most 12 layers of at most 8 units for a page, which draws each, got [2, 9, 1]"),
    (["--layers", "2"], "--layers: expected at least an input and an output layer, got [2]"),
    (["--layers", "2,17,1"], "--layers: expected layers of at most 16 units, as every number is shown, got [2, 17, 1]"),
    (["--steps", "51"], "--steps: expected 0 … 50, got 51"),
    (["--steps", "-1"], "--steps: expected a whole number of at least 0, got -1"),
    (["--lr", "0"], "--lr: expected a finite number above 0, got 0"),
    (["--l2", "-1"], "--l2: expected a finite number of at least 0, got -1"),
    (["--seed", "-1"], "--seed: expected a whole number of at least 0, got -1"),
    (["--activation", "zig"], "--activation: unknown activation 'zig'; known are"),
    (["--output-activation", "zig"], "--output-activation: unknown activation 'zig'; known are"),
    (["--output-error", "zig"], "--output-error: expected one of 'exact', 'simplified', got 'zig'"),
    (["--backend", "zig"], "--backend: expected one of"),
    (["--loss", "zig"], "--loss: unknown loss 'zig'; known are"),
    (["--out", "/nowhere/page.html"], "cannot write /nowhere/page.html: there is no folder"),
    (["nowhere.safetensors"], "nowhere.safetensors: "),
])  # fmt: skip
def test_bad_input_is_told_in_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["explain", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"deltaprop: error: {message}")
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
