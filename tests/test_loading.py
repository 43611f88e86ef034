"""`dp.load` gives back whatever was saved; the readers of one kind name the kind of other files."""

import re

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.files.model_file import read_model, write_model
from deltaprop.tabular.trained import Trained

NETWORK = dp.Network([3, 4, 2], hidden_activation="tanh", backend="numpy", seed=4)
STACK = dp.NetworkStack(2, [3, 4, 2], backend="numpy", seeds=[1, 2])


def prepared(network=NETWORK, classes=("no", "yes")):
    offset, scale = np.array([1.0, -2.0, 0.5]), np.array([2.0, 0.5, 4.0])
    return Trained(network, offset, scale, 0.0, 1.0, list(classes), ["a", "b", "c"], "answer")


def test_a_network_comes_back(tmp_path):
    NETWORK.save(tmp_path / "file")
    loaded = dp.load(tmp_path / "file", backend="numpy")
    assert type(loaded) is dp.Network
    assert np.array_equal(loaded.parameters, NETWORK.parameters)
    assert loaded.configuration == NETWORK.configuration


def test_a_stack_comes_back(tmp_path):
    STACK.save(tmp_path / "file")
    loaded = dp.load(tmp_path / "file", backend="numpy")
    assert type(loaded) is dp.NetworkStack
    assert np.array_equal(loaded.parameters, STACK.parameters)


def test_a_checkpoint_comes_back_as_its_network(tmp_path):
    net = dp.Network([3, 4, 2], backend="numpy")
    net.fit(np.eye(3), np.eye(3)[:, :2], epochs=2, checkpoint=tmp_path / "run")
    assert np.array_equal(dp.load(tmp_path / "run", backend="numpy").parameters, net.parameters)


def test_a_prepared_network_comes_back_with_its_preparation(tmp_path):
    prepared().save(tmp_path / "file")
    loaded, X = dp.load(tmp_path / "file", backend="numpy"), np.array([[3.0, -1.5, 0.5], [0.0, 0.0, 0.0]])
    assert type(loaded) is Trained
    outputs = NETWORK.predict([[1.0, 1.0, 0.0], [-0.5, 4.0, -0.125]])  # (x − offset)/scale by hand
    assert np.array_equal(loaded.predict_proba(X), outputs)
    assert loaded.predict(X).tolist() == [("no", "yes")[k] for k in outputs.argmax(axis=1)]


def test_the_network_alone_says_that_it_leaves_the_preparation_out(tmp_path):
    prepared().save(tmp_path / "file")
    with pytest.warns(
        UserWarning, match=r"file: the file also holds how raw data are prepared, .* deltaprop\.load"
    ) as w:
        net = dp.Network.load(tmp_path / "file", backend="numpy")
    assert w[0].filename == __file__
    assert np.array_equal(net.parameters, NETWORK.parameters)


def test_readers_of_one_kind_name_what_another_file_holds(tmp_path):
    path = tmp_path / "file"
    STACK.save(path)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: holds a stack of networks, not a network; "):
        dp.Network.load(path)
    NETWORK.save(path)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: holds a network, not a stack of networks; "):
        dp.NetworkStack.load(path)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: .* without the preparation of its data"):
        Trained.load(path)


def test_a_file_of_no_kind_is_refused(tmp_path):
    path = tmp_path / "file"
    NETWORK.save(path)
    _, tensors = read_model(path)
    write_model(path, {"surprise": {}}, tensors)
    for load in (dp.load, dp.Network.load, dp.NetworkStack.load):
        with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: holds no network, no stack"):
            load(path)
    with pytest.raises(OSError, match="no such file"):
        dp.load(tmp_path / "none")
