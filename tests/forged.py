"""Forges files with a right checksum: each is refused in one line, or is a network like any other.

Whole models, checkpoints, stacks, tabular estimators, ONNX files and models of the command line are taken apart, changed in some places
(values dropped, repeated, of another type, extreme, not finite, deeply nested, very long; tensors likewise), written
back as the library would write them, and read by every reader of such files. A file that is accepted must predict and
train.
`fuzz.py` runs this: ``python tests/fuzz.py --kind forged``.
"""

import contextlib
import copy
import io
import itertools
import json
import math
import random
import re
import signal
import time
import warnings
from typing import Any
from unittest import mock

import numpy as np
from safetensors.numpy import save

import deltaprop as dp
from deltaprop import cli
from deltaprop.epochs.interruption import Interruption
from deltaprop.files import model_file

#: Seconds that one file may take, on a busy machine.
LONGEST = 10.0
RNG = np.random.default_rng(0)
X, LABELS = RNG.standard_normal((40, 3)), np.arange(40) % 3
#: A table with numbers, gaps, levels, many levels, and dates.
TABLE_LABELS = np.arange(120) % 3
TABLE: dict[str, Any] = {
    "size": X.reshape(120),
    "weight": np.where(X.reshape(120) > 1, np.nan, X.reshape(120).round(1)),
    "colour": [("red", "blue", None)[k] for k in TABLE_LABELS],
    "street": [f"street {k * 7 % 80}" for k in range(120)],
    "when": np.datetime64("2020-02-27") + np.arange(120) // 4,
}
CLASSES: dict[str, Any] = {"loss": "categorical_cross_entropy"}
#: How the checkpoints are trained: with everything that a checkpoint may hold.
RUNS: dict[str, Any] = {
    "checkpoint": {
        "optimizer": dp.Adam(0.05),
        "validation": (X[:9], LABELS[:9]),
        "early_stopping": dp.EarlyStopping(2),
        "metrics": ["accuracy", "r2"],
        "epochs": 4,
    },
    "paused checkpoint": {"optimizer": dp.SGD(dp.StepDecay(0.1), momentum=0.9), "dropout": 0.2, "epochs": 3},
}
BACKENDS = {"checkpoint": "numpy", "paused checkpoint": "reference"}
EXTREME: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 7, 255, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 10**400),
    *(0.5, -0.0, 5e-324, 1e308, math.nan, math.inf, -math.inf),
    *("", "x", "relu", "zeros", "float32", "\n", "\0", "\ud800", "π" * 40, "a" * 100_000, "../../etc/passwd"),
    *([], {}, [[]], [None], [0] * 5, [1] * 20_000, {"a": 1}, {"": {}}, {"\n" * 50: 1}),
)


def fresh(kind):
    return dp.Network([3, 4, 3], backend=dp.get_backend(BACKENDS[kind]), **CLASSES)


def fit(kind, network, path, **how):
    return network.fit(X, LABELS, batch_size=8, checkpoint=path, **RUNS[kind] | how)


def fit_estimator(path, max_iter=4, **how):
    """Fit an estimator with everything that its checkpoint may hold; numbers too large for it are named."""
    mlp = dp.MLPClassifier((4,), max_iter=max_iter, batch_size=8, early_stopping=True, dropout=0.1, backend="numpy")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mlp.fit(X, LABELS, checkpoint=path, **how)
    except ValueError as error:
        if not str(error).startswith("Solver produced non-finite"):
            raise


def pausing(step):
    """An `Interruption` that stops training at some step, as a signal does."""
    asked = itertools.count()

    def interrupted(self):
        if next(asked) == step:
            self.signal = signal.SIGINT
        return self.signal is not None

    return mock.patch.object(Interruption, "__call__", interrupted)


def originals(folder):
    """Return configuration and tensors of an intact file of every kind."""
    path = folder / "whole"
    for name, target in (("classes", ["xyz"[k] for k in LABELS]), ("quantity", X[:, 0] - X[:, 2])):
        rows = [f"{a},{b},{c},{y}" for (a, b, c), y in zip(X, target, strict=True)]
        (folder / f"{name}.csv").write_text("\n".join(["a,b,c,target", *rows]))
    found = {}

    def keep(kind):
        found[kind] = model_file.read_model(path)

    dp.Network([3, 4, 3], backend="numpy", **CLASSES).save(path)
    keep("network")
    options: dict[str, Any] = {
        "hidden_activation": ["tanh", "relu"],
        "dtype": "float32",
        "seed": 2**70,
        "loss": "huber",
    }
    dp.Network([3, 4, 5, 1], backend="numpy", **options).save(path)
    keep("deeper network")
    dp.NetworkStack(3, [3, 4, 3], backend="numpy", **CLASSES).save(path)
    keep("stack")
    fit("checkpoint", fresh("checkpoint"), path, epochs=3)
    keep("checkpoint")
    with pausing(10), contextlib.suppress(KeyboardInterrupt):
        fit("paused checkpoint", fresh("paused checkpoint"), path)
    keep("paused checkpoint")
    fit_estimator(path, max_iter=2)
    keep("estimator checkpoint")
    command = ["--plain", "--hidden", "4", "--epochs", "1", "--no-progress", "--backend", "numpy", "--out", str(path)]
    for table in ("classes", "quantity"):
        with contextlib.redirect_stdout(io.StringIO()):
            assert cli.run(["train", str(folder / f"{table}.csv"), *command]) == 0
        keep(f"model of the command line, {table}")
    raw = zip(*TABLE.values(), TABLE_LABELS, strict=True)
    cells = [",".join("" if str(cell) in ("None", "nan") else str(cell) for cell in row) for row in raw]
    (folder / "table.csv").write_text("\n".join([",".join([*TABLE, "target"]), *cells]))
    text = ["xyz"[k] for k in TABLE_LABELS]
    for name, labels in (("classifier", TABLE_LABELS), ("text classifier", text)):
        classifier = dp.TabularClassifier(2, (4,), class_weight="balanced", random_state=0, backend="numpy")
        classifier.fit(TABLE, labels).save(path)
        keep(f"tabular {name}")
    dp.TabularRegressor(2, (4,), time_limit=9.0, backend="numpy").fit(TABLE, TABLE["size"] ** 2).save(path)
    keep("tabular regressor")
    with contextlib.suppress(ImportError):
        import onnx

        dp.Network([3, 4, 3], backend="numpy", **CLASSES).to_onnx(path)
        model = onnx.load_model_from_string(path.read_bytes())
        arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        found["onnx"] = json.loads(model.metadata_props[0].value), arrays
        (folder / "whole.onnx").write_bytes(path.read_bytes())
    assert found["paused checkpoint"][0]["training"]["position"]["batch"] > 0
    assert "last" in found["checkpoint"][1]
    assert {"edges.0", "means.3", "rare.3"} < found["tabular classifier"][1].keys()
    return found


def write(kind, path, configuration, tensors):
    """Write it as the library would, with a right checksum."""
    text = re.sub(r'"nested (\d+)"', lambda found: nested(int(found[1])), json.dumps(configuration))
    if kind == "onnx":
        import onnx

        model = onnx.load_model_from_string((path.parent / "whole.onnx").read_bytes())
        model.metadata_props[0].value = text.encode("utf-8", "replace").decode()
        del model.graph.initializer[:]
        model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in tensors.items())
        path.write_bytes(model.SerializeToString())
        return
    metadata = {"format": model_file.FORMAT, "version": str(model_file.VERSION), "configuration": text}
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    path.write_bytes(save(tensors, metadata | {"sha256": model_file._digest(text, tensors)}))


# -- what is changed ----------------------------------------------------------------------------------------------


def places(value, path=()):
    """Yield the path to every value in JSON."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def nested(depth):
    """Return the text of lists in lists, or objects in objects, nested deeper than writers of JSON can go."""
    return '{"a":' * depth + "0" + "}" * depth if depth % 2 else "[" * depth + "]" * depth


def other(value, whole, generator):
    """Return a value to put in the place of `value`."""
    match generator.randrange(8):
        case 0 if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300:
            return value + generator.choice((-1, 1, 0.5, 2**32))
        case 1 if isinstance(value, (list, dict)) and value:
            value = copy.copy(value)
            value.pop(generator.choice(list(value)) if isinstance(value, dict) else generator.randrange(len(value)))
            return value
        case 2 if isinstance(value, list) and value:
            return value * generator.choice((2, 3, 500))
        case 3 if isinstance(value, dict):
            return value | {
                generator.choice(("surprise", "seed", "", "epoch")): copy.deepcopy(generator.choice(EXTREME))
            }
        case 4:
            found = whole
            for key in generator.choice(list(places(whole))):
                found = found[key]
            return copy.deepcopy(found)
        case 5:
            return generator.choice((str, lambda x: [x], lambda x: {"a": x}))(value)
        case 6:
            return f"nested {generator.choice((3, 40, 901, 50_000))}"
    return copy.deepcopy(generator.choice(EXTREME))


def forged(configuration, tensors, generator):
    """Return both with one or several things changed."""
    configuration, tensors = copy.deepcopy(configuration), dict(tensors)
    for _ in range(generator.choice((1, 1, 1, 2, 4))):
        if generator.random() < 0.3:
            tensors = with_other_tensors(tensors, generator)
            continue
        *way, last = generator.choice(list(places(configuration))[1:] or [(None,)])
        if last is None:
            break
        parent = configuration
        for key in way:
            parent = parent[key]
        if generator.random() < 0.15:
            del parent[last]
        else:
            parent[last] = other(parent[last], configuration, generator)
        if not configuration or generator.random() < 0.003:
            return generator.choice(EXTREME[:20]), tensors
    return configuration, tensors


def with_other_tensors(tensors, generator):
    tensors = dict(tensors)
    if not tensors:
        return tensors
    name = generator.choice(sorted(tensors))
    tensor = np.atleast_1d(tensors[name].copy())
    match generator.randrange(9):
        case 0:
            del tensors[name]
        case 1:
            tensors[generator.choice(("weights.9", "weights.-1", "weights.x", "last", "optimizer.step", "\n"))] = tensor
        case 2:
            with np.errstate(all="ignore"):
                kinds = ("float16", "float32", "float64", "int64", "uint8", "bool")
                tensors[name] = tensor.astype(generator.choice(kinds))
        case 3:
            tensors[name] = tensor[..., : max(0, tensor.shape[-1] - 1)]
        case 4:
            tensors[name] = tensor.T.copy() if tensor.ndim > 1 else tensor[None]
        case 5:
            tensors[name] = tensor.reshape(-1)
        case 6 if tensor.size and tensor.dtype.kind == "f":
            with np.errstate(all="ignore"):
                numbers = (math.nan, math.inf, -math.inf, -1.0, 0.0, 1e30, 5e-324)
                tensor.reshape(-1)[generator.randrange(tensor.size)] = generator.choice(numbers)
            tensors[name] = tensor
        case 7:
            tensors[name] = tensors[generator.choice(sorted(tensors))]
        case 8:
            tensors[name] = np.zeros(generator.choice(((), (0,), (0, 3), (1, 1, 1), (5000,))), tensor.dtype)
    return tensors


# -- who reads it -------------------------------------------------------------------------------------------------


def use(network):
    """Predict and train with an accepted network; it may refuse numbers that are too large, by name."""
    sizes = network.layer_sizes
    inputs, targets = RNG.standard_normal((12, sizes[0])), np.eye(sizes[-1])[np.arange(12) % sizes[-1]]
    assert network.predict(inputs).shape[-2:] == (12, sizes[-1])
    with contextlib.suppress(dp.DivergenceError):
        network.fit(inputs, targets, batch_size=5, epochs=1, dropout=0.1)


def use_estimator(estimator):
    """Predict with an accepted estimator; it may refuse a table that has not its columns, or numbers too large."""
    estimator.explain_columns()
    with np.errstate(all="ignore"), warnings.catch_warnings(), contextlib.suppress(ValueError):
        warnings.simplefilter("ignore", UserWarning)  # of columns that it does not know
        assert len(estimator.predict(TABLE)) == len(TABLE_LABELS)
        if isinstance(estimator, dp.TabularClassifier):
            assert estimator.predict_proba(TABLE).shape == (len(TABLE_LABELS), len(estimator.classes_))
        else:
            assert estimator.predict(TABLE, return_interval=0.5)[1].shape == (len(TABLE_LABELS), 2)


def read(kind, path):
    """Read a file by every reader of files of this kind."""
    if kind == "stack":
        use(dp.NetworkStack.load(path, backend="numpy"))
    elif kind.startswith("tabular"):
        table = str(path.parent / "table.csv")
        command_line(["predict", str(path), table])
        command_line(["evaluate", str(path), table])
        use_estimator(dp.load(path, backend="numpy"))
    elif kind == "onnx":
        use(dp.Network.from_onnx(path, backend="numpy"))
    elif kind.startswith("model of"):
        table = str(path.parent / f"{kind.split()[-1]}.csv")
        command_line(["predict", str(path), table])
        command_line(["evaluate", str(path), table])
        trained = dp.load(path, backend="numpy")
        with contextlib.suppress(ValueError):  # numbers may be too large for it
            assert len(trained.predict(X)) == len(X)
        use(trained.network)
    else:
        if kind == "estimator checkpoint":
            fit_estimator(path, resume=True)
        if kind in RUNS:
            with contextlib.suppress(dp.DivergenceError):
                history = fit(kind, fresh(kind), path, resume=True)
                assert history.epochs == len(history.seconds)
        use(dp.Network.load(path, backend="numpy"))


def command_line(arguments):
    """Use a model at the command line; if it fits other data, the error is one line too."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        status = cli.run([*arguments, "--backend", "numpy"])
    line = said.getvalue()
    assert (status, line.count("\n"), line[:18]) in ((0, 0, ""), (2, 1, "deltaprop: error: ")), line
    if line.startswith(f"deltaprop: error: {arguments[1]}"):
        raise ValueError(line.removeprefix("deltaprop: error: ").strip())


def one(kind, path, configuration, tensors):
    """Return whether a file was refused.

    Raises
    ------
    AssertionError
        If it was neither refused in one line that names it, nor works.
    """
    write(kind, path, configuration, tensors)
    content = path.read_bytes()
    began = time.perf_counter()
    try:
        read(kind, path)
        refused = False
    except (ValueError, OSError) as error:
        said, refused = str(error), True
        assert "\n" not in said, said
        assert len(said) < 1000, said[:1000]
        assert said.startswith((str(path), f"checkpoint: {path}")) or (
            said.startswith(("epochs:", "max_iter:")) and str(path) in said
        ), said
        assert path.read_bytes() == content
    assert time.perf_counter() - began < LONGEST
    return refused


def run(inputs, seed, folder, say=lambda text: None):
    """Try so many inputs; return how many there were and how many were refused, by kind."""
    generator, path = random.Random(seed), folder / "case"
    found = originals(folder)
    for kind, content in found.items():
        assert not one(kind, path, *content), kind
    counts = {kind: [0, 0] for kind in found}
    for number in range(inputs):
        kind = generator.choice(list(found))
        configuration, tensors = found[kind]
        content = forged(configuration, tensors, generator)
        try:
            refused = one(kind, path, *content)
        except Exception as error:
            error.add_note(f"{kind}, input {number} of seed {seed}: {str(content[0])[:2000]}")
            raise
        counts[kind][0] += 1
        counts[kind][1] += refused
        if number % 100 == 99:
            say(f"\r{number + 1} inputs")
    return counts
