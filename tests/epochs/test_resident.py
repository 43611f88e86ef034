"""Networks that stay in shared memory for whole epochs learn what NumPy learns in steps, on any number of blocks."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cases import HIDDEN, OPTIMIZERS, PAIRS, assert_equal_fits, known_rule, relative, targets_for
from conftest import backend_or_skip
from host_cuda import counting
from hypothesis import given, settings
from hypothesis import strategies as st

import deltaprop as dp
from deltaprop.backends import get_backend
from deltaprop.backends.cuda import shared_memory
from deltaprop.backends.cuda.shared_memory import Residence, ResidentRun, find_residence
from deltaprop.derivation.backprop import Objective
from deltaprop.epochs import resident
from deltaprop.epochs.resident import ResidentEpoch
from deltaprop.epochs.task import Task
from deltaprop.epochs.trainer import Trainer
from deltaprop.reports.progress import Silent


@pytest.fixture(params=[1, 2, 8], ids="{} blocks".format)
def blocks(request, monkeypatch, device):
    """Train on clusters of so many blocks, even if another number is faster."""
    if request.param > device.shared_memory_limits()[1]:
        pytest.skip("this device has no clusters")
    monkeypatch.setattr(shared_memory, "CLUSTERS", (request.param,))
    return request.param


@pytest.fixture
def launches(monkeypatch):
    """A list with an entry for each launch."""
    counted = []
    call = ResidentRun.__call__
    monkeypatch.setattr(ResidentRun, "__call__", lambda self, *a, **k: (counted.append(1), call(self, *a, **k))[1])
    return counted


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_every_loss(device, launches, loss, output, dtype, rng):
    X, Y = rng.standard_normal((21, 5)), targets_for(loss, rng, 21, 3)
    options = {"loss": loss, "output_activation": output, "dtype": dtype}
    how = {"optimizer": dp.SGD(0.05), "batch_size": 8, "epochs": 2, "l2": 0.2}
    assert_equal_fits(device, [5, 7, 3], X, Y, options, **how)
    assert launches == [1]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("hidden", HIDDEN)
def test_every_activation(device, launches, hidden, dtype, rng):
    X, Y = 2 * rng.standard_normal((19, 4)), rng.standard_normal((19, 2))
    options = {"loss": "squared_error", "hidden_activation": hidden, "dtype": dtype}
    assert_equal_fits(device, [4, 33, 9, 2], X, Y, options, optimizer=dp.SGD(0.02), batch_size=8, epochs=2)
    assert launches


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_every_optimizer_on_any_number_of_blocks(device, blocks, launches, optimizer, weighted, rng):
    X, y = rng.standard_normal((31, 6)), rng.integers(0, 4, 31)
    options = {"loss": "categorical_cross_entropy", "hidden_activation": "relu"}
    how = {"sample_weight": rng.integers(0, 3, 31).astype(float)} if weighted else {}
    for shuffle in (True, False):
        how |= {"optimizer": optimizer, "batch_size": 7, "epochs": 2, "l2": 0.1, "shuffle": shuffle}
        assert_equal_fits(device, [6, 11, 5, 4], X, y, options, **how)
    assert len(launches) == 2


FIXED = {
    "one block": ([9, 6, 3], 1, "categorical_cross_entropy", "sigmoid", "float32", 10, dp.SGD(0.1)),
    "ragged": ([5, 33, 7, 2], 1, "huber", "gelu", "float64", 7, dp.SGD(0.05, momentum=0.8, nesterov=True)),
    "a cluster": ([37, 30, 10], 4, "categorical_cross_entropy", "relu", "float32", 9, dp.AdamW(0.01)),
    "split layers": ([6, 17, 12, 9, 1], 2, "binary_cross_entropy", "tanh", "float64", 8, dp.Adam(0.01)),
    "no hidden layer": ([7, 3], 8, "poisson", "sigmoid", "float32", 5, dp.SGD(0.01, momentum=0.5)),
}


@pytest.mark.parametrize("name", FIXED)
def test_a_kernel_for_one_shape(name, launches, monkeypatch, rng):
    """The kernel with its shape compiled in, as on devices, equals NumPy, and the general kernel to the bit."""
    device = backend_or_skip("cuda-on-host")
    sizes, blocks, loss, hidden, dtype, batch, optimizer = FIXED[name]
    monkeypatch.setattr(shared_memory, "CLUSTERS", (blocks,))
    monkeypatch.setattr(shared_memory, "THREADS", (64,))
    X, Y = rng.standard_normal((29, sizes[0])), targets_for(loss, rng, 29, sizes[-1])
    options: dict[str, Any] = {"loss": loss, "hidden_activation": hidden, "dtype": dtype}
    how: dict[str, Any] = {"optimizer": optimizer, "batch_size": batch, "epochs": 2, "l2": 0.1}
    how["sample_weight"] = rng.uniform(0.5, 2, 29)
    general, fixed = (dp.Network(sizes, backend=device, seed=3, **options) for _ in range(2))
    expected = general.fit(X, Y, **how)
    monkeypatch.setattr(device, "compiles_shapes", True)
    assert fixed.fit(X, Y, **how).cost == expected.cost
    assert np.array_equal(device.to_numpy(fixed.parameters), device.to_numpy(general.parameters))
    assert_equal_fits(device, sizes, X, Y, options, **how)
    assert len(launches) == 3


@pytest.mark.parametrize("split", [1, 2, 3])
def test_any_number_of_layers_may_be_split(device, blocks, split, monkeypatch, rng):
    """Every block holds the other layers whole."""
    if blocks == 1:
        pytest.skip("one block has every layer to itself")
    of = Residence.of

    def only(*what):
        way = of(*what)
        splits = sum(layer.split for layer in way.shape.layer)
        return way if splits == split else replace(way, cycles=np.inf)

    monkeypatch.setattr(Residence, "of", only)
    X, y = rng.standard_normal((23, 6)), rng.integers(0, 3, 23)
    options = {"loss": "categorical_cross_entropy", "hidden_activation": "tanh"}
    how = {"optimizer": dp.SGD(0.1, momentum=0.5), "batch_size": 6, "epochs": 2, "l2": 0.1}
    assert_equal_fits(device, [6, 11, 9, 17, 3], X, y, options, **how)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_sizes(data):
    device = backend_or_skip("cuda-on-host")
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    m, batch = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=2, max_size=5))
    X, Y = rng.standard_normal((m, sizes[0])), rng.uniform(0.1, 0.9, (m, sizes[-1]))
    how = {"optimizer": data.draw(st.sampled_from(OPTIMIZERS)), "batch_size": batch, "epochs": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_memory, "CLUSTERS", (data.draw(st.sampled_from((1, 2, 4, 8))),))
        assert_equal_fits(device, sizes, X, Y, {}, **how)


def test_wide_inputs_are_copied_sixteen_bytes_at_a_time(device, blocks, rng):
    X, y = rng.standard_normal((25, 784)), rng.integers(0, 10, 25)
    options = {"loss": "categorical_cross_entropy", "dtype": "float32"}
    assert_equal_fits(device, [784, 30, 10], X, y, options, optimizer=dp.SGD(0.1), batch_size=10, epochs=1)


@pytest.mark.parametrize("first", [0, 1, 2, 4])
def test_arrays_that_begin_anywhere(device, first, rng):
    """Rows of 32 bytes are copied in pieces of 16 or of 4 bytes, as the first entry allows."""
    X, Y, order = rng.standard_normal((19, 8)), rng.uniform(size=(19, 4)), rng.permutation(19)
    trainers: list[Any] = []
    dtype: Any
    for backend, dtype in ((device, "float32"), (get_backend("reference"), "float64")):
        net = dp.Network([8, 6, 4], backend=backend, seed=3, dtype=dtype)
        whole = (backend.asarray(np.concatenate([np.zeros(first), data.ravel()]), dtype) for data in (X, Y))
        x, y = (array[first:].reshape(19, -1) for array in whole)
        trainers.append(Trainer(net, x, y, dp.SGD(0.1), Objective(0.1), 5, shuffled=True))
        trainers[-1].epoch(0.1, order, Silent())
    run = trainers[0].whole_epoch.run
    assert run.backend.bytes_a_copy(run.X) == {0: 16, 1: 4, 2: 8, 4: 16}[first]
    ours, reference = (t.network.backend.to_numpy(t.network.parameters) for t in trainers)
    assert relative(ours, reference) < 1e-5


@pytest.mark.parametrize("optimizer", [dp.SGD(0.2, momentum=0.5), dp.Adam(0.01)], ids=repr)
def test_many_networks_for_many_epochs_in_one_launch(device, blocks, optimizer, rng):
    """Each has its own learning rate and order, and equals the same network trained alone by NumPy."""
    members, epochs, samples, batch, sizes = 3, 2, 17, 5, (6, 9, 4)
    X, Y = rng.standard_normal((samples, 6)), np.eye(4)[rng.integers(0, 4, samples)]
    alone = [
        dp.Network(sizes, loss="categorical_cross_entropy", backend="reference", seed=seed) for seed in range(members)
    ]
    orders = np.array([[rng.permutation(samples) for _ in range(epochs)] for _ in range(members)])
    parameters = device.asarray(np.array([net.parameters for net in alone]), np.float64)
    rule = known_rule(optimizer)
    moments = [device.zeros(parameters.shape, np.float64) for _ in range(rule.moments)]
    activations, loss = alone[0].activations, alone[0].loss
    residence = find_residence(device, sizes, activations, loss, np.dtype("float64"), batch, rule, members=members)
    assert residence is not None
    steps = -(-samples // batch)
    terms = np.zeros((members, epochs * steps, 5))
    for k in range(members):
        for s in range(epochs * steps):
            terms[k, s, 0] = 1.0 / min(batch, samples - s % steps * batch)
        terms[k, :, 1] = 0.01 * k
        terms[k, :, 3:] = optimizer.rates(optimizer.learning_rate / (k + 1), 0, epochs * steps)
    cost, decay, squares = (device.zeros((members, epochs), np.float64) for _ in range(3))
    x, y = device.asarray(X, np.float64), device.asarray(Y, np.float64)
    run = ResidentRun(device, residence, parameters, moments, x, y)
    diverged = run(terms, orders, None, cost, decay, squares, epochs=epochs)
    assert not device.to_numpy(diverged).any()
    for k, net in enumerate(alone):
        own = type(optimizer)(**{**vars(optimizer), "learning_rate": optimizer.learning_rate / (k + 1)})
        state = own.init(net)
        for epoch in range(epochs):
            total = 0.0
            for start in range(0, samples, batch):
                rows = orders[k, epoch, start : start + batch]
                total += net.cost(X[rows], Y[rows]) * len(rows)
                _, gradient = net.cost_and_gradient(X[rows], Y[rows], l2=0.01 * k, l2_scaling="absolute")
                own.update(net, gradient, state, own.learning_rate)
            assert float(cost[k, epoch]) == pytest.approx(total, rel=1e-12)
            norm = sum((W**2).sum() for W in net.weights)
            assert float(squares[k, epoch]) == pytest.approx(norm, rel=1e-12)
        assert relative(device.to_numpy(parameters)[k], net.parameters) < 1e-12


@pytest.mark.parametrize("keep", [False, True])
def test_a_network_that_diverges_ends_and_the_others_go_on(device, blocks, keep, rng):
    members, epochs, samples, sizes = 2, 4, 8, (3, 4, 1)
    activations, dtype = ("relu", "identity"), np.dtype("float32")
    residence = find_residence(device, sizes, activations, "squared_error", dtype, 4, known_rule(dp.SGD()), members)
    assert residence is not None
    first = rng.standard_normal((members, 21)).astype(dtype)
    parameters = device.asarray(first.copy(), dtype)
    x = device.asarray(rng.standard_normal((samples, 3)), dtype)
    y = device.asarray(rng.standard_normal((samples, 1)), dtype)
    terms = np.zeros((members, epochs * 2, 5))
    terms[:, :, 0] = 0.25
    terms[0, :, 3], terms[1, :, 3] = 1e30, 1e-3
    cost, decay, squares = (device.zeros((members, epochs), np.float64) for _ in range(3))
    run = ResidentRun(device, residence, parameters, (), x, y)
    diverged = device.to_numpy(run(terms, None, None, cost, decay, squares, epochs=epochs, keep_last_good=keep))
    assert diverged[0] == 1 if keep else diverged[0] > 0
    assert diverged[1] == 0
    after = device.to_numpy(parameters)
    assert np.isfinite(after[1]).all()
    assert not np.array_equal(after[1], first[1])
    assert np.array_equal(after[0], first[0]) if keep else not np.isfinite(after[0]).all()


def test_networks_that_do_not_fit_are_trained_layer_by_layer(device, launches, rng):
    X, y = rng.standard_normal((12, 9)), rng.integers(0, 3, 12)
    limit = device.shared_memory_limits()[0]
    rule = known_rule(dp.Adam())

    def find(sizes, batch):
        activations = ("sigmoid",) * (len(sizes) - 2) + ("softmax",)
        return find_residence(device, sizes, activations, "categorical_cross_entropy", np.dtype("float32"), batch, rule)

    assert find((784, 30, 10), 10).shared_bytes <= limit
    assert find((784, 2000, 10), 10) is None
    assert find((784, 30, 10), 1000) is None
    assert find((4,) * 10, 4) is None
    options = {"loss": "categorical_cross_entropy", "hidden_activation": "tanh"}
    how = {"optimizer": dp.Adam(0.01), "batch_size": 5, "epochs": 1, "l2": 0.1}
    assert_equal_fits(device, [9, *(4,) * 9, 3], X, y, options, **how)
    assert_equal_fits(device, [9, 4, 3], X, y, options, dropout=0.0, **how)
    assert len(launches) == 1


def test_what_the_kernel_does_not_know_is_left_to_the_steps(device, rng):
    X, Y = (device.asarray(rng.standard_normal(shape), np.float64) for shape in ((8, 3), (8, 2)))
    cost = device.zeros((), np.float64)

    def find(optimizer=None, dropout=(), **options):
        optimizer = optimizer or dp.SGD()
        net = dp.Network([3, 4, 2], backend=device, **{"loss": "squared_error"} | options)
        return ResidentEpoch.find(Task(net, X, Y, optimizer, optimizer.init(net), 4, cost, cost, cost, dropout))

    class Own(dp.SGD):
        pass

    assert find() is not None
    assert find(Own()) is None
    assert find(dropout=(0.5,)) is None
    assert find(loss=(lambda a, y: (a - y) ** 2, lambda a, y: 2 * (a - y))) is None
    assert find(output_error="simplified", output_activation="sigmoid") is None


def test_more_blocks_where_there_is_more_to_do(device):
    def blocks(sizes, batch, members=1):
        activations = ("sigmoid",) * (len(sizes) - 1)
        loss, dtype = "binary_cross_entropy", np.dtype("float32")
        found = find_residence(device, sizes, activations, loss, dtype, batch, known_rule(dp.SGD()), members)
        assert found is not None
        return found.blocks

    multiprocessors = device.shared_memory_limits()[2]
    assert blocks((4, 3, 1), 1) == 1
    assert blocks((784, 30, 10), 10, members=10 * multiprocessors) == 1


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("optimizer", [dp.SGD(0.1), dp.AdamW(0.01)], ids=repr)
def test_many_epochs_a_launch_are_the_same_as_one_by_one(device, launches, optimizer, weighted, monkeypatch, rng):
    """The bits are the same, also of costs with penalties, with a callback, a limit or two fits."""
    X, y = rng.standard_normal((37, 6)), rng.integers(0, 4, 37)
    options = {"loss": "categorical_cross_entropy", "backend": device, "seed": 4, "dtype": "float32"}
    how = {"optimizer": optimizer, "batch_size": 8, "l2": 0.3}
    if weighted:
        how["sample_weight"] = rng.uniform(0.5, 2, 37)
    whole, watched, limited = (dp.Network([6, 9, 4], **options) for _ in range(3))
    expected = whole.fit(X, y, epochs=5, **how)
    assert launches == [1]
    seen = watched.fit(X, y, epochs=5, callbacks=[lambda event: None], **how)
    assert len(launches) == 6
    monkeypatch.setattr(resident, "STEPS_A_CALL", 11)  # two epochs of five steps
    assert limited.fit(X, y, epochs=5, **how).cost == expected.cost
    assert len(launches) == 9
    assert seen.cost == expected.cost
    assert expected.epochs == len(expected.seconds) == len(expected.learning_rate) == 5
    for other in (watched, limited):
        assert np.array_equal(device.to_numpy(other.parameters), device.to_numpy(whole.parameters))
        assert other.epochs_trained == whole.epochs_trained == 5


def test_divergence_in_the_middle_of_a_launch(device, launches, rng):
    """Parameters of the last good epoch and the history up to it are kept, as with single epochs."""
    X, Y = rng.standard_normal((8, 3)), rng.standard_normal((8, 1))
    nets = [dp.Network([3, 8, 1], hidden_activation="relu", loss="squared_error", backend=device) for _ in range(2)]
    errors = []
    for net, callbacks in zip(nets, ([], [lambda event: None]), strict=True):
        with pytest.raises(dp.DivergenceError, match="training diverged") as error:
            net.fit(X, Y, optimizer=dp.SGD(3.0), batch_size=4, epochs=50, callbacks=callbacks)
        errors.append(error.value)
    at_once, one_by_one = errors
    assert at_once.epoch == one_by_one.epoch > 1
    assert at_once.history.cost == one_by_one.history.cost
    assert len(at_once.history.cost) == at_once.epoch - 1
    assert np.array_equal(*(device.to_numpy(net.parameters) for net in nets))
    assert nets[0].epochs_trained == nets[1].epochs_trained == at_once.epoch - 1


@pytest.mark.parametrize("resident", [True, False])
def test_an_epoch_taken_up_in_its_middle(device, resident, monkeypatch, rng):
    """From another backend's checkpoint, single steps train on the remaining minibatches only."""
    if not resident:
        monkeypatch.setattr(ResidentEpoch, "find", lambda *_: None)
    X, Y, order = rng.standard_normal((30, 5)), rng.uniform(size=(30, 2)), rng.permutation(30)
    trainers: list[Any] = []
    for backend in (device, get_backend("reference")):
        net = dp.Network([5, 6, 2], backend=backend, seed=3)
        x, y = (backend.asarray(data, np.float64) for data in (X, Y))
        trainers.append(Trainer(net, x, y, dp.Adam(0.1), Objective(0.2), 4, shuffled=True))
    before = trainers[1].network.parameters.copy()
    for trainer in trainers:
        trainer.state["step"] = 5
        trainer.epoch(0.1, order, Silent(), first=5)
    ours, reference = (t.network.backend.to_numpy(t.network.parameters) for t in trainers)
    assert relative(ours, reference) < 1e-12
    assert trainers[0].total() == pytest.approx(trainers[1].total(), rel=1e-12)
    assert trainers[0].state["step"] == 8
    assert not np.array_equal(reference, before)


def trainers_of(sizes, optimizer, samples, batch, backends, rng, **options):
    """Return trainers of the same training on each backend."""
    X, Y = rng.standard_normal((samples, sizes[0])), rng.uniform(size=(samples, sizes[-1]))
    weight = rng.uniform(0.5, 2, samples)
    trainers: list[Any] = []
    for backend in backends:
        net = dp.Network(sizes, backend=backend, seed=3)
        x, y = (backend.asarray(data, np.float64) for data in (X, Y))
        own = {"sample_weight": backend.asarray(weight, np.float64)} if options.get("weighted") else {}
        trainers.append(Trainer(net, x, y, optimizer, Objective(0.2), batch, shuffled=True, **own))
    return trainers


@pytest.mark.parametrize("way", ["resident", "captured"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_what_changes_from_epoch_to_epoch(device, monkeypatch, way, optimizer, weighted, rng):
    """With constant and changing learning rates and orders it equals NumPy's steps: no old value is reused."""
    if way == "captured":
        monkeypatch.setattr(ResidentEpoch, "find", lambda *_: None)
    ours, reference = trainers_of(
        (5, 6, 2), optimizer, 22, 4, (device, get_backend("reference")), rng, weighted=weighted
    )
    for rate in (0.05, 0.05, 0.02, 0.05, 0.05):
        order = rng.permutation(22)
        for trainer in (ours, reference):
            trainer.epoch(rate, order, Silent())
        assert ours.total() == pytest.approx(reference.total(), rel=1e-12)
        assert relative(device.to_numpy(ours.network.parameters), reference.network.parameters) < 1e-12


@pytest.mark.parametrize("way", ["resident", "captured"])
@pytest.mark.parametrize("optimizer", [dp.SGD(0.1), dp.Adam(0.01)], ids=repr)
def test_what_an_epoch_asks_of_the_device(monkeypatch, way, optimizer, rng):
    """From the third epoch on it allocates nothing and waits for nothing, and makes one upload."""
    device = backend_or_skip("cuda-on-host")
    if way == "captured":
        monkeypatch.setattr(ResidentEpoch, "find", lambda *_: None)
    (trainer,) = trainers_of((5, 6, 2), optimizer, 22, 4, [device], rng)
    assert type(trainer.whole_epoch).__name__ == {"resident": "ResidentEpoch", "captured": "GraphEpoch"}[way]
    with counting(device) as counted:
        float(device.asarray(np.ones(()), np.float64))
    assert counted == {"allocates": 1, "uploads": 1, "waits": 1}
    for _ in range(2):
        trainer.epoch(0.1, rng.permutation(22), Silent())
    for rate in (0.1, 0.1, 0.05):
        with counting(device) as counted:
            trainer.epoch(rate, rng.permutation(22), Silent())
        assert counted == {"uploads": 1}
        for ask in (lambda: float(trainer.cost), trainer.sums_on_host, trainer.total if way == "resident" else None):
            if ask is not None:
                with counting(device) as counted:
                    ask()
                assert counted == {"waits": 1}


def test_what_stays_the_same_is_made_once(monkeypatch, rng):
    """So are the shape in C++, the width of copies, the plan's place, and the table of steps without Adam's rates."""
    device = backend_or_skip("cuda-on-host")
    monkeypatch.setattr(device, "compiles_shapes", True)
    monkeypatch.setattr(shared_memory, "THREADS", (64,))
    (trainer,) = trainers_of((5, 6, 2), dp.SGD(0.1), 22, 4, [device], rng)
    trainer.epoch(0.1, rng.permutation(22), Silent())

    def again(*arguments):
        raise AssertionError(arguments)

    for owner, name in (
        (shared_memory, "_written"),
        (shared_memory, "find_residence"),
        (shared_memory, "Message"),
        (device, "bytes_a_copy"),
        (dp.SGD, "rates"),
        (Trainer, "terms"),
    ):
        monkeypatch.setattr(owner, name, again)
    before = device.to_numpy(trainer.network.parameters).copy()
    trainer.epoch(0.1, rng.permutation(22), Silent())
    assert not np.array_equal(device.to_numpy(trainer.network.parameters), before)
    with pytest.raises(AssertionError):
        trainer.epoch(0.2, rng.permutation(22), Silent())
