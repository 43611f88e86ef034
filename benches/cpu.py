"""Measures what this CPU does against its own peak, and where users wait: training, predictions, fits, a busy machine.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python -m benches.cpu [--rounds 7] [--only peak ...] [--json FILE]

The peak is a product of two 2048 × 2048 matrices by NumPy's BLAS, in the same run. All that is compared takes turns;
ratios are of medians. Each row names the goal that was set for it.
"""

import argparse
import datetime
import json
from pathlib import Path

from .cpu_parts import fits, peak, prediction
from .machine import machine

SECTIONS = {"peak": peak.measure, "predict": prediction.measure, "fits": fits.measure}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=sorted(SECTIONS), default=sorted(SECTIONS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = {name: SECTIONS[name](arguments.rounds) for name in arguments.only}
    if arguments.json is not None:
        date = datetime.datetime.now(datetime.UTC).date().isoformat()
        facts = {"date": date, "machine": machine("scikit-learn", "onnxruntime", "torch")}
        arguments.json.write_text(json.dumps(facts | results, indent=1) + "\n")


if __name__ == "__main__":
    main()
