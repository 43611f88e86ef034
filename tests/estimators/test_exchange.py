"""Networks go to PyTorch and ONNX, which compute the same, and come back unchanged."""

from typing import Any

import numpy as np
import pytest
from cases import HIDDEN, relative
from conftest import require

import deltaprop as dp
from deltaprop.files import onnx_file

OUTPUTS = {"softmax": "categorical_cross_entropy", "sigmoid": "binary_cross_entropy", "exp": "poisson"}


def network(hidden, output="identity", dtype="float64", backend="numpy"):
    loss: Any = OUTPUTS.get(output, "squared_error")
    activations = {"hidden_activation": [hidden, "tanh"], "output_activation": output}
    net = dp.Network([5, 7, 6, 3], **activations, loss=loss, dtype=dtype, backend=backend, seed=2)
    net.parameters = 2.0 * net.backend.to_numpy(net.parameters)
    return net


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("output", ["identity", "softmax", "sigmoid"])
@pytest.mark.parametrize("hidden", HIDDEN)
def test_torch_computes_the_same_and_gives_it_back(hidden, output, dtype, backend, rng):
    torch = require("torch")
    net = network(hidden, output, dtype, backend)
    X = rng.standard_normal((20, 5)).astype(dtype)
    sequential = net.to_torch()
    tolerance = 1e-14 if dtype == "float64" else 1e-6
    with torch.no_grad():
        assert relative(sequential(torch.from_numpy(X)).numpy(), net.predict(X)) < tolerance
    back = dp.Network.from_torch(sequential, backend=backend, seed=2)
    assert back.configuration == net.configuration | {"init": "zeros"}
    assert np.array_equal(net.backend.to_numpy(back.parameters), net.backend.to_numpy(net.parameters))
    with torch.no_grad():
        sequential[0].weight.zero_()
    assert np.all(net.backend.to_numpy(back.weights[0]) != 0)  # a copy


def test_what_torch_may_hold_besides():
    torch = require("torch")
    nn = torch.nn
    inner = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Dropout(0.5), nn.ReLU())
    sequential = nn.Sequential(nn.Flatten(), inner, nn.Linear(3, 2))
    net = dp.Network.from_torch(sequential.eval(), loss="huber", backend="numpy")
    X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    with torch.no_grad():
        assert relative(net.predict(X), sequential(torch.from_numpy(X)).numpy()) < 1e-6
    assert not net.biases[0].any()
    assert net.loss == "huber"
    net.fit(X, X[:, :2], epochs=1)


def test_what_torch_may_not_hold():
    nn = require("torch").nn
    for sequential, error, message in (
        (nn.Linear(2, 2), TypeError, "sequential: expected a torch.nn.Sequential, got Linear"),
        (
            nn.Sequential(nn.Linear(2, 2), nn.Conv1d(1, 1, 1)),
            TypeError,
            "sequential\\[1\\]: expected Linear.* got Conv1d",
        ),
        (nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), ValueError, "a Linear before every activation, got ReLU"),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Tanh()), ValueError, "got Tanh"),
        (nn.Sequential(), ValueError, "at least one Linear"),
        (nn.Sequential(nn.Linear(2, 2), nn.LeakyReLU(0.3), nn.Linear(2, 1)), ValueError, "is not our 'leaky_relu'"),
        (nn.Sequential(nn.Linear(2, 2), nn.GELU("tanh"), nn.Linear(2, 1)), ValueError, "is not our 'gelu'"),
        (
            nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1).double()),
            ValueError,
            "one dtype, got \\['float32', 'float64'\\]",
        ),
        (nn.Sequential(nn.Linear(2, 1).half()), ValueError, "dtype: expected 'float32' or 'float64', got 'float16'"),
    ):
        with pytest.raises(error, match=message):
            dp.Network.from_torch(sequential)
    with pytest.raises(ValueError, match="no module for 'exp'"):
        network("relu", "exp").to_torch()


def test_an_activation_without_an_operator(monkeypatch, tmp_path):
    require("onnx")
    monkeypatch.delitem(onnx_file.OPERATORS, "relu")
    with pytest.raises(ValueError, match="activation: no ONNX operator is known for 'relu'"):
        network("relu").to_onnx(tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("output", ["identity", *OUTPUTS])
@pytest.mark.parametrize("hidden", HIDDEN)
def test_onnx_computes_the_same_and_gives_it_back(hidden, output, dtype, rng, tmp_path):
    require("onnx")
    runtime = require("onnxruntime")
    net = network(hidden, output, dtype)
    path = tmp_path / "net.onnx"
    net.to_onnx(path)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for m in (1, 20):
        X = 2 * rng.standard_normal((m, 5)).astype(dtype)
        (h,) = session.run(["h"], {"X": X})
        assert h.dtype == dtype
        assert relative(h, net.predict(X)) < 1e-6
    back = dp.Network.from_onnx(path, backend="numpy")
    assert back.configuration == net.configuration
    assert np.array_equal(back.parameters, net.parameters)


def test_a_classifier_as_onnx(rng, tmp_path):
    require("onnx")
    runtime = require("onnxruntime")
    X, y = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    clf = dp.MLPClassifier(solver="lbfgs", hidden_layer_sizes=5, alpha=5.0, backend="numpy", random_state=0).fit(X, y)
    clf.network_.to_onnx(tmp_path / "clf.onnx")
    session = runtime.InferenceSession(tmp_path / "clf.onnx", providers=["CPUExecutionProvider"])
    assert relative(session.run(None, {"X": X})[0], clf.predict_proba(X)) < 1e-6


def test_files_that_are_no_models_of_ours(tmp_path, rng):
    onnx = require("onnx")
    path = tmp_path / "net.onnx"
    with pytest.raises(FileNotFoundError):
        dp.Network.from_onnx(path)
    network("relu").to_onnx(path)
    content = path.read_bytes()
    for damaged in (b"", content[:200], rng.bytes(500)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"net\.onnx: "):
            dp.Network.from_onnx(path)
    model = onnx.load_model_from_string(content)
    del model.metadata_props[:]
    path.write_bytes(model.SerializeToString())
    again = dp.Network.from_onnx(path, backend="numpy")  # as one of another program, which does not say its loss
    assert (again.loss, again.activations) == ("squared_error", ("relu", "tanh", "identity"))
    with pytest.raises(ValueError, match="a file holds no code"):
        dp.Network([2, 1], loss=(lambda h, y: h, lambda h, y: h)).to_onnx(path)
    assert path.read_bytes() == model.SerializeToString()
