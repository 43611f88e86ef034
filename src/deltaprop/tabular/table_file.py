"""Tables in files: CSV, gzipped or not, from standard input, Parquet, and NumPy's arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from deltaprop.inputs.byte_source import ByteSource
from deltaprop.inputs.csv_file import CsvFile
from deltaprop.inputs.files import TEXT_FILES, ending_of
from deltaprop.inputs.numpy_files import load_numpy
from deltaprop.inputs.parquet_file import ParquetFile
from deltaprop.tabular.cell_values import column_of_array, column_of_cells, number_column, text_column
from deltaprop.tabular.csv_columns import GAPS, read_columns
from deltaprop.tabular.table import Column, Table

TAB = "\t"


def read_table(
    source: str | os.PathLike[str],
    *,
    sep: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    text: Sequence[str | int] = (),
) -> Table:
    """Read a table from a file.

    Parameters
    ----------
    source : str or path
        A ``.csv``, ``.tsv`` or ``.txt`` file, each also with ``.gz``; "-" for CSV from standard input; a ``.parquet``
        file, or a ``.npy`` file of a 2-D array.
    sep : str, optional
        What stands between cells of CSV; by default what suits the first rows: a comma, ";", "|" or a tab.
    decimal : {".", ","}, optional
        The mark before decimals in CSV; by default each column is read with the one it uses.
    encoding : str, optional
        The encoding of CSV; by default UTF-8, or what the first bytes tell.
    text : sequence of str or int
        Columns of CSV, by name or position, that are kept as they are written, such as labels of classes: "007" stays
        "007". Names that the file does not have are passed over.

    Returns
    -------
    table : Table
        Cells of CSV such as "", "NA", "nan" and "?" are gaps. A column is of numbers if all other cells are numbers.

    Raises
    ------
    ValueError
        If the content is wrong; one line names the file and the place.
    OSError
        If it cannot be read.
    """
    if decimal not in (None, ".", ","):
        raise ValueError(f"decimal: expected '.' or ',', got {decimal!r}")
    path, ending = Path(source), ending_of(str(source))
    if str(source) != "-":
        if path.is_dir():
            raise ValueError(f"{path}: expected a file with a table, got a folder")
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file")
    if is_text(source):
        marks = decimal or ".,"
        text_file = CsvFile(ByteSource(source), sep=sep, decimal=decimal, encoding=encoding)
        columns = read_columns(text_file, marks, _named(text_file.names, text))
        return Table({column.name: column for column in columns}, len(columns[0]), _written(text_file, ending, columns))
    elif ending == ".parquet":
        file = ParquetFile(path)
        columns = _from_parquet(path, file)
        return Table({column.name: column for column in columns}, len(columns[0]), _without_index(file))
    elif ending == ".npy":
        columns = _from_npy(path)
    else:
        raise ValueError(f"{path}: expected a table in .csv, .tsv or .txt (or these with .gz), .parquet or .npy")
    return Table({column.name: column for column in columns}, len(columns[0]))


def is_text(source: str | os.PathLike[str]) -> bool:
    """Return whether a file is read as CSV: by its ending, or as standard input."""
    return str(source) == "-" or ending_of(str(source)) in TEXT_FILES


def without_labels(column: Column) -> Column:
    """Return a column that `read_table` has kept as text as it would otherwise have read it."""
    texts = [None if level in GAPS else level for level in column.levels]
    column = replace(text_column(column.name, column.values, texts), decimal=column.decimal)
    return number_column(column.name, column.numbers()) if column.says_numbers() else column


def _written(file: CsvFile, ending: str, columns: Sequence[Column]) -> str:
    """Say in what the file differs from the usual: commas between cells, decimal points, UTF-8."""
    said = []
    if file.separator != (TAB if ending.startswith(".tsv") else ","):
        said.append(f"cells separated by {'tabs' if file.separator == TAB else repr(file.separator)}")
    if any(column.decimal == "," for column in columns):
        said.append("decimal commas")
    if file.encoding not in ("utf-8-sig", "ascii"):
        said.append(file.encoding)
    if not file.has_header:
        said.append("no line of names")
    return ", ".join(said)


def _named(names: Sequence[str], text: Sequence[str | int]) -> set[str]:
    """Return the names of the columns that are kept as text."""
    places = range(-len(names), len(names))
    return {names[name] if isinstance(name, int) else name for name in text if isinstance(name, str) or name in places}


def _without_index(file: ParquetFile) -> str:
    """Say which columns are no part of the table, since pandas stored its index in them."""
    named = [name for name in file.index if not name.startswith("__index_level_")]
    return f"without {', '.join(map(repr, named[:3]))}, the index of the stored frame" if named else ""


def _from_parquet(path: Path, file: ParquetFile) -> list[Column]:
    if not sum(file.sizes) or not file.names:
        raise ValueError(f"{path}: has no rows")
    file.check_size(len(file.names))
    if len(set(file.names)) < len(file.names):
        twice = next(name for name in file.names if file.names.count(name) > 1)
        raise ValueError(f"{path}: two columns are called {twice!r}")
    columns = []
    for name in file.names:
        pieces = [piece for (piece,) in file.pieces([name])]
        if all(isinstance(piece, np.ndarray) for piece in pieces):
            columns.append(column_of_array(name, np.concatenate(pieces)))
        else:
            is_category = str(file.types[name]).startswith("dictionary<")
            columns.append(column_of_cells(name, [cell for piece in pieces for cell in piece], is_category=is_category))
    return columns


def _from_npy(path: Path) -> list[Column]:
    with path.open("rb") as file:
        array = load_numpy(path, file)
    if not isinstance(array, np.ndarray) or array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{path}: expected a 2-D array with rows, got shape {getattr(array, 'shape', '?')}")
    return [column_of_array(f"column {place + 1}", values) for place, values in enumerate(array.T)]
