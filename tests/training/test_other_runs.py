"""A checkpoint resumes only the run that wrote it: data, functions, schedules and metrics are compared."""

import json

import numpy as np
import pytest
from small_runs import network, three_classes

import deltaprop as dp
from deltaprop.files.model_file import read_model, write_model


@pytest.fixture
def data(rng):
    return three_classes(rng)


def test_functions_are_compared_by_name_and_code(data, tmp_path):
    pair = (squared, residual)
    how = {"epochs": 2, "checkpoint": tmp_path / "run.safetensors", "optimizer": dp.SGD(falling)}
    options = {"loss": pair, "output_activation": "identity"}
    X, Y = data[0], np.eye(3)[data[1]]
    network(**options).fit(X, Y, **how)
    content, _ = read_model(tmp_path / "run.safetensors")
    assert "falling" in json.dumps(content)
    net = network(**options)
    assert net.fit(X, Y, **how, resume=True).epochs == 2
    with pytest.raises(ValueError, match="optimizer"):
        network(**options).fit(X, Y, **how | {"optimizer": dp.SGD(rising)}, resume=True)
    with pytest.raises(ValueError, match="loss"):
        network(**options | {"loss": (squared, rising)}).fit(X, Y, **how, resume=True)
    with pytest.raises(ValueError, match="a pair of functions, and a file holds no code"):
        dp.Network.load(how["checkpoint"])


def test_functions_of_the_package_may_have_moved(data, tmp_path):
    """Earlier versions wrote the names of their modules, which have changed."""
    path, how = tmp_path / "run.safetensors", {"validation": data, "metrics": ["accuracy"]}
    network().fit(*data, epochs=2, checkpoint=path, **how)
    content, tensors = read_model(path)
    metrics = content["training"]["configuration"]["plan"]["metrics"]
    assert metrics == {"accuracy": "accuracy"}
    metrics["accuracy"] = "deltaprop.metrics.accuracy"
    write_model(path, content, tensors)
    resumed, alone = network(), network()
    resumed.fit(*data, epochs=4, checkpoint=path, resume=True, **how)
    alone.fit(*data, epochs=4, **how)
    assert np.array_equal(resumed.parameters, alone.parameters)


ALIKE = [
    (lambda epoch, history: 0.1, lambda epoch, history: 0.2),
    (lambda epoch, history: 0.1 / (1 + epoch), lambda epoch, history: 0.1 / (2 + epoch)),
    (dp.StepDecay(0.1), dp.StepDecay(0.1, factor=0.4)),
]


@pytest.mark.parametrize(("there", "here"), ALIKE, ids=["constants", "code", "fields"])
def test_schedules_of_one_name_are_told_apart(data, tmp_path, there, here):
    how = {"epochs": 2, "checkpoint": tmp_path / "run.safetensors"}
    network().fit(*data, **how, optimizer=dp.SGD(there))
    assert network().fit(*data, **how, optimizer=dp.SGD(there), resume=True).epochs == 2
    with pytest.raises(ValueError, match="is of another run: optimizer"):
        network().fit(*data, **how, optimizer=dp.SGD(here), resume=True)


def test_metrics_of_one_name_are_told_apart(data, tmp_path):
    def score(scale):
        def metric(prediction, Y):
            return np.float32(scale * prediction.mean())

        return metric

    how = {"epochs": 2, "checkpoint": tmp_path / "run.safetensors", "validation": data}
    expected = network().fit(*data, **how, metrics=[score(1)])
    assert network().fit(*data, **how, metrics=[score(1)], resume=True).metrics == expected.metrics
    with pytest.raises(ValueError, match="is of another run: metrics"):
        network().fit(*data, **how, metrics=[score(2)], resume=True)


@pytest.mark.parametrize("what", ["X", "Y", "sample_weight", "validation X", "validation Y"])
def test_every_row_counts(data, tmp_path, what):
    """The last of many rows counts too, which a sample of rows would miss."""
    rng = np.random.default_rng(5)
    arrays = {
        "X": rng.standard_normal((3001, 4)),
        "Y": rng.integers(0, 3, 3001),
        "sample_weight": rng.uniform(1, 2, 3001),
    }
    arrays |= {"validation X": rng.standard_normal((1501, 4)), "validation Y": rng.integers(0, 3, 1501)}

    def fit(arrays, **how):
        validation = (arrays["validation X"], arrays["validation Y"])
        given = {name: arrays[name] for name in ("X", "Y", "sample_weight")}
        network().fit(**given, validation=validation, epochs=1, checkpoint=tmp_path / "run", **how)

    fit(arrays)
    fit(arrays, resume=True)
    for row in (1, 2, -2):
        changed = arrays[what].copy()
        changed[row] = (changed[row] + 1) % 3
        with pytest.raises(ValueError, match=f"is of another run: {what} "):
            fit(arrays | {what: changed}, resume=True)


def test_data_read_part_by_part_are_told_apart(tmp_path):
    rng = np.random.default_rng(5)
    X, y = rng.standard_normal((90, 4)), rng.integers(0, 3, 90)
    folder = tmp_path / "folder"
    folder.mkdir()

    def fit(kind, **how):
        np.save(tmp_path / "X.npy", X.astype(np.float32))
        np.savez(folder / "one.npz", X=X, y=y)
        batches = [(X[start : start + 30], y[start : start + 30]) for start in (0, 30, 60)]
        given = {
            "memory map": (np.load(tmp_path / "X.npy", mmap_mode="r"), y),
            "folder": (folder,),
            "batches": (batches,),
        }
        network().fit(*given[kind], epochs=1, checkpoint=tmp_path / f"{kind}.run", **how)

    kinds = ("memory map", "folder", "batches")
    for kind in kinds:
        fit(kind)
        fit(kind, resume=True)
    X[88, 3] += 1
    for kind in kinds:
        with pytest.raises(ValueError, match="is of another run: X "):
            fit(kind, resume=True)


def squared(h, y):
    return (h - y) ** 2 / 2


def residual(h, y):
    return h - y


def falling(epoch, history):
    return 0.1 / (1 + epoch)


def rising(epoch, history):
    return 0.1 * (1 + epoch)


class OneIterator:
    """An object that is its own iterator over batches, and starts again whenever one asks for it."""

    def __init__(self, X, y):
        self.batches = [(X[i : i + 10], y[i : i + 10]) for i in range(0, 40, 10)]

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        self.number = 0
        return self

    def __next__(self):
        if self.number == len(self.batches):
            raise StopIteration
        self.number += 1
        return self.batches[self.number - 1]


def test_batches_that_are_their_own_iterator(data, tmp_path):
    X, y = data
    path = tmp_path / "run.safetensors"
    network().fit(OneIterator(X, y), epochs=2, checkpoint=path)
    resumed, alone = network(), network()
    resumed.fit(OneIterator(X, y), epochs=4, checkpoint=path, resume=True)
    alone.fit(OneIterator(X, y), epochs=4)
    assert np.array_equal(resumed.parameters, alone.parameters)
    with pytest.raises(ValueError, match="is of another run: X"):
        network().fit(OneIterator(X + 1, y), epochs=4, checkpoint=path, resume=True)
