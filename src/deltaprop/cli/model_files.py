"""Models that the command line has written, and the rows that it gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deltaprop.backends import get_backend
from deltaprop.errors import listing
from deltaprop.tabular.table import Column, Table
from deltaprop.tabular.table_file import is_text, read_table, without_labels
from deltaprop.tabular.trained import Trained


def load_model(path: str, backend: str) -> Any:
    """Load a model that ``deltaprop train`` has written: a single network as `Trained`, or a tabular estimator.

    Raises
    ------
    ValueError
        If the file holds something else, or is damaged.
    OSError
        If it cannot be read.
    """
    from deltaprop.loading import load

    model = load(path, get_backend(backend))
    if not isinstance(model, Trained) and not hasattr(model, "explain_columns"):
        raise ValueError(
            f"{path}: expected a model of 'deltaprop train', got a network without the preparation of its data"
        )
    if not isinstance(model, Trained) and not hasattr(model, "feature_names_in_"):
        raise ValueError(f"{path}: expected a model that was fitted to columns with names, got one without")
    return model


def refuse_table_options(options: Any) -> None:
    """Refuse, for a single network, options that say how a table is written.

    Raises
    ------
    ValueError
        If there is one.
    """
    for name in ("sep", "decimal", "encoding"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name}: belongs to models of tables, and this is a single network")


def read_rows(model: Any, source: str, options: Any, *, target: bool = False, keep: Sequence[str] = ()) -> Table:
    """Read the rows of a table for a tabular estimator.

    Parameters
    ----------
    model : TabularClassifier or TabularRegressor
        The estimator.
    source : str
        A file that `read_table` reads.
    options : PredictOptions or EvaluateOptions
        How the file is written.
    target : bool
        Whether the target column has to be there.
    keep : sequence of str
        Further columns that have to be there; they are kept as they are written.

    Returns
    -------
    Table
        All columns of the file.

    Raises
    ------
    ValueError
        If a column is missing.
    OSError
        If the file cannot be read.
    """
    text = [model.target_name_, *keep]
    table = read_table(source, sep=options.sep, decimal=options.decimal, encoding=options.encoding, text=text)
    _require(table, source, keep, "--keep")
    _require(table, source, model.encoding_.names, "which the model predicts from; their cells may be empty")
    if target:
        _require(table, source, [model.target_name_], "which is the target")
    return table


def features(model: Any, table: Table, source: str, keep: Sequence[str] = ()) -> Table:
    """Return the columns that an estimator predicts from, as they are read where nothing is kept as it is written.

    Parameters
    ----------
    model : TabularClassifier or TabularRegressor
        The estimator.
    table : Table
        What `read_rows` has returned.
    source : str
        The file that it has read.
    keep : sequence of str
        The columns that it has kept as they are written.

    Returns
    -------
    Table
        In the order of training.
    """
    columns = table.only(model.encoding_.names).columns
    if is_text(source):
        columns |= {name: without_labels(columns[name]) for name in keep if name in columns}
    return Table(columns, table.rows)


def as_written(column: Column) -> list[str]:
    """Return the cells as they are written; a gap is an empty cell."""
    codes, texts = column.texts()
    return [texts[code] if code >= 0 else "" for code in codes.tolist()]


def _require(table: Table, source: str, names: Sequence[str], why: str) -> None:
    missing = [name for name in names if name not in table.columns]
    if missing:
        words = f"column {missing[0]!r}" if len(missing) == 1 else f"columns {listing(missing)}"
        has = listing(list(table.columns))
        file = "standard input" if source == "-" else source
        raise ValueError(f"{file}: no {words} ({why}); it has {has}")
