"""ONNX models that are no chain of layers, or damaged, are refused by one clear error."""

import numpy as np
import pytest
from onnx_models import (
    ACTIVATIONS,
    SCALES,
    X,
    expected,
    helper,
    layers,
    model_of,
    onnx,
    read,
    runtime,
)

import deltaprop as dp


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
    "relu with a limit": (
        lambda: model_of(
            *layers([("Relu", "z1 -> r"), ("Min", "r limit -> a1")]),
            more=[onnx.numpy_helper.from_array(np.array(1000.0, "f"), "limit")],
        ),
        "got .'Min'. after layer 1",
    ),
    "an old way to reshape a constant": (
        lambda: model_of(("Reshape", "W1 -> W", {"shape": [5, 4]}), ("MatMul", "X W -> y"), opset=1),
        "'W' .Reshape.: damaged",
    ),
    "columns that are aligned in an old way": (
        lambda: model_of(("MatMul", "X W1 -> m1"), ("Add", "m1 b1 -> y", {"broadcast": 1, "axis": 1}), opset=6),
        "'y' .Add.: expected arrays that are aligned at their last axis",
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


def test_a_model_of_the_other_kind_names_what_reads_it(tmp_path):
    dp.Network([2, 1], backend="numpy").save(tmp_path / "net")
    with pytest.raises(ValueError, match=r"net: a safetensors file, not an ONNX model; deltaprop\.load reads"):
        dp.Network.from_onnx(tmp_path / "net")
    read(model_of(*layers(ACTIVATIONS["relu"])), tmp_path)
    for load in (dp.load, dp.Network.load, dp.NetworkStack.load):
        with pytest.raises(ValueError, match=r"other\.onnx: not a model file.*; Network\.from_onnx reads ONNX models"):
            load(tmp_path / "other.onnx")


def in_two_files(folder, **entry):
    """Write a model whose first weights are in the file beside it, as PyTorch does; `entry` says where."""
    model = model_of(*layers(ACTIVATIONS["relu"]))
    tensor, path = model.graph.initializer[0], folder / "other.onnx"
    (folder / "other.onnx.data").write_bytes(bytes(8) + tensor.raw_data)
    where = {"location": "other.onnx.data", "offset": "8", "length": str(len(tensor.raw_data))} | entry
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in where.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"offset": "9"}, "lies outside of the 88 bytes"),
        ({"offset": "-8"}, "lies outside"),
        ({"length": "-1"}, "lies outside"),
        ({"length": str(10**30)}, "lies outside"),
        ({"offset": "eight"}, "lies outside"),
        ({"length": "40"}, r"other\.onnx: "),
        ({"location": "../other.onnx.data"}, "expected 'other.onnx.data' beside it"),
        ({"location": ""}, "expected 'other.onnx.data' beside it"),
    ],
)
def test_a_place_that_the_second_file_does_not_have(entry, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        dp.Network.from_onnx(in_two_files(tmp_path, **entry), backend="numpy")


def test_parts_of_the_second_file_do_not_overlap(tmp_path):
    path = in_two_files(tmp_path)
    model = onnx.load_model(str(path), load_external_data=False)
    for number in range(1000):
        copy = model.graph.initializer.add()
        copy.CopyFrom(model.graph.initializer[0])
        copy.name = f"copy {number}"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"tensor 'copy 0' lies outside of the 88 bytes of other\.onnx\.data"):
        dp.Network.from_onnx(path, backend="numpy")


def test_without_the_second_file(tmp_path):
    path = in_two_files(tmp_path)
    (tmp_path / "other.onnx.data").unlink()
    with pytest.raises(FileNotFoundError, match=r"other\.onnx\.data: no such file"):
        dp.Network.from_onnx(path, backend="numpy")


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
