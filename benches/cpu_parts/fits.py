"""Fits of the estimators: beside scikit-learn's and a plain fit, after a foreign product, beside busy processes."""

from __future__ import annotations

import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import sklearn.neural_network as theirs
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

import deltaprop as ours

from ..timing import interleaved

#: Epochs of a fit, with no early end.
HOW: dict[str, Any] = {"max_iter": 30, "tol": 0.0, "n_iter_no_change": 1000, "random_state": 0}
#: How the plain fit is changed, for us alone, and how many times as long it may take.
TAXES: dict[str, tuple[dict[str, Any], float]] = {
    "dropout": ({"dropout": 0.2}, 1.5),
    "gelu": ({"activation": "gelu"}, 1.5),
    "sparse": ({}, 1.5),
    "early stopping": ({"early_stopping": True}, 1.3),
}
#: Settings of the comparison with scikit-learn on digits and on 20 000 × 50 numbers, and the ratio to reach.
DIGITS: dict[str, tuple[dict[str, Any], float]] = {
    "adam": ({}, 5),
    "lbfgs": ({"solver": "lbfgs"}, 5),
    "sparse": ({}, 3),
    "early stopping": ({"early_stopping": True}, 4),
}
TABLE: dict[str, tuple[dict[str, Any], float]] = {
    "adam": ({}, 6),
    "lbfgs": ({"solver": "lbfgs"}, 4),
    "256-128-64": ({"hidden_layer_sizes": (256, 128, 64)}, 4),
}


def digits() -> tuple[Any, Any]:
    X, y = load_digits(return_X_y=True)
    return X / 16, y


def table() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20_000, 50))
    return X, (X[:, :5].sum(axis=1) + np.sin(X[:, 5] * 3) > 0).astype(int)


def fit(library: Any, X: Any, y: Any, **options: Any) -> Callable[[], object]:
    return lambda: library.MLPClassifier(**(HOW | options)).fit(X, y)


def measure(rounds: int) -> list[dict[str, Any]]:
    """Return rows of all sections."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    rows = [*beside_scikit_learn(rounds), *taxes(rounds), *partial_fits(rounds), *noise(rounds)]
    rows.append(first_epoch(rounds))
    print(line(rows[-1]), flush=True)
    return rows


def line(row: dict[str, Any]) -> str:
    return f"{row['what']:45} {row['ratio']:6.2f} (goal {row['goal']})"


def compared(what: str, calls: Mapping[str, Callable[[], object]], goal: float, rounds: int) -> dict[str, Any]:
    """Return the time of the first call over the second."""
    seconds = interleaved(dict(calls), rounds, settle=0.2)
    over, under = (each["median"] for each in seconds.values())
    row = {"what": what, "seconds": seconds, "ratio": over / under, "goal": goal}
    print(line(row), flush=True)
    return row


def beside_scikit_learn(rounds: int) -> Iterator[dict[str, Any]]:
    for name, (X, y), settings in (("digits", digits(), DIGITS), ("20 000 × 50", table(), TABLE)):
        for setting, (options, goal) in settings.items():
            inputs = sparse.csr_matrix(X) if setting == "sparse" else X
            calls = {
                "scikit-learn": fit(theirs, inputs, y, **options),
                "deltaprop": fit(ours, inputs, y, **options),
            }
            yield compared(f"scikit-learn ÷ ours: {name}, {setting}", calls, goal, rounds)


def taxes(rounds: int) -> Iterator[dict[str, Any]]:
    X, y = digits()
    for name, (options, goal) in TAXES.items():
        inputs = sparse.csr_matrix(X) if name == "sparse" else X
        calls = {name: fit(ours, inputs, y, **options), "plain": fit(ours, X, y)}
        yield compared(f"{name} ÷ plain", calls, goal, rounds)


def partial_fits(rounds: int) -> Iterator[dict[str, Any]]:
    X, y = digits()
    models = {
        name: library.MLPClassifier(random_state=0) for name, library in (("scikit-learn", theirs), ("ours", ours))
    }
    for model in models.values():
        model.partial_fit(X[:32], y[:32], classes=np.arange(10))
    calls = {name: lambda model=model: model.partial_fit(X[:32], y[:32]) for name, model in models.items()}
    yield compared("scikit-learn ÷ ours: partial_fit of 32 rows", calls, 4, rounds)


def noise(rounds: int) -> Iterator[dict[str, Any]]:
    """A fit right after a product by NumPy's BLAS, whose threads spin, and beside busy processes."""
    X, y = digits()
    A = np.random.default_rng(0).standard_normal((1000, 1000))
    calls = {"scikit-learn": fit(theirs, X, y), "deltaprop": fit(ours, X, y)}
    quiet = {name: median_after(lambda: time.sleep(0.2), call, rounds) for name, call in calls.items()}
    for what, goal, busy, before in (
        ("after a product by NumPy's BLAS", 1.2, 0, lambda: np.matmul(A, A)),
        ("beside one busy process", 1.5, 1, lambda: time.sleep(0.2)),
        ("beside two busy processes", 1.5, 2, lambda: time.sleep(0.2)),
    ):
        with neighbours(busy):
            seconds = {name: median_after(before, call, rounds) for name, call in calls.items()}
        ratio = seconds["deltaprop"] / quiet["deltaprop"]
        row = {"what": f"{what} ÷ quiet", "seconds": seconds, "quiet": quiet, "ratio": ratio, "goal": goal}
        print(
            f"{line(row)}; scikit-learn ÷ ours there {seconds['scikit-learn'] / seconds['deltaprop']:.2f}", flush=True
        )
        yield row


def median_after(before: Callable[[], object], call: Callable[[], object], rounds: int) -> float:
    call()
    seconds = []
    for _ in range(rounds):
        before()
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that do nothing but keep a core busy."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_spin, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    time.sleep(1.0 if processes else 0.0)  # until they have started
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def _spin() -> None:
    while True:
        pass


def first_epoch(rounds: int) -> dict[str, Any]:
    """The first epoch of a fit of 784-100-10 over its later ones."""
    rng = np.random.default_rng(0)
    X, Y = rng.random((12_800, 784), np.float32), np.eye(10, dtype=np.float32)[rng.integers(0, 10, 12_800)]
    ratios = []
    for _ in range(rounds):
        net = ours.Network([784, 100, 10], loss="categorical_cross_entropy", dtype="float32", seed=0)
        history = net.fit(X, Y, batch_size=128, epochs=6)
        seconds = history.seconds
        ratios.append(seconds[0] / float(np.median(seconds[1:])))
    return {"what": "first epoch ÷ a later one", "ratio": float(np.median(ratios)), "goal": 1.1}
