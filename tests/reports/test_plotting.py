"""Pictures show what was recorded; the command line writes them; a missing library is named."""

import sys

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.cli import run


@pytest.fixture(autouse=True)
def no_window(monkeypatch):
    import matplotlib

    matplotlib.use("Agg")
    yield
    from matplotlib import pyplot

    pyplot.close("all")


def test_curves(rng):
    net = dp.Network([3, 5, 2], loss="categorical_cross_entropy", backend="numpy")
    X, y = rng.standard_normal((60, 3)), rng.integers(0, 2, 60)
    history = net.fit(X, y, epochs=8, validation=(X, y), early_stopping=dp.EarlyStopping(3))
    cost, accuracy = history.plot().axes
    drawn = {line.get_label(): line.get_xydata() for line in cost.lines}
    assert drawn["training"][:, 1].tolist() == history.cost
    assert drawn["validation"][:, 1].tolist() == history.validation_cost
    assert drawn["training"][:, 0].tolist() == list(range(1, history.epochs + 1))
    assert f"best epoch, {history.best_epoch}" in drawn
    assert accuracy.lines[0].get_ydata().tolist() == history.metrics["accuracy"]


def test_curves_of_little(rng):
    history = dp.Network([3, 2], backend="numpy").fit(rng.standard_normal((6, 3)), rng.random((6, 2)), epochs=1)
    (axis,) = history.plot().axes
    assert axis.lines[0].get_marker() == "o"
    with pytest.raises(ValueError, match="history: expected at least one epoch to plot, got none"):
        dp.History().plot()


def test_full_batch_counts_iterations(rng):
    net = dp.Network([3, 2], backend="numpy")
    history = net.fit_full_batch(rng.standard_normal((6, 3)), rng.random((6, 2)), max_iter=3)
    assert history.plot().axes[0].get_xlabel() == "iteration"


def test_weights_as_images():
    net = dp.Network([6, 5, 9, 2], backend="numpy")
    images = [axis.images[0] for axis in net.plot_weights(0, shape=(2, 3)).axes if axis.images]
    assert len(images) == 5
    for image, row in zip(images, net.weights[0], strict=True):
        assert np.array_equal(image.get_array(), row.reshape(2, 3))
        assert image.get_clim() == (-image.get_clim()[1], images[0].get_clim()[1])
    assert len([axis for axis in net.plot_weights(2).axes if axis.images]) == 2  # 9 inputs: a square


@pytest.mark.parametrize(("arguments", "message"), [
    ((3,), r"l: expected a layer 0 … 2, got 3"),
    ((-1,), "l: expected a whole number of at least 0, got -1"),
    ((0,), r"shape: expected \(height, width\) of images of 6 pixels, got a square"),
    ((0, (4, 2)), r"shape: expected \(height, width\) of images of 6 pixels, got 4 × 2"),
    ((0, (-2, -3)), "got -2 × -3"),
])  # fmt: skip
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        dp.Network([6, 5, 9, 2], backend="numpy").plot_weights(*arguments)


def test_the_command_line_writes_pictures(tmp_path, capsys):
    model, curves, weights = (str(tmp_path / name) for name in ("m", "curves.png", "weights.svg"))
    command = ["train", "digits", "--epochs", "2", "--no-progress", "--out", model, "--plot", curves]
    assert run(command) == 0
    assert f"curves      {curves}" in capsys.readouterr().out
    assert (tmp_path / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert run(["weights", model, "--plot", weights, "--shape", "8,8"]) == 0
    assert "<svg" in (tmp_path / "weights.svg").read_text()


@pytest.mark.parametrize(("arguments", "message"), [
    (["train", "digits", "--plot", "curves"], "--plot: expected a name that ends in one of"),
    (["train", "digits", "--plot", "/nowhere/at/all/c.png"], "cannot write /nowhere/at/all/c.png"),
    (["weights", "nowhere", "--plot", "c.png"], "nowhere"),
    (["weights", "nowhere", "--plot", "c.png", "--shape", "8"], "--shape: expected height,width such as 28,28, got '8'"),
])  # fmt: skip
def test_bad_commands_are_told_before_any_work(arguments, message, capsys):
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)


def test_a_missing_matplotlib_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"plotting needs matplotlib: pip install 'deltaprop\[plot\]'"):
        dp.Network([4, 2], backend="numpy").plot_weights()
    assert run(["train", "digits", "--plot", "c.png"]) == 2
    assert "pip install 'deltaprop[plot]'" in capsys.readouterr().err
