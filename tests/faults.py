"""Kills trainings in processes of their own at any moment, and resumes them.

    python tests/faults.py [--kills 200]

kills runs at random moments, resumes each, and compares its end, to the bit, with an undisturbed run.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

#: The runs: by single steps and by the compiled library, with momentum, dropout and early stopping to restore.
RUNS = {
    "steps": """
        net = dp.Network([20, 30, 10, 3], hidden_activation="tanh", loss="categorical_cross_entropy", backend="reference")
        how = dict(optimizer=dp.Adam(0.003), dropout=0.2, batch_size=7, epochs=12)
    """,
    "compiled": """
        compiled.OPERATIONS_A_CALL = 2e5
        net = dp.Network([20, 30, 10, 3], hidden_activation="relu", loss="categorical_cross_entropy", backend="numpy")
        how = dict(optimizer=dp.SGD(dp.CosineDecay(0.1, epochs=60), momentum=0.9), batch_size=7, epochs=60, l2=0.1)
    """,
    "early stopping": """
        net = dp.Network([20, 30, 3], loss="categorical_cross_entropy", backend="numpy", dtype="float32")
        how = dict(
            optimizer=dp.AdamW(0.01), validation=(X[:60], y[:60]), early_stopping=dp.EarlyStopping(8), epochs=40
        )
    """,
}
PROGRAM = """
import sys
import numpy as np
import deltaprop as dp
from deltaprop.epochs import compiled
rng = np.random.default_rng(0)
X, y = rng.standard_normal((700, 20)), rng.integers(0, 3, 700)
{run}
if len(sys.argv) > 2:
    how |= dict(checkpoint=sys.argv[2], resume=True)
print("training", flush=True)
history = net.fit(X, y, **how)
np.savez(sys.argv[1], parameters=net.parameters, cost=history.cost, validation=history.validation_cost)
"""


def program(run):
    lines = [line.removeprefix("        ") for line in RUNS[run].splitlines()]
    return PROGRAM.format(run="\n".join(lines))


def start(run, *arguments):
    command = [sys.executable, "-c", program(run), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def undisturbed(run, folder):
    """Return the end of an undisturbed run, and how long its training takes."""
    process = start(run, folder / "alone.npz")
    process.stdout.readline()
    began = time.perf_counter()
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    seconds = time.perf_counter() - began
    return dict(np.load(folder / "alone.npz")), seconds


def disturbed(run, folder, kills, seconds, number=signal.SIGKILL, generator=random):
    """Return the end of a run that is killed so many times, and the exit statuses of its killed processes."""
    checkpoint, killed = folder / "run.safetensors", []
    checkpoint.unlink(missing_ok=True)
    for _ in range(kills):
        process = start(run, folder / "disturbed.npz", checkpoint)
        process.stdout.readline()
        time.sleep(generator.uniform(0, seconds))
        process.send_signal(number)
        _, errors = process.communicate()
        # Outside fit, a signal ends the process as usual.
        assert process.returncode in (0, -number, 128 + number), (process.returncode, errors)
        killed += [process.returncode] if process.returncode else []
        assert [path.name for path in folder.iterdir() if path.name.startswith("run")] in ([], [checkpoint.name])
    process = start(run, folder / "disturbed.npz", checkpoint)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert not list(folder.glob(".*")), "what a kill inside a write left behind is removed by the next"
    return dict(np.load(folder / "disturbed.npz")), killed


def assert_same(got, expected):
    for name in ("parameters", "cost", "validation"):
        assert np.array_equal(got[name], expected[name]), name


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1] / "src")
    done = killed = 0
    with TemporaryDirectory() as name:
        folder = Path(name)
        alone = {run: undisturbed(run, folder) for run in RUNS}
        while done < arguments.kills:
            run = random.choice(list(RUNS))
            expected, seconds = alone[run]
            kills = min(random.randint(1, 4), arguments.kills - done)
            got, hit = disturbed(run, folder, kills, 1.2 * seconds)
            assert_same(got, expected)
            done, killed = done + kills, killed + len(hit)
            print(f"\r{done} kills, {killed} of them before the end; every run the same to the bit", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
