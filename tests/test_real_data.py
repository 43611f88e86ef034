"""The course's exercise 4 and MNIST, if DELTAPROP_DATA or a folder beside the checkout holds them."""

import os
from pathlib import Path

import numpy as np
import pytest

import deltaprop as dp

DATA = Path(os.environ.get("DELTAPROP_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture
def exercise():
    folder = DATA / "ex4"
    if not folder.is_dir():
        pytest.skip("exercise 4 of the course is not here; DELTAPROP_DATA names the folder with ex4/ in it")
    from scipy.io import loadmat

    data, weights = loadmat(folder / "ex4data1.mat"), loadmat(folder / "ex4weights.mat")
    net = dp.Network([400, 25, 10], backend="numpy")
    net.thetas = [weights["Theta1"], weights["Theta2"]]
    return net, data["X"], data["y"].ravel().astype(int) - 1


def test_costs_and_accuracy_of_the_given_weights(exercise):
    net, X, y = exercise
    for l2, cost in ((0, 0.287629), (1, 0.383770), (3, 0.576051)):
        assert round(net.cost(X, y, l2=l2), 6) == cost
    assert np.mean(net.predict(X).argmax(axis=1) == y) == 0.9752


def test_fifty_iterations_of_conjugate_gradients(exercise):
    """The course asks for 95.3 ± 1 % on the training data, from random parameters, with λ = 1."""
    _, X, y = exercise
    for seed in range(3):
        net = dp.Network([400, 25, 10], backend="numpy", seed=seed)
        history = net.fit_full_batch(X, y, method="cg", max_iter=50, l2=1.0)
        assert history.epochs == 50
        assert np.mean(net.predict(X).argmax(axis=1) == y) >= 0.943


def test_the_same_network_by_minibatches(exercise):
    _, X, y = exercise
    net = dp.Network([400, 25, 10], backend="numpy")
    net.fit(X, y, optimizer=dp.SGD(0.5, momentum=0.9), batch_size=32, epochs=30, l2=1.0)
    assert np.mean(net.predict(X).argmax(axis=1) == y) >= 0.943


def test_the_gradient_of_the_exercise(exercise):
    net, X, y = exercise
    result = dp.check_gradient(net, X[::500], y[::500], l2=3.0, entries=200)
    assert result.passed
    assert result.relative_difference < 1e-9


def test_mnist_learns(capsys):
    if not (DATA / "mnist").is_dir():
        pytest.skip("MNIST is not here; DELTAPROP_DATA names the folder with mnist/ in it")
    from deltaprop.cli import run

    assert run(["train", str(DATA / "mnist"), "--hidden", "30", "--epochs", "2", "--no-progress"]) == 0
    out = capsys.readouterr().out
    assert "54000 samples to train on, 6000 to validate on, 784 features" in out
    assert float(out.split("accuracy ")[1].split(" %")[0]) > 93
