"""Compares fit times and scores of our estimators and scikit-learn's: same parameters, seed, data and threads.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python -m benches.estimators [--mnist FOLDER] [--json FILE]

Fits alternate, ours and theirs, and the medians are compared. With ``--mnist``, a folder of MNIST's idx files, also
scikit-learn's own example on MNIST: its settings, its split, its figures.
"""

import argparse
import datetime
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.neural_network as theirs
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale

import deltaprop as ours
from deltaprop.inputs.files import load_dataset

from .machine import machine
from .timing import interleaved

#: The settings of scikit-learn's example on MNIST, and its output in version 1.9: scores, losses of 10 epochs.
EXAMPLE = {
    "hidden_layer_sizes": 50,
    "max_iter": 10,
    "alpha": 1e-4,
    "solver": "sgd",
    "random_state": 1,
    "learning_rate_init": 0.1,
}
EXPECTED = (0.986800, 0.970000, 0.32009978, 0.04645355)


def synthetic(rng):
    """Return random data with the shape of the California housing data."""
    X = rng.standard_normal((20_000, 8))
    y = np.sin(X[:, 0]) * X[:, 1] + np.tanh(X[:, 2:5]).sum(axis=1) + 0.1 * rng.standard_normal(len(X))
    return X, y


def cases(mnist):
    """Return (data set, kind of estimator, parameters, X, y); other parameters are the defaults."""
    digits = load_digits(return_X_y=True)
    digits = (digits[0] / 16, digits[1])
    cancer = load_breast_cancer(return_X_y=True)
    cancer = (scale(cancer[0]), cancer[1])
    diabetes = load_diabetes(return_X_y=True)
    diabetes = (scale(diabetes[0]), scale(diabetes[1]))
    table = synthetic(np.random.default_rng(0))
    for name, kind, (X, y), epochs in (
        ("digits, 1797 × 64", "MLPClassifier", digits, 200),
        ("breast_cancer, 569 × 30", "MLPClassifier", cancer, 200),
        ("diabetes, 442 × 10", "MLPRegressor", diabetes, 200),
        ("synthetic, 20 000 × 8", "MLPRegressor", table, 20),
    ):
        for solver in ("adam", "sgd", "lbfgs"):
            yield name, kind, {"solver": solver, "max_iter": epochs, "random_state": 0}, X, y
    if mnist is not None:
        X, y = mnist
        for dtype in ("float64", "float32"):
            parameters = {"max_iter": 3, "random_state": 0}
            yield f"MNIST, 60 000 × 784, {dtype}", "MLPClassifier", parameters, X[:60_000].astype(dtype), y[:60_000]


def compare(name, kind, parameters, X, y, rounds):
    """Measure a row of the table."""
    fitted = {}

    def fit(library, module, **options):
        fitted[library] = getattr(module, kind)(**parameters, **options).fit(X, y)

    calls = {
        "deltaprop": lambda: fit("deltaprop", ours, backend="numpy"),
        "scikit-learn": lambda: fit("scikit-learn", theirs),
    }
    seconds = interleaved(calls, rounds, settle=0.2)
    us, them = fitted["deltaprop"], fitted["scikit-learn"]
    return {
        "data": name,
        "estimator": kind,
        "parameters": parameters,
        "seconds": seconds,
        "ratio": seconds["scikit-learn"]["median"] / seconds["deltaprop"]["median"],
        "score": us.score(X, y),
        "score_of_scikit_learn": them.score(X, y),
        "n_iter": [int(us.n_iter_), int(them.n_iter_)],
        "largest_difference_of_coefs": max(
            float(np.abs(a - b).max()) for a, b in zip(us.coefs_, them.coefs_, strict=True)
        ),
    }


def example(X, y):
    """Run scikit-learn's MNIST example with both."""
    train, test = slice(0, 60_000), slice(60_000, None)
    result = {}
    for library, module, options in (("scikit-learn", theirs, {}), ("deltaprop", ours, {"backend": "numpy"})):
        time.sleep(0.2)
        began = time.perf_counter()
        fitted = module.MLPClassifier(**EXAMPLE, **options).fit(X[train], y[train])
        seconds = time.perf_counter() - began
        result[library] = {
            "seconds": seconds,
            "training_score": fitted.score(X[train], y[train]),
            "test_score": fitted.score(X[test], y[test]),
            "losses": [float(loss) for loss in fitted.loss_curve_],
        }
        printed = (result[library]["training_score"], result[library]["test_score"], *fitted.loss_curve_[::9])
        result[library]["as_published"] = np.allclose(printed, EXPECTED, rtol=0, atol=5e-7)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", type=Path, help="folder with MNIST's four idx files")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    mnist = None
    if arguments.mnist is not None:
        data: Any = load_dataset(str(arguments.mnist))
        mnist = (np.vstack([data.X, data.test[0]]) / 255.0, np.concatenate([data.y, data.test[1]]))
    rows = []
    for name, kind, parameters, X, y in cases(mnist):
        row = compare(name, kind, parameters, X, y, 3 if name.startswith("MNIST") else arguments.rounds)
        rows.append(row)
        us, them = (row["seconds"][library]["median"] for library in ("deltaprop", "scikit-learn"))
        solver = parameters.get("solver", "adam")
        print(
            f"{name:28} {solver:6} {us:8.3f} s  scikit-learn {them:8.3f} s  ratio {row['ratio']:5.2f}  "
            f"scores {row['score']:.4f} {row['score_of_scikit_learn']:.4f}  epochs {row['n_iter']}"
        )
    result: dict[str, Any] = {
        "command": "python -m benches.estimators" + (" --mnist FOLDER" if mnist else ""),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine("scikit-learn", "scipy"),
        "fits": rows,
    }
    if mnist is not None:
        result["mnist_example"] = example(*mnist)
        for library, figures in result["mnist_example"].items():
            print(
                f"MNIST example, {library:13} {figures['seconds']:6.1f} s  training {figures['training_score']:.6f}  "
                f"test {figures['test_score']:.6f}  losses {figures['losses'][0]:.8f} … {figures['losses'][-1]:.8f}"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
