"""What is said of predictions: how good they are, beside the best constant, and which classes are mistaken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deltaprop.backends.array_types import Floats, Indices
from deltaprop.cli.screen import in_lines, shortened

#: Confusion matrices are shown for no more classes than these.
MOST_CLASSES = 10
#: A label in a confusion matrix is shown in as many characters at most.
LONGEST_LABEL = 12


def score_of_classes(labels: Sequence[str], truth: Indices, probabilities: Floats, rows: str) -> list[str]:
    """Say in lines how good probabilities of classes are.

    Parameters
    ----------
    labels : sequence of str
        Of the classes.
    truth : array, (m,)
        The number of each row's class.
    probabilities : array, (m, k)
        Predicted.
    rows : str
        Which rows these are: "891 rows held out".

    Returns
    -------
    list of str
        Accuracy beside the share of the most frequent class, balanced accuracy, log loss beside the log loss of the
        classes' shares, and the confusion matrix.
    """
    from deltaprop.tabular.calibration import log_losses  # not at start-up: it loads scipy

    predicted, count = probabilities.argmax(axis=1), len(labels)
    confusion = np.bincount(truth * count + predicted, minlength=count * count).reshape(count, count)
    own = confusion.sum(axis=1)
    there = own > 0
    shares = own[there] / own.sum()
    balanced = float((confusion.diagonal()[there] / own[there]).mean())
    loss = float(log_losses(probabilities, truth).mean())
    lines = in_lines(
        "score",
        f"accuracy {confusion.trace() / own.sum():.3f} on {rows} (majority class {labels[own.argmax()]!r} "
        f"{own.max() / own.sum():.3f}), balanced accuracy {balanced:.3f}, log loss {loss:.4g} "
        f"({-float((shares * np.log(shares)).sum()):.4g} for the shares of the classes)",
    )
    return lines + (_confusion(labels, confusion) if count <= MOST_CLASSES else [])


def _confusion(labels: Sequence[str], confusion: Indices) -> list[str]:
    """Return the lines of a confusion matrix, with the share of each class that is right."""
    names = [shortened(label, LONGEST_LABEL) for label in labels]
    first = max(len("class"), *map(len, names))
    widths = [max(len(name), len(str(column.max()))) for name, column in zip(names, confusion.T, strict=True)]
    heads = "  ".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))
    lines = [f"{'':12}{'class':<{first}}  predicted as", f"{'':12}{'':<{first}}  {heads}  right"]
    for name, row in zip(names, confusion.tolist(), strict=True):
        cells = "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        own = row[len(lines) - 2]
        right = f"{100 * own / sum(row):.1f} %" if sum(row) else "-"
        lines.append(f"{'':12}{name:<{first}}  {cells}  {right}")
    return lines


def score_of_quantities(truth: Floats, predicted: Floats, rows: str) -> list[str]:
    """Say in lines how good predictions of quantities, (m,) as the truth, are, beside their mean."""
    error, spread = truth - predicted, truth - truth.mean()
    total = float(spread @ spread)
    explained = f"{1.0 - float(error @ error) / total:.4f}" if total else "not defined"
    root, constant = (float(np.sqrt((values @ values) / len(values))) for values in (error, spread))
    return in_lines(
        "score",
        f"R² {explained} on {rows}, root mean squared error {root:.4g} (the mean of the target: {constant:.4g}), "
        f"mean absolute error {np.abs(error).mean():.4g} ({np.abs(spread).mean():.4g})",
    )
