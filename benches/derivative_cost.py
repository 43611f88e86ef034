"""Measures the cost of derivatives: each mode in evaluations, and the Jacobian as inputs and outputs grow.

python -m benches.derivative_cost [--rounds 15] [--json FILE]

Theory (Griewank and Walther, 2008): a forward pass costs at most 2.5 evaluations and a reverse pass at most 4, the
evaluation itself included, whatever the number of inputs and outputs; the Jacobian is as many forward passes as there
are inputs, or as many reverse passes as there are outputs.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import deltaprop as dp
from deltaprop.derivation import backprop, derivatives
from deltaprop.derivation.backprop import Objective, Workspace
from deltaprop.derivation.derivatives import MatrixDerivatives

from .machine import machine
from .timing import interleaved

NETWORKS = [([64, 32, 1], 32), ([784, 100, 10], 128), ([784, 512, 512, 10], 128)]
SIZES = (1, 4, 16, 64, 256)
#: The fixed number of inputs (or outputs) while the other side grows, of hidden units and of samples.
FIXED, HIDDEN, SAMPLES = 16, 64, 16


def passes(sizes: list[int], m: int, rounds: int) -> dict[str, Any]:
    """Time one evaluation, one pass of each mode, the gradient and a Hessian-vector product."""
    rng = np.random.default_rng(0)
    net = dp.Network(sizes, hidden_activation="tanh", loss="squared_error", backend="numpy")
    X, U = rng.standard_normal((2, m, sizes[0]))
    Y, V = rng.standard_normal((2, m, sizes[-1]))
    v = MatrixDerivatives(net, X, Y, Objective()).cost_and_gradient()[1]

    def hvp() -> None:
        at = MatrixDerivatives(net, X, Y, Objective())
        at.cost_and_gradient()
        at.hessian_product(v)

    seconds = interleaved(
        {
            "evaluation": lambda: backprop.forward(net, X, Workspace(net, m, backward=False)),
            "jvp": lambda: derivatives.jvp(net, X, U),
            "vjp": lambda: derivatives.vjp(net, X, V),
            "gradient": lambda: MatrixDerivatives(net, X, Y, Objective()).cost_and_gradient(),
            "hvp": hvp,
        },
        rounds,
    )
    one = seconds["evaluation"]["median"]
    ratios = {name: values["median"] / one for name, values in seconds.items()}
    return {"network": "-".join(map(str, sizes)), "samples": m, "seconds": seconds, "evaluations": ratios}


def jacobians(n_in: int, n_out: int, rounds: int) -> dict[str, Any]:
    """Time the full Jacobian by each mode."""
    net = dp.Network([n_in, HIDDEN, n_out], hidden_activation="tanh", loss="squared_error", backend="numpy")
    X = np.random.default_rng(0).standard_normal((SAMPLES, n_in))
    seconds = interleaved(
        {
            "evaluation": lambda: backprop.forward(net, X, Workspace(net, SAMPLES, backward=False)),
            "forward": lambda: derivatives.jacobian(net, X, "forward"),
            "reverse": lambda: derivatives.jacobian(net, X, "reverse"),
        },
        rounds,
    )
    return {"inputs": n_in, "outputs": n_out, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    print("cost in evaluations; jvp and vjp contain the evaluation, hvp contains the gradient")
    one_pass = [passes(sizes, m, arguments.rounds) for sizes, m in NETWORKS]
    for row in one_pass:
        figures = "  ".join(
            f"{name} {ratio:5.2f}" for name, ratio in row["evaluations"].items() if name != "evaluation"
        )
        evaluation = row["seconds"]["evaluation"]["median"]
        print(f"{row['network']:<16} m = {row['samples']:<4} evaluation {1e6 * evaluation:7.1f} µs   {figures}")
    print(f"\nfull Jacobian of n_in-{HIDDEN}-n_out, {SAMPLES} samples")
    shapes = [(n, FIXED) for n in SIZES] + [(FIXED, n) for n in SIZES]
    full = [jacobians(*shape, arguments.rounds) for shape in shapes]
    for row in full:
        forward, reverse = (row["seconds"][mode]["median"] for mode in ("forward", "reverse"))
        size = f"{row['inputs']} inputs, {row['outputs']} outputs"
        print(f"{size:<24} forward {1e6 * forward:8.0f} µs   reverse {1e6 * reverse:8.0f} µs")
    if arguments.json:
        result = {
            "command": "python -m benches.derivative_cost",
            "dtype": "float64",
            "rounds": arguments.rounds,
            "machine": machine(),
            "passes": one_pass,
            "jacobians": full,
        }
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
