"""Measures how time grows with the work, the memory of a fit, and the effect of a busy neighbour.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python -m benches.limits [--mnist FOLDER] [--json FILE] [--plot PNG]
    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python -m benches.limits --threads 1,2,4 [--json FILE]

Seconds a step against minibatch size and against width, with the slope on logarithmic axes; the peak of memory of a
training on MNIST as the system counts it, above the memory before; a fit while another process keeps one core busy,
against the fit alone. With `--threads`, the share of the machine's peak by so many threads, the peak being a product by
as many.
"""

import argparse
import datetime
import json
import multiprocessing
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import deltaprop as dp
from deltaprop.cli.plot import save_plot
from deltaprop.reports.plot_style import GREY, legend_below, look, panels

from .contestants import Case, Ours
from .cpu_parts import peak
from .machine import machine

BATCHES = [8, 16, 32, 64, 128, 256, 512, 1024, 2048]
WIDTHS = [64, 128, 256, 512, 1024]


def seconds_a_step(sizes, batch, backend):
    """Return the seconds a step of shuffled epochs, the shortest of a few."""
    case = Case(tuple(sizes), batch, max(2, 4096 // batch))
    ours, best = Ours(case, backend), np.inf
    for _ in range(7):
        began = time.perf_counter()
        ours.epoch()
        best = min(best, (time.perf_counter() - began) / case.steps)
    return best


def growth():
    """Measure seconds a step by minibatch size and by width, and the steepest slope between neighbours."""
    result = {}
    for backend in ("numpy", "reference"):
        by_batch = {batch: seconds_a_step([784, 100, 10], batch, backend) for batch in BATCHES}
        by_width = {width: seconds_a_step([width, width, width, 10], 256, backend) for width in WIDTHS}
        for name, curve in (("minibatch", by_batch), ("width", by_width)):
            x, y = np.log(list(curve)), np.log(list(curve.values()))
            result[f"{name}, {backend}"] = {
                "seconds": curve,
                "slope": float(np.polyfit(x, y, 1)[0]),
                "steepest": float((np.diff(y) / np.diff(x)).max()),
            }
    return result


TRAINING = """
import resource, sys
import numpy as np
import deltaprop as dp
from deltaprop.inputs.files import load_dataset

def now():
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return [int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")]

data = load_dataset(sys.argv[1])
X = (data.X / np.float32(255)).astype(np.float32)
y = data.y
del data
net = dp.Network([784, 100, 10], loss="categorical_cross_entropy", dtype="float32", backend=sys.argv[2])
net.fit(X[:1000], y[:1000], epochs=1)  # what is loaded once
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak is counted from here on
before, _ = now()
net.fit(X, y, batch_size=128, epochs=2)
_, peak = now()
print(X.nbytes, before, peak)
"""


def memory(folder):
    """Return the bytes of MNIST as float32, and the peak of a training on it above the memory before, by backend."""
    result = {}
    for backend in ("numpy", "reference"):
        command = [sys.executable, "-c", TRAINING, str(folder), backend]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        data, before, peak = map(int, run.stdout.split())
        result[backend] = {"data": data, "above_what_was_held": peak - before}
    return result


def occupy(core, started):
    """Keep one core busy."""
    import os

    os.sched_setaffinity(0, {core})
    started.set()
    while True:
        pass


def neighbour():
    """Time a fit alone, and while another process keeps one core busy, by network and backend."""
    rng, result = np.random.default_rng(0), {}
    for sizes, m in (([784, 100, 10], 20_000), ([784, 512, 512, 10], 10_000)):
        X = rng.standard_normal((m, 784)).astype(np.float32)
        y = rng.integers(0, 10, m)
        for backend in ("numpy", "reference"):

            def fit(sizes=sizes, backend=backend, X=X, y=y):
                net = dp.Network(sizes, loss="categorical_cross_entropy", dtype="float32", backend=backend)
                began = time.perf_counter()
                net.fit(X, y, batch_size=128, epochs=2)
                return time.perf_counter() - began

            fit()
            alone = statistics.median(fit() for _ in range(5))
            started = multiprocessing.Event()
            busy = multiprocessing.Process(target=occupy, args=(0, started), daemon=True)
            busy.start()
            started.wait()
            try:
                beside = statistics.median(fit() for _ in range(5))
            finally:
                busy.kill()
                busy.join()
            result[f"{'-'.join(map(str, sizes))}, {backend}"] = {
                "alone": alone,
                "beside": beside,
                "slowdown": beside / alone,
            }
    return result


def picture(curves, path):
    """Draw seconds a step on logarithmic axes, by minibatch size at the left and by width at the right."""
    figure, axes = panels(2, (5.0, 3.8))
    units = {"minibatch": "samples a minibatch", "width": "width of the hidden layers [units]"}
    for axis, name, allowed in zip(axes, units, (1.05, 2.05), strict=True):
        own = {key: curve for key, curve in curves.items() if key.startswith(name)}
        for k, (key, curve) in enumerate(own.items()):
            x, y = [float(size) for size in curve["seconds"]], [1e6 * s for s in curve["seconds"].values()]
            axis.plot(x, y, label=f"{key}, slope {curve['slope']:.2f}", **look(k + 3 * (name == "width")))
        ratio = np.array(x) / x[-1]
        axis.plot(x, y[-1] * ratio**allowed, ":", color=GREY, label=f"{name}: slope {allowed}")
        axis.set(xscale="log", yscale="log", xlabel=units[name], ylabel="time of a step [µs]")
    legend_below(figure, 3)
    save_plot(figure, str(path))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--threads", help="numbers such as 1,2,4: only the share of the peak by so many threads")
    arguments = parser.parse_args()
    if arguments.threads:
        facts = {
            "command": f"python -m benches.limits --threads {arguments.threads}",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": machine("scipy"),
        }
        shares = []
        for row in peak.measure_threads([int(count) for count in arguments.threads.split(",")], rounds=5):
            shares.append(row)
            if arguments.json:  # whole after every row: many threads take minutes
                arguments.json.write_text(json.dumps({**facts, "threads": shares}, indent=1) + "\n")
        return
    result = {
        "command": "python -m benches.limits --mnist FOLDER",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine("scipy"),
        "growth": growth(),
        "neighbour": neighbour(),
    }
    for name, curve in result["growth"].items():
        print(f"{name:22} slope {curve['slope']:.3f}, steepest {curve['steepest']:.3f}")
    for name, figures in result["neighbour"].items():
        print(f"{name:32} alone {figures['alone']:.3f} s, beside {figures['beside']:.3f} s, {figures['slowdown']:.2f}")
    if arguments.mnist:
        result["memory"] = memory(arguments.mnist)
        for name, figures in result["memory"].items():
            data, above = (figures[key] / 2**20 for key in ("data", "above_what_was_held"))
            print(f"memory, {name}: {above:.1f} MiB above the memory before; the data are {data:.1f} MiB")
        result["largest_resident_mib"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    if arguments.plot:
        picture(result["growth"], arguments.plot)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
