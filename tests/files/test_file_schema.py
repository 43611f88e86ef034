"""Files with a right checksum that no writer of ours could have made are refused in one line, in bounded memory.

Each case runs in a process of its own, so that a crash is seen; `forged.py` makes more of them.
"""

import json
import re
from pathlib import Path
from typing import Any

import forged
import fuzz
import numpy as np
import pytest
from processes import python

import deltaprop as dp
from deltaprop.files.model_file import read_model, write_model


def test_a_share_of_the_forgery():
    said = python(fuzz.__file__, "--kind", "forged", "--inputs", 600, "--seed", 3)
    counts = [list(map(int, pair)) for pair in re.findall(r"(\d+) inputs, +(\d+) refused", said)]
    assert len(counts) >= 7
    inputs, refused = np.sum(counts, axis=0)
    assert inputs == 600
    assert 450 < refused < 590  # some are accepted: the change did not matter, or was valid


#: A program that tries to resume from files with one change each, and prints the errors.
RESUME = """
import sys
from pathlib import Path
import forged

kind, folder = sys.argv[1], Path(sys.argv[2])
for path in sorted(folder.glob("*.changed")):
    before, network = path.read_bytes(), forged.fresh(kind)
    parameters = network.parameters.copy()
    try:
        forged.fit(kind, network, path, resume=True)
        print("taken")
    except ValueError as error:
        print(error)
        assert (network.parameters == parameters).all() and network.epochs_trained == 0
        assert path.read_bytes() == before
"""


def resumed(kind, changes, tmp_path):
    """Return the errors for a checkpoint with each of some changes to its training state or tensors."""
    folder = tmp_path / "changed"
    folder.mkdir()
    configuration, tensors = forged.originals(tmp_path)[kind]
    for number, change in enumerate(changes):
        content, arrays = json.loads(json.dumps(configuration)), {name: array.copy() for name, array in tensors.items()}
        change(content, arrays)
        write_model(folder / f"{number:03}.changed", content, arrays)
    tests = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})"
    return python("-c", tests + RESUME, kind, folder).splitlines()


def put(place, value):
    """Return a change that puts a value at a place in the training state."""
    *way, last = place.split(".")

    def change(content, tensors):
        parent = content["training"]
        for key in way:
            parent = parent[key]
        parent[last] = value

    return change


def fill(name, index, value):
    def change(content, tensors):
        tensors[name].reshape(-1)[index] = value

    return change


def test_positions_that_no_run_has(tmp_path):
    """An epoch has five minibatches; some of these positions once read outside of memory."""
    batches = (-1, -(2**63), 5, 99, 2**31, 2**53, 2**64, 10**30, 1.0, True, "1", None, [1])
    places: list[tuple[str, Any]] = [("position.batch", batch) for batch in batches]
    places += [("position.epoch", epoch) for epoch in (-1, 0, 2, 99, 2**64, 1.5)]
    places += [("position", None), ("position", {"epoch": 1}), ("position", {"epoch": 1, "batch": 1, "more": 1})]
    said = resumed("paused checkpoint", [put(*place) for place in places], tmp_path)
    assert len(said) == len(places)
    for (place, value), line in zip(places, said, strict=True):
        assert "does not describe" in line, (place, value, line)


def test_states_that_no_run_has(tmp_path):
    nan, inf = float("nan"), float("inf")
    history = [1.0] * 3
    changes = [
        *(put("counters.step", step) for step in (-1, 0, 14, 16, 2**70, 1.5, 15.0, "15", None)),
        *(put("counters", counters) for counters in ({}, {"step": 15, "more": 1}, None, [15])),
        *(put("history.cost", cost) for cost in ([], history[:2], [*history, 1.0], [nan] * 3, [inf] * 3, ["1"] * 3, 1)),
        *(put("history.best_epoch", epoch) for epoch in (0, -1, 4, 2**70, None, "1")),
        put("history.validation_cost", []),
        put("history.metrics", {}),
        put("history.metrics.accuracy", [1.0]),
        put("history.learning_rate", [-1.0] * 3),
        put("history.seconds", [nan] * 3),
        put("history", {}),
        put("cost", nan),
        put("ended", 1),
        put("configuration", {}),
        put("version", 3),
        *(fill("optimizer.second_moment", 3, value) for value in (-1e-30, nan, -inf)),
        *(fill("optimizer.first_moment", 3, value) for value in (nan, inf)),
        *(fill(name, 0, nan) for name in ("last", "weights.1", "biases.0")),
        lambda content, tensors: tensors.pop("last"),
        lambda content, tensors: tensors.pop("optimizer.first_moment"),
        lambda content, tensors: tensors.update({"epoch_start": tensors["last"]}),
        lambda content, tensors: tensors.update({"optimizer.velocity": tensors["last"]}),
        lambda content, tensors: tensors.update({"last": tensors["last"][:-1]}),
        lambda content, tensors: tensors.update({"last": tensors["last"].astype(np.float32)}),
        lambda content, tensors: content.update(epochs_trained=2),
        lambda content, tensors: content.update(epochs_trained=4),
    ]
    said = resumed("checkpoint", changes, tmp_path)
    assert len(said) == len(changes)
    for number, line in enumerate(said):
        assert any(word in line for word in ("does not describe", "not finite", "of version 3", "another run")), (
            number,
            line,
        )


def test_what_a_run_may_have_is_taken(tmp_path):
    """A square may have overflowed, which stops its parameter; validation numbers may not be finite."""
    nan = float("nan")
    changes = [
        lambda content, tensors: None,
        fill("optimizer.second_moment", 3, float("inf")),
        put("history.validation_cost", [nan, 1.0, float("inf")]),
        put("history.metrics.r2", [nan] * 3),
    ]
    assert resumed("checkpoint", changes, tmp_path) == ["taken"] * len(changes)


def test_checkpoints_of_before_are_refused_in_words(tmp_path):
    path = tmp_path / "run"
    content, tensors = forged.originals(tmp_path)["checkpoint"]
    del content["training"]["version"]
    write_model(path, content, tensors)
    for reads in (
        lambda: dp.Network.load(path),
        lambda: forged.fit("checkpoint", forged.fresh("checkpoint"), path, resume=True),
    ):
        with pytest.raises(ValueError, match=r"run: a checkpoint of version 1, expected 2: .* another release"):
            reads()


BOUNDED = """
import sys
import deltaprop as dp
from deltaprop.files.model_file import read_model, write_model
path = sys.argv[1]
net, stack = dp.Network([2, 3, 2], backend="numpy"), dp.NetworkStack(2, [2, 3, 2], backend="numpy")
for save, load, key in ((net.save, dp.Network.load, "network"), (stack.save, dp.NetworkStack.load, "stack")):
    save(path)
    content, tensors = read_model(path)
    for change in (
        {"layer_sizes": [10**6, 10**6]},
        {"layer_sizes": [2, 10**9, 2]},
        {"layer_sizes": [2**53, 2**53]},
        {"layer_sizes": [2] * 50_000},
        {"layer_sizes": [1, 2**60]},
        {"members": 10**9},
        {"members": 10**9, "seeds": [0] * 100_000},
    ):
        for left in (tensors, {}):
            write_model(path, content | {key: content[key] | change}, left)
            try:
                load(path, backend="numpy")
            except ValueError as error:
                assert str(error).startswith(path) and len(str(error)) < 500
            else:
                raise AssertionError(change)
with open("/proc/self/status") as status:
    print(next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_widths_without_tensors_take_no_memory(tmp_path):
    assert int(python("-c", BOUNDED, tmp_path / "net")) < 300 * 2**20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_scale": 0.0}, "target_scale"),
        ({"target_offset": float("nan")}, "target_offset"),
        ({"classes": ["x", "y"]}, "classes"),
        ({"classes": ["x", "x", "y"]}, "classes"),
        ({"classes": [True, "x", "y"]}, "classes"),
        ({"classes": [1, 1.0, "y"]}, "classes"),
        ({"feature_names": ["a", "b"]}, "feature names"),
        ({"target_name": "\ud800"}, "not JSON"),
    ],
)
def test_preparations_that_do_not_fit(tmp_path, change, message):
    from deltaprop.tabular.trained import Trained

    content, tensors = forged.originals(tmp_path)["model of the command line, classes"]
    path = tmp_path / "model"
    write_model(path, content | {"data": content["data"] | change}, tensors)
    with pytest.raises(ValueError, match=f"model: .*{message}"):
        Trained.load(str(path), "numpy")
    for name, value in (("input.scale", 0.0), ("input.scale", -1.0), ("input.offset", np.inf)):
        wrong = tensors | {name: np.full(3, value)}
        write_model(path, content, wrong)
        with pytest.raises(ValueError, match=f"model: holds numbers in {name}"):
            Trained.load(str(path), "numpy")


def test_an_onnx_model_reads_no_other_file(tmp_path):
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "net.onnx"
    dp.Network([2, 2], backend="numpy").to_onnx(path)
    model = onnx.load_model_from_string(path.read_bytes())
    (tmp_path / "secret").write_bytes(np.ones(4).tobytes())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"net\.onnx: .*in another file"):
        dp.Network.from_onnx(path)


def test_seeds_may_be_as_large_as_they_were(tmp_path):
    for seed in (2**64, 10**100):
        net = dp.Network([2, 2], seed=seed, backend="numpy")
        net.save(tmp_path / "net")
        back = dp.Network.load(tmp_path / "net", backend="numpy")
        for one in (net, back):
            one.fit(np.eye(2), np.eye(2), epochs=2, batch_size=1)
        assert back.seed == seed
        assert np.array_equal(back.parameters, net.parameters)


def test_counts_may_be_numbers_of_numpy(tmp_path):
    net, stack = dp.Network([2, 2], backend="numpy"), dp.NetworkStack(2, [2, 2], backend="numpy")
    seven: Any = np.int64(7)  # a type that the attribute does not name
    net.epochs_trained = stack[1].epochs_trained = seven
    net.save(tmp_path / "net")
    stack.save(tmp_path / "stack")
    assert dp.Network.load(tmp_path / "net", backend="numpy").epochs_trained == 7
    assert dp.NetworkStack.load(tmp_path / "stack", backend="numpy")[1].epochs_trained == 7
    assert read_model(tmp_path / "net")[0]["epochs_trained"] == 7


@pytest.mark.parametrize(
    "made", [dp.Network([3, 4, 2], backend="numpy"), dp.NetworkStack(2, [3, 4, 2], backend="numpy")]
)
def test_an_initialization_of_another_name_is_refused(made, tmp_path):
    path = tmp_path / "forged"
    made.save(path)
    content, tensors = read_model(path)
    content["network" if "network" in content else "stack"]["init"] = "nonsense"
    write_model(path, content, tensors)
    with pytest.raises(ValueError, match=r"forged: does not describe a .*init: .* 'nonsense'"):
        type(made).load(path)
