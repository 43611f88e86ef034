"""The output of networks in shared memory: every loss with sample weights, odd sizes, and NaN."""

from typing import Any

import numpy as np
import pytest
from cases import PAIRS, assert_equal_fits, targets_for

import deltaprop as dp
from deltaprop.backends import get_backend
from deltaprop.backends.cuda import shared_memory
from deltaprop.derivation.backprop import Objective
from deltaprop.epochs.trainer import Trainer
from deltaprop.reports.progress import Silent


@pytest.mark.parametrize("blocks", [1, 2, 8])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_every_loss(device, blocks, loss, output, dtype, monkeypatch, rng):
    """With sample weights, some of them zero, and a last minibatch that is smaller."""
    if blocks > device.shared_memory_limits()[1]:
        pytest.skip("this device has no clusters")
    monkeypatch.setattr(shared_memory, "CLUSTERS", (blocks,))
    X, Y = rng.standard_normal((23, 5)), targets_for(loss, rng, 23, 3)
    options = {"loss": loss, "output_activation": output, "dtype": dtype}
    how = {"optimizer": dp.SGD(0.05, momentum=0.5), "batch_size": 9, "epochs": 2, "l2": 0.1}
    assert_equal_fits(device, [5, 19, 3], X, Y, options, sample_weight=rng.integers(0, 3, 23).astype(float), **how)


@pytest.mark.parametrize("batch", [1, 7, 33])
@pytest.mark.parametrize("sizes", [[3, 1], [6, 5, 1], [4, 33, 7], [9, 2, 17, 13], [5, 11, 32]], ids=str)
def test_odd_sizes(device, sizes, batch, rng):
    X, Y = rng.standard_normal((35, sizes[0])), rng.standard_normal((35, sizes[-1]))
    how = {"optimizer": dp.Adam(0.01), "batch_size": batch, "epochs": 2}
    assert_equal_fits(device, sizes, X, Y, {"loss": "squared_error", "hidden_activation": "tanh"}, **how)


@pytest.mark.parametrize("loss", ["categorical_cross_entropy", "squared_error"])
def test_a_row_that_is_not_a_number(device, loss, rng):
    """Its minibatch makes the same parameters NaN as in NumPy, and the cost too."""
    X, Y = rng.standard_normal((12, 5)), np.eye(3)[rng.integers(0, 3, 12)]
    X[7, 2] = np.nan
    trainers: list[Any] = []
    for backend in (device, get_backend("reference")):
        net = dp.Network([5, 8, 3], loss=loss, backend=backend, seed=3)
        x, y = (backend.asarray(data, np.float64) for data in (X, Y))
        trainers.append(Trainer(net, x, y, dp.SGD(0.1), Objective(), 4, shuffled=True))
        with np.errstate(all="ignore"):
            trainers[-1].epoch(0.1, np.arange(12), Silent())
    ours, reference = (t.network.backend.to_numpy(t.network.parameters) for t in trainers)
    assert np.isnan(reference).any()
    assert np.array_equal(np.isnan(ours), np.isnan(reference))
    assert np.isnan(trainers[0].total())
