"""`CSVLogger`: a row of a CSV file for every epoch."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any, TextIO

from deltaprop.arguments import check_bool
from deltaprop.callbacks.epoch_numbers import numbers_by_member
from deltaprop.training.callbacks import Callback, EpochEnd, FitBegin, FitEnd


class CSVLogger(Callback):
    """Write a row to a CSV file after every epoch.

    The columns are ``epoch``, for a stack ``member``, and the numbers of the `History`: ``cost``, ``validation_cost``,
    the metrics, ``learning_rate``, ``seconds``. Numbers are written with all their digits. Each row is on disk before
    the next epoch begins.

    Parameters
    ----------
    path : path
        The file. Its folder has to be there.
    append : bool, default False
        Go on with a file that is there, whose columns have to be the same; by default it is replaced when training
        begins.

    Raises
    ------
    TypeError
        If `append` is neither True nor False.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import deltaprop as dp
    >>> from deltaprop.callbacks import CSVLogger
    >>> net = dp.Network([1, 1], loss="squared_error", backend="numpy")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "training.csv")
    ...     history = net.fit([[0.0], [1.0]], [0.0, 1.0], epochs=3, callbacks=[CSVLogger(path)])
    ...     lines = path.read_text().splitlines()
    >>> lines[0], len(lines)
    ('epoch,cost,learning_rate,seconds', 4)
    """

    path: Path
    append: bool

    def __init__(self, path: str | os.PathLike[str], append: bool = False) -> None:
        self.path, self.append = Path(path), check_bool("append", append)
        self._file: TextIO | None = None
        self._columns: list[str] | None = None

    def on_fit_begin(self, event: FitBegin) -> None:
        """Open the file.

        Parameters
        ----------
        event : FitBegin
            What there is to train.

        Raises
        ------
        OSError
            If it cannot be opened.
        """
        self._columns = _columns_of(self.path) if self.append else None
        self._file = self.path.open("a" if self.append else "w", newline="", encoding="utf-8")

    def on_epoch_end(self, event: EpochEnd) -> None:
        """Write the row of the epoch; of a stack, a row for each member that trained.

        Parameters
        ----------
        event : EpochEnd
            How far training has come.

        Raises
        ------
        ValueError
            If the file has other columns.
        OSError
            If it cannot be written.
        """
        for member, numbers in numbers_by_member(event):
            self._write({"epoch": event.epoch} | ({} if member is None else {"member": member}) | numbers)
        if self._file is not None:
            self._file.flush()

    def _write(self, row: dict[str, Any]) -> None:
        if self._file is None:  # `fit` was not told of as a callback: it is called as a plain function
            raise RuntimeError("CSVLogger: expected on_fit_begin before on_epoch_end")
        writer = csv.writer(self._file, lineterminator="\n")
        if self._columns is None:
            self._columns = list(row)
            writer.writerow(self._columns)
        if self._columns != list(row):
            raise ValueError(f"path: expected a file with the columns {list(row)}, got {self._columns} in {self.path}")
        writer.writerow([value if isinstance(value, int) else repr(value) for value in row.values()])

    def on_fit_end(self, event: FitEnd) -> None:
        """Close the file.

        Parameters
        ----------
        event : FitEnd
            How training ended.
        """
        if self._file is not None:
            self._file.close()
            self._file = None


def _columns_of(path: Path) -> list[str] | None:
    """Read the first line of a file; None if there is no such file, or nothing in it."""
    if not path.exists():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file), None)
