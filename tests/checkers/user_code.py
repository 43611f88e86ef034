"""A page as users write it: every line of it has to pass `mypy --strict` and pyright."""

from pathlib import Path
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import deltaprop as dp
from deltaprop import accel
from deltaprop.callbacks import CSVLogger, EpochEnd, ModelCheckpoint

X: npt.NDArray[np.float64] = np.random.default_rng(0).normal(size=(60, 3))
y: npt.NDArray[np.int64] = (X.sum(axis=1) > 0).astype(np.int64)


def networks(folder: Path) -> dp.History:
    """Train networks, look at them, keep them."""
    net = dp.Network(
        [3, 8, 4, 1], hidden_activation=["relu", "tanh"], loss="binary_cross_entropy", init="he", dtype="float32"
    )
    history = net.fit(
        X,
        y,
        optimizer=dp.Adam(dp.CosineDecay(0.01, 20)),
        epochs=20,
        batch_size=10,
        l2=1e-3,
        l2_scaling="absolute",
        reduction="sum",
        validation=(X, y),
        metrics=["accuracy", lambda h, t: float(abs(h - t).mean())],
        early_stopping=dp.EarlyStopping(patience=3),
        callbacks=[CSVLogger(folder / "log.csv"), ModelCheckpoint(folder / "best.dp"), tell],
    )
    net.fit_full_batch(X.tolist(), y, method="newton-cg", max_iter=5)
    cost, gradient = net.cost_and_gradient(X, y)
    assert_type(cost, float)
    assert_type(net.predict(X), npt.NDArray[np.floating[Any]])
    print(cost, gradient.weights[0].shape, net.predict(X)[:, 0].mean(), net.weights[0].sum())
    print(net.jacobian(X, mode="reverse").shape, history.cost[-1], history.metrics["accuracy"])
    net.save(folder / "net.dp")
    assert_type(dp.Network.load(folder / "net.dp"), dp.Network)
    again = dp.load(folder / "net.dp", backend="numpy")
    print(again.predict(X))
    custom = dp.Network([3, 1], loss=(lambda h, t: (h - t) ** 2, lambda h, t: 2 * (h - t)), dtype=np.float64)
    print(dp.check_gradient(custom, X, y).passed)
    return history


def tell(event: EpochEnd) -> bool:
    """End the training once the cost is low."""
    return event.history.cost[-1] < 0.1


def stacks() -> dp.Network:
    """Train several networks at once."""
    stack = dp.NetworkStack(4, [3, 5, 1], seeds=range(4), loss="squared_error", backend="numpy")
    for history in stack.fit(X, y, optimizer=[dp.SGD(rate) for rate in (0.1, 0.2, 0.3, 0.4)], epochs=2):
        print(history.cost)
    return stack[0]


def estimators() -> None:
    """Fit estimators, and search among them."""
    clf = dp.MLPClassifier((16, 8), activation="logistic", solver="sgd", learning_rate="adaptive", max_iter=5)
    assert_type(clf.fit(X, y), dp.MLPClassifier)
    assert_type(clf.partial_fit(X, y), dp.MLPClassifier)
    print(clf.predict(X), clf.predict_proba(X)[:, 1], clf.classes_, clf.network_.layer_sizes, clf.score(X, y))
    reg = dp.MLPRegressor(loss="huber", alpha=0.1, backend=dp.get_backend("numpy"), dtype=np.float32)
    assert_type(reg.fit(X, X[:, 0]), dp.MLPRegressor)
    sweep = dp.SweepCV(clf, {"alpha": [1e-4, 1e-2]}, cv=3, error_score="raise")
    assert_type(sweep.fit(X, y), dp.SweepCV)
    print(sweep.best_params_["alpha"], sweep.best_score_, sweep.cv_results_["mean_test_score"])
    halving = dp.HalvingSweepCV(clf, {"alpha": [1e-4, 1e-2]}, resource="max_iter", max_resources=9)
    assert_type(halving.fit(X, y), dp.HalvingSweepCV)
    ensemble = dp.EnsembleClassifier(clf, n_estimators=3, bootstrap=True)
    assert_type(ensemble.fit(X, y), dp.EnsembleClassifier)
    tabular = dp.TabularClassifier(4, categorical=["town"], class_weight="balanced", time_limit=1.5)
    assert_type(tabular.fit({"town": ["a", "b"], "size": [1.0, 2.0]}, [0, 1]), dp.TabularClassifier)


def patched() -> None:
    """Let scikit-learn's estimators train by ours."""
    accel.install()
    print(accel.enabled(), dp.__version__, dp.available_backends())
    accel.uninstall()
