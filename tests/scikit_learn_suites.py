"""Runs scikit-learn's own tests with a plugin of ours, and counts.

    python tests/scikit_learn_suites.py [--jobs 2] [--skip SUITE ...]

runs all suites that concern its perceptrons twice, by its own code and with deltaprop.accel, and prints both counts. It
exits with status 1 where they differ, or where nothing was passed.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

#: Suites that concern the perceptrons, each with further options for pytest.
SUITES = {
    "sklearn.neural_network.tests.test_mlp": (),
    "sklearn.ensemble.tests.test_stacking": (),
    "sklearn.model_selection.tests.test_validation": (),
    "sklearn.model_selection.tests.test_search": (),
    "sklearn.tests.test_common": ("-k", "MLP"),
    "sklearn.tests.test_docstrings": ("-k", "MLP"),
    "sklearn.tests.test_docstring_parameters": (),
    "sklearn.tests.test_metaestimators": (),
    "sklearn.utils._repr_html.tests": (),
    "sklearn.utils.tests.test_parallel": (),
}
OUTCOMES = ("passed", "failed", "errors", "skipped", "xfailed", "xpassed")


def run_suite(suite, *options, plugin=None):
    """Run a module of scikit-learn's tests; return how many had each outcome, and the end of what pytest printed."""
    plugins = [] if plugin is None else ["-p", plugin]
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                *plugins,
                "-p",
                "no:cacheprovider",
                "-q",
                "-rs",
                "--pyargs",
                suite,
                *options,
            ],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            check=False,
        )
    last = run.stdout.rstrip().rpartition("\n")[2]
    counts = {word: int(count) for count, word in re.findall(r"(\d+) (\w+)", last) if word in OUTCOMES}
    return counts, run.stdout[-3000:] + run.stderr[-2000:]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1, help="how many suites run at a time")
    parser.add_argument("--skip", nargs="*", default=(), choices=SUITES, help="suites to leave out")
    arguments = parser.parse_args()
    suites = {suite: options for suite, options in SUITES.items() if suite not in arguments.skip}
    ways = (None, "accelerated")
    with ThreadPoolExecutor(arguments.jobs) as pool:
        runs = [[pool.submit(run_suite, suite, *suites[suite], plugin=way) for way in ways] for suite in suites]
    differ = False
    for (suite, options), ((without, their_text), (with_ours, text)) in zip(
        suites.items(), ([run.result() for run in both] for both in runs), strict=True
    ):
        wrong = without != with_ours or not without.get("passed")
        differ |= wrong
        print(suite, *options)
        print("   scikit-learn's own code:", without)
        print("   with deltaprop.accel:   ", with_ours)
        if wrong:
            print(their_text, text, sep="\n")
    return int(differ)


if __name__ == "__main__":
    sys.exit(main())
