"""Fits networks of all kinds and sizes in one process for a given time, and watches the memory.

    python -m benches.soak [--minutes 60] [--json FILE]

Memory is the resident size of the process, after a collection of garbage; its slope is a least-squares line
through the readings of all but the first tenth.
"""

import argparse
import datetime
import gc
import json
import random
import resource
import time
import warnings
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import deltaprop as dp

from .machine import machine

MIB = 2**20


def resident():
    """Return the bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def one(generator, folder):
    """Do a random fit; return its kind."""
    m, s, outputs = generator.randrange(20, 2000), generator.randrange(2, 100), generator.randrange(2, 12)
    sizes = [s, *(generator.randrange(2, 120) for _ in range(generator.randrange(3))), outputs]
    rng = np.random.default_rng(generator.randrange(2**31))
    dtype = generator.choice(("float32", "float64"))
    X, y = rng.standard_normal((m, s)).astype(dtype), rng.integers(0, outputs, m)
    options = {"loss": "categorical_cross_entropy", "dtype": dtype, "backend": generator.choice(("numpy", "reference"))}
    optimizer = generator.choice((dp.SGD(0.01), dp.SGD(0.01, momentum=0.9), dp.Adam(1e-3), dp.AdamW(1e-3)))
    how = {"optimizer": optimizer, "batch_size": generator.randrange(1, m) if m < 200 else 64, "epochs": 2}
    kind = generator.choice(("fit", "dropout", "checkpoint", "stack", "estimator", "sweep", "full batch", "divergence"))
    match kind:
        case "fit" | "dropout" | "checkpoint":
            if kind == "dropout":
                how["dropout"] = 0.3
            if kind == "checkpoint":
                how["checkpoint"] = folder / "run.safetensors"
            net = dp.Network(sizes, **options)
            net.fit(X, y, **how, validation=(X[:10], y[:10]))
            net.predict(X)
        case "stack":
            dp.NetworkStack(4, sizes, **options).fit(X, y, **how)
        case "estimator":
            dp.MLPClassifier(tuple(sizes[1:-1]), max_iter=3, backend=options["backend"]).fit(X, y).predict(X)
        case "sweep":
            base = dp.MLPClassifier((8,), max_iter=2, random_state=0, backend=options["backend"])
            dp.SweepCV(base, {"alpha": [0.0, 0.1]}, cv=2).fit(X, y % 2)
        case "full batch":
            dp.Network(sizes, **options).fit_full_batch(X, y, max_iter=3)
        case "divergence":
            net = dp.Network(sizes, **options | {"loss": "squared_error"})
            with suppress(dp.DivergenceError):
                net.fit(X, np.eye(outputs)[y], optimizer=dp.SGD(1e200 if dtype == "float64" else 1e30), epochs=3)
    return kind


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    generator, fits, readings = random.Random(arguments.seed), 0, []
    kinds: dict[str, int] = {}
    began = time.perf_counter()
    with TemporaryDirectory() as folder:
        while time.perf_counter() - began < 60 * arguments.minutes:
            kind = one(generator, Path(folder))
            kinds[kind] = kinds.get(kind, 0) + 1
            fits += 1
            if fits % 100 == 0:
                gc.collect()
                readings.append((fits, resident()))
                print(f"\r{fits} fits, {readings[-1][1] / MIB:.1f} MiB", end="", flush=True)
    print()
    settled = np.array(readings[len(readings) // 10 :], float)
    slope = float(np.polyfit(settled[:, 0], settled[:, 1], 1)[0]) * 1000 / MIB
    print(f"{fits} fits in {(time.perf_counter() - began) / 60:.1f} minutes, {slope:+.3f} MiB per 1000 fits")
    if arguments.json:
        result = {
            "command": f"python -m benches.soak --minutes {arguments.minutes:g}",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": machine("scikit-learn", "scipy"),
            "fits": fits,
            "kinds": kinds,
            "mib_per_1000_fits": slope,
            "first_mib": settled[0, 1] / MIB,
            "last_mib": settled[-1, 1] / MIB,
            "mib": [round(memory / MIB, 2) for _, memory in readings],
        }
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
