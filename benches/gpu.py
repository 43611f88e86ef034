"""Everything that only a GPU can show, within ten minutes: tests, accuracy, steps beside peers, members, MNIST.

    python -m benches.gpu [--json FILE] [--mnist FOLDER] [--only PART ...]

Parts: tests (the tests marked gpu), bits (every float32 bit pattern through sigmoid and its derivative), sanitizer
(compute-sanitizer's memcheck and racecheck over the kernels), ceilings (copy bandwidth, matrix products, elementwise
kernels), peers (microseconds a step), members (128 networks at once), mnist (a whole fit). `--rehearse` runs the parts
that can on the CPU, on a few small sizes, to try this program where there is no GPU; its figures mean nothing.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from .contestants import LEARNING_RATE, Case, Jax, Naive, Ours, Torch
from .machine import machine

CASES = [
    ((784, 30, 10), 10, 600),
    ((64, 32, 1), 32, 600),
    ((784, 100, 10), 128, 400),
    ((784, 512, 512, 10), 128, 300),
    ((784, 2500, 2000, 1500, 1000, 500, 10), 256, 60),
    ((4096,) * 6, 8192, 4),
]
REHEARSAL = [((784, 30, 10), 10, 20), ((64, 32, 1), 32, 20)]
#: How far parameters may be from ours in float32 after an epoch, ‖a − b‖/‖b‖, by precision.
AGREEMENT = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 5e-2}
ROUNDS = 5


def run_tests(_: argparse.Namespace) -> dict[str, Any]:
    """The tests marked gpu."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {"command": " ".join(command[1:]), "exit": done.returncode, "tail": done.stdout.splitlines()[-25:]}


def check_bits(_: argparse.Namespace) -> dict[str, Any]:
    """The largest error of sigmoid and its derivative over all 2³² float32, in units in the last place of float64's."""
    import cupy

    import deltaprop as dp

    exact = {
        "sigmoid": lambda z: cupy.where(z < 0, cupy.exp(z), 1.0) / (1.0 + cupy.exp(-abs(z))),
        "sigmoid_grad": lambda z: cupy.exp(-abs(z)) / (1.0 + cupy.exp(-abs(z))) ** 2,
    }
    worst = dict.fromkeys(exact, 0.0)
    block = 2**26
    for first in range(0, 2**32, block):
        x = cupy.arange(first, first + block, dtype=cupy.uint32).view(cupy.float32)
        x = x[cupy.isfinite(x)]
        if not x.size:
            continue
        for name, function in exact.items():
            truth = function(x.astype(cupy.float64))
            exponent = cupy.frexp(truth)[1]
            ulp = cupy.ldexp(1.0, cupy.maximum(exponent - 24, -149).astype(cupy.int32))
            error = float((abs(getattr(dp, name)(x).astype(cupy.float64) - truth) / ulp).max())
            worst[name] = max(worst[name], error)
    return {"ulp": worst, "to_reach": {"sigmoid": 4, "sigmoid_grad": 6}}


def sanitize(_: argparse.Namespace) -> dict[str, Any]:
    """compute-sanitizer over small runs of every kernel."""
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if tool is None:
        return {"skipped": "compute-sanitizer is not on the path"}
    files = ["tests/test_conformance.py", "tests/test_resident.py", "tests/test_graph_epoch.py"]
    chosen = "cupy and (31 or relu or blocks or SGD)"
    result = {}
    for check in ("memcheck", "racecheck"):
        command = [
            tool,
            "--tool",
            check,
            "--error-exitcode",
            "9",
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-m",
            "gpu",
        ]
        try:
            done = subprocess.run(
                [*command, "-k", chosen, *files], capture_output=True, text=True, check=False, timeout=150
            )
            result[check] = {"exit": done.returncode, "tail": done.stdout.splitlines()[-6:]}
        except subprocess.TimeoutExpired:
            result[check] = {"timeout": True}
    return result


def device_seconds(call: Callable[[], object], repeats: int = 20) -> float:
    """Median seconds of `call` on the device, by events."""
    import cupy

    seconds = []
    for turn in range(repeats + 3):
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record()
        call()
        end.record()
        end.synchronize()
        if turn >= 3:
            seconds.append(cupy.cuda.get_elapsed_time(begin, end) * 1e-3)
    return statistics.median(seconds)


def ceilings(_: argparse.Namespace) -> dict[str, Any]:
    """Copy bandwidth, matrix products of each precision, elementwise kernels against the former.

    Operands of "fp16" are converted on their way, as they are in training.
    """
    import cupy

    import deltaprop as dp
    from deltaprop.backends.cupy import NULL

    n = 2**26
    a, b = cupy.random.standard_normal(n, dtype=np.float32), cupy.empty(n, np.float32)
    copy = 2 * a.nbytes / device_seconds(lambda: cupy.copyto(b, a))
    backend: Any = dp.get_backend("cupy")
    state = [cupy.zeros(n, np.float32) for _ in range(3)]
    Z, bias = a.reshape(-1, 4096).copy(), cupy.zeros(4096, np.float32)
    calls = {
        "sigmoid": (2, lambda: dp.sigmoid(a, out=b)),
        "sigmoid_grad": (2, lambda: dp.sigmoid_grad(a, out=b)),
        "sgd": (3, lambda: backend.sgd_update(b, a, None, 0.1, 0.0, False)),
        "adam": (7, lambda: backend.adam_update(b, a, state[0], state[1], 1e-3, 0.9, 0.999, 1e-8, 0.0, 0)),
        "bias_activation": (3, lambda: backend._bias_activation(Z, bias, "sigmoid", b.reshape(Z.shape))),
        "hidden_delta": (
            3,
            lambda: backend._over_columns("hidden_delta_sigmoid", (b.reshape(Z.shape), Z, NULL), Z, bias, 0.0),
        ),
    }
    elementwise = {name: k * a.nbytes / device_seconds(call) / copy for name, (k, call) in calls.items()}
    products = {}
    for precision in ("fp32", "tf32", "bf16", "fp16"):
        on = backend.in_precision(precision)
        A, C = (cupy.random.standard_normal((8192, 4096), dtype=np.float32) for _ in range(2))
        W = A[:4096].copy()
        if precision == "bf16":  # as captured steps have them, where no operand is converted on its way
            bits = (A.view(np.uint32) >> 16).astype(np.uint16)
            A, W, C = bits, bits[:4096].copy(), cupy.empty(A.shape, np.uint16)
        seconds = device_seconds(lambda on=on, A=A, W=W, C=C: on.product(A, W, out=C, transpose_B=True))
        products[precision] = 2 * 8192 * 4096 * 4096 / seconds
    return {"copy_bytes_a_second": copy, "share_of_copy_bandwidth": elementwise, "product_flop_a_second": products}


def contestants(case: Case, precision: str, rehearse: bool) -> dict[str, Callable[[], Any]]:
    if rehearse:
        return {
            "deltaprop": lambda: Ours(case, "numpy"),
            "PyTorch eager": lambda: Torch(case, "cpu", precision),
            "JAX jit": lambda: Jax(case, "cpu", precision, "jit"),
            "JAX scan": lambda: Jax(case, "cpu", precision, "scan"),
            "naive NumPy": lambda: Naive(case, np),
        }
    import cupy

    entries: dict[str, Callable[[], Any]] = {
        "deltaprop": lambda: Ours(case, "cupy", precision),
        "deltaprop, graph": lambda: Ours(case, "cupy", precision, "graph"),
        "PyTorch eager": lambda: Torch(case, "cuda", precision),
        "PyTorch compiled": lambda: Torch(case, "cuda", precision, "compiled"),
        "PyTorch graph": lambda: Torch(case, "cuda", precision, "graph"),
        "JAX jit": lambda: Jax(case, "cuda", precision, "jit"),
        "JAX scan": lambda: Jax(case, "cuda", precision, "scan"),
    }
    if precision == "fp32":
        entries["naive CuPy"] = lambda: Naive(case, cupy)
    return entries


def distance(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    numerator = sum(float(((x - y).astype(float) ** 2).sum()) for x, y in zip(a, b, strict=True))
    return (numerator / sum(float((y.astype(float) ** 2).sum()) for y in b)) ** 0.5


def peers(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Microseconds a step of everybody, an epoch at a time, in turn."""
    rows = []
    for sizes, batch, steps in REHEARSAL if arguments.rehearse else CASES:
        case = Case(sizes, batch, steps)
        reference = None
        for precision in ("fp32",) if arguments.rehearse else AGREEMENT:
            running, errors, off = {}, {}, {}
            for name, make in contestants(case, precision, arguments.rehearse).items():
                try:
                    one = make()
                    one.epoch()
                    one.wait()
                    after = one.parameters()
                    reference = reference or after  # ours, in float32
                    off[name] = distance(after, reference)
                    running[name] = one
                except Exception as error:  # noqa: BLE001  (a peer that cannot run is a row of the table)
                    errors[name] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                    traceback.print_exc(limit=3)
            seconds: dict[str, list[float]] = {name: [] for name in running}
            for _ in range(ROUNDS):
                for name, one in running.items():
                    began = time.perf_counter()
                    one.epoch()
                    one.wait()
                    seconds[name].append((time.perf_counter() - began) / steps)
            row = {
                "network": case.name,
                "batch": batch,
                "precision": precision,
                "microseconds_a_step": {name: 1e6 * statistics.median(s) for name, s in seconds.items()},
                "spread": {name: [1e6 * min(s), 1e6 * max(s)] for name, s in seconds.items()},
                "distance_from_ours_in_float32": off,
                "disagree": [name for name, d in off.items() if not d < AGREEMENT[precision]],
                "flop_a_step": case.floating_point_operations,
                "way": running["deltaprop"].way if "deltaprop" in running else None,
                "errors": errors,
            }
            rows.append(row)
            print(summary(row), flush=True)
    return rows


def add_shares(rows: list[dict[str, Any]], ceilings: dict[str, float]) -> None:
    """Of each row, what share of the rate of one large product of its precision a whole step has."""
    for row in rows:
        ours, ceiling = row["microseconds_a_step"].get("deltaprop"), ceilings.get(row["precision"])
        if ours and ceiling:
            row["share_of_ceiling"] = row["flop_a_step"] / (ours * 1e-6) / ceiling
            print(f"{row['network']} {row['precision']}: {row['share_of_ceiling']:.1%} of the products' ceiling")


def summary(row: dict[str, Any]) -> str:
    times = row["microseconds_a_step"]
    others = {name: t for name, t in times.items() if not name.startswith("deltaprop") and name not in row["disagree"]}
    ours = times.get("deltaprop")
    ratio = f"best peer / ours {min(others.values()) / ours:.2f}" if ours and others else "no ratio"
    listed = "  ".join(f"{name} {t:.1f}" for name, t in sorted(times.items(), key=lambda item: item[1]))
    rate = f"{row['flop_a_step'] / ours / 1e6:.1f} TFLOP/s" if ours else ""
    return f"{row['network']} b{row['batch']} {row['precision']} ({row['way']}, {rate}): {ratio}; {listed}" + (
        f"  disagree: {row['disagree']}" if row["disagree"] else ""
    )


def members(_: argparse.Namespace) -> dict[str, Any]:
    """128 networks of 64-32-10 at once against one of them."""
    import cupy

    import deltaprop as dp
    from deltaprop.backends.resident import Run, find_residence
    from deltaprop.optimizers import rule_of

    backend: Any = dp.get_backend("cupy")
    case = Case((64, 32, 10), 32, 1000)
    X, Y = cupy.asarray(case.X), cupy.asarray(case.Y)
    rule, seconds = rule_of(dp.SGD(LEARNING_RATE)), {}
    terms = np.zeros((1, case.steps, 5))
    terms[..., 0], terms[..., 3] = 1 / case.batch, LEARNING_RATE
    flat = np.concatenate([x.ravel() for x in (*case.W, *case.b)])
    for count in (1, 128):
        activations, loss = ("sigmoid", "softmax"), "categorical_cross_entropy"
        residence = find_residence(backend, case.sizes, activations, loss, np.dtype("float32"), 32, rule, count)
        parameters = cupy.asarray(np.repeat(flat[None], count, axis=0))
        run = Run(backend, residence, parameters, (), X, Y)
        sums = [cupy.zeros((count, 1)) for _ in range(3)]
        order = case.order[None, None]
        call = lambda run=run, order=order, sums=sums: run(terms, order, None, *sums)  # noqa: E731
        seconds[count] = device_seconds(call, 7)
    return {"seconds_an_epoch_of_1000_steps": seconds, "ratio": seconds[128] / seconds[1], "to_reach": 1.5}


def mnist(arguments: argparse.Namespace) -> dict[str, Any]:
    """784-100-10, 30 epochs, minibatches of 128: the second fit, by the clock."""
    import deltaprop as dp
    from deltaprop.datasets import load_dataset

    if arguments.mnist is None:
        return {"skipped": "no --mnist FOLDER"}
    data = load_dataset(arguments.mnist)
    train, test = (
        (X.astype(np.float32) / 255, np.asarray(y).astype(np.int64)) for X, y in ((data.X, data.y), data.test)
    )
    epochs, backend = (1, "numpy") if arguments.rehearse else (30, "cupy")
    for _ in range(2):
        net = dp.Network(
            [784, 100, 10], loss="categorical_cross_entropy", hidden_activation="relu", init="he", dtype="float32",
            backend=backend,
        )  # fmt: skip
        began = time.perf_counter()
        net.fit(*train, optimizer=dp.SGD(0.1, momentum=0.9), batch_size=128, epochs=epochs)
        seconds = time.perf_counter() - began
    accuracy = float((net.predict(test[0]).argmax(axis=1) == test[1]).mean())
    return {
        "epochs": epochs,
        "seconds": seconds,
        "test_accuracy": accuracy,
        "to_reach": {"seconds": 1, "accuracy": 0.975},
    }


PARTS = {
    "ceilings": ceilings,
    "peers": peers,
    "members": members,
    "mnist": mnist,
    "bits": check_bits,
    "tests": run_tests,
    "sanitizer": sanitize,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--mnist")
    parser.add_argument("--only", nargs="+", choices=PARTS)
    parser.add_argument("--rehearse", action="store_true")
    arguments = parser.parse_args()
    chosen = arguments.only or (["peers", "mnist"] if arguments.rehearse else list(PARTS))
    result: dict[str, Any] = {"command": "python -m benches.gpu", "date": str(date.today())}
    result["machine"] = machine("cupy-cuda13x", "nvmath-python", "torch", "jax")
    if not arguments.rehearse:
        import cupy

        properties = cupy.cuda.runtime.getDeviceProperties(0)
        result["device"] = {"name": properties["name"].decode(), "driver": cupy.cuda.runtime.driverGetVersion()}
    for name in chosen:
        began = time.perf_counter()
        try:
            result[name] = PARTS[name](arguments)
        except Exception as error:  # noqa: BLE001  (what a part found before another broke is not lost)
            traceback.print_exc()
            result[name] = {"error": f"{type(error).__name__}: {error}"}
        result[f"{name}_took"] = time.perf_counter() - began
        if name == "peers" and isinstance(result.get("ceilings"), dict) and isinstance(result[name], list):
            add_shares(result[name], result["ceilings"].get("product_flop_a_second", {}))
        if name != "peers":
            print(f"{name}: {json.dumps(result[name])[:1500]}", flush=True)
        if arguments.json:  # after every part: a run that is cut off keeps what it has
            arguments.json.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
