"""Small ONNX models, written as lines of text, and what the usual runtime computes from them."""

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
