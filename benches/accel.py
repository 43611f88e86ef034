"""Runs unchanged scripts of scikit-learn with `python` and with `python -m deltaprop.accel`: same scores, other times.

    python -m benches.accel [--mnist FOLDER] [--rounds 3] [--only NAME ...] [--json FILE]

Whole processes are timed, with their imports. The runs alternate, and the medians are compared. The printed lines have
to be equal; if they are not, the status is 1.
"""

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .machine import machine

FOLDER = Path(__file__).parent / "accel_scripts"
SCRIPTS = ("pipeline", "grid_search", "learning_curves", "partial_fit", "stacking", "mnist")
WAYS: dict[str, list[str]] = {"scikit-learn": [], "deltaprop": ["-m", "deltaprop.accel"]}


def run(way, script, arguments):
    """Return the seconds of a process and the lines that it prints."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *WAYS[way], str(FOLDER / f"{script}.py"), *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return time.perf_counter() - began, done.stdout.splitlines()


def compare(script, arguments, rounds):
    """Run a script in both ways, in turn."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    lines: dict[str, Any] = {}
    for _ in range(rounds):
        for way in WAYS:
            took, lines[way] = run(way, script, arguments)
            seconds[way].append(took)
    medians = {way: statistics.median(all_of) for way, all_of in seconds.items()}
    return {
        "script": f"benches/accel_scripts/{script}.py",
        "seconds": seconds,
        "ratio": medians["scikit-learn"] / medians["deltaprop"],
        "equal": lines["scikit-learn"] == lines["deltaprop"],
        "lines": lines["scikit-learn"],
        "lines_of_deltaprop": lines["deltaprop"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", help="folder with MNIST's four idx.gz files")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=SCRIPTS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for script in options.only:
        row = compare(script, [options.mnist] if script == "mnist" and options.mnist else [], options.rounds)
        rows.append(row)
        theirs, ours = (statistics.median(row["seconds"][way]) for way in WAYS)
        print(
            f"{script:16} {theirs:7.2f} s  with deltaprop {ours:7.2f} s  ratio {row['ratio']:5.2f}  "
            f"{'same lines' if row['equal'] else 'OTHER LINES'}"
        )
    if options.json:
        result = {
            "command": "python -m benches.accel" + (" --mnist FOLDER" if options.mnist else ""),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": machine("scikit-learn", "scipy"),
            "scripts": rows,
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(not all(row["equal"] for row in rows))


if __name__ == "__main__":
    main()
