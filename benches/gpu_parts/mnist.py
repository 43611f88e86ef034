"""Times whole fits of 784-100-10 on MNIST, 30 epochs of minibatches of 128, the first of a process too."""

import time
from typing import Any

import numpy as np

import deltaprop as dp
from deltaprop.backends.choices import BackendName
from deltaprop.derivation.backprop import Objective
from deltaprop.epochs.trainer import Trainer
from deltaprop.inputs.files import load_dataset

from ..contestants import blocks_of
from .channel import Channel, NotHereError
from .part import Options

EPOCHS, BATCH, HIDDEN = 30, 128, 100
TO_REACH = {"seconds": 1.0, "accuracy": 0.975}
FITS = ("first fit", "second fit", "third fit")


def way_of(net: Any, X: np.ndarray, Y: np.ndarray, optimizer: Any) -> tuple[str, int | None]:
    """Return the way in which `fit` trains such a network, and the number of blocks."""
    on = net.backend
    data = (on.asarray(X[: 2 * BATCH], np.float32), on.asarray(Y[: 2 * BATCH], np.float32))
    whole = Trainer(net, *data, optimizer, Objective(), BATCH, shuffled=True).whole_epoch
    return type(whole).__name__, blocks_of(whole)


def run(options: Options, tell: Channel) -> None:
    if options.mnist is None and not options.rehearse:
        raise NotHereError("no --mnist FOLDER was given")
    data = load_dataset(options.mnist or "digits")
    X, y = data.X.astype(np.float32) / data.X.max(), np.asarray(data.y).astype(np.int64)
    held = data.test if data.test is not None else (data.X, data.y)
    test = held[0].astype(np.float32) / data.X.max(), np.asarray(held[1]).astype(np.int64)
    backend: BackendName
    epochs, backend = (1, "reference") if options.rehearse else (EPOCHS, "cupy")
    tell.plan(list(FITS))
    optimizer = dp.SGD(0.1, momentum=0.9)
    for name in FITS:
        net = dp.Network(
            [X.shape[1], HIDDEN, 10], loss="categorical_cross_entropy", hidden_activation="relu", init="he",
            dtype="float32", backend=backend,
        )  # fmt: skip
        began = time.perf_counter()
        net.fit(X, y, optimizer=optimizer, batch_size=BATCH, epochs=epochs)
        seconds = time.perf_counter() - began
        accuracy = float((net.predict(test[0]).argmax(axis=1) == test[1]).mean())
        way, blocks = way_of(net, X, np.eye(10, dtype=np.float32)[y], optimizer)
        facts: dict[str, Any] = {"way": way, "blocks": blocks, "epochs": epochs, "to_reach": TO_REACH}
        tell.row(name, seconds=seconds, accuracy=accuracy, **facts)
