"""Tables of any library, arrays, lists and dicts in memory become a `Table`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import narwhals as nw
import numpy as np

from deltaprop.arguments import refuse_masked
from deltaprop.backends.array_types import ArrayLike, HostArray
from deltaprop.inputs.arrays import is_on_cuda
from deltaprop.tabular.cell_values import column_of_array, column_of_cells, number_column
from deltaprop.tabular.table import Column, Table
from deltaprop.tabular.table_file import read_table

#: What scikit-learn advises.
RESHAPE = (
    "Reshape your data either using array.reshape(-1, 1) if your data has a single feature or array.reshape(1, -1) "
    "if it contains a single sample."
)


def as_table(X: ArrayLike, names: Sequence[str] | None = None, *, text: Sequence[str] = ()) -> Table:
    """Make a table of whatever the user has.

    Parameters
    ----------
    X : DataFrame, array_like, (m, n), dict, path or Table
        A table of pandas, polars or pyarrow (or another library that narwhals knows); a dict of columns; a 2-D array;
        rows in a list, each a list or a dict; or a file that `read_table` reads.
    names : sequence of str, optional
        The names of the columns of an array or a list; by default "column 1", "column 2", ….
    text : sequence of str
        Columns of labels: their texts are left as they are, with spaces around them; and a column of CSV stays text if
        its cells are numbers. Names that X does not have are passed over.

    Returns
    -------
    table : Table
        Its columns hold copies.

    Raises
    ------
    ValueError
        If X is not two-dimensional, has no rows or no columns, has two columns of one name, or holds complex or
        infinite numbers.
    TypeError
        If X is sparse, on a device, not yet computed, or no table.
    OSError
        If X is a file that cannot be read.
    """
    if isinstance(X, Table):
        return X
    if isinstance(X, (str, os.PathLike)):
        return read_table(X, text=text)
    _refuse_other_kinds(X)
    frame = _as_frame(X)
    if frame is not None:
        return _table([(str(name), frame[:, place]) for place, name in enumerate(frame.columns)], len(frame), text)
    if isinstance(X, Mapping):
        return _from_columns(X, text)
    if is_records(X):
        return _from_columns(
            {name: [row.get(name) for row in X] for name in dict.fromkeys(chain.from_iterable(X))}, text
        )
    if isinstance(X, np.ndarray) and X.dtype.names is not None and X.ndim == 1:
        return _table([(name, X[name]) for name in X.dtype.names], len(X), text)
    if isinstance(X, (list, tuple)) and X and all(isinstance(row, (list, tuple)) for row in X):
        return _from_rows(X, names, text)
    array = np.asarray(X)
    _check_shape(array)
    return _table(list(zip(_names(names, array.shape[1]), array.T, strict=True)), len(array), text)


def is_records(X: Any) -> bool:
    """Tell whether X is a list of rows, each a dict of cells; a cell that a row lacks is a gap."""
    return isinstance(X, (list, tuple)) and len(X) > 0 and all(isinstance(row, Mapping) for row in X)


def as_column(values: ArrayLike, name: str, *, strip: bool = True) -> Column:
    """Make one column of a series of any library, a 1-D array or a sequence of cells.

    Parameters
    ----------
    values : series, array_like or sequence, (m,)
        The cells.
    name : str
        The name of the column.
    strip : bool
        Whether spaces around a text are no part of it.

    Returns
    -------
    column : Column
        It holds a copy.

    Raises
    ------
    ValueError
        If the values are not one-dimensional, or complex or infinite.
    TypeError
        If they are on a device, or no sequence.
    """
    series = nw.from_native(values, series_only=True, pass_through=True)
    if isinstance(series, nw.Series):
        return _from_series(name, series, strip)
    if isinstance(values, Sequence) and not isinstance(values, (str, bytes)):
        return column_of_cells(name, values, strip=strip)
    if type(values) is not np.ndarray:
        _refuse_other_kinds(values)
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"column {name!r}: expected a 1-D array or a sequence of cells, got shape {array.shape}")
    return column_of_array(name, array, strip=strip)


def _refuse_other_kinds(X: Any) -> None:
    """Refuse what is no dense array on the host.

    Raises
    ------
    TypeError
        If `X` is sparse, on a device, or text.
    ValueError
        If some of its entries are masked.
    """
    if isinstance(X, (str, bytes)):
        raise TypeError(f"X: expected a table, got {type(X).__name__} {X[:80]!r}")
    refuse_masked(X, "X")
    if hasattr(X, "tocsr"):
        raise TypeError(
            f"X: expected a dense array, got a sparse {type(X).__name__}; pass X.toarray() if it fits in memory"
        )
    if hasattr(X, "__array__") and not isinstance(X, np.ndarray) and is_on_cuda(X):
        raise TypeError(f"X: expected data on the host, got a {type(X).__name__} on a CUDA device; copy it to the host")
    if type(X).__module__.partition(".")[0] == "cupy":
        raise TypeError("X: expected data on the host, got a CuPy array; pass cupy.asnumpy(X)")


def _as_frame(X: Any) -> Any:
    """Return `X` as narwhals sees it if it is a table of a library; None if it is none.

    Raises
    ------
    ValueError
        If two columns have one name, or `X` is a single column.
    TypeError
        If it is a query that has not been computed.
    """
    if isinstance(X, np.ndarray):
        return None
    try:
        frame = nw.from_native(X, pass_through=True, allow_series=True)
    except ValueError as error:
        names = [str(name) for name in getattr(X, "column_names", getattr(X, "columns", []))]
        _refuse_twice(names)
        raise ValueError(f"X: not a table: {error}") from error
    if isinstance(frame, nw.LazyFrame):
        raise TypeError(f"X: expected a table in memory, got {type(X).__name__}; pass X.collect() or X.compute()")
    if isinstance(frame, nw.Series):
        raise ValueError(_one_dimensional(frame.to_numpy()))
    return frame if isinstance(frame, nw.DataFrame) else None


def _from_columns(X: Mapping[Any, Any], text: Sequence[str]) -> Table:
    columns = [(str(name), values) for name, values in X.items()]
    lengths = {}
    for name, values in columns:
        if not hasattr(values, "__len__") or isinstance(values, (str, bytes)):
            raise TypeError(
                f"X: column {name!r}: expected a sequence of cells, got {type(values).__name__}; pass a single "
                "row as a list of one dict"
            )
        lengths[name] = len(values)
    if len(set(lengths.values())) > 1:
        first, other = min(lengths.items(), key=lambda item: item[1]), max(lengths.items(), key=lambda item: item[1])
        raise ValueError(
            f"X: expected columns of one length, got {first[1]} cells in {first[0]!r} and {other[1]} in {other[0]!r}"
        )
    return _table(columns, next(iter(lengths.values()), 0), text)


def _from_rows(X: Sequence[Sequence[Any]], names: Sequence[str] | None, text: Sequence[str]) -> Table:
    width = len(X[0])
    for place, row in enumerate(X):
        if len(row) != width:
            raise ValueError(f"X: expected {width} cells in each row as in row 0, got {len(row)} in row {place}")
    if width and isinstance(X[0][0], (list, tuple, np.ndarray)):
        _check_shape(np.asarray(X))
    return _table(list(zip(_names(names, width), zip(*X, strict=True), strict=True)), len(X), text)


def _names(names: Sequence[str] | None, columns: int) -> list[str]:
    if names is None:
        return [f"column {place + 1}" for place in range(columns)]
    if len(names) != columns:
        raise ValueError(f"names: expected {columns} names, one a column, got {len(names)}")
    return [str(name) for name in names]


def _table(columns: Sequence[tuple[str, Any]], rows: int, text: Sequence[str]) -> Table:
    if not columns:
        raise ValueError(f"Found array with 0 feature(s) (shape=({rows}, 0)) while a minimum of 1 is required.")
    if rows == 0:
        raise ValueError(f"Found array with 0 sample(s) (shape=(0, {len(columns)})) while a minimum of 1 is required.")
    _refuse_twice([name for name, _ in columns])
    return Table({name: as_column(values, name, strip=name not in text) for name, values in columns}, rows)


def _refuse_twice(names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"X: expected columns of different names, got two that are called {name!r}")
        seen.add(name)


def _check_shape(array: HostArray) -> None:
    if array.ndim == 0:
        raise ValueError(f"Expected 2D array, got scalar array instead:\narray={array}.\n{RESHAPE}")
    if array.ndim == 1:
        raise ValueError(_one_dimensional(array))
    if array.ndim > 2:
        raise ValueError(f"Found array with dim {array.ndim}, while dim <= 2 is required: X has shape {array.shape}.")


def _one_dimensional(array: HostArray) -> str:
    shown = np.array2string(array, threshold=10)
    return f"Expected 2D array, got 1D array instead:\narray={shown}.\n{RESHAPE}"


def _from_series(name: str, series: Any, strip: bool) -> Column:
    kind = series.dtype
    if kind.is_numeric() and not kind.is_decimal():
        values = series.cast(nw.Float64).to_numpy()
        return number_column(name, values.astype(np.float64))
    if isinstance(kind, nw.Boolean) and not series.null_count():
        return Column(name, "boolean", series.to_numpy().astype(np.float64))
    if isinstance(kind, nw.Datetime):
        if kind.time_zone is not None:
            series = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return Column(name, "date", series.to_numpy().astype("datetime64[us]"))
    is_category = isinstance(kind, (nw.Categorical, nw.Enum))
    return column_of_cells(name, series.to_list(), is_category=is_category, strip=strip)
