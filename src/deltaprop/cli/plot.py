"""Pictures in files: what can go wrong is found before the work, not after it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deltaprop.files.atomic_file import check_writable, write_atomically
from deltaprop.reports.plot_style import pyplot


def check_plot(path: str) -> None:
    """Find out now whether `save_plot` will be able to write `path`.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If the name does not end in a kind of picture that matplotlib writes.
    OSError
        If the file cannot be written.
    """
    kinds = pyplot().figure().canvas.get_supported_filetypes()
    pyplot().close()
    if Path(path).suffix.removeprefix(".").lower() not in kinds:
        raise ValueError(f"--plot: expected a name that ends in one of {', '.join(sorted(kinds))}, got {path!r}")
    check_writable(path)


def save_plot(figure: Any, path: str) -> None:
    """Write `figure` to `path`, all or nothing, as the kind of picture that its ending names, and close the figure."""
    with TemporaryDirectory() as folder:
        picture = Path(folder, f"figure{Path(path).suffix}")
        try:
            figure.savefig(picture, dpi=150)
        finally:
            pyplot().close(figure)
        write_atomically(path, picture.read_bytes())
