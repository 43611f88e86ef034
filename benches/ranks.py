"""Measures training by several ranks of MPI on this machine against one, and works out on paper what networks allow.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python -m benches.ranks [--ranks 2] [--rounds 9] [--json FILE]

Each rank has one thread. One rank and all ranks take the same steps of the same minibatches, in turns; ratios are taken
round by round. "Sum" is the sum of the gradients alone, without waiting for a slower rank. The cores of a virtual
machine may lie near each other or far apart, and change places: then the sum takes up to five times as long.
"""

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .machine import machine
from .rank_parts import model

LAYERS = "784,512,512,10"
#: Rows of the global minibatch, and the speed-up that two ranks should reach.
BATCHES = {512: 1.5, 2048: 1.8}
RANKS_ON_PAPER = (8, 16, 32, 64, 128, 256, 512)


def measure(ranks: int, batch: int, rounds: int) -> dict[str, Any]:
    """Run one comparison under mpiexec; return what it found."""
    beside = Path(sys.executable).with_name("mpiexec")
    launcher = str(beside) if beside.exists() else shutil.which("mpiexec")
    if launcher is None:
        raise SystemExit("benches.ranks: no mpiexec; pip install 'deltaprop[mpi]' brings one")
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    of_root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        command = [launcher, "-n", str(ranks), sys.executable, "-m", f"{__package__}.rank_parts.steps"]
        command += ["--layers", LAYERS, "--batch", str(batch), "--rounds", str(rounds), "--json", str(found)]
        subprocess.run(command, env=os.environ | one_thread | of_root, check=True)
        result: dict[str, Any] = json.loads(found.read_text())
    return result


def report(found: dict[str, Any]) -> None:
    """Print one comparison."""
    batch, ranks = found["batch"], found["ranks"]
    one, all_, sum_ = (found[name]["median"] * 1e3 for name in ("one rank", "all ranks", "sum"))
    speedup = found["speedup"]
    print(f"{LAYERS.replace(',', '-')}, float32, Adam, global batch {batch}: {found['way']}")
    print(f"  one rank {one:.2f} ms a step, {ranks} ranks {all_:.2f} ms, the sum {sum_:.2f} ms")
    print(
        f"  {speedup['median']:.2f} times as fast ({speedup['lower_quartile']:.2f} to {speedup['upper_quartile']:.2f}; "
        f"goal for 2 ranks {BATCHES[batch]}), the sum {found['share of the sum']['median']:.1%} of a step (goal 10 %)\n"
    )


def on_paper(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Print what the model says of ranks as fast as this one: the sum, and from how many rows on 80 % is arithmetic."""
    weights = found["weights"]
    flops = model.OPERATIONS * weights * found["batch"] / found["one rank"]["median"]
    rows, size = [], 4 * weights
    print(f"On paper, for ranks of {flops / 1e9:.0f} GFLOP/s (one thread of this machine), the same network:")
    print(f"  {'':24}{'ranks':>8}" + "".join(f"{ranks:>9}" for ranks in RANKS_ON_PAPER))
    for network in model.NETWORKS:
        for algorithm in ("ring", "Rabenseifner"):
            sums = [model.seconds_of_sum(size, ranks, network, algorithm) for ranks in RANKS_ON_PAPER]
            least = [model.rows_for(0.8, weights, flops, sum_) for sum_ in sums]
            print(f"  {network.name + ', ' + algorithm:<24}{'sum, ms':>8}" + "".join(f"{s * 1e3:9.2f}" for s in sums))
            print(f"  {'':20}{'rows for 80 %':>12}" + "".join(f"{n:>9}" for n in least))
            for ranks, sum_, n in zip(RANKS_ON_PAPER, sums, least, strict=True):
                facts = {"network": network.name, "algorithm": algorithm, "ranks": ranks}
                rows.append(facts | {"seconds_of_sum": sum_, "rows_for_80_percent": n})
        limit = model.rows_without_latency(0.8, flops, network.bytes_a_second, 4)
        print(f"  {network.name}: {limit:.0f} rows a rank for any large network (5.3 × operations ÷ bytes a second)")
    return rows


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = [measure(arguments.ranks, batch, arguments.rounds) for batch in BATCHES]
    for each in found:
        report(each)
    paper = on_paper(found[-1])
    if arguments.json is not None:
        date = datetime.datetime.now(datetime.UTC).date().isoformat()
        facts = {"date": date, "machine": machine("mpi4py", "openmpi")}
        arguments.json.write_text(json.dumps(facts | {"measured": found, "on paper": paper}, indent=1) + "\n")


if __name__ == "__main__":
    main()
