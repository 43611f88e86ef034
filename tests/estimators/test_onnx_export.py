"""The usual ONNX runtime predicts what the estimators predict, from their own models and from those of skl2onnx."""

import sys
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import deltaprop as dp
from deltaprop import accel
from deltaprop.estimators import onnx_converters

pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

X, NUMBERS = (array[:400] for array in load_digits(return_X_y=True))
NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nöün"])
TARGETS: dict[str, Any] = {
    "numbers": NUMBERS,
    "text": NAMES[NUMBERS],
    "objects": NAMES.astype(object)[NUMBERS],
    "whole numbers": NUMBERS.astype(float),
    "small numbers": NUMBERS.astype(np.uint8),
    "yes or no": NUMBERS > 4,
    "two texts": NAMES[NUMBERS // 5],
    "several labels": np.column_stack([NUMBERS > 4, NUMBERS % 2 == 1, NUMBERS % 3 == 0]).astype(int),
}
QUICK: dict[str, Any] = {"hidden_layer_sizes": (8, 6), "max_iter": 4, "random_state": 0, "backend": "numpy"}


def fitted(model, inputs, targets):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)  # an ensemble's maximum of iterations
        return model.fit(inputs, targets)


def outputs_of(model, inputs):
    """Run a model, a file or the bytes of one; return its outputs, by name, and its types."""
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    values = dict(zip(names, session.run(names, {given.name: inputs}), strict=True))
    return values, {output.name: output.type for output in (given, *session.get_outputs())}


def classifiers():
    yield dp.MLPClassifier(**QUICK)
    yield dp.EnsembleClassifier(dp.MLPClassifier(**QUICK), 3, random_state=0)


@pytest.mark.parametrize("kind", ["network", "ensemble"])
@pytest.mark.parametrize("target", list(TARGETS))
def test_a_classifier(target, kind, tmp_path):
    clf: Any = dict(zip(("network", "ensemble"), classifiers(), strict=True))[kind]
    fitted(clf, X, TARGETS[target])
    for dtype, tolerance in ((None, 1e-13), ("float32", 1e-5)):
        clf.to_onnx(tmp_path / "clf.onnx", dtype=dtype)
        inputs = X.astype(dtype or "float64")
        values, types = outputs_of(tmp_path / "clf.onnx", inputs)
        assert list(values) == ["label", "probabilities"]
        np.testing.assert_allclose(values["probabilities"], clf.predict_proba(X), rtol=tolerance, atol=tolerance)
        np.testing.assert_array_equal(values["label"], clf.predict(X))
        float_type = "tensor(float)" if dtype else "tensor(double)"
        label = {"text": "string", "objects": "string", "two texts": "string"}.get(target, "int64")
        assert types == {"X": float_type, "label": f"tensor({label})", "probabilities": float_type}


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ({"activation": ["gelu", "silu"]}, "text"),
        ({"activation": "leaky_relu", "loss": "squared_error"}, "text"),
        ({"activation": "softplus", "loss": "binary_cross_entropy"}, "numbers"),
        ({"loss": "squared_error", "output_activation": "identity"}, "yes or no"),
        ({"hidden_layer_sizes": (), "dtype": "float32"}, "several labels"),
    ],
)
def test_options_that_scikit_learn_does_not_have(options, target, tmp_path):
    for clf in (
        dp.MLPClassifier(**QUICK | options),
        dp.EnsembleClassifier(dp.MLPClassifier(**QUICK | options), 2, random_state=0),
    ):
        fitted(clf, X, TARGETS[target]).to_onnx(tmp_path / "clf.onnx")
        values, _ = outputs_of(tmp_path / "clf.onnx", X.astype(options.get("dtype", "float64")))
        np.testing.assert_allclose(values["probabilities"], clf.predict_proba(X), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(values["label"], clf.predict(X))


@pytest.mark.parametrize("columns", [1, 2])
def test_a_regressor(columns, tmp_path):
    inputs, y = load_diabetes(return_X_y=True)
    y = y / 100 if columns == 1 else np.column_stack([y, y**2]) / 100
    base: Any = dp.MLPRegressor(**QUICK, loss="huber")
    for model in (base, dp.EnsembleRegressor(base, 3, random_state=0)):
        fitted(model, inputs, y).to_onnx(tmp_path / "model.onnx")
        values, types = outputs_of(tmp_path / "model.onnx", inputs)
        assert values["variable"].shape == (len(inputs), columns)
        np.testing.assert_allclose(values["variable"], model.predict(inputs).reshape(-1, columns), rtol=1e-12)
        assert types == {"X": "tensor(double)", "variable": "tensor(double)"}


def test_from_onnx_reads_the_network_of_an_estimator(tmp_path):
    clf = fitted(dp.MLPClassifier(**QUICK, activation="silu"), X, TARGETS["text"])
    clf.to_onnx(tmp_path / "clf.onnx")
    net = dp.Network.from_onnx(tmp_path / "clf.onnx", backend="numpy")
    np.testing.assert_array_equal(net.parameters, clf.network_.parameters)
    assert (net.loss, net.activations) == ("categorical_cross_entropy", ("silu", "silu", "softmax"))


def test_what_cannot_be_written(tmp_path, monkeypatch):
    path = tmp_path / "clf.onnx"
    clf = dp.MLPClassifier(**QUICK)
    with pytest.raises(NotFittedError):
        clf.to_onnx(path)
    with pytest.raises(NotFittedError):
        dp.EnsembleRegressor().to_onnx(path)
    fitted(clf, X, TARGETS["numbers"])
    with pytest.raises(ValueError, match="dtype: expected one of 'float32', 'float64', got 'float16'"):
        clf.to_onnx(path, dtype="float16")  # type: ignore[arg-type]
    clf.coefs_[0][0, 0] = 1e300
    with pytest.raises(ValueError, match="dtype: expected 'float64' for parameters that are too large for float32"):
        clf.to_onnx(path, dtype="float32")
    clf.classes_ = np.array([None] * 10)
    with pytest.raises(ValueError, match=r"classes_: ONNX has labels that are text or whole numbers, got \[None"):
        clf.to_onnx(path)
    for wrong in (np.arange(10, dtype=np.uint64) + np.uint64(2**63), np.arange(10) / 2, np.full(10, 1e300)):
        clf.classes_ = wrong
        with pytest.raises(ValueError, match="classes_: expected whole numbers of 64 bits for ONNX, got"):
            clf.to_onnx(path)
    assert not path.exists()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"deltaprop\[onnx\]"):
        clf.to_onnx(path)


# -- skl2onnx -------------------------------------------------------------------------------------------------------


@pytest.fixture
def convert():
    """Return a function that converts a model by skl2onnx, with ours registered."""
    skl2onnx = pytest.importorskip("skl2onnx")
    onnx_converters.register()
    onnx_converters.register()  # another call changes nothing

    def converted(model, inputs, **options):
        return skl2onnx.to_onnx(model, inputs[:1], **options).SerializeToString()

    return converted


@pytest.mark.parametrize("target", ["numbers", "text", "yes or no", "two texts", "several labels"])
def test_pipelines(target, convert):
    for clf in classifiers():
        model = fitted(make_pipeline(StandardScaler(), clf), X, TARGETS[target])
        inputs = X.astype("float32")
        values, types = outputs_of(convert(model, inputs, options={"zipmap": False}), inputs)
        np.testing.assert_allclose(values["probabilities"], model.predict_proba(X), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(values["label"], model.predict(X))
        text = target in ("text", "two texts")
        assert types["label"] == ("tensor(string)" if text else "tensor(int64)")
        assert types["probabilities"] == "tensor(float)"


@pytest.mark.parametrize("options", [{}, {"zipmap": "columns"}, {"zipmap": False, "output_class_labels": True}])
def test_options_do_what_they_do_for_scikit_learn(options, convert):
    y, inputs = TARGETS["text"], X.astype("float32")
    ours = fitted(dp.MLPClassifier(**QUICK), X, y)
    theirs = ours.to_sklearn()
    (here, types), (there, their_types) = (
        outputs_of(convert(model, inputs, options={id(model): options}), inputs) for model in (ours, theirs)
    )
    assert types == their_types
    for name, values in there.items():
        if isinstance(values, list):  # a dict a row
            assert [list(row) for row in here[name]] == [list(row) for row in values]
            values, here[name] = ([list(row.values()) for row in rows] for rows in (values, here[name]))
        if np.asarray(values).dtype.kind == "f":
            np.testing.assert_allclose(here[name], values, rtol=1e-4, atol=1e-6)
        else:
            np.testing.assert_array_equal(here[name], values)


def test_labels_of_other_kinds(convert):
    inputs = X.astype("float32")
    clf = fitted(dp.MLPClassifier(**QUICK), X, NUMBERS.astype(float))
    values, _ = outputs_of(convert(clf, inputs, options={"zipmap": False}), inputs)
    np.testing.assert_array_equal(values["label"], clf.predict(X))
    clf = fitted(clf, X, TARGETS["text"])
    values, _ = outputs_of(convert(clf, inputs, options={id(clf): {"zipmap": False, "nocl": True}}), inputs)
    np.testing.assert_array_equal(clf.classes_[values["label"]], clf.predict(X))
    with pytest.raises(ValueError, match="target_opset: expected at least 13, got 12"):
        convert(clf, inputs, target_opset={"": 12, "ai.onnx.ml": 1})


def test_a_table_of_numbers_and_text(convert):
    pandas, skl2onnx = pytest.importorskip("pandas"), pytest.importorskip("skl2onnx")
    rng = np.random.default_rng(0)
    table = pandas.DataFrame({"size": rng.normal(size=80), "side": rng.choice(["north", "south", "west"], 80)})
    y = table["size"].to_numpy() + (table["side"] == "north")
    columns = make_column_transformer((StandardScaler(), ["size"]), (OneHotEncoder(sparse_output=False), ["side"]))
    model = fitted(make_pipeline(columns, dp.MLPRegressor(**QUICK)), table, y)
    kinds = skl2onnx.common.data_types
    types = [("size", kinds.DoubleTensorType([None, 1])), ("side", kinds.StringTensorType([None, 1]))]
    made = skl2onnx.to_onnx(model, initial_types=types).SerializeToString()
    session = runtime.InferenceSession(made, providers=["CPUExecutionProvider"])
    (values,) = session.run(None, {name: table[[name]].to_numpy() for name in table})
    np.testing.assert_allclose(values[:, 0], model.predict(table), rtol=1e-4, atol=1e-5)


def test_quantities_and_whole_numbers(convert):
    y = np.column_stack([NUMBERS, NUMBERS**2])
    for base in (dp.MLPRegressor(**QUICK), dp.EnsembleRegressor(dp.MLPRegressor(**QUICK), 2, random_state=0)):
        model = fitted(base, X, y)
        for inputs, tolerance in ((X, 1e-12), (X.astype("float32"), 1e-4), (X.astype("int64"), 1e-4)):
            values, _ = outputs_of(convert(model, inputs), inputs)
            np.testing.assert_allclose(values["variable"], model.predict(X), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("search", [GridSearchCV, dp.SweepCV])
def test_searches(search, convert):
    model = make_pipeline(StandardScaler(), dp.MLPClassifier(**QUICK | {"hidden_layer_sizes": 4}))
    found = fitted(search(model, {"mlpclassifier__alpha": [1e-3, 1.0]}, cv=2), X, NUMBERS)
    inputs = X.astype("float32")
    values, _ = outputs_of(convert(found, inputs, options={"zipmap": False}), inputs)
    np.testing.assert_allclose(values["probabilities"], found.predict_proba(X), rtol=1e-4, atol=1e-5)


def test_what_accel_has_fitted_needs_no_registration():
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.neural_network import MLPClassifier

    inputs = X.astype("float32")
    accel.install()
    try:
        clf = fitted(MLPClassifier((8,), max_iter=4, random_state=0), X, TARGETS["text"])
        made = skl2onnx.to_onnx(clf, inputs[:1], options={"zipmap": False}).SerializeToString()
    finally:
        accel.uninstall()
    values, _ = outputs_of(made, inputs)
    np.testing.assert_allclose(values["probabilities"], clf.predict_proba(X), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(values["label"], clf.predict(X))


def test_without_skl2onnx(monkeypatch):
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(ImportError, match=r"this needs skl2onnx .*; pip install skl2onnx"):
        onnx_converters.register()
