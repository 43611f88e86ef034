"""Trains two networks on MNIST from the command line: with the defaults, and with a setting by Nielsen.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python -m benches.mnist FOLDER [--seeds 5] [--json FILE]

FOLDER holds the four idx files. Nielsen's setting is from chapter 1 of "Neural Networks and Deep Learning":
784-30-10, sigmoid, ½‖h − y‖², SGD with η = 3.0, minibatches of 10, 30 epochs.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from .machine import machine

NIELSEN = (
    "--hidden 30 --activation sigmoid --output-activation sigmoid --loss squared_error --optimizer sgd "
    "--lr 3.0 --batch-size 10 --epochs 30 --dtype float64"
)
SETTINGS = {
    "784-100-10": "--hidden 100 --epochs 10",
    "Nielsen, N(0,1)/sqrt(s_in)": f"{NIELSEN} --init scaled_normal",
    "Nielsen, N(0,1)": f"{NIELSEN} --init normal",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for name, options in SETTINGS.items():
        accuracies, seconds = [], []
        for seed in range(arguments.seeds):
            command = ["train", arguments.folder, *options.split(), "--seed", str(seed), "--no-progress"]
            began = time.perf_counter()
            program = [sys.executable, "-c", "from deltaprop.cli import main; main()"]
            output = subprocess.run([*program, *command], check=True, capture_output=True, text=True).stdout
            seconds.append(time.perf_counter() - began)
            (accuracy,) = re.findall(r"accuracy ([\d.]+) %", output)
            accuracies.append(float(accuracy))
        row = {
            "setting": name,
            "command": f"deltaprop train MNIST {options}",
            "test_accuracy_percent": accuracies,
            "median_seconds_whole_process": statistics.median(seconds),
        }
        rows.append(row)
        print(f"{name:<28} test accuracy {accuracies} %, {row['median_seconds_whole_process']:.1f} s")
    if arguments.json:
        result = {"command": "python -m benches.mnist MNIST", "machine": machine(), "rows": rows}
        arguments.json.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
