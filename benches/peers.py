"""Measures microseconds a step on this CPU, beside scikit-learn, PyTorch, JAX and the bare matrix products.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python -m benches.peers [--rounds 9] [--write]

The same float32 arrays and the same mathematics: plain gradient descent over shuffled minibatches of a network with
sigmoid hidden layers. Everybody's parameters after ten steps are compared with ours first. Epochs of all contestants
take turns; the medians are compared, and the spread of a ratio is given by its quartiles. The floor is what NumPy takes
for the matrix products of a step alone. `--write` keeps the figures under benches/results, from which
the pages on benchmarks are made.
"""

import argparse
import datetime
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .contestants import BareProducts, Case, Jax, Ours, ScikitLearn, Torch
from .machine import machine
from .timing import interleaved

#: Widths, minibatch, steps an epoch, and the goal.
CASES = [
    ((784, 30, 10), 10, 500, "faster than JAX's scan"),
    ((64, 32, 1), 32, 500, "faster than JAX's scan; NumPy alone at most twice the floor"),
    ((784, 100, 10), 128, 100, "at most 1.08 of the floor"),
    ((784, 512, 512, 10), 128, 40, "at most 1.05 of the floor, faster than JAX's scan"),
    ((784, 1024, 1024, 10), 512, 10, "at most 1.03 of the floor, faster than JAX's scan"),
]
CONTESTANTS: dict[str, Callable[[Case], Any]] = {
    "deltaprop": lambda case: Ours(case, "numpy"),
    "NumPy alone": lambda case: Ours(case, "reference"),
    "scikit-learn": ScikitLearn,
    "PyTorch": lambda case: Torch(case, "cpu"),
    "PyTorch compiled": lambda case: Torch(case, "cpu", way="compiled"),
    "JAX jit": lambda case: Jax(case, "cpu", way="jit"),
    "JAX scan": lambda case: Jax(case, "cpu"),
}
FLOOR = "bare products"
#: How far parameters may be from ours after ten steps in float32, ‖a − b‖/‖b‖.
AGREEMENT = 1e-5


def agreement(make: Callable[[Case], Any], sizes: tuple[int, ...], batch: int) -> float:
    """Return how far a contestant is from us after ten steps."""
    ten = Case(sizes, batch, 10)
    ours, other = Ours(ten, "reference"), make(ten)
    for each in (ours, other):
        each.epoch()
        each.wait()
    a, b = (np.concatenate([np.ravel(x) for x in each.parameters()]) for each in (other, ours))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def compare(sizes: tuple[int, ...], batch: int, steps: int, rounds: int) -> dict[str, Any]:
    """Measure a row of the table."""
    case, missing, far = Case(sizes, batch, steps), {}, {}
    calls: dict[str, Callable[[], object]] = {}
    for name, make in CONTESTANTS.items():
        try:
            far[name] = agreement(make, sizes, batch)
            if far[name] > AGREEMENT:
                raise AssertionError(f"{name} computes something else: {far[name]:.1e} from us after ten steps")
            calls[name] = _call(make(case))
        except ImportError as error:
            missing[name] = str(error)
    calls[FLOOR] = _call(BareProducts(case))
    seconds = interleaved(calls, rounds, settle=0.15)
    step = {name: {key: value / steps * 1e6 for key, value in each.items()} for name, each in seconds.items()}
    ours = step["deltaprop"]
    return {
        "network": case.name,
        "batch": batch,
        "microseconds_a_step": step,
        "ratio": {name: each["median"] / ours["median"] for name, each in step.items()},
        "ratio_spread": {
            name: [each["lower_quartile"] / ours["upper_quartile"], each["upper_quartile"] / ours["lower_quartile"]]
            for name, each in step.items()
        },
        "over_the_floor": {name: each["median"] / step[FLOOR]["median"] for name, each in step.items()},
        "distance_after_ten_steps": far,
        "missing": missing,
    }


def _call(contestant: Any) -> Callable[[], None]:
    def epoch() -> None:
        contestant.epoch()
        contestant.wait()

    return epoch


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return a table: microseconds a step, ours over the floor, the best peer's over ours."""
    names = [FLOOR, *CONTESTANTS]
    lines = [
        f"| network, minibatch | {' | '.join(names)} | over the floor | best peer / deltaprop |",
        "|" + "---|" * (len(names) + 3),
    ]
    for row in rows:
        step = row["microseconds_a_step"]
        cells = [f"{step[name]['median']:.4g}" if name in step else "–" for name in names]
        peers = [ratio for name, ratio in row["ratio"].items() if name not in ("deltaprop", "NumPy alone", FLOOR)]
        best = f"{min(peers):.2f}" if peers else "–"
        floor = f"{row['over_the_floor']['deltaprop']:.3f}"
        lines.append(f"| {row['network']}, {row['batch']} | {' | '.join(cells)} | {floor} | {best} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", help="a part of a network's name")
    parser.add_argument("--write", action="store_true", help="keep the figures under benches/results")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for sizes, batch, steps, aim in CASES:
        if arguments.only and arguments.only not in "-".join(map(str, sizes)):
            continue
        began = time.perf_counter()
        row = compare(sizes, batch, steps, arguments.rounds) | {"to_reach": aim}
        rows.append(row)
        figures = ", ".join(f"{name} {each['median']:.4g}" for name, each in row["microseconds_a_step"].items())
        print(f"{row['network']}, {batch}: {figures} µs a step; goal: {aim}", flush=True)
        for name, reason in row["missing"].items():
            print(f"    {name} skipped: {reason}")
        print(f"    {time.perf_counter() - began:.0f} s", flush=True)
    print(markdown(rows))
    if arguments.write:
        folder = Path(__file__).parent / "results"
        result = {
            "command": "python -m benches.peers --write",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": machine("scikit-learn", "scipy", "torch", "jax"),
            "rows": rows,
        }
        (folder / "peers.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
