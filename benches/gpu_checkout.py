"""`benches.gpu` from a bare checkout, where deltaprop is not installed and there may be no network to install it from.

    python benches/gpu_checkout.py [the arguments of benches.gpu]

What it needs beside Python has to be there: NumPy, SciPy, msgspec and the like. ``kernels/`` and ``benches/`` stand at
the top of the repository and are imported as ``deltaprop.kernels`` and ``deltaprop.benches``: so the package is put
together in a folder of its own, which the path of this process begins with, and, by PYTHONPATH, of all that it starts.
"""

import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
#: Where each piece of the package stands.
PIECES = {"": "src/deltaprop", "kernels": "kernels", "benches": "benches"}


def put_together(folder: Path) -> None:
    """The package as it would be installed."""
    for name, place in PIECES.items():
        unwanted = shutil.ignore_patterns("__pycache__", "results")
        shutil.copytree(ROOT / place, folder / "deltaprop" / name, ignore=unwanted, dirs_exist_ok=True)


def main() -> None:
    with TemporaryDirectory(prefix="deltaprop-") as name:
        put_together(Path(name))
        path = [name, str(ROOT)]
        sys.path[:1] = path  # in place of this file's folder, whose modules have common names
        others = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([*path, *([others] if others else [])])
        from benches.gpu import main as run

        run()


if __name__ == "__main__":
    main()
