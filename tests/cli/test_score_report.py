"""What is said of predictions, beside scikit-learn's metrics."""

import re

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    log_loss,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)

from deltaprop.cli.score_report import score_of_classes, score_of_quantities


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")


def test_classes(rng):
    truth = rng.integers(0, 3, 200)
    probabilities = rng.dirichlet([1, 2, 1], 200)
    predicted = probabilities.argmax(axis=1)
    first, *matrix = score_of_classes(["a", "b", "c"], truth, probabilities, "200 rows held out")
    counts = np.bincount(truth)
    expected = (
        f"score       accuracy {accuracy_score(truth, predicted):.3f} on 200 rows held out "
        f"(majority class {'abc'[counts.argmax()]!r} {counts.max() / 200:.3f}), "
        f"balanced accuracy {balanced_accuracy_score(truth, predicted):.3f}, "
        f"log loss {log_loss(truth, probabilities):.4g} "
        f"({log_loss(truth, np.tile(counts / 200, (200, 1))):.4g} for the shares of the classes)"
    )
    assert first == expected
    rows = [re.findall(r"[\d.]+", line) for line in matrix[2:]]
    assert [[int(cell) for cell in row[:3]] for row in rows] == confusion_matrix(truth, predicted).tolist()
    recalls = 100 * confusion_matrix(truth, predicted, normalize="true").diagonal()
    assert [float(row[3]) for row in rows] == pytest.approx(recalls.round(1))


def test_a_class_without_rows_and_many_classes():
    lines = score_of_classes(["x", "y", "z"], np.array([0, 0]), np.array([[0.6, 0.2, 0.2]] * 2), "2 rows")
    assert "balanced accuracy 1.000" in lines[0]
    assert [line.split()[-1] for line in lines[3:]] == ["%", "-", "-"]
    many = [str(k) for k in range(11)]
    assert len(score_of_classes(many, np.arange(11), np.eye(11), "11 rows")) == 1


def test_quantities(rng):
    truth = rng.normal(50, 10, 80)
    predicted = truth + rng.normal(0, 3, 80)
    (line,) = score_of_quantities(truth, predicted, "80 rows")
    mean = np.full(80, truth.mean())
    assert line == (
        f"score       R² {r2_score(truth, predicted):.4f} on 80 rows, "
        f"root mean squared error {root_mean_squared_error(truth, predicted):.4g} "
        f"(the mean of the target: {root_mean_squared_error(truth, mean):.4g}), "
        f"mean absolute error {mean_absolute_error(truth, predicted):.4g} ({mean_absolute_error(truth, mean):.4g})"
    )
    assert "R² not defined" in score_of_quantities(np.array([2.0]), np.array([3.0]), "1 row")[0]
