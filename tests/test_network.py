"""Network: its arrays are views of one flat vector; initialisation, refused arguments, files."""

import errno
import json
import os
from datetime import date
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import deltaprop as dp


def net(**options):
    return dp.Network([4, 5, 3], **{"backend": "numpy"} | options)


def test_defaults_and_attributes():
    n = dp.Network((400, 25, 10))
    assert n.layer_sizes == (400, 25, 10)
    assert [W.shape for W in n.weights] == [(25, 400), (10, 25)]
    assert [b.shape for b in n.biases] == [(25,), (10,)]
    assert n.parameters.shape == (25 * 400 + 10 * 25 + 35,)
    assert n.parameters.dtype == np.float64
    assert n.activations == ("sigmoid", "sigmoid")
    assert n.backend.name == dp.available_backends()[0]


def test_layers_are_views_of_the_flat_vector(backend):
    n = net(backend=backend)
    n.parameters[...] = 0
    n.weights[1][2, 3] = 7.0
    n.biases[0][4] = 5.0
    flat = n.backend.to_numpy(n.parameters)
    assert flat.sum() == 12.0
    assert flat[20 + 2 * 5 + 3] == 7.0
    assert flat[20 + 15 + 4] == 5.0
    assert n.n_weights == 35


def test_thetas_are_bias_first_and_assignable(backend, rng):
    n = net(backend=backend)
    T = [rng.standard_normal((5, 5)), rng.standard_normal((3, 6))]
    n.thetas = T
    for theta, W, b in zip(T, n.weights, n.biases, strict=True):
        assert np.array_equal(n.backend.to_numpy(b), theta[:, 0])
        assert np.array_equal(n.backend.to_numpy(W), theta[:, 1:])
    for got, theta in zip(n.thetas, T, strict=True):
        assert np.array_equal(n.backend.to_numpy(got), theta)


def test_assigning_a_wrong_shape_changes_nothing(rng):
    n = net()
    before = n.parameters.copy()
    for name, values, message in (
        ("weights", [np.ones((5, 4)), np.ones((3, 4))], r"weights\[1\]: expected shape \(3, 5\), got \(3, 4\)"),
        ("biases", [np.ones(5)], "biases: expected 2 arrays, one a layer, got 1"),
        ("thetas", [np.ones((5, 4)), np.ones((3, 6))], r"thetas\[0\]: expected shape \(5, 5\), got \(5, 4\)"),
        ("parameters", np.ones(3), r"parameters: expected shape \(43,\), got \(3,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            setattr(n, name, values)
        assert np.array_equal(n.parameters, before)


def test_initialisations():
    sizes = [300, 200, 10]
    spread = {
        "glorot_uniform": lambda s_in, s_out: np.sqrt(6 / (s_in + s_out)) / np.sqrt(3),
        "normal": lambda s_in, s_out: 1.0,
        "scaled_normal": lambda s_in, s_out: 1 / np.sqrt(s_in),
        "lecun": lambda s_in, s_out: 1 / np.sqrt(s_in),
        "he": lambda s_in, s_out: np.sqrt(2 / s_in),
    }
    name: Any
    for name, deviation in spread.items():
        n = dp.Network(sizes, init=name, backend="numpy")
        for W, b in zip(n.weights, n.biases, strict=True):
            assert W.std() == pytest.approx(deviation(W.shape[1], W.shape[0]), rel=0.06)
            assert b.any() != (name in ("lecun", "he"))
    W = dp.Network(sizes, backend="numpy").weights[0]
    assert abs(W).max() <= np.sqrt(6 / 500)
    assert not dp.Network(sizes, init="zeros", backend="numpy").parameters.any()


@pytest.mark.parametrize("hidden", ["relu", "sigmoid", ["sigmoid", "tanh"], ["tanh", "sigmoid"]])
def test_initialisation_as_scikit_learn_has_it(hidden):
    """scikit-learn has one activation for all hidden layers, and draws the output layer for it too."""
    n = dp.Network([40, 50, 60, 30], init="scikit_learn", hidden_activation=hidden, backend="numpy", seed=3)
    names = [hidden] * 2 if isinstance(hidden, str) else hidden
    for W, b, name in zip(n.weights, n.biases, [*names, names[-1]], strict=True):
        bound = np.sqrt((2 if name == "sigmoid" else 6) / sum(W.shape))
        assert 0.99 < abs(W).max() / bound <= 1
        assert 0.8 < abs(b).max() / bound <= 1
        assert W.std() == pytest.approx(bound / np.sqrt(3), rel=0.06)
    stack = dp.NetworkStack(2, [40, 50, 60, 30], init="scikit_learn", hidden_activation=hidden, backend="numpy")
    own = dp.Network([40, 50, 60, 30], init="scikit_learn", hidden_activation=hidden, backend="numpy", seed=1)
    assert np.array_equal(stack[1].parameters, own.parameters)
    assert np.isfinite(dp.Network([3, 2], init="scikit_learn", backend="numpy").parameters).all()


def test_the_seed_decides(backend):
    first, second, other = net(seed=1, backend=backend), net(seed=1), net(seed=2)
    assert np.array_equal(first.backend.to_numpy(first.parameters), second.parameters)
    assert not np.array_equal(second.parameters, other.parameters)
    before: Any = np.random.get_state()
    state = before[1].copy()
    net(seed=9).fit(np.eye(4), [0, 1, 2, 0])
    after: Any = np.random.get_state()
    assert np.array_equal(after[1], state)


def test_an_activation_for_each_hidden_layer(backend, rng, tmp_path):
    n = dp.Network([3, 4, 5, 2], hidden_activation=("tanh", "relu"), backend=backend)
    assert n.activations == ("tanh", "relu", "sigmoid")
    X = rng.standard_normal((6, 3))
    W, b = ([n.backend.to_numpy(p) for p in layers] for layers in (n.weights, n.biases))
    a = np.maximum(np.tanh(X @ W[0].T + b[0]) @ W[1].T + b[1], 0) @ W[2].T + b[2]
    assert np.allclose(n.predict(X), 1 / (1 + np.exp(-a)), rtol=1e-13)
    n.save(tmp_path / "n")
    again = dp.Network.load(tmp_path / "n", backend=backend)
    assert again.activations == n.copy().activations == n.activations
    assert np.array_equal(again.predict(X), n.predict(X))
    assert "hidden_activation=['tanh', 'relu']" in repr(n)


def test_debug_initialize_is_the_courses(backend):
    """Θ = sin(1 … n)/10, column by column from the bias column on, whatever the seed."""
    n = net(init="debug_initialize", backend=backend, seed=5)
    first, second = (n.backend.to_numpy(theta) for theta in n.thetas)
    assert first.shape == (5, 5)
    assert first[:, 0] == pytest.approx(np.sin([1, 2, 3, 4, 5]) / 10)
    assert first[0] == pytest.approx(np.sin([1, 6, 11, 16, 21]) / 10)
    assert second[:, 1] == pytest.approx(np.sin([4, 5, 6]) / 10)


@pytest.mark.parametrize(("arguments", "options", "error", "message"), [
    ([[4]], {}, ValueError, "layer_sizes: expected at least an input and an output layer"),
    ([[4, 0, 2]], {}, ValueError, "layer_sizes: expected widths of at least 1, got 0 at position 1"),
    ([[4, 2.5]], {}, TypeError, "layer_sizes: expected a sequence of whole numbers"),
    ([5], {}, TypeError, "layer_sizes: expected a sequence"),
    ([[2, 2]], {"hidden_activation": "sigmoyd"}, ValueError, "unknown activation 'sigmoyd'; known are 'sigmoid', 'tanh'"),
    ([[2, 3, 2]], {"hidden_activation": ["tanh", "relu"]}, ValueError, r"expected one name, or 1, one a hidden layer, got \['tanh', 'relu'\]"),
    ([[2, 3, 2]], {"hidden_activation": 3}, ValueError, "hidden_activation: unknown activation 3; known are"),
    ([[2, 3, 2]], {"hidden_activation": ["tanhh"]}, ValueError, r"hidden_activation\[0\]: unknown activation 'tanhh'"),
    ([[2, 2]], {"output_activation": "soft"}, ValueError, "output_activation: unknown activation 'soft'; known are"),
    ([[2, 2]], {"loss": "mse"}, ValueError, "loss: unknown loss 'mse'; known are 'squared_error', 'binary_cross"),
    ([[2, 2]], {"output_activation": "tanh"}, ValueError, "loss 'binary_cross_entropy' goes with 'sigmoid', got 'tanh', which goes with loss='squared_error'"),
    ([[2, 2]], {"init": "xavier"}, ValueError, "init: unknown initialisation 'xavier'; known are"),
    ([[2, 2]], {"dtype": "float16"}, ValueError, "dtype: expected 'float32' or 'float64', got 'float16'"),
    ([[2, 2]], {"dtype": "nonsense"}, ValueError, "dtype: expected .* got 'nonsense'"),
    ([[2, 2]], {"output_error": "rough"}, ValueError, "output_error: expected one of 'exact', 'simplified', got 'rough'"),
    ([[2, 2]], {"output_error": "simplified"}, ValueError, "output_error: .* expected that loss, got 'binary_cross_entropy'"),
    ([[2, 2]], {"seed": -1}, ValueError, "seed: expected a whole number of at least 0, got -1"),
    ([[2, 2]], {"seed": "x"}, TypeError, "seed: expected a whole number, got 'x'"),
    ([[2, 2]], {"backend": "tpu"}, ValueError, "backend: expected one of 'auto', 'numpy', 'cupy', 'cupy:N', 'reference', got 'tpu'"),
])  # fmt: skip
def test_bad_networks_are_refused(arguments, options, error, message):
    with pytest.raises(error, match=message):
        dp.Network(*arguments, **options)


X = np.zeros((3, 4))
X_nan = X.copy()
X_nan[1, 2] = np.nan


@pytest.mark.parametrize(("X", "Y", "error", "message"), [
    (X_nan, [0, 1, 2], ValueError, r"X: expected finite numbers in float64, got nan at X\[1, 2\]"),
    (np.full((3, 4), -np.inf), [0, 1, 2], ValueError, r"got -inf at X\[0, 0\]"),
    (np.zeros((3, 5)), [0, 1, 2], ValueError, r"X: expected 4 features \(shape \(m, 4\)\), got shape \(3, 5\)"),
    (np.zeros(4), [0], ValueError, r"X: expected a 2-D array of shape \(m, 4\), got shape \(4,\); one sample is X\[None"),
    (np.zeros((0, 4)), [], ValueError, r"X: expected at least one sample, got shape \(0, 4\)"),
    (None, [0], TypeError, "X: expected an array, got None"),
    ([["a", "b", "c", "d"]], [0], TypeError, r"X: expected numbers, got text such as 'a' at X\[0, 0\]; encode it"),
    ([[1, 2], [3]], [0], ValueError, "X: expected a rectangular array of numbers, got 2 values in row 0 and 1 value in row 1"),
    ([1, [2, 3]], [0], ValueError, "X: expected a rectangular array of numbers, got one value in row 0 and 2 values in row 1"),
    (np.array([["1", "2", "3", "4"]]), [0], TypeError, "X: expected numbers, got numbers written as text, such as '1'; convert"),
    (np.zeros((3, 4), "M8[D]"), [0], TypeError, r"X: expected numbers, got dates of dtype datetime64\[D\]; encode it .*Tabular"),
    (np.zeros((3, 4), "m8[s]"), [0], TypeError, r"X: expected numbers, got durations of dtype timedelta64\[s\]"),
    ([[1, 2, 3, date(2020, 1, 1)]], [0], TypeError, r"X: expected numbers, got datetime.date\(2020, 1, 1\) at X\[0, 3\]; encode it"),
    (np.zeros(3, [("a", float)]), [0], TypeError, "X: expected numbers, got a structured array .*structured_to_unstructured"),
    ([[1, 2, None, 4]], [0], ValueError, r"X: expected finite numbers in float64, got nan at X\[0, 2\]"),
    (X, ["cat", "dog", "cat"], TypeError, r"Y: expected numbers, got text such as 'cat' at Y\[0\]; number the classes .*dp.MLPClassifier"),
    (X, np.array([b"cat"] * 3), TypeError, r"Y: expected numbers, got text such as b'cat' at Y\[0\]; number the classes"),
    (X, "cat", TypeError, "Y: expected numbers, got text such as 'cat'; number the classes"),
    (X, [0, None, 1], ValueError, r"Y: .*got nan at Y\[1\]"),
    (np.array([[1, 2, "x", 4]], object), [0], TypeError, r"X: expected numbers, got text such as 'x' at X\[0, 2\]"),
    (X + 1j, [0, 1, 2], TypeError, "X: expected numbers, got dtype complex128"),
    (X, [0, 1], ValueError, r"Y: expected shape \(3, 3\) or \(3,\) of class labels, one row for each of X, got shape \(2,\)"),
    (X, np.zeros((3, 2)), ValueError, r"Y: expected shape \(3, 3\), or \(3,\) of whole-number class labels, got shape \(3, 2\)"),
    (X, [0, 1, 3], ValueError, r"Y: expected class labels 0 … 2 \(the network has 3 outputs\), got 3 at Y\[2\]"),
    (X, [0, -1, 1], ValueError, r"got -1 at Y\[1\]"),
    (X, [0.5, 0.5, 0.5], ValueError, "Y: expected shape"),
    (X, np.full((3, 3), 1.5), ValueError, r"Y: expected targets in \[0, 1\], got 1.5 at Y\[0, 0\]"),
    (X, np.full((3, 3), np.nan), ValueError, "Y: expected finite numbers"),
])  # fmt: skip
def test_bad_data_are_refused(X, Y, error, message):
    n = net()
    before = n.parameters.copy()
    for method in (n.cost, n.cost_and_gradient, n.deltas, n.fit):
        with pytest.raises(error, match=message):
            method(X, Y)
    assert np.array_equal(n.parameters, before)


def test_targets_of_softmax_sum_to_one_and_counts_are_not_negative():
    n = net(loss="categorical_cross_entropy")
    with pytest.raises(
        ValueError, match=r"Y: expected the targets of each sample to sum to 1 .* got a sum of 0.5 in row 1"
    ):
        n.cost(X, [[1, 0, 0], [0.5, 0, 0], [0, 0, 1]])
    with pytest.raises(ValueError, match=r"Y: expected targets in \[0, inf\], got -1"):
        net(loss="poisson").cost(X, [[0, 1, -1]] * 3)


def test_float64_beyond_float32_is_named():
    with pytest.raises(ValueError, match=r"X: expected finite numbers in float32, got 1e\+300 at X\[0, 0\]"):
        net(dtype="float32").predict(np.full((1, 4), 1e300))


def test_what_may_be_handed_in(rng):
    n = net()
    X = rng.integers(0, 9, (6, 4))
    expected = n.predict(X.astype(float))
    for same in (X.tolist(), X.astype(np.uint8), np.asfortranarray(X), X[::-1][::-1], X.astype(object)):
        assert np.array_equal(n.predict(same), expected)
    one_output = dp.Network([4, 2, 1], backend="numpy")
    y = np.array([0, 1, 1, 0, 1, 0])
    assert one_output.cost(X, y) == one_output.cost(X, y[:, None].astype(float)) == one_output.cost(X, y.astype(bool))
    assert n.cost(X, [0, 1, 2, 2, 1, 0]) == n.cost(X, np.eye(3)[[0, 1, 2, 2, 1, 0]])


def test_data_frames(rng):
    pandas = pytest.importorskip("pandas")
    X = rng.standard_normal((5, 4))
    assert np.array_equal(net().predict(pandas.DataFrame(X)), net().predict(X))
    mixed = pandas.DataFrame({"a": [1, 2], "b": [0.5, 1], "c": [True, False], "d": [1, 2]})
    assert net().predict(mixed).shape == (2, 3)


def test_sparse_input_is_refused_with_the_remedy():
    from scipy.sparse import csr_array

    sparse = csr_array(np.eye(4))
    for method in (net().predict, net().predict_classes, lambda X: net().fit(X, [0, 1, 2, 0])):
        with pytest.raises(
            TypeError, match=r"X: expected a dense array, got a sparse csr_array of shape \(4, 4\); use X.to"
        ):
            method(sparse)
    for method in (net().fit, net().cost, net().score):
        with pytest.raises(TypeError, match=r"Y: expected a dense array, got a sparse .*; use Y.toarray\(\)$"):
            method(np.eye(4), sparse[:, :3])
    with pytest.raises(TypeError, match=r"validation X: expected a dense array, .*; use X.toarray\(\), or dp.MLPClass"):
        net().fit(np.eye(4), [0, 1, 2, 0], validation=(sparse, [0, 1, 2, 0]))


def test_tables_of_text_and_gaps_are_refused_with_the_remedy():
    pandas = pytest.importorskip("pandas")
    numbers = {"a": [1.0, 2.0], "b": [1.0, 2.0], "nnz": [1.0, 2.0]}
    text = pandas.Series(["x", "y"])
    for column, message in (
        (text, r"text such as 'x' at X\[0, 3\]; encode it as numbers"),
        (text.astype("category"), r"text such as 'x' at X\[0, 3\]; encode it as numbers"),
        (pandas.to_datetime(pandas.Series(["2020", "2021"])), r"Timestamp\(.* at X\[0, 3\]; encode it as numbers"),
        (pandas.array([1, None], "Int64"), r"<NA> at X\[1, 3\]; fill missing values"),
    ):
        with pytest.raises(TypeError, match=f"X: expected numbers, got {message}"):
            net().predict(pandas.DataFrame(numbers | {"d": column}))
    for labels in (text, text.astype("category")):
        with pytest.raises(TypeError, match=r"Y: expected numbers, got text such as 'x' at Y\[0\]; number the classes"):
            net().fit(np.zeros((2, 4)), labels)
    assert net().predict(pandas.DataFrame(numbers | {"d": [1, 2]})).shape == (2, 3)


def test_input_is_never_changed(rng):
    X, Y = rng.standard_normal((9, 4)), np.arange(9) % 3
    copies = X.copy(), Y.copy()
    n = net()
    n.fit(X, Y, epochs=2, batch_size=4)
    n.cost_and_gradient(X, Y)
    assert np.array_equal(X, copies[0])
    assert np.array_equal(Y, copies[1])


# -- files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_save_and_load(backend, tmp_path, dtype):
    n = net(dtype=dtype, backend=backend, init="normal", seed=4, loss="huber", output_activation="tanh")
    n.fit(np.eye(4), np.eye(4)[:, :3], epochs=2)
    path = tmp_path / "net.safetensors"
    n.save(path)
    loaded = dp.Network.load(path, backend=backend)
    assert np.array_equal(loaded.backend.to_numpy(loaded.parameters), n.backend.to_numpy(n.parameters))
    assert loaded.configuration == n.configuration
    assert loaded.epochs_trained == 2
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]
    for network in (n, loaded):  # a loaded network trains on as the saved one does
        network.fit(np.eye(4), np.eye(4)[:, :3], epochs=1, batch_size=2)
    assert np.array_equal(loaded.backend.to_numpy(loaded.parameters), n.backend.to_numpy(n.parameters))


def test_damaged_files_are_refused(tmp_path):
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    net().save(good)
    content = good.read_bytes()
    for length in range(0, len(content), 32):
        bad.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"bad\.safetensors: "):
            dp.Network.load(bad)
    for position in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        bad.write_bytes(flipped)
        try:
            loaded = dp.Network.load(bad, backend="numpy")
        except ValueError:
            continue
        # Only white space around the header may change unseen, as it has no meaning.
        assert np.array_equal(loaded.parameters, net().parameters)
        assert loaded.configuration == net().configuration


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04pickle", b"\xff" * 100, b"\0" * 100])
def test_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x: not a model file, or a damaged one"):
        dp.Network.load(path)


def test_files_that_are_no_network_of_ours(tmp_path):
    from deltaprop.files.model_file import write_model

    path = tmp_path / "other.safetensors"
    save_file({"w": np.zeros(3)}, path)
    with pytest.raises(ValueError, match="not a deltaprop model"):
        dp.Network.load(path)
    good = net()
    for change in (
        {"network": good.configuration | {"layer_sizes": [4, 5, 2]}},
        {"network": good.configuration | {"loss": "nonsense"}},
        {"network": good.configuration | {"surprise": 1}},
        {"network": None},
        {"network": good.configuration | {"layer_sizes": [10**9, 10**9]}},
        {"network": good.configuration, "epochs_trained": "many"},
    ):
        write_model(path, {"network": good.configuration, "epochs_trained": 0} | change, good.file_tensors())
        with pytest.raises(ValueError, match="does not describe a network"):
            dp.Network.load(path)
    tensors = good.file_tensors()
    tensors["biases.0"] = np.full(5, np.nan)
    write_model(path, good.file_configuration(), tensors)
    with pytest.raises(ValueError, match="not finite"):
        dp.Network.load(path)
    with pytest.raises(FileNotFoundError, match=r"none: no such file") as missing:
        dp.Network.load(tmp_path / "none")
    assert missing.value.errno == errno.ENOENT
    with pytest.raises(ValueError, match="is a folder"):
        dp.Network.load(tmp_path)


def test_a_failed_save_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    net().save(path)
    content = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        net(seed=3).save(path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_plain_safetensors(tmp_path):
    """Another program finds the tensors by layer and the configuration as JSON."""
    from safetensors import safe_open

    n = net()
    n.save(tmp_path / "n")
    with safe_open(tmp_path / "n", framework="numpy") as file:
        assert sorted(file.keys()) == ["biases.0", "biases.1", "weights.0", "weights.1"]
        assert np.array_equal(file.get_tensor("weights.1"), n.weights[1])
        assert json.loads(file.metadata()["configuration"])["network"]["layer_sizes"] == [4, 5, 3]
