"""Runs small fits by each way of training, for compute-sanitizer, and compares them with NumPy's float64.

    python -m benches.gpu_parts.small_fits WAY [--backend NAME] [--pool]

It prints a line of JSON for each fit, and fails if one learns something else. CuPy's pool is not used, as inside it
compute-sanitizer sees one large allocation, and no end of an array.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

import deltaprop as dp
from deltaprop.backends import get_backend
from deltaprop.backends.base import Precision
from deltaprop.backends.cuda import shared_memory
from deltaprop.derivation.backprop import Objective
from deltaprop.epochs import chunked
from deltaprop.epochs.chunked import ChunkedEpoch
from deltaprop.epochs.graph import GraphEpoch
from deltaprop.epochs.resident import ResidentEpoch
from deltaprop.epochs.trainer import Trainer
from deltaprop.inputs.arrays import HostData
from deltaprop.reports.progress import Silent

from ..contestants import check_kept

WAYS = ("resident 1", "resident 8", "captured", "streamed", "steps")
SIZES, BATCH, SAMPLES, EPOCHS = (20, 33, 17, 4), 7, 61, 2
#: The largest distance of parameters from the reference's, ‖a − b‖/‖b‖.
FAR = {"float64": 1e-12, "float32": 1e-4, "bf16": 1e-2, "tf32": 1e-3}
#: Bytes of a chunk of a streamed epoch: a few minibatches.
CHUNK = 3 * BATCH * (SIZES[0] + SIZES[-1]) * 4


@contextmanager
def only(way: str) -> Iterator[None]:
    """Inside, trainers on the device choose this way, or one that `check` refuses."""
    kind, _, blocks = way.partition(" ")
    never = lambda *_: None  # noqa: E731
    with ExitStack() as stack:
        if blocks:
            stack.enter_context(patch.object(shared_memory, "CLUSTERS", (int(blocks),)))
        elif kind != "streamed":
            stack.enter_context(patch.object(ResidentEpoch, "find", never))
        if kind == "steps":
            stack.enter_context(patch.object(GraphEpoch, "find", never))
        stack.enter_context(patch.object(chunked, "CHUNK_BYTES", CHUNK))
        yield


def check(way: str, trainer: Trainer) -> None:
    """Refuse a trainer that goes another way, so that no fit has a wrong name.

    Raises
    ------
    RuntimeError
        If it goes another way.
    """
    kind, _, blocks = way.partition(" ")
    whole = trainer.whole_epoch
    expected = {"resident": ResidentEpoch, "captured": GraphEpoch, "streamed": ChunkedEpoch, "steps": type(None)}
    taken: Any = trainer.chunked if kind == "streamed" else whole
    used = str(whole.run.residence.blocks) if isinstance(whole, ResidentEpoch) and blocks else ""
    if type(taken) is not expected[kind] or used != blocks:
        raise RuntimeError(f"expected the way {way!r}, got {type(taken).__name__} {used}")


def fit(net: dp.Network, optimizer: Any, way: str | None, epochs: int = EPOCHS) -> None:
    """Train `net` on data of its widths in `way`; None lets it choose."""
    rng, on = np.random.default_rng(1), net.backend
    X = rng.standard_normal((SAMPLES, SIZES[0])).astype(net.dtype)
    Y = np.eye(SIZES[-1], dtype=net.dtype)[rng.integers(0, SIZES[-1], SAMPLES)]
    inputs, targets = (HostData(x) if way == "streamed" else on.asarray(x, net.dtype) for x in (X, Y))
    trainer = Trainer(net, inputs, targets, optimizer, Objective(0.1), BATCH, shuffled=True)
    kept = type(trainer.whole_epoch).__name__
    for _ in range(epochs):
        trainer.epoch(optimizer.learning_rate, rng.permutation(SAMPLES), Silent())
    check_kept(trainer, kept)
    if way is not None:
        check(way, trainer)


def network(backend: Any, dtype: Any, precision: Precision | None = None) -> dp.Network:
    return dp.Network(
        SIZES, loss="categorical_cross_entropy", seed=3, dtype=dtype, backend=backend, precision=precision
    )


def distance(backend: str, way: str | None, dtype: str, optimizer: Any, precision: Precision | None = None) -> float:
    """Return how far parameters are from the reference's after a fit."""
    net, reference = network(backend, dtype, precision), network("reference", "float64")
    reference.parameters = net.backend.to_numpy(net.parameters).astype(float)
    fit(net, optimizer, way)
    fit(reference, optimizer, None)
    a, b = net.backend.to_numpy(net.parameters).astype(float), reference.parameters
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def fits(way: str) -> list[tuple[str, Any, Precision | None]]:
    """Yield dtype, optimizer and precision of each fit."""
    every: list[tuple[str, Any, Precision | None]] = [
        (dtype, optimizer, None) for dtype in ("float64", "float32") for optimizer in (dp.SGD(0.1), dp.AdamW(0.01))
    ]
    if way in ("captured", "steps"):
        every += [("float32", dp.SGD(0.05, momentum=0.9), None), ("float32", dp.SGD(0.1), "bf16")]
    return every


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--backend", default="cupy")
    parser.add_argument("--pool", action="store_true", help="leave CuPy its pool")
    arguments = parser.parse_args()
    on_host = get_backend(arguments.backend).on_host
    if not on_host and not arguments.pool:
        import cupy

        cupy.cuda.set_allocator(None)
    way = None if on_host else arguments.way  # the host has other ways
    with only(arguments.way):
        for dtype, optimizer, precision in fits(arguments.way):
            if on_host and precision is not None:
                continue
            far = distance(arguments.backend, way, dtype, optimizer, precision)
            print(json.dumps({"fit": f"{dtype} {precision or ''} {optimizer}", "distance": far}), flush=True)
            if not far < FAR[precision or dtype]:
                raise SystemExit(f"{dtype} {optimizer}: {far:.1e} from the reference")


if __name__ == "__main__":
    main()
