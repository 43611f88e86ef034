"""An error of the library about an argument is told about the option that was typed."""

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.cli import run
from deltaprop.cli.app import app
from deltaprop.cli.option_names import Command, by_option


@pytest.mark.parametrize(("arguments", "message"), [
    (["train", "digits", "--seed", "-1"], "--seed: expected a whole number from 0 to 4294967295, got -1"),
    (["train", "digits", "--dtype", "zig"], "--dtype: expected 'float32' or 'float64', got 'zig'"),
    (["train", "digits", "--batch-size", "0"], "--batch-size: expected a whole number of at least 1, got 0"),
    (["train", "digits", "--patience", "0"], "--patience: expected a whole number of at least 1, got 0"),
    (["train", "digits", "--momentum", "2", "--optimizer", "sgd"], "--momentum: expected a number in [0, 1], got 2.0"),
    (["train", "digits", "--output-activation", "zig", "--loss", "huber"], "--output-activation: unknown activation"),
    (["gradcheck", "--layers", "3,"], "--layers: expected at least an input and an output layer, got [3], from '3,'"),
    (["gradcheck", "--activation", "zig"], "--activation: unknown activation 'zig'"),
    (["gradcheck", "--l2", "-1"], "--l2: expected a finite number of at least 0, got -1.0"),
    (["sweep", "digits", "--grid", "batch-size=0"], "--grid batch-size: expected a whole number of at least 1, got 0"),
    (["sweep", "digits", "--grid", "seed=-1"], "--grid seed: expected a whole number from 0 to 4294967295, got -1"),
    (["sweep", "digits", "--grid", "optimizer=zig"], "--grid optimizer: expected sgd, adam or adamw, got 'zig'"),
    (["sweep", "digits", "--grid", "lr=1", "--epochs", "0"], "--epochs: expected a whole number of at least 1, got 0"),
    (["sweep", "digits", "--grid", "seed=1", "--seed", "-1"], "--seed: expected a whole number from 0 to 4294967295, got -1"),
    (["sweep", "digits", "--grid", "lr=1", "--dtype", "zig"], "--dtype: expected 'float32' or 'float64', got 'zig'"),
    (["sweep", "digits", "--grid", "lr=1", "--jobs", "0"], "--jobs: expected how many processes"),
    (["sweep", "digits", "--grid", "lr=1", "--cv", "500"], "--cv: expected at most "),
])  # fmt: skip
def test_the_option_is_named(arguments, message, capsys):
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"deltaprop: error: {message}")
    assert captured.err.count("\n") == 1


def test_every_command_knows_which_options_were_typed(tmp_path, capsys):
    """An option that was typed by an earlier command, or none, is not named."""
    assert app.registered_commands
    assert all(command.cls is Command for command in app.registered_commands)
    assert run(["explain", "--steps", "51"]) == 2
    assert "error: --steps: expected 0 … 50, got 51" in capsys.readouterr().err
    assert by_option("steps: expected 0 … 50, got 51") == "--steps: expected 0 … 50, got 51"
    assert run(["dance"]) == 2
    assert by_option("steps: expected 0 … 50, got 51") == "steps: expected 0 … 50, got 51"
    assert by_option("no name at all") == "no name at all"
    model = tmp_path / "m.safetensors"
    dp.Network([2, 3, 1]).save(model)
    capsys.readouterr()
    for option, value, told in (
        ("--layer", "9", "a layer 0 … 1, got 9"),
        ("--shape", "3,3", "(height, width) of images"),
    ):
        assert run(["weights", str(model), "--plot", str(tmp_path / "p.png"), option, value]) == 2
        assert f"error: {option}: expected {told}" in capsys.readouterr().err


def test_a_file_that_is_called_like_an_option_stays_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    dp.Network([2, 9, 1]).save("steps")
    assert run(["explain", "steps", "--steps", "3", "--out", "page.html"]) == 2
    assert "error: steps: expected at most 12 layers of at most 8 units for a page" in capsys.readouterr().err


def test_folds_that_the_rows_do_not_allow(tmp_path, capsys):
    """R² of a row alone is not defined."""
    for y, told in (
        (np.arange(7) + 0.5, "--cv: expected at most 3 folds, so that each has two rows, got 4"),
        (np.array([0, 0, 1, 1, 1]), "--cv: expected at most 3 folds, as many as the largest class has rows, got 4"),
        (np.arange(3) + 0.5, f"{tmp_path / 'd.npz'}: expected rows for two folds at least, got 3 rows"),
    ):
        np.savez(tmp_path / "d.npz", X=np.ones((len(y), 2)) * np.arange(len(y))[:, None], y=y)
        assert run(["sweep", str(tmp_path / "d.npz"), "--grid", "lr=0.1", "--cv", "4", "--epochs", "1"]) == 2
        assert f"error: {told}" in " ".join(capsys.readouterr().err.split())
