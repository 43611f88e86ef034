"""``deltaprop evaluate``: how good the predictions for the rows of a file are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deltaprop.backends.array_types import HostArray, Indices
from deltaprop.cli.model_files import features, load_model, read_rows, refuse_table_options
from deltaprop.cli.options import EvaluateOptions
from deltaprop.cli.score_report import score_of_classes, score_of_quantities
from deltaprop.cli.screen import counted, in_lines
from deltaprop.tabular.table import Column
from deltaprop.tabular.targets import gaps_of_target, label_texts, quantities_of
from deltaprop.tabular.trained import Trained


def evaluate(options: EvaluateOptions) -> Iterator[str]:
    """Predict the rows of a file, and yield lines that say how good that is.

    Raises
    ------
    ValueError
        If the file lacks a column, or holds a label that is no class of the model.
    OSError, BackendError
        If a file cannot be read, or the backend cannot be had.
    """
    model = load_model(options.model, options.backend)
    if isinstance(model, Trained):
        yield _of_network(model, options)
        return
    table = read_rows(model, options.data, options, target=True)
    known = ~gaps_of_target(table.columns[model.target_name_])
    if not known.any():
        raise ValueError(f"{options.data}: expected targets to evaluate on, but {model.target_name_!r} has only gaps")
    if not known.all():
        yield from in_lines("data", f"left out: {counted(int((~known).sum()), 'row')} without a target")
        table = table.take(np.flatnonzero(known))
    column, rows = table.columns[model.target_name_], counted(table.rows, "row")
    if not hasattr(model, "classes_"):
        yield from score_of_quantities(quantities_of(column), model.predict(features(model, table, options.data)), rows)
        return
    labels = label_texts(model.classes_)
    numbers = _class_numbers(column, model.classes_, options.data)
    yield from score_of_classes(labels, numbers, model.predict_proba(features(model, table, options.data)), rows)


def _of_network(model: Trained, options: EvaluateOptions) -> str:
    refuse_table_options(options)
    dataset = model.read(options.data, with_targets=True)
    X, y = dataset.test or (dataset.X, dataset.y)
    if y is None:
        raise ValueError(f"{options.data}: expected targets to evaluate on")
    return model.score(X, y)


def _class_numbers(column: Column, classes: HostArray, source: str) -> Indices:
    """Find the number of each row's class by its text.

    Raises
    ------
    ValueError
        If a label is no class.
    """
    codes, texts = column.texts()
    # A float such as 1.0 may be written as 1.
    number: dict[Any, int] = {str(label): k for k, label in enumerate(classes.tolist())}
    number |= {label: k for k, label in enumerate(label_texts(classes))}
    numbers = np.array([number.get(text, -1) for text in texts], np.int64)[codes]
    if numbers.min() < 0:
        row = int(numbers.argmin())
        raise ValueError(
            f"{source}: target {column.name!r}: row {row + 1}: {texts[codes[row]]!r} is no class of the training data"
        )
    return numbers
