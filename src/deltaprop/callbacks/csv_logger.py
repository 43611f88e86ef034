"""`CSVLogger`: a row of a CSV file for every epoch."""

from __future__ import annotations

import csv
import os
from io import FileIO, StringIO
from pathlib import Path
from typing import Any

from deltaprop.arguments import check_bool, check_path
from deltaprop.callbacks.epoch_numbers import numbers_before, numbers_by_member
from deltaprop.training.callbacks import Callback, EpochEnd, FitBegin, FitEnd


class CSVLogger(Callback):
    """Write a row to a CSV file after every epoch.

    The columns are ``epoch``, for a stack ``member``, and the numbers of the `History`: ``cost``, ``validation_cost``,
    the metrics, ``learning_rate``, ``seconds``. Numbers are written with all their digits. Each row is in the file
    before the next epoch begins, whole or not at all. Where training goes on from a checkpoint (``resume=True``), the
    rows of the epochs before are written first, so that the file holds every epoch once.

    Parameters
    ----------
    path : path
        The file. Its folder has to be there.
    append : bool, default False
        Go on behind the rows of a file that is there, whose columns have to be the same; by default it is replaced when
        training begins. Not for ``resume=True``: an epoch that a killed training had begun to record stands there
        twice then.

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
        self.path, self.append = check_path("path", path), check_bool("append", append)
        self._file: FileIO | None = None
        self._columns: list[str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}  # a copy writes nothing to a file that is open here

    def on_fit_begin(self, event: FitBegin) -> None:
        """Open the file; where training goes on from a checkpoint, write the rows of the epochs before.

        Parameters
        ----------
        event : FitBegin
            What there is to train.

        Raises
        ------
        OSError
            If it cannot be opened.
        ValueError
            If it is no text to append to.
        RuntimeError
            If another training, which has not ended, writes to it by this object.
        """
        if self._file is not None:
            raise RuntimeError("CSVLogger: another training writes its rows by this object; make one for each")
        self._columns = _columns_of(self.path) if self.append else None
        if not self.append:
            self.path.open("wb").close()
        # What two trainings append to one file stays whole rows, and neither overwrites the other's.
        self._file = self.path.open("ab", buffering=0)
        if self.append:
            if not _ends_with_newline(self.path):
                self._put(b"\n")
            return
        for epoch, numbers in numbers_before(event.history):
            self._write({"epoch": epoch} | numbers)

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
            If it cannot be written; what was there before stays whole.
        """
        if self._file is None:  # `fit` was not told of as a callback: it is called as a plain function
            raise RuntimeError("CSVLogger: expected on_fit_begin before on_epoch_end")
        for member, numbers in numbers_by_member(event):
            self._write({"epoch": event.epoch} | ({} if member is None else {"member": member}) | numbers)

    def _write(self, row: dict[str, Any]) -> None:
        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if self._columns is None:
            writer.writerow(row)
        elif self._columns != list(row):
            raise ValueError(f"path: expected a file with the columns {list(row)}, got {self._columns} in {self.path}")
        writer.writerow([value if isinstance(value, int) else repr(value) for value in row.values()])
        self._put(text.getvalue().encode())
        self._columns = list(row)

    def _put(self, data: bytes) -> None:
        """Write all of it, or nothing."""
        assert self._file is not None
        written = 0
        try:
            while written < len(data):
                written += self._file.write(data[written:])
        except OSError:
            if written:
                self._file.truncate(self._file.tell() - written)
            raise

    def on_fit_end(self, event: FitEnd) -> None:
        """Close the file.

        Parameters
        ----------
        event : FitEnd
            How training ended.
        """
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _columns_of(path: Path) -> list[str] | None:
    """Read the first line of a file; None if there is no such file, or nothing in it.

    Raises
    ------
    ValueError
        If it is no text.
    """
    if not path.exists():
        return None
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return next(csv.reader(file), None)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"path: expected a CSV file to append to, got {path} ({error})") from error


def _ends_with_newline(path: Path) -> bool:
    """Return whether a file is empty or its last line is ended."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        return file.read() in (b"", b"\n")
