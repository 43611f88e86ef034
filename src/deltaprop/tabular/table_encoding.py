"""A whole table as stored rows and inputs: what each column has become, and how new rows are encoded alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from deltaprop.backends.array_types import DType, Floats, HostArray, Indices
from deltaprop.inputs.encoded_rows import EncodedRows, InputEncoding, Piece
from deltaprop.tabular.category_encoding import CategoryEncoding
from deltaprop.tabular.column_roles import ColumnRole
from deltaprop.tabular.date_encoding import parts_of
from deltaprop.tabular.number_encoding import NumberEncoding
from deltaprop.tabular.table import Column, Table

#: The part of a column that is no date.
NO_PART = ""


@dataclass(frozen=True)
class ColumnEncoding:
    """How a column, or a part of its dates, becomes inputs.

    Parameters
    ----------
    name : str
        The name of the table's column.
    part : str
        Which part of its dates, as `parts_of` names them; "" for numbers and categories.
    encoding : NumberEncoding or CategoryEncoding
        How its cells become stored columns and inputs.
    day_first : bool or None
        Whether, of dates in text, 03/04/2020 is in April; None if training had no text: new text then tells by itself.
    """

    name: str
    part: str
    encoding: NumberEncoding | CategoryEncoding
    day_first: bool | None = False


@dataclass(frozen=True)
class TableEncoding:
    """How rows of a table become stored rows, and these become inputs.

    Parameters
    ----------
    columns : sequence of ColumnEncoding
        In the order of their stored columns and inputs.
    """

    columns: Sequence[ColumnEncoding]

    @classmethod
    def fit(
        cls, table: Table, roles: Sequence[ColumnRole], targets: Floats, weights: Floats, bins: int
    ) -> TableEncoding:
        """Choose scales, edges and levels by the rows to train on.

        Parameters
        ----------
        table : Table
            The rows to train on.
        roles : sequence of ColumnRole
            What each column is.
        targets : array, (m, outputs)
            Scaled to mean 0 and spread 1, for the means of levels.
        weights : array, (m,)
            How much each row counts.
        bins : int
            How many bins a column of numbers may have.

        Returns
        -------
        TableEncoding
            Without the columns that say nothing.
        """
        chosen = []
        for role in roles:
            column = table.columns[role.name]
            if role.role == "category":
                levels = CategoryEncoding.fit(column, targets, weights)
                chosen += [ColumnEncoding(role.name, NO_PART, levels)] if levels else []
                continue
            if role.role == "left out":
                continue
            day_first: bool | None = False
            if role.role == "date":
                day_first = column.day_first() if column.kind == "text" else None
            parts = {NO_PART: column.numbers()} if role.role == "number" else parts_of(column.dates(day_first))
            for part, numbers in parts.items():
                encoding = NumberEncoding.fit(numbers, bins)
                chosen += [ColumnEncoding(role.name, part, encoding, day_first)] if encoding else []
        return cls(chosen)

    @cached_property
    def inputs(self) -> InputEncoding:
        """How stored rows become inputs."""
        pieces: list[Piece] = []
        for first, column in self._places():
            pieces += column.encoding.pieces(first)
        return InputEncoding(self.width, pieces)

    @property
    def names(self) -> list[str]:
        """The names of the table's columns that say something, each once."""
        return list(dict.fromkeys(column.name for column in self.columns))

    @property
    def width(self) -> int:
        """How many columns a stored row has."""
        return sum(column.encoding.columns for column in self.columns)

    def _places(self) -> Iterator[tuple[int, ColumnEncoding]]:
        """Yield each column with the number of its first stored column."""
        first = 0
        for column in self.columns:
            yield first, column
            first += column.encoding.columns

    def stored_columns(self) -> dict[str, Indices]:
        """Return which stored columns belong to each column of the table."""
        found: dict[str, list[int]] = {}
        for first, column in self._places():
            found.setdefault(column.name, []).extend(range(first, first + column.encoding.columns))
        return {name: np.array(columns) for name, columns in found.items()}

    def encode(self, table: Table, dtype: DType) -> EncodedRows:
        """Encode rows of a table, which has every column of `names`."""

        def fill(encoding: CategoryEncoding, column: Column, out: HostArray) -> None:
            encoding.store(encoding.places(column), encoding.means, out)

        return self._encode(table, dtype, fill)

    def encode_for_training(
        self, table: Table, dtype: DType, folds: Indices, targets: Floats, weights: Floats
    ) -> EncodedRows:
        """Encode the rows that `fit` was given: of no row does its own target enter its inputs.

        Parameters
        ----------
        table : Table
            The rows to train on.
        dtype : dtype
            Of the stored rows.
        folds : array, (m,)
            The number of each row's fold. The means of levels in a fold come from the other folds.
        targets, weights : array
            As of `fit`.

        Returns
        -------
        EncodedRows
            As of `encode`, apart from the means.
        """

        def fill(encoding: CategoryEncoding, column: Column, out: HostArray) -> None:
            places = encoding.places(column)
            if not encoding.means.shape[1]:
                return encoding.store(places, encoding.means, out)
            for fold in np.unique(folds):
                inside = folds == fold
                means = encoding.means_of(places[~inside], targets[~inside], weights[~inside])
                part = np.empty((int(inside.sum()), out.shape[1]), out.dtype)
                encoding.store(places[inside], means, part)
                out[inside] = part
            return None

        return self._encode(table, dtype, fill)

    def _encode(
        self, table: Table, dtype: DType, fill: Callable[[CategoryEncoding, Column, HostArray], None]
    ) -> EncodedRows:
        stored = np.empty((table.rows, self.width), dtype)
        dates, parts = "", dict[str, Floats]()  # of the column of dates whose parts are being stored
        for first, column in self._places():
            out, cells = stored[:, first : first + column.encoding.columns], table.columns[column.name]
            if isinstance(column.encoding, CategoryEncoding):
                fill(column.encoding, cells, out)
                continue
            if column.part and (column.name != dates or not parts):
                dates, parts = column.name, parts_of(cells.dates(column.day_first))
            column.encoding.store(parts[column.part] if column.part else cells.numbers(), out)
        return EncodedRows(stored, self.inputs)
