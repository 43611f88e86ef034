"""The last layer by teams of lanes, and in steps of the whole block: both learn what NumPy learns."""

from typing import Any

import numpy as np
import pytest
from cases import PAIRS, assert_equal_fits, known_rule, targets_for

import deltaprop as dp
from deltaprop.backends import get_backend
from deltaprop.backends.cuda import shared_memory
from deltaprop.backends.cuda.shared_memory import Residence, find_residence
from deltaprop.backends.cuda.shared_memory_tiles import Work, team
from deltaprop.derivation.backprop import Objective
from deltaprop.epochs.trainer import Trainer
from deltaprop.reports.progress import Silent

WAYS = ("by teams", "by the block")


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Let teams of lanes take the last layer's rows, or never."""
    by_teams = request.param == "by teams"
    monkeypatch.setattr(shared_memory, "team", lambda work: (-np.inf, team(work)[1]) if by_teams else (np.inf, 0))
    shapes = []
    make = Residence.of

    def of(*what):
        shapes.append(make(*what).shape)
        return make(*what)

    monkeypatch.setattr(Residence, "of", of)
    yield request.param
    assert shapes
    assert all((shape.team > 0) == by_teams for shape in shapes)


@pytest.mark.parametrize("blocks", [1, 2, 8])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_every_loss(device, way, blocks, loss, output, dtype, monkeypatch, rng):
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
def test_odd_sizes(device, way, sizes, batch, rng):
    X, Y = rng.standard_normal((35, sizes[0])), rng.standard_normal((35, sizes[-1]))
    how = {"optimizer": dp.Adam(0.01), "batch_size": batch, "epochs": 2}
    assert_equal_fits(device, sizes, X, Y, {"loss": "squared_error", "hidden_activation": "tanh"}, **how)


@pytest.mark.parametrize("loss", ["categorical_cross_entropy", "squared_error"])
def test_a_row_that_is_not_a_number(device, way, loss, rng):
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


def residence_for(device, sizes, batch):
    activations = ["sigmoid"] * (len(sizes) - 1)
    rule = known_rule(dp.SGD(0.1))
    found = find_residence(device, sizes, activations, "squared_error", np.dtype("float32"), batch, rule)
    assert found is not None
    return found.shape


@pytest.mark.parametrize(("sizes", "batch"), [((64, 32, 1), 32), ((40, 12, 3), 16)])
def test_a_narrow_last_layer_is_taken_by_teams(device, sizes, batch):
    """All rows are taken at once, and lanes share out the inputs of a unit where threads are left."""
    shape = residence_for(device, sizes, batch)
    assert shape.team & (shape.team - 1) == 0
    assert sizes[-1] <= shape.output_lanes <= shape.team <= 32
    assert shape.team * shape.height <= shape.threads


def test_a_wide_last_layer_is_not(device):
    """A unit for a lane would take more lanes than a warp has."""
    assert residence_for(device, (8, 8, 33), 4).team == 0
    assert team(Work(36, 8, 8, 4, 4, 0, 256)) == (np.inf, 0)
