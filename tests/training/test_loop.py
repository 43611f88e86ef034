"""fit makes the right updates, visits samples in the right order, records, and stops when it should."""

import tracemalloc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import reference
from cases import relative
from conftest import backend_or_skip, require_emulation
from host_cuda import HostCudaBackend, OutOfMemoryError

import deltaprop as dp
from deltaprop.epochs.resident import ResidentEpoch


@pytest.fixture
def data(rng):
    X = rng.standard_normal((23, 4))
    return X, (X @ rng.standard_normal((4, 3))).argmax(axis=1)


def network(backend="numpy", **options):
    plain: dict[str, Any] = {"loss": "categorical_cross_entropy", "hidden_activation": "tanh", "seed": 5}
    return dp.Network([4, 6, 3], backend=backend, **plain | options)


def numpy_parameters(net):
    return net.backend.to_numpy(net.parameters).copy()


@pytest.mark.parametrize("batch_size", [1, 5, 23, 100, None])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_an_epoch_is_the_loop_over_minibatches(backend, data, batch_size, reduction):
    """θ := θ − η ∂J/∂θ by the reference, minibatch by minibatch; the short one is divided by its own length."""
    X, y = data
    net = network(backend)
    W = [net.backend.to_numpy(w).copy() for w in net.weights]
    b = [net.backend.to_numpy(v).copy() for v in net.biases]
    Y, n, costs = np.eye(3)[y], batch_size or 23, []
    for start in range(0, 23, n):
        part = slice(start, start + n)
        m = len(X[part])
        J, dW, db, _ = reference.cost_and_gradient(
            W, b, net.activations, net.loss, X[part], Y[part], reduction=reduction
        )
        costs.append(J * m if reduction == "mean" else J)
        # The penalty belongs to the whole training set: λ/m with m = 23.
        W = [w - 0.1 * (d + 0.4 / 23 * w) for w, d in zip(W, dW, strict=True)]
        b = [v - 0.1 * d for v, d in zip(b, db, strict=True)]
    history = net.fit(
        X, y, optimizer=dp.SGD(0.1), batch_size=batch_size, epochs=1, l2=0.4, shuffle=False, reduction=reduction
    )
    assert relative([net.backend.to_numpy(w) for w in net.weights], W) < 1e-12
    assert relative([net.backend.to_numpy(v) for v in net.biases], b) < 1e-12
    J = sum(costs) / (23 if reduction == "mean" else 1) + 0.4 / 46 * sum((w**2).sum() for w in W)
    assert history.cost == [pytest.approx(J, rel=1e-12)]


def test_shuffling_visits_every_sample_once_in_a_new_order_each_epoch(data):
    """At a tiny rate, the changes of an epoch add up to those of a full batch."""
    X, y = data
    net = network()
    before = numpy_parameters(net)
    _, gradient = net.cost_and_gradient(X, y, reduction="sum")
    net.fit(X, y, optimizer=dp.SGD(1e-9), batch_size=4, epochs=2, reduction="sum")
    assert relative(net.parameters - before, -2e-9 * gradient.flat) < 1e-5
    first, second = (np.random.default_rng((5, 1, epoch)).permutation(23) for epoch in range(2))
    assert not np.array_equal(first, second)


def test_shuffled_epochs_follow_the_permutation(backend, data):
    X, y = data
    shuffled, by_hand = network(backend), network(backend)
    shuffled.fit(X, y, optimizer=dp.SGD(0.2), batch_size=5, epochs=3)
    for epoch in range(3):
        order = np.random.default_rng((5, 1, epoch)).permutation(23)
        by_hand.fit(X[order], y[order], optimizer=dp.SGD(0.2), batch_size=5, epochs=1, shuffle=False)
    assert np.array_equal(numpy_parameters(shuffled), numpy_parameters(by_hand))


@pytest.mark.parametrize("optimizer", [dp.SGD(0.3), dp.SGD(dp.ExponentialDecay(0.3, 0.5))])
def test_the_same_numbers_whoever_is_watching(data, optimizer, capsys):
    X, y = data
    quiet, watched, resumed = network(), network(), network()
    quiet.fit(X, y, optimizer=dp.SGD(0.3), batch_size=5, epochs=4)
    watched.fit(
        X, y, optimizer=dp.SGD(0.3), batch_size=5, epochs=4, progress=True, validation=(X, y),
        callbacks=[lambda event: event.network.predict(X) is None],
    )  # fmt: skip
    resumed.fit(X, y, optimizer=dp.SGD(0.3), batch_size=5, epochs=1)
    resumed.fit(X, y, optimizer=dp.SGD(0.3), batch_size=5, epochs=3)
    assert np.array_equal(quiet.parameters, watched.parameters)
    assert np.array_equal(quiet.parameters, resumed.parameters)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "validation accuracy" in captured.err


@pytest.mark.parametrize("weighted", [False, True])
def test_nothing_is_allocated_in_a_step(weighted):
    """After the first steps, the peak of traced memory grows by less than half the smallest buffer."""
    from deltaprop.derivation.backprop import Objective
    from deltaprop.epochs.steps import Minibatch
    from deltaprop.epochs.trainer import Trainer

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((1280, 200)), rng.integers(0, 10, 1280)
    for optimizer in (dp.SGD(0.01), dp.SGD(0.01, momentum=0.9, nesterov=True), dp.AdamW(0.001)):
        for hidden in ("sigmoid", "relu", "tanh", "softplus", "gelu"):
            for loss in ("categorical_cross_entropy", "binary_cross_entropy", "huber"):
                net = dp.Network([200, 300, 10], hidden_activation=hidden, loss=loss, backend="reference")
                inputs, targets = net._door.data(X, y)
                weight = net._door.weights(rng.random(1280) if weighted else None, inputs)
                trainer = Trainer(
                    net, inputs, targets, optimizer, Objective(0.1), 256, shuffled=True, sample_weight=weight
                )
                trainer.steps.make_buffers(shuffled=True)  # single steps
                order = rng.permutation(1280)
                buffers = trainer.steps.batches[256]

                def step(start, net=net, trainer=trainer, order=order, buffers=buffers, weight=weight):
                    for array, buffer in zip((trainer.X, trainer.Y), buffers, strict=True):
                        net.backend.gather(array, order[start : start + 256], out=buffer)
                    batch_weight = None if weight is None else weight[start : start + 256]
                    trainer.steps.take(
                        Minibatch(0, buffers[0], buffers[1], batch_weight), trainer.terms(256, 128.0), 0.001
                    )

                step(0)
                step(256)
                tracemalloc.start()
                before, _ = tracemalloc.get_traced_memory()
                tracemalloc.reset_peak()
                for start in range(0, 1280, 256):
                    step(start)
                _, peak = tracemalloc.get_traced_memory()
                tracemalloc.stop()
                # The smallest buffer of a step is δ^(L), 256 × 10 × 8 = 20 480 bytes; views and numbers are far below.
                assert peak - before < 10_000, (optimizer, hidden, loss)


def test_history(data):
    X, y = data
    net = network()
    history = net.fit(
        X, y, optimizer=dp.SGD(dp.StepDecay(0.4, 0.5, 2)), epochs=5, batch_size=8, validation=(X[:9], y[:9])
    )
    assert history.epochs == 5
    assert history.learning_rate == [0.4, 0.4, 0.2, 0.2, 0.1]
    assert history.validation_cost[-1] == pytest.approx(net.cost(X[:9], y[:9]), rel=1e-13)
    expected = float((net.predict(X[:9]).argmax(axis=1) == y[:9]).mean())
    assert history.metrics == {"accuracy": [*history.metrics["accuracy"][:-1], expected]}
    assert all(seconds > 0 for seconds in history.seconds)
    assert history.cost[-1] < history.cost[0]
    assert history.best_epoch is None
    assert history.message == "all 5 epochs done"


def test_metrics_by_name_and_by_function(rng):
    X, Y = rng.standard_normal((30, 2)), rng.standard_normal((30, 1))
    net = dp.Network([2, 3, 1], loss="squared_error", backend="numpy")

    def bias(prediction, Y):
        return (prediction - Y).mean()

    history = net.fit(
        X, Y, epochs=1, validation=(X, Y), metrics=["mean_squared_error", "mean_absolute_error", "r2", bias]
    )
    error = net.predict(X) - Y
    assert history.metrics["mean_squared_error"] == [pytest.approx((error**2).mean())]
    assert history.metrics["mean_absolute_error"] == [pytest.approx(abs(error).mean())]
    assert history.metrics["r2"] == [pytest.approx(1 - (error**2).mean() / Y.var())]
    assert history.metrics["bias"] == [pytest.approx(error.mean())]


def test_early_stopping_restores_the_best_epoch(data):
    """Validation labels contradict the training labels, so the cost is best at the start and rises."""
    X, y = data
    net, seen = network(), []
    history = net.fit(
        X, y, optimizer=dp.SGD(0.5), epochs=50, validation=(X, (y + 1) % 3), early_stopping=dp.EarlyStopping(3),
        callbacks=[lambda event: seen.append(event.network.parameters.copy())],
    )  # fmt: skip
    best = int(np.argmin(history.validation_cost))
    assert history.best_epoch == best + 1
    assert history.epochs == best + 1 + 3
    assert "stopped early" in history.message
    assert np.array_equal(net.parameters, seen[best])


def test_early_stopping_on_accuracy_rises():
    stop = dp.EarlyStopping(2, monitor="accuracy")
    history = dp.History(cost=[1.0] * 4, metrics={"accuracy": [0.5, 0.7, 0.6, 0.7]})
    assert stop.best_epoch(history) == 2
    assert stop.should_stop(history)
    assert dp.EarlyStopping(2, monitor="accuracy", mode="min").best_epoch(history) == 1


def test_a_callback_ends_training(data):
    history = network().fit(*data, epochs=9, callbacks=[lambda event: event.epoch == 2, lambda event: False])
    assert history.epochs == 2
    assert "callback" in history.message


def test_divergence_keeps_the_last_good_parameters(data):
    X, y = data
    net, seen = network(loss="squared_error", output_activation="identity", hidden_activation="relu"), []
    with pytest.raises(dp.DivergenceError, match=r"diverged: .* in epoch 3, step .* at learning rate 1e\+38") as caught:
        net.fit(
            X, y, optimizer=dp.SGD(dp.StepDecay(1e-7, 1e45, 2)), epochs=30, batch_size=5,
            callbacks=[lambda event: seen.append(event.network.parameters.copy())],
        )  # fmt: skip
    assert caught.value.epoch == caught.value.history.epochs + 1 == 3
    assert caught.value.learning_rate == pytest.approx(1e38)
    assert np.array_equal(net.parameters, seen[-1])
    assert np.isfinite(net.parameters).all()


def test_xor_is_learned(backend):
    X, Y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    net = dp.Network([2, 8, 1], backend=backend, seed=3)
    net.fit(X, Y, optimizer=dp.Adam(0.1), epochs=300)
    assert (net.predict(X)[:, 0] > 0.5).tolist() == [False, True, True, False]


def test_schedules():
    none = dp.History()
    assert [dp.StepDecay(1.0, 0.1, 2)(e, none) for e in range(4)] == pytest.approx([1, 1, 0.1, 0.1])
    assert [dp.ExponentialDecay(2.0, 0.5)(e, none) for e in range(3)] == [2, 1, 0.5]
    assert [dp.InverseScaling(1.0, 0.5)(e, none) for e in (0, 3)] == [1, 0.5]
    cosine = dp.CosineDecay(1.0, 10, final=0.2, warmup=2)
    assert [cosine(e, none) for e in (0, 1, 2, 6, 10, 99)] == pytest.approx([1 / 3, 2 / 3, 1, 0.6, 0.2, 0.2])
    plateau = dp.ReduceOnPlateau(1.0, 0.5, patience=2)
    for costs, rate in (([], 1), ([3, 2, 1], 1), ([3, 3, 3], 0.5), ([3, 3, 3, 2, 2, 2], 0.25)):
        assert plateau(len(costs), dp.History(cost=list(map(float, costs)))) == rate


@pytest.mark.parametrize(("build", "message"), [
    (lambda: dp.SGD(-0.1), "learning_rate: expected a finite number above 0, got -0.1"),
    (lambda: dp.SGD(float("nan")), "learning_rate: .* got nan"),
    (lambda: dp.SGD(0.1, momentum=1.5), r"momentum: expected a number in \[0, 1\], got 1.5"),
    (lambda: dp.SGD(0.1, nesterov=True), "nesterov: expected momentum > 0"),
    (lambda: dp.Adam(0.1, beta_2=-1), "beta_2: .* got -1"),
    (lambda: dp.Adam(0.1, epsilon=0), "epsilon: .* got 0"),
    (lambda: dp.AdamW(0.1, weight_decay=-1), "weight_decay: .* got -1"),
    (lambda: dp.StepDecay(0.1, every=0), "every: .* got 0"),
    (lambda: dp.CosineDecay(0.1, 5, warmup=5), "warmup: .* got 5"),
    (lambda: dp.EarlyStopping(0), "patience: .* got 0"),
    (lambda: dp.EarlyStopping(mode="up"), "mode: .* got 'up'"),  # type: ignore[arg-type]
])  # fmt: skip
def test_bad_optimizers_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_learning_rate_that_is_no_number():
    with pytest.raises(TypeError, match=r"learning_rate: expected a number or a schedule, got '0.1'"):
        dp.SGD("0.1")  # type: ignore[arg-type]


@pytest.mark.parametrize(("options", "message"), [
    ({"epochs": 0}, "epochs: expected a whole number of at least 1, got 0"),
    ({"batch_size": 0}, "batch_size: .* got 0"),
    ({"l2": -1}, "l2: .* got -1"),
    ({"l2_scaling": "none"}, "l2_scaling: expected one of 'per_sample', 'absolute', got 'none'"),
    ({"reduction": "max"}, "reduction: expected one of 'mean', 'sum', got 'max'"),
    ({"metrics": ["accuracy"]}, "metrics: expected validation data"),
    ({"early_stopping": dp.EarlyStopping()}, "early_stopping: expected validation data"),
    ({"early_stopping": dp.EarlyStopping(monitor="f1")}, "monitor: expected one of .* got 'f1'"),
    ({"optimizer": dp.SGD(lambda epoch, history: -1.0)}, "learning_rate: .* got -1.0"),
    ({"validation": ([[1.0]], [0])}, r"validation X: expected 4 features \(shape \(m, 4\)\), got shape \(1, 1\)"),
])  # fmt: skip
def test_bad_arguments_of_fit_change_nothing(data, options, message):
    net = network()
    before = numpy_parameters(net)
    with pytest.raises(ValueError, match=message):
        net.fit(*data, **options)
    assert np.array_equal(net.parameters, before)


def test_wrong_kinds_of_arguments(data):
    for options, message in (
        ({"optimizer": "adam"}, r"optimizer: expected a dp.Optimizer \(SGD, Adam, AdamW or your own\), got 'adam'"),
        ({"epochs": 2.5}, "epochs: expected a whole number"),
        ({"validation": data[0]}, r"validation: expected a pair \(X, Y\)"),
        ({"early_stopping": 5}, "early_stopping: expected an EarlyStopping, got 5"),
    ):
        with pytest.raises(TypeError, match=message):
            network().fit(*data, **options)


def test_a_device_without_room_says_how_much_there_is(monkeypatch, rng):
    """The parameters do not change."""
    require_emulation()
    backend = HostCudaBackend()
    net = dp.Network([30, 20, 2], backend=backend)
    before = net.parameters.copy()
    X, Y = rng.standard_normal((40, 30)), rng.uniform(size=(40, 2))
    freed, limit = [], 4000
    make = backend.cp.empty

    def empty(shape, dtype):
        if np.prod(shape) * np.dtype(dtype).itemsize > limit:
            raise OutOfMemoryError
        return make(shape, dtype)

    monkeypatch.setattr(backend.cp, "empty", empty)
    pool = SimpleNamespace(free_all_blocks=lambda: freed.append(1))
    monkeypatch.setattr(backend.cp.cuda.runtime, "memGetInfo", lambda: (1000, 5000))
    monkeypatch.setattr(backend, "room", lambda: 10**9)
    monkeypatch.setattr(backend.cp, "get_default_memory_pool", lambda: pool)
    monkeypatch.setattr(ResidentEpoch, "find", lambda *_: None)
    with pytest.raises(MemoryError, match=r"9,600 bytes are needed on the device.*1,000 of 5,000 are free"):
        net.fit(X, Y, batch_size=None)
    assert freed == [1]
    assert np.array_equal(net.parameters, before)
    net.fit(X, Y, batch_size=8)
    assert not np.array_equal(net.parameters, before)


@pytest.mark.parametrize("kind", ["numpy", "reference", "cuda-on-host"])
@pytest.mark.parametrize("optimizer", [dp.SGD, dp.Adam])
def test_divergence_names_step_and_layer(kind, optimizer, rng):
    """A cost overflows in the third minibatch, or a z in the fourth."""
    backend = backend_or_skip(kind) if kind == "cuda-on-host" else kind
    X, Y = rng.standard_normal((20, 3)), rng.standard_normal((20, 2))
    watched: dict[str, Any] = {"callbacks": [lambda event: None]}  # unknown if many epochs are one launch
    Y[12] = 1e200  # its square is infinite
    net = dp.Network([3, 4, 2], loss="squared_error", backend=backend)
    with pytest.raises(
        dp.DivergenceError, match="epoch 1, step 3, first in the cost of layer 3, at learning"
    ) as caught:
        net.fit(X, Y, optimizer=optimizer(0.01), shuffle=False, batch_size=5, epochs=2, **watched)
    assert (caught.value.epoch, caught.value.step, caught.value.layer) == (1, 3, 3)
    net = dp.Network([3, 4, 2], loss="squared_error", hidden_activation="relu", init="zeros", backend=backend)
    net.weights[0][...] = 1e300
    X[:], X[17] = 0.0, 1e10
    with pytest.raises(dp.DivergenceError, match="first in the z of layer 2") as caught:
        net.fit(X, 0 * Y, optimizer=optimizer(1e-3), shuffle=False, batch_size=5, epochs=2, **watched)
    assert (caught.value.step, caught.value.layer) == (4, 2)


@pytest.mark.parametrize("optimizer", [dp.SGD(0.1), dp.Adam(), dp.AdamW()], ids=repr)
def test_a_gradient_that_does_not_fit_is_refused(optimizer):
    kinds: list[Any] = [(3, "float64"), (4, "float64"), (3, "float32")]
    net, wider, single = (dp.Network([2, size, 1], dtype=dtype) for size, dtype in kinds)
    before = net.parameters.copy()
    for other in (wider, single):
        _, gradient = other.cost_and_gradient(np.ones((2, 2)), np.ones((2, 1)))
        with pytest.raises(
            ValueError, match=r"gradient: expected \(13,\) of float64, as the network's parameters, got \("
        ):
            optimizer.update(net, gradient, optimizer.init(net), 0.1)
    np.testing.assert_array_equal(net.parameters, before)
