"""Compares the time of `import deltaprop` with `import numpy`: medians over fresh, interleaved processes.

python -m benches.import_time [--runs 21] [--json FILE]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

STATEMENTS = {
    "python": "pass",
    "numpy": "import numpy",
    "deltaprop": "import deltaprop",
    "deltaprop.Network": "import deltaprop; deltaprop.Network",
    "sklearn.neural_network": "import sklearn.neural_network",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(arguments.runs):
        for name, statement in STATEMENTS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)
            seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name:<24} {1e3 * median:7.1f} ms   {median / medians['numpy']:5.2f} × numpy")
    if arguments.json:
        result = {
            "command": "python -m benches.import_time",
            "runs": arguments.runs,
            "versions": {name: version(name) for name in ("deltaprop", "numpy", "scikit-learn")},
            "median_seconds": medians,
            "ratio_to_numpy": {name: median / medians["numpy"] for name, median in medians.items()},
        }
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
