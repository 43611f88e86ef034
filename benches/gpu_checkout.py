"""Runs `benches.gpu` from a bare checkout, where deltaprop is not installed and there may be no network.

    python benches/gpu_checkout.py [the arguments of benches.gpu]

Its dependencies must be installed: NumPy, SciPy, msgspec and others. ``kernels/`` and ``benches/`` stand at the top of
the repository and are imported as ``deltaprop.kernels`` and ``deltaprop.benches``. So the package is assembled in a
folder of its own, which comes first on the path of this process and, by PYTHONPATH, of all processes that it starts.
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
    """Assemble the package as it would be installed."""
    for name, place in PIECES.items():
        unwanted = shutil.ignore_patterns("__pycache__", "results")
        shutil.copytree(ROOT / place, folder / "deltaprop" / name, ignore=unwanted, dirs_exist_ok=True)


def main() -> None:
    with TemporaryDirectory(prefix="deltaprop-") as name:
        put_together(Path(name))
        path = [name, str(ROOT)]
        sys.path[:1] = path  # replaces this file's folder, whose modules have common names
        others = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([*path, *([others] if others else [])])
        from benches.gpu import main as run

        run()


if __name__ == "__main__":
    main()
