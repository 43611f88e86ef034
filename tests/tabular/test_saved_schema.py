"""Files of tabular estimators that no writer of ours could have made are refused in one line that names the file."""

import copy
import re
from functools import cache
from typing import Any

import numpy as np
import pytest
from made_tables import fitted_classifier, fitted_regressor

import deltaprop as dp
from deltaprop.files.model_file import read_model, write_model

NAN, INF = float("nan"), float("inf")


@cache
def saved(kind, folder):
    fitted = fitted_classifier(labels=[3, 5, 9]) if kind == "numbers" else fitted_classifier()
    model = fitted_regressor(n_members=8) if kind == "regressor" else fitted
    model.save(folder / kind)
    return read_model(folder / kind)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("saved")


def refused(folder, kind, change, message):
    configuration, tensors = saved(kind, folder)
    content, arrays = copy.deepcopy(configuration), {name: tensor.copy() for name, tensor in tensors.items()}
    change(content["tabular"], arrays, content)
    path = folder / "changed"
    write_model(path, content, arrays)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: .*{message}") as caught:
        dp.load(path, backend="numpy")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def put(place, value):
    """Return a change that puts a value at a place of the JSON, such as ``encodings.0.scale``."""
    *way, last = [int(key) if key.isdecimal() else key for key in place.split(".")]

    def change(content, tensors, whole):
        for key in way:
            content = content[key]
        content[last] = value

    return change


def tensor(name, change):
    """Return a change of a tensor."""

    def changed(content, tensors, whole):
        tensors[name] = change(tensors[name])

    return changed


def encoding(configuration, name, part=""):
    """Find the number of an encoding."""
    encodings = configuration["tabular"]["encodings"]
    return next(k for k, one in enumerate(encodings) if (one["name"], one.get("part", "")) == (name, part))


CHANGES: list[tuple[str, Any, str]] = [
    ("version", 1, "of version 1, expected 2"),
    ("version", "1", "of version '1', expected 2"),
    ("parameters", [], "object"),
    ("parameters.n_members", 0, "n_members"),
    ("parameters.surprise", 1, "surprise"),
    ("parameters.backend", "numpy", "backend"),
    ("parameters.time_limit", -1.0, "time_limit"),
    ("parameters.random_state", "x", "random_state"),
    ("class_weight", "heavy", "class_weight"),
    ("class_weight", [["yes", -1.0]], "class_weight"),
    ("class_weight", [["yes", NAN]], "class_weight"),
    ("columns", [], "columns"),
    ("columns.1.name", "size", "two columns of one name"),
    ("columns.0.role", "colour", "role"),
    ("columns.0.role", "category", "does not suit its role"),
    ("columns.0.name", "other", "'size' that does not suit its role"),
    ("has_names", 1, "has_names"),
    ("encodings", [], "encodings"),
    ("encodings.0.kind", "other", "kind"),
    ("encodings.0.part", "minute", "does not suit its role"),
    ("encodings.0.scale", 0.0, "scale"),
    ("encodings.0.scale", INF, "scale"),
    ("encodings.0.centre", NAN, "centre"),
    ("encodings.0.edges", 1, "1 edges"),
    ("encodings.0.edges", 3, "tensor 'edges.0'"),
    ("encodings.0.edges", 0, "tensor 'edges.0'"),
    ("encodings.0.edges", 2**60, "edges"),
    ("encodings.0.has_gaps", True, "inputs for"),
    ("target.count", 1, "count"),
    ("target.count", 4, "of 4 classes"),
    ("target.labels", ["a", "b"], "2 labels of 3 classes"),
    ("target.labels", ["a", "a", "b"], "do not increase"),
    ("target.labels", ["c", "b", "a"], "do not increase"),
    ("target.labels", ["a", "a\0", "b"], "do not increase"),
    ("target.labels", [1, 2, 3], "labels"),
    ("target.labels", None, "wrong place"),
    ("target.dtype", "int64", "wrong place"),
    ("target.dtype", "O", "dtype"),
    ("target.temperature", 0.0, "temperature"),
    ("target.temperature", NAN, "temperature"),
    ("target", {"kind": "quantity"}, "mean"),
    ("oof_score", None, "oof_score"),
    ("more", 1, "more"),
]


@pytest.mark.parametrize(
    ("place", "value", "message"), CHANGES, ids=[f"{place} {value}" for place, value, _ in CHANGES]
)
def test_json_that_no_classifier_has(folder, place, value, message):
    refused(folder, "classifier", put(place, value), message)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("target.mean", INF, "mean"),
        ("target.spread", 0.0, "spread"),
        ("target.lowest", 1e9, "range from"),
        ("target.residuals", 0, "residuals"),
        ("target.residuals", 7, "tensor 'intervals.residuals'"),
        ("target.ranges", 2, "tensor 'intervals.centres'"),
        ("target.weighted", True, "tensor 'intervals.weights'"),
        ("parameters.label_smoothing", 0.1, "label_smoothing"),
        ("class_weight", "balanced", "class_weight"),
    ],
)
def test_json_that_no_regressor_has(folder, place, value, message):
    refused(folder, "regressor", put(place, value), message)


def changed_at(place, value):
    def change(array):
        array.reshape(-1)[place] = value
        return array

    return change


TENSORS: list[tuple[str, str, Any, str]] = [
    ("classifier", "edges.0", lambda e: e[::-1], "do not increase"),
    ("classifier", "edges.0", changed_at(1, NAN), "numbers in edges.0"),
    ("classifier", "edges.0", changed_at(-1, 1e16), "numbers in edges.0"),
    ("classifier", "edges.0", lambda e: np.nextafter(e[0], INF, dtype=e.dtype) + 0 * e, "do not increase"),
    ("classifier", "edges.0", lambda e: e.astype(np.float32), "tensor 'edges.0'"),
    ("classifier", "edges.0", lambda e: e[:-1], "tensor 'edges.0'"),
    ("classifier", "parameters", changed_at(9, NAN), "numbers in parameters"),
    ("classifier", "parameters", lambda p: p[:, 1:], "tensor 'parameters'"),
    ("regressor", "intervals.residuals", lambda r: r[::-1], "residuals of intervals are not sorted"),
    ("regressor", "intervals.residuals", changed_at(0, -INF), "numbers in intervals.residuals"),
    ("regressor", "intervals.centres", lambda c: c[::-1], "centres of intervals are not sorted"),
    ("regressor", "intervals.sizes", changed_at(0, 0.0), "numbers in intervals.sizes"),
    ("regressor", "member_weights", changed_at(0, -0.1), "numbers in member_weights"),
    ("regressor", "member_weights", lambda w: w[1:], "tensor 'member_weights'"),
    ("regressor", "member_weights", lambda w: w / 2, "weights of members whose sum is 0.5, expected 1"),
    ("regressor", "importances", changed_at(0, NAN), "numbers in importances"),
    ("classifier", "importances", lambda i: i[1:], "tensor 'importances'"),
    ("numbers", "classes", changed_at(1, 3), "do not increase"),
    ("numbers", "classes", lambda c: c.astype(np.float32), "tensor 'classes'"),
    ("numbers", "classes", lambda c: c[:2], "tensor 'classes'"),
]


@pytest.mark.parametrize(("kind", "name", "change", "message"), TENSORS)
def test_tensors_that_no_estimator_has(folder, kind, name, change, message):
    refused(folder, kind, tensor(name, change), message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda levels: levels[:-1], "different levels"),
        (lambda levels: [*levels[:-1], levels[0]], "different levels"),
        (lambda levels: [*levels[:-1], "street 0"], "different levels"),
        (lambda levels: "x", "no list of levels"),
    ],
)
def test_rare_levels_that_no_column_has(folder, change, message):
    import json

    place = encoding(saved("classifier", folder)[0], "street")

    def changed(array):
        return np.frombuffer(json.dumps(change(json.loads(array.tobytes()))).encode(), np.uint8)

    assert "street 0" in saved("classifier", folder)[0]["tabular"]["encodings"][place]["levels"]
    refused(folder, "classifier", tensor(f"rare.{place}", changed), message)
    refused(folder, "classifier", tensor(f"rare.{place}", lambda array: array[:0]), f"'rare.{place}'")
    refused(folder, "classifier", tensor(f"rare.{place}", lambda array: array // 2 + 128), "no list of levels")
    refused(folder, "classifier", tensor(f"means.{place}", changed_at(0, INF)), "numbers in means")


def test_a_part_that_no_date_has(folder):
    place = encoding(saved("classifier", folder)[0], "when", "month")
    refused(folder, "classifier", put(f"encodings.{place}.part", "minute"), "no part 'minute' of a date")
    refused(folder, "classifier", put(f"encodings.{place}.part", "year"), "'when' that does not suit its role")


def test_networks_that_do_not_suit_the_target(folder):
    for change in ({"loss": "squared_error", "output_activation": "identity"}, {"dtype": "float64"}):
        refused(
            folder,
            "classifier",
            lambda content, tensors, whole, change=change: whole["stack"].update(change),
            "expected networks of 3 outputs, categorical_cross_entropy, softmax, float32",
        )


def test_a_level_more_or_less_is_seen(folder):
    place = encoding(saved("classifier", folder)[0], "colour")
    levels = f"encodings.{place}.levels"
    refused(folder, "classifier", put(levels, ["blue", "green", "green"]), "different levels")
    refused(folder, "classifier", put(levels, ["blue", "green"]), "inputs for")
    refused(folder, "classifier", put(levels, ["blue", 1, "red"]), "levels")


def test_readers_of_other_files_name_what_it_holds(folder):
    saved("classifier", folder)
    for read in (dp.Network.load, dp.NetworkStack.load):
        with pytest.raises(
            ValueError, match=r"classifier: holds a tabular estimator, not a .*; deltaprop\.load reads it"
        ):
            read(folder / "classifier")


def test_sizes_without_tensors_take_no_memory(folder):
    """The refusal comes before anything of that size is made."""
    for change in (
        lambda content, tensors, whole: whole["stack"].update(layer_sizes=[10**6, 10**6, 3]),
        lambda content, tensors, whole: content["encodings"][0].update(edges=2**50),
        lambda content, tensors, whole: content["target"].update(count=2**50),
    ):
        refused(folder, "classifier", change, "")
