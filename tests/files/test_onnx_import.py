"""Networks in ONNX models of other programs compute what the usual runtime computes from the same file."""

import warnings
from typing import Any

import numpy as np
import pytest
from onnx_models import (
    ACTIVATIONS,
    NUMBERS,
    RNG,
    SCALES,
    X,
    check,
    expected,
    layers,
    model_of,
    node,
    onnx,
    read,
)

import deltaprop as dp


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_activations_of_one_operator_and_of_several(name, tmp_path):
    net = check(model_of(*layers(ACTIVATIONS[name])), tmp_path)
    assert net.activations == (name.split()[0], "identity")
    assert (net.layer_sizes, net.loss, net.dtype) == ((5, 4, 3), "squared_error", np.float32)


@pytest.mark.parametrize(
    ("end", "activation", "loss"),
    [
        (("Softmax", "z2 -> y", {"axis": 1}), "softmax", "categorical_cross_entropy"),
        (("Softmax", "z2 -> y"), "softmax", "categorical_cross_entropy"),
        (("Sigmoid", "z2 -> y"), "sigmoid", "binary_cross_entropy"),
        (("Exp", "z2 -> y"), "exp", "poisson"),
        (("Tanh", "z2 -> y"), "tanh", "squared_error"),
    ],
)
def test_the_loss_goes_with_the_end(end, activation, loss, tmp_path):
    net = check(model_of(*layers(ACTIVATIONS["tanh"], end)), tmp_path)
    assert (net.output_activation, net.loss) == (activation, loss)


def test_matrices_lie_either_way_and_have_factors(tmp_path):
    gemms = (
        ("Gemm", "X W1t b1 -> z1", {"transB": 1, "alpha": 0.5, "beta": 2.0}),
        ("Relu", "z1 -> a1"),
        ("Gemm", "a1 W2 -> z2", {"alpha": -1.5}),
        ("Flatten", "z2 -> f"),
        ("Dropout", "f -> y"),
    )
    net = check(model_of(*gemms), tmp_path)
    np.testing.assert_allclose(net.weights[0], 0.5 * NUMBERS["W1"].T.astype("f"), rtol=1e-7)
    assert not net.biases[1].any()
    plain = (("Gemm", "X W1t b1 -> z1", {"transB": 1}), ("Gemm", "z1 W2 b2 -> y"))
    net = check(model_of(*plain), tmp_path)
    assert net.activations == ("identity", "identity")
    np.testing.assert_array_equal(net.weights[0], NUMBERS["W1"].T.astype("f"))  # to the bit
    np.testing.assert_array_equal(net.biases[1], NUMBERS["b2"][0].astype("f"))


def test_constants_may_be_nodes(tmp_path):
    value = onnx.numpy_helper.from_array(NUMBERS["W1"].T.astype("f"))
    nodes = (
        node("Constant", "-> stored", value=value),
        node("Transpose", "stored -> turned", perm=[1, 0]),
        node("Identity", "turned -> same"),
        node("Constant", "-> shift", value_floats=[0.5]),
        ("MatMul", "X same -> m"),
        ("Add", "shift m -> y"),
    )
    net = check(model_of(*nodes), tmp_path)
    np.testing.assert_array_equal(net.biases[0], np.full(4, 0.5))


@pytest.mark.parametrize("name", list(SCALES))
def test_scales_become_weights_and_biases(name, tmp_path):
    net = check(model_of(*SCALES[name]), tmp_path, tolerance=1e-5)
    assert net.layer_sizes == (5, 4, 3)


def test_double_precision_and_images(tmp_path):
    net = check(model_of(*layers(ACTIVATIONS["tanh"]), dtype="d"), tmp_path, X.astype("d"), 1e-14)
    assert net.dtype == np.float64
    images = RNG.normal(size=(6, 1, 5, 1)).astype("f")
    for name, flat in (("Flatten", "X -> f"), ("Reshape", "X shape -> f")):
        shape = onnx.numpy_helper.from_array(np.array([-1, 5]), "shape")
        model = model_of(
            (name, flat),
            *layers(ACTIVATIONS["relu"], first="f"),
            shape=("m", 1, 5, 1),
            more=[shape][: name == "Reshape"],
        )
        check(model, tmp_path, images)


def test_labels_are_no_part_of_the_network(tmp_path):
    ends = (
        ("Sigmoid", "z2 -> h"),
        ("Greater", "h half -> g"),
        ("Cast", "g -> label", {"to": 7}),
        ("Identity", "h -> y"),
    )
    nodes = (*layers(ACTIVATIONS["tanh"])[:-1], *ends)
    assert check(model_of(*nodes, outputs=("y", "label"), kinds={"label": 7}), tmp_path).loss == "binary_cross_entropy"


def test_logits_are_given_an_activation(tmp_path):
    model = model_of(*layers(ACTIVATIONS["relu"]))
    net, logits = read(model, tmp_path, output_activation="softmax"), expected(model)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(net.predict(X), shares, rtol=1e-5)
    assert net.loss == "categorical_cross_entropy"
    before = net.cost(X, RNG.integers(3, size=20))
    labels = logits.argmax(axis=1)
    history = net.fit(X, labels, optimizer=dp.SGD(0.1), epochs=5)
    assert history.cost[-1] < history.cost[0]
    assert before > 0
    assert read(model, tmp_path, loss="huber").loss == "huber"
    with pytest.raises(ValueError, match=r"output_activation: expected 'tanh', which the network in .* has, got 'soft"):
        read(model_of(*layers(ACTIVATIONS["relu"], ("Tanh", "z2 -> y"))), tmp_path, output_activation="softmax")


def test_the_same_arguments_for_our_own_files(tmp_path):
    net = dp.Network([5, 4, 3], hidden_activation="tanh", loss="squared_error", backend="numpy", seed=4)
    net.to_onnx(tmp_path / "own.onnx")
    cases: tuple[tuple[dict[str, Any], tuple[str, str]], ...] = (
        ({}, ("identity", "squared_error")),
        ({"loss": "huber"}, ("identity", "huber")),
        ({"output_activation": "softmax"}, ("softmax", "categorical_cross_entropy")),
        ({"output_activation": "sigmoid", "loss": "squared_error"}, ("sigmoid", "squared_error")),
    )
    for options, there in cases:
        again = dp.Network.from_onnx(tmp_path / "own.onnx", backend="numpy", **options)
        assert (again.output_activation, again.loss) == there
        np.testing.assert_array_equal(again.parameters, net.parameters)
        assert again.seed == 4


# -- other programs -------------------------------------------------------------------------------------------------


def exported(torch, module, folder, inputs=X, **options):
    path = folder / "torch.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), (torch.from_numpy(inputs),), path, **options)
    return onnx.load(path)


def modules(torch):
    nn = torch.nn
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(4)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    yield nn.Sequential(nn.Linear(5, 4), nn.GELU(), nn.Linear(4, 3), nn.Softmax(-1)), ("gelu", "softmax")
    yield nn.Sequential(nn.Linear(5, 4), nn.Softplus(), nn.Linear(4, 3)), ("softplus", "identity")
    yield (
        nn.Sequential(nn.Linear(5, 4, bias=False), norm, nn.SiLU(), nn.Dropout(), nn.Linear(4, 1), nn.Sigmoid()),
        ("silu", "sigmoid"),
    )


@pytest.mark.parametrize("opset", [13, 18, 20])
def test_what_torch_writes(opset, tmp_path):
    torch = pytest.importorskip("torch")
    for module, activations in modules(torch):
        model = exported(torch, module, tmp_path, dynamo=False, opset_version=opset)
        assert check(model, tmp_path).activations == activations
    elu = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ELU(), torch.nn.Linear(4, 3))
    with pytest.raises(ValueError, match=r"expected a chain of Gemm.*got .*Elu.* after the matrix product of layer 1"):
        read(exported(torch, elu, tmp_path, dynamo=False, opset_version=opset), tmp_path)


def test_what_its_newer_exporter_writes(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    *_, (module, activations) = modules(torch)
    model = exported(torch, module, tmp_path, dynamo=True, external_data=False, verbose=False)
    assert check(model, tmp_path).activations == activations

    exported(torch, module, tmp_path, dynamo=True, verbose=False)  # the weights are in a file beside the model
    assert (tmp_path / "torch.onnx.data").exists()
    net = dp.Network.from_onnx(tmp_path / "torch.onnx", backend="numpy")
    with torch.no_grad():
        np.testing.assert_allclose(net.predict(X), module(torch.from_numpy(X)).numpy(), rtol=0, atol=1e-6)


def test_weights_in_a_file_beside_the_model(tmp_path):
    path = tmp_path / "other.onnx"
    model = model_of(*layers(ACTIVATIONS["relu"]))
    h = expected(model)
    onnx.save(model, str(path), save_as_external_data=True, location="other.onnx.data", size_threshold=0)
    assert {tensor.data_location for tensor in onnx.load(str(path), load_external_data=False).graph.initializer} == {1}
    np.testing.assert_allclose(dp.Network.from_onnx(path, backend="numpy").predict(X), h, rtol=0, atol=1e-6)


@pytest.mark.parametrize("target", ["binary", "text", "several", "quantities"])
@pytest.mark.parametrize("scaled", [False, True])
def test_what_skl2onnx_writes(target, scaled, tmp_path):
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    digits, numbers = (array[:300] for array in load_digits(return_X_y=True))
    digits = digits.astype("f")
    y = {
        "binary": numbers > 4,
        "text": np.array([f"digit {number}" for number in numbers]),
        "several": np.column_stack([numbers > 4, numbers % 2 == 1]).astype(int),
        "quantities": np.column_stack([numbers, numbers**2]).astype("f"),
    }[target]
    kind: Any = MLPRegressor if target == "quantities" else MLPClassifier
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        last = kind(hidden_layer_sizes=(8, 6), activation="tanh", max_iter=5, random_state=0).fit(digits, y)
    model = make_pipeline(*[StandardScaler().fit(digits)] * scaled, last)
    net = read(skl2onnx.to_onnx(model, digits[:1]), tmp_path)
    inputs = model[:-1].transform(digits) if scaled else digits
    theirs = last.predict(inputs) if target == "quantities" else last.predict_proba(inputs)
    theirs = theirs[:, 1:] if target == "binary" else theirs
    np.testing.assert_allclose(net.predict(digits), theirs, rtol=1e-4, atol=1e-5)
    assert net.layer_sizes == (64, 8, 6, theirs.shape[1])
