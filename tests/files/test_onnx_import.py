"""Networks in ONNX models of other programs compute what the usual runtime computes from the same file."""

import warnings
from typing import Any

import numpy as np
import pytest

import deltaprop as dp

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
helper: Any = onnx.helper

RNG = np.random.default_rng(3)
X = RNG.normal(size=(20, 5)).astype("f")
#: Numbers that the models below take by name.
NUMBERS: dict[str, Any] = {
    "W1": RNG.normal(size=(5, 4)),
    "b1": RNG.normal(size=4),
    "W2": RNG.normal(size=(4, 3)),
    "b2": RNG.normal(size=(1, 3)),
    "mean": RNG.normal(size=5),
    "sd": RNG.uniform(1, 2, size=5),
    "gain": RNG.normal(size=4),
    "variance": RNG.uniform(1, 2, size=4),
    "half": 0.5,
    "one": 1.0,
    "root": np.sqrt(2.0),
    "ten": 10.0,
}
NUMBERS |= {f"{name}t": NUMBERS[name].T for name in ("W1", "W2")}
FIRST, SECOND = (
    (("MatMul", "{0} W1 -> m1"), ("Add", "m1 b1 -> z1")),
    (("MatMul", "a1 W2 -> m2"), ("Add", "m2 b2 -> z2")),
)


def node(operator, text, **attributes):
    """Make a node of a text such as ``"z b -> y"``."""
    given, made = (part.split() for part in text.split("->"))
    domain = "ai.onnx.ml" if operator in ("Scaler", "ZipMap", "ArrayFeatureExtractor", "Binarizer") else ""
    return helper.make_node(operator, given, made, domain=domain, **attributes)


def model_of(*nodes, outputs=("y",), dtype="f", shape=("m", 5), opset=20, kinds=None, more=()):
    """Make a model of texts for `node`; its constants are those of `NUMBERS` that it reads."""
    made = [
        text if hasattr(text, "op_type") else node(text[0], text[1], **(text[2] if len(text) > 2 else {}))
        for text in nodes
    ]
    read = {name for each in made for name in each.input}
    constants = [
        onnx.numpy_helper.from_array(np.asarray(NUMBERS[name], dtype), name) for name in sorted(read & set(NUMBERS))
    ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    ends = [helper.make_tensor_value_info(name, (kinds or {}).get(name, kind), ["m", "n"]) for name in outputs]
    graph = helper.make_graph(made, "g", [helper.make_tensor_value_info("X", kind, shape)], ends, [*constants, *more])
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, 2) for name in ("ai.onnx.ml", "own"))]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def layers(activation, end=("Identity", "z2 -> y"), first="X"):
    """Return the nodes of two layers; those of the activation lead from z1 to a1."""
    return (*((operator, text.format(first)) for operator, text in FIRST), *activation, *SECOND, end)


def read(model, folder, **options):
    path = folder / "other.onnx"
    path.write_bytes(model.SerializeToString())
    return dp.Network.from_onnx(path, backend="numpy", **options)


def expected(model, inputs=X, output=0):
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: inputs})[output]


def check(model, folder, inputs=X, tolerance=2e-6):
    """Return the network, which computes what the runtime does."""
    net, there = read(model, folder), expected(model, inputs)
    here = net.predict(inputs.reshape(len(inputs), -1))
    np.testing.assert_allclose(here, there.reshape(here.shape), rtol=tolerance, atol=tolerance)
    return net


ACTIVATIONS = {
    "relu": [("Relu", "z1 -> a1")],
    "relu as a maximum": [("Sub", "z1 z1 -> nought"), ("Max", "z1 nought -> a1")],
    "tanh": [("Tanh", "z1 -> a1")],
    "sigmoid": [("Sigmoid", "z1 -> a1")],
    "sigmoid by exp": [("Neg", "z1 -> n"), ("Exp", "n -> e"), ("Add", "e one -> s"), ("Reciprocal", "s -> a1")],
    "identity": [("Identity", "z1 -> a1")],
    "leaky_relu": [("LeakyRelu", "z1 -> a1", {"alpha": 0.01})],
    "softplus": [("Softplus", "z1 -> a1")],
    "softplus by log": [("Exp", "z1 -> e"), ("Add", "one e -> s"), ("Log", "s -> a1")],
    "silu": [("Sigmoid", "z1 -> s"), ("Mul", "z1 s -> a1")],
    "silu the other way": [("Sigmoid", "z1 -> s"), ("Cast", "s -> c", {"to": 1}), ("Mul", "c z1 -> a1")],
    "gelu": [("Gelu", "z1 -> a1")],
    "gelu by erf": [
        ("Div", "z1 root -> d"),
        ("Erf", "d -> e"),
        ("Add", "e one -> s"),
        ("Mul", "z1 s -> p"),
        ("Mul", "p half -> a1"),
    ],
}


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


SCALES = {
    "inputs": [("Sub", "X mean -> c"), ("Div", "c sd -> x"), *layers(ACTIVATIONS["relu"], first="x")],
    "inputs by ai.onnx.ml": [
        ("Scaler", "X -> x", {"offset": [1.0, 2.0, 3.0, 4.0, 5.0], "scale": [0.5, 1.0, 2.0, 1.0, 3.0]}),
        *layers(ACTIVATIONS["relu"], first="x"),
    ],
    "a normalization before the activation": layers(
        [("BatchNormalization", "z1 gain b1 gain variance -> n", {"epsilon": 0.01}), ("Relu", "n -> a1")]
    ),
    "a normalization after it": layers([("Relu", "z1 -> r"), ("BatchNormalization", "r gain b1 gain variance -> a1")]),
    "softplus with beta": layers([("Mul", "z1 ten -> b"), ("Softplus", "b -> s"), ("Div", "s ten -> a1")]),
    "outputs": layers(ACTIVATIONS["relu"], ("Sub", "ten z2 -> y")),
}


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
    for options, there in (
        ({}, ("identity", "squared_error")),
        ({"loss": "huber"}, ("identity", "huber")),
        ({"output_activation": "softmax"}, ("softmax", "categorical_cross_entropy")),
        ({"output_activation": "sigmoid", "loss": "squared_error"}, ("sigmoid", "squared_error")),
    ):
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


# -- what is refused ------------------------------------------------------------------------------------------------


def two_inputs():
    model = model_of(*layers(ACTIVATIONS["relu"]))
    model.graph.input.append(helper.make_tensor_value_info("Z", 1, ["m", 5]))
    return model


def stored(name, change):
    model = model_of(*layers(ACTIVATIONS["relu"]))
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(tensor)), name))
    return model


REFUSED = {
    "two inputs": (two_inputs, r"expected a model with one input, got 2: \['X', 'Z'\]"),
    "nan": (lambda: stored("W1", lambda W: W * np.nan), "tensor 'W1' holds numbers that are not finite"),
    "half precision": (lambda: stored("W1", lambda W: W.astype("e")), "'W1': expected float32, .*got FLOAT16"),
    "other dtypes": (lambda: stored("W2", lambda W: W.astype("d")), "'m2'.*weights of one dtype, got float64 after"),
    "other widths": (lambda: stored("W2", lambda W: W[:2]), r"'m2'.*expected weights for 4 columns, got 2"),
    "cubes": (lambda: stored("W1", lambda W: W[None]), r"'m1'.*a matrix, got an array of shape \(1, 5, 4\)"),
    "nothing": (lambda: stored("W1", lambda W: W[:0]), r"'W1': expected numbers, got the shape \[0, 4\]"),
    "another width of b": (lambda: stored("b1", lambda b: b[:3]), r"'z1' \(Add\): expected a number, or one a column"),
    "columns for rows": (lambda: model_of(("MatMul", "W2t X -> y")), "x W, with a row a sample"),
    "transposed inputs": (lambda: model_of(("Gemm", "X W1 -> y", {"transA": 1})), "'y' .Gemm.: expected transA=0"),
    "a shared matrix": (
        lambda: model_of(("MatMul", "X W1 -> a"), ("Relu", "a -> r"), ("Gemm", "r W1 -> y", {"transB": 1})),
        "'y' .Gemm.: expected weights of its own",
    ),
    "a computed matrix": (lambda: model_of(("Relu", "X -> r"), ("MatMul", "X r -> y")), "got .'Relu', 'MatMul'. after"),
    "no layer": (lambda: model_of(("Relu", "X -> y")), "got .'Relu'. after the input"),
    "a hidden output": (
        lambda: model_of(*layers(ACTIVATIONS["relu"]), outputs=("y", "a1")),
        "outputs of the last layer only, got 'a1'",
    ),
    "a way round": (
        lambda: model_of(("Gemm", "X W1 -> a"), ("Relu", "a -> r"), ("Add", "a r -> y")),
        "got .'Relu', 'Add'. after the matrix product of layer 1",
    ),
    "some outputs": (
        lambda: model_of(
            *layers(ACTIVATIONS["relu"])[:-1],
            ("Gather", "z2 i -> y", {"axis": 1}),
            more=[onnx.numpy_helper.from_array(np.array([0]), "i")],
        ),
        "got .'Gather'. after the matrix product of layer 2",
    ),
    "exp inside": (lambda: model_of(*layers([("Exp", "z1 -> a1")])), "expected exp at the end only.*layer 1 of 2"),
    "another slope": (
        lambda: model_of(*layers([("LeakyRelu", "z1 -> a1", {"alpha": 0.2})])),
        "got .'LeakyRelu'. after",
    ),
    "gelu by tanh": (
        lambda: model_of(*layers([("Gelu", "z1 -> a1", {"approximate": "tanh"})])),
        "got .'Gelu'. after the matrix product of layer 1",
    ),
    "softmax over rows": (
        lambda: model_of(*layers(ACTIVATIONS["relu"], ("Softmax", "z2 -> y", {"axis": 0}))),
        "softmax over the columns",
    ),
    "scaled outputs": (
        lambda: model_of(*layers(ACTIVATIONS["relu"], ("Sigmoid", "z2 -> s")), ("Mul", "s ten -> y")),
        "'y' .Mul.: expected a matrix product after it",
    ),
    "images": (lambda: model_of(*layers(ACTIVATIONS["relu"]), shape=("m", 2, 5)), "Flatten has to be before it"),
    "other operators": (
        lambda: model_of(*layers(ACTIVATIONS["relu"])[:-1], helper.make_node("Own", ["z2"], ["y"], domain="own")),
        "got .'Own'. after",
    ),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_is_no_chain_of_layers(name, tmp_path):
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=r"other\.onnx: .*" + message):
        read(make(), tmp_path)


def test_no_other_file_is_read_and_no_size_is_believed(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(80))
    model = model_of(*layers(ACTIVATIONS["relu"]))
    outside = model.graph.initializer[0]
    outside.ClearField("raw_data")
    outside.data_location = onnx.TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="secret")
    with pytest.raises(ValueError, match=r"other\.onnx: .*in another file"):
        read(model, tmp_path)
    tensor = onnx.TensorProto(dims=[2**40, 2**20], data_type=1, raw_data=bytes(80), name="W1")
    model = model_of(*layers(ACTIVATIONS["relu"]))
    model.graph.initializer[0].CopyFrom(tensor)
    with pytest.raises(ValueError, match=r"other\.onnx: "):
        read(model, tmp_path)
    with pytest.raises(ValueError, match="expected at most 10000 nodes, got 10001"):
        read(model_of(*(("Relu", f"{l or 'X'} -> {l + 1}") for l in range(10_001)), outputs=("10001",)), tmp_path)


def changed(model, rng):
    """Change something in a model: an operator, a name, an attribute, or the description of a tensor."""
    graph = model.graph
    where, tensor = graph.node[rng.integers(len(graph.node))], graph.initializer[rng.integers(len(graph.initializer))]
    names = ["", "X", *(name for each in graph.node for name in (*each.input, *each.output))]
    change = rng.integers(7)
    if change == 0:
        where.op_type = str(
            rng.choice([each.op_type for each in graph.node] + ["Relu", "Cast", "Concat", "Clip", "Pow"])
        )
    elif change == 1:
        where.input[rng.integers(len(where.input))] = str(rng.choice(names))
    elif change == 2:
        where.output[0] = str(rng.choice(names))
    elif change == 3:
        values = [0, 1, -1, 2**62, 1e30, float("nan"), [0, 1], [1.0], "none", tensor]
        name = str(rng.choice(["axis", "alpha", "to", "epsilon", "transB", "value", "offset"]))
        where.attribute.append(helper.make_attribute(name, values[rng.integers(len(values))]))
    elif change == 4:
        tensor.dims[:] = rng.choice([-1, 0, 1, 3, 4, 5, 2**40], size=rng.integers(4)).tolist()
    elif change == 5:
        tensor.data_type = int(rng.integers(25))
    else:
        tensor.raw_data = rng.bytes(rng.integers(9))


#: How the runtime refuses a model.
REFUSALS = tuple(
    getattr(runtime.capi.onnxruntime_pybind11_state, name)
    for name in ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "RuntimeException")
)


def of_runtime(model):
    """Return what the runtime computes, or None where it refuses a model."""
    try:
        return expected(model)
    except REFUSALS:
        return None


def test_changed_models_are_refused_or_read_right(tmp_path):
    rng, right = np.random.default_rng(8), 0
    nodes = (*SCALES["inputs"][:2], *layers(ACTIVATIONS["gelu by erf"], ("Softmax", "z2 -> y"), first="x"))
    runtime.set_default_logger_severity(4)
    for _ in range(300):
        model = model_of(*nodes)
        changed(model, rng)
        net = refused = None
        try:
            net = read(model, tmp_path)
        except ValueError as error:
            refused = str(error)
        assert net is not None or "other.onnx: " in str(refused)
        there = None if net is None else of_runtime(model)
        if net is None or there is None:
            continue
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(net.predict(X), there, rtol=1e-4, atol=1e-5)
        right += 1
    assert right > 10
