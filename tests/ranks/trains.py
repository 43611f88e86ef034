"""Run under mpiexec: trains as the arguments say, and rank 0 writes down what came of it.

trains.py FOLDER MODE. With MODE "once" it trains in several ways; "long" trains many epochs with a checkpoint in FOLDER,
and each rank writes its process's number there; the others fail in some way, on one rank.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import deltaprop as dp
from deltaprop.ranks.failures import RankError
from deltaprop.training.callbacks import EpochCallback

RNG = np.random.default_rng(11)
M = 203
X = RNG.normal(size=(M, 12))
Y = np.eye(4)[RNG.integers(0, 4, M)]
WAYS: dict[str, dict[str, Any]] = {
    "adamw": {"optimizer": dp.AdamW(0.01, weight_decay=0.1), "l2": 0.2, "validation": 0.2},
    "dropout": {"optimizer": dp.SGD(0.2, momentum=0.9), "dropout": 0.3, "sample_weight": np.arange(M) % 3 * 1.0},
}


def trained(ranks, epochs=3, callbacks: list[EpochCallback] | None = None, **options):
    net = dp.Network([12, 24, 10, 4], loss="categorical_cross_entropy", backend="numpy", seed=5)
    defaults: dict[str, Any] = {"batch_size": 48, "optimizer": dp.Adam(0.01)}
    return net, net.fit(X, Y, epochs=epochs, ranks=ranks, callbacks=callbacks or [], **defaults | options)


def main(folder: Path, mode: str) -> None:
    if mode == "once":
        import mpi4py.MPI as MPI

        communicator = MPI.COMM_WORLD
        for name, options in WAYS.items():
            net, history = trained(communicator, progress=True, checkpoint=folder / f"{name}.safetensors", **options)
            of_all = communicator.gather((net.parameters.tobytes(), history))
            if of_all is not None:
                same = all(bits == of_all[0][0] and own == history for bits, own in of_all)
                print(name, communicator.size, "the same" if same else "different")
                np.savez(folder / f"{name}.npz", parameters=net.parameters, cost=history.cost)
    elif mode == "long":

        def slowly(event):
            (folder / "epoch").write_text(f"{event.epoch}\n")
            time.sleep(0.02)

        (folder / f"process-{os.environ['RANK_OF_TEST']}").write_text(f"{os.getpid()}\n")
        kept: dict[str, Any] = {"checkpoint": folder / "run.safetensors", "resume": True}
        net, history = trained("mpi", 60, [slowly], dropout=0.2, l2=0.1, **kept)
        if os.environ["RANK_OF_TEST"] == "0":
            np.savez(folder / "done.npz", parameters=net.parameters, cost=history.cost)
    elif mode == "callback":

        def fails(event):
            raise LookupError("a callback of rank 0")

        trained("mpi", callbacks=[fails])
    elif mode == "diverges":
        trained("mpi", optimizer=dp.SGD(1e300), l2=1e10)
    elif mode == "caught":

        def ends(event):
            raise LookupError("which rank 0 does not catch")

        try:
            trained("mpi", callbacks=[ends])
        except RankError:
            trained("mpi")
    elif mode == "afterwards":
        trained("mpi")
        if os.environ["RANK_OF_TEST"] == "1":
            raise LookupError("after training, on rank 1")
        trained("mpi")


if __name__ == "__main__":
    # MPI's own numbers, before MPI is asked for.
    names = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")
    os.environ["RANK_OF_TEST"] = next((os.environ[name] for name in names if name in os.environ), "0")
    main(Path(sys.argv[1]), sys.argv[2])
