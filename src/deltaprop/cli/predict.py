"""``deltaprop predict``: the target for every row of a file, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from deltaprop.cli.model_files import as_written, features, load_model, read_rows, refuse_table_options
from deltaprop.cli.options import PredictOptions, column_names
from deltaprop.cli.train import is_table
from deltaprop.inputs import cells
from deltaprop.tabular.table_file import read_table
from deltaprop.tabular.targets import label_texts
from deltaprop.tabular.trained import Trained

#: Columns of the output, each with its name.
Columns = list[tuple[str, Sequence[Any]]]


def predict(options: PredictOptions) -> str:
    """Predict, and return the CSV.

    Raises
    ------
    ValueError
        If an option does not suit the model, or the file lacks a column.
    OSError, BackendError
        If a file cannot be read, or the backend cannot be had.
    """
    keep = column_names(options.keep, "--keep")
    if options.interval is not None and not 0.0 < options.interval < 1.0:
        raise ValueError(f"--interval: expected a probability between 0 and 1, got {options.interval}")
    model = load_model(options.model, options.backend)
    is_network = isinstance(model, Trained)
    classifies = model.classes is not None if is_network else hasattr(model, "classes_")
    if options.proba and not classifies:
        raise ValueError("--proba: expected a model of classes, but this one predicts a quantity")
    if options.interval is not None and classifies:
        raise ValueError(
            "--interval: expected a model of a quantity, but this one predicts classes; --proba is for these"
        )
    kept, predicted = (_by_network if is_network else _by_members)(model, options, keep)
    if any(name == predicted[0][0] for name, _ in kept):
        predicted[0] = (f"predicted {predicted[0][0]}", predicted[0][1])
    return _csv(kept + predicted)


def _by_network(model: Trained, options: PredictOptions, keep: list[str]) -> tuple[Columns, Columns]:
    """Predict by a single network."""
    refuse_table_options(options)
    if options.interval is not None:
        raise ValueError("--interval: a single network knows no intervals; a model trained without --plain does")
    kept: Columns = []
    if keep:
        if not is_table(options.data):
            raise ValueError(f"--keep: {options.data} has no columns with names")
        if options.data == "-":
            raise ValueError("--keep: expected a file, which a single network reads twice, got standard input")
        table = read_table(options.data, text=keep)
        for name in keep:
            if name not in table.columns:
                raise ValueError(f"--keep: {options.data} has no column {name!r}")
            kept.append((name, as_written(table.columns[name])))
    X = model.read(options.data, with_targets=False).X
    predicted: Columns = [(model.target_name, _plain(model.predict(X)))]
    if options.proba and model.classes is not None:
        outputs = model.outputs(X)
        predicted += [(f"{model.target_name}={label}", outputs[:, k].tolist()) for k, label in enumerate(model.classes)]
    return kept, predicted


def _by_members(model: Any, options: PredictOptions, keep: list[str]) -> tuple[Columns, Columns]:
    """Predict by the members of a tabular estimator."""
    table = read_rows(model, options.data, options, keep=keep)
    rows, name = features(model, table, options.data, keep), model.target_name_
    kept: Columns = [(column, as_written(table.columns[column])) for column in keep]
    if options.interval is not None:
        values, ends = model.predict(rows, return_interval=options.interval)
        return kept, [
            (name, _numbers(values)),
            (f"{name} low", _numbers(ends[:, 0])),
            (f"{name} high", _numbers(ends[:, 1])),
        ]
    if not options.proba:
        predicted = model.predict(rows)
        return kept, [(name, label_texts(predicted) if hasattr(model, "classes_") else _numbers(predicted))]
    probabilities = model.predict_proba(rows)
    best = model.classes_[probabilities.argmax(axis=1)]
    each = [(f"{name}={label}", probabilities[:, k].tolist()) for k, label in enumerate(label_texts(model.classes_))]
    return kept, [(name, label_texts(best)), *each]


def _plain(values: Any) -> list[Any]:
    plain: list[Any] = values.tolist() if hasattr(values, "tolist") else list(values)
    return plain


def _numbers(values: Any) -> list[str]:
    return [cells.written(value) for value in values.tolist()]


def _csv(columns: Columns) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([name for name, _ in columns])
    writer.writerows(zip(*(values for _, values in columns), strict=True))
    return text.getvalue()
