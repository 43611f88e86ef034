"""Parquet files: what their metadata say, and their columns in pieces; damaged files are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deltaprop.inputs.cells import Cells
from deltaprop.inputs.numpy_files import UNPACKED_LIMIT

#: Bytes that a cell counts as, as many as a number has; and bytes of a piece, which is unpacked at a time.
NUMBER_BYTES, PIECE_BYTES = 8, 2**20
#: Types of text, as pyarrow names them; views are not known to every release.
TEXTS = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")
#: Bytes that are read of a column at a time.
READ_BYTES = 2**16


class ParquetFile:
    """A Parquet file.

    Parameters
    ----------
    path : path
        The file.

    Attributes
    ----------
    names : list of str
        The names of its columns, without those in which pandas stored its index.
    index : list of str
        The names of those.
    sizes : list of int
        How many rows each row group has.

    Raises
    ------
    ValueError
        If it is damaged, or pyarrow is not installed.
    OSError
        If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _require_pyarrow(path)
        with self._reading(), self._open() as file:
            schema, metadata = file.schema_arrow, file.metadata
            groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
            self.sizes: list[int] = [int(group.num_rows) for group in groups]
            self.unpacked: int = sum(max(0, int(group.total_byte_size)) for group in groups)
            index = _stored_index(schema.metadata or {})
            self.types: dict[Any, Any] = {field.name: field.type for field in schema if field.name not in index}
            self.names: list[Any] = [name for name in schema.names if name not in index]
            self.index: list[Any] = [name for name in schema.names if name in index]
        if any(size < 0 for size in self.sizes):
            raise ValueError(f"{path}: not a Parquet file, or a damaged one (a row group of {min(self.sizes)} rows)")

    def check_size(self, columns: int) -> None:
        """Refuse a file that would take more than `UNPACKED_LIMIT` bytes as this many columns of numbers.

        Raises
        ------
        ValueError
            If the file says so of itself.
        """
        rows = sum(self.sizes)
        size = max(self.unpacked, rows * columns * NUMBER_BYTES)
        if size > UNPACKED_LIMIT:
            raise ValueError(
                f"{self.path}: unpacks to {size} bytes ({rows} rows, {columns} columns), over the limit of "
                f"{UNPACKED_LIMIT} bytes; Network.fit reads a Parquet file part by part"
            )

    def pieces(self, columns: Sequence[str], group: int | None = None) -> Iterator[list[Cells]]:
        """Yield some columns of a row group, or of all, a few rows at a time: numbers, or cells if not all are numbers.

        Raises
        ------
        ValueError
            If a column cannot be read, holds neither numbers nor text, or has not as many rows as the file says.
        OSError
            If the file cannot be read.
        """
        for name in columns:
            self._check_type(name)
        expected = sum(self.sizes) if group is None else self.sizes[group]
        groups = range(len(self.sizes)) if group is None else [group]
        at_once = max(1, PIECE_BYTES // (NUMBER_BYTES * len(columns)))
        rows = 0
        with self._reading():
            file = self._open([name for name in columns if _is_text(self.types[name])])
        with file:
            self._check_still_the_same(file, columns)
            with self._reading():
                batches = file.iter_batches(at_once, row_groups=list(groups), columns=list(columns), use_threads=False)
            while True:
                with self._reading():
                    batch = next(batches, None)
                    if batch is None:
                        break
                    piece = [_cells(batch.column(name)) for name in columns]
                rows += batch.num_rows
                if rows > expected:
                    break
                yield piece
        if rows != expected:
            held = "more" if rows > expected else str(rows)
            raise ValueError(f"{self.path}: a damaged Parquet file (declares {expected} rows, but holds {held})")

    def _check_still_the_same(self, file: Any, columns: Sequence[str]) -> None:
        """Refuse a file that was replaced after it was first read."""
        with self._reading():
            names, metadata = file.schema_arrow.names, file.metadata
            sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        if len(sizes) != len(self.sizes) or not set(columns) <= set(names):
            raise ValueError(
                f"{self.path}: expected {len(self.sizes)} row groups with the columns of the first pass, got "
                f"{len(sizes)} with {', '.join(map(repr, names[:12]))}"
            )
        for group, (rows, before) in enumerate(zip(sizes, self.sizes, strict=True)):
            if rows != before:
                raise ValueError(
                    f"{self.path}: expected row group {group} of {self.path.name} to hold {before} samples, as it did "
                    f"at first, got {rows}"
                )

    def _open(self, texts: Sequence[str] = ()) -> Any:
        """Open the file by pyarrow; columns of text are read as distinct texts and numbers."""
        from pyarrow import parquet

        with self.path.open("rb"):  # a file that cannot be opened raises OSError, as any file does
            pass
        return parquet.ParquetFile(
            self.path, read_dictionary=list(texts), buffer_size=READ_BYTES, page_checksum_verification=True
        )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn whatever pyarrow raises about a damaged file into a ValueError in one line."""
        try:
            yield
        except Exception as error:
            if isinstance(error, MemoryError) and _asked_for(error) <= UNPACKED_LIMIT:
                raise MemoryError(f"{self.path}: {error}") from error
            if isinstance(error, OSError) and error.errno is not None:
                raise
            what = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"{self.path}: not a Parquet file, or a damaged one ({what})") from error

    def _check_type(self, name: str) -> None:
        """Refuse columns of lists and the like."""
        kind = self.types[name]
        if not (_is_text(kind) or _is_plain(kind)):
            raise ValueError(f"{self.path}: column {name!r}: expected numbers or text, got {kind}")


def _require_pyarrow(path: Path) -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ValueError(f"{path}: reading Parquet needs pyarrow: pip install 'deltaprop[tables]'") from error


def _is_text(kind: Any) -> bool:
    """Whether a column holds text, in which many rows may share one long text."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return str(kind) in TEXTS


def _is_plain(kind: Any) -> bool:
    """Whether a cell takes a few bytes, whatever it holds."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(
        types.is_boolean(kind)
        or types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_decimal(kind)
        or types.is_temporal(kind)
        or types.is_null(kind)
    )


def _cells(column: Any) -> Cells:
    """Return a column of a batch as a NumPy array if it holds only numbers, else cell by cell."""
    from pyarrow import types

    if types.is_dictionary(column.type):
        return _decoded(column)
    is_number = types.is_boolean(column.type) or types.is_integer(column.type) or types.is_floating(column.type)
    cells: Cells = column.to_numpy(zero_copy_only=False) if is_number and not column.null_count else column.to_pylist()
    return cells


def _decoded(column: Any) -> list[Any]:
    """Return the cells of a column that is stored as a dictionary; each entry is made once."""
    codes: list[int | None] = column.indices.to_pylist()
    used = sorted({code for code in codes if code is not None})
    entries: dict[int | None, Any] = dict(zip(used, column.dictionary.take(_array(used)).to_pylist(), strict=True))
    entries[None] = None
    return [entries[code] for code in codes]


def _array(codes: Any) -> Any:
    import pyarrow

    return pyarrow.array(codes, pyarrow.int64())


def _stored_index(metadata: dict[bytes, bytes]) -> set[str]:
    """List the columns in which pandas stored the index of a table; the index of a range has none."""
    try:
        columns = json.loads(metadata.get(b"pandas", b"{}"))["index_columns"]
        return {name for name in columns if isinstance(name, str)}
    except (KeyError, TypeError, ValueError, RecursionError):
        return set()


def _asked_for(error: MemoryError) -> int:
    """Find in pyarrow's message how many bytes it could not have."""
    found = re.search(r"size (-?\d+)", str(error))
    return int(found[1]) if found else 0
