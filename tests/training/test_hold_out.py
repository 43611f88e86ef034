"""`validation=0.2`: a share of the rows is held out, the same for the same seed, and training knows nothing of it."""

from typing import Any

import numpy as np
import pytest
from processes import run
from small_runs import network

import deltaprop as dp
from deltaprop.inputs import arrays


class Rows:
    """A metric that notes the targets it is given: these are the numbers of the rows held out."""

    __name__ = "rows"

    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def __call__(self, prediction: Any, Y: Any) -> float:
        self.seen.append([int(y) for y in Y[:, 0]])
        return 0.0


def numbered(rng, rows=40):
    return rng.standard_normal((rows, 4)), np.arange(rows, dtype=float)


def regressor(backend="numpy", **options):
    return dp.Network([4, 5, 1], **{"loss": "squared_error", "backend": backend, "hidden_activation": "tanh"} | options)


def held_out_by(net, X, Y, fraction, **how):
    rows = Rows()
    net.fit(X, Y, validation=fraction, metrics=[rows], epochs=1, optimizer=dp.SGD(1e-9), **how)
    return rows.seen[0]


@pytest.mark.parametrize("kind", ["host", "owned", "list"])
def test_it_is_as_if_the_rows_were_given_apart(trained_on, rng, kind):
    X, Y = numbered(rng)
    held = held_out_by(regressor(trained_on), X, Y, 0.25)
    rest = np.setdiff1d(np.arange(40), held)
    assert len(held) == 10
    weights, nets = rng.uniform(size=40), [regressor(trained_on) for _ in range(2)]
    asarray = nets[0].backend.asarray
    given = {
        "host": (X, Y / 40),
        "owned": (asarray(X, float), asarray(Y / 40, float)),
        "list": (X.tolist(), list(Y / 40)),
    }
    how: dict[str, Any] = {"epochs": 3, "batch_size": 7, "optimizer": dp.Adam(0.01)}
    one = nets[0].fit(*given[kind], validation=0.25, metrics=["r2"], sample_weight=weights, **how)
    two = nets[1].fit(
        X[rest], Y[rest] / 40, validation=(X[held], Y[held] / 40), metrics=["r2"], sample_weight=weights[rest], **how
    )
    host = nets[0].backend.to_numpy
    assert np.array_equal(host(nets[0].parameters), host(nets[1].parameters))
    assert one.cost == two.cost
    assert one.metrics == two.metrics
    difference = nets[0].predict(X[held])[:, 0] - Y[held] / 40
    mean = np.average(0.5 * np.asarray(difference) ** 2, weights=weights[held])
    assert one.validation_cost[-1] == pytest.approx(mean, rel=1e-12)


def test_the_same_seed_holds_out_the_same_rows(rng):
    X, Y = numbered(rng)
    net = regressor(seed=5)
    first = held_out_by(net, X, Y, 0.2)
    assert held_out_by(net, X, Y, 0.2) == first  # also after training, or nothing would have been held out
    assert held_out_by(regressor(seed=5), X, Y, 0.2, batch_size=None, shuffle=False) == first
    assert held_out_by(regressor(seed=6), X, Y, 0.2) != first
    assert first == sorted(first)
    assert first != list(range(32, 40))


@pytest.mark.parametrize("form", ["labels", "one-hot", "column"])
def test_classes_keep_their_shares(rng, form):
    outputs = 1 if form == "column" else 3
    labels = rng.permutation(np.repeat(np.arange(max(2, outputs)), [80, 20] if outputs == 1 else [60, 30, 10]))
    seen: list[Any] = []

    def classes(prediction, Y):
        seen.append(Y[:, 0] if outputs == 1 else Y.argmax(axis=1))
        return 0.0

    loss: Any = "binary_cross_entropy" if outputs == 1 else "categorical_cross_entropy"
    net = dp.Network([2, outputs], loss=loss, backend="numpy")
    Y = np.eye(3)[labels] if form == "one-hot" else labels
    net.fit(rng.standard_normal((100, 2)), Y, validation=0.1, metrics=[classes], epochs=1)
    assert np.bincount(np.asarray(seen[0], int)).tolist() == ([8, 2] if outputs == 1 else [6, 3, 1])


@pytest.mark.parametrize("labels", [[0, 0, 0, 0, 0, 0, 0, 0, 1, 2], [0, 1, 2, 3, 4] * 2], ids=["rare", "many"])
def test_classes_that_cannot_keep_their_shares_are_no_error(rng, labels):
    net = dp.Network([2, 5], loss="categorical_cross_entropy", backend="numpy")
    assert len(net.fit(rng.standard_normal((10, 2)), labels, validation=0.2, epochs=2).validation_cost) == 2


def test_several_labels_a_sample_are_divided_at_random(rng):
    net = dp.Network([2, 3], backend="numpy")
    Y = rng.integers(0, 2, (20, 3))
    assert len(net.fit(rng.standard_normal((20, 2)), Y, validation=0.2, epochs=1).validation_cost) == 1


@pytest.mark.parametrize(("fraction", "error", "seen"), [
    (0, ValueError, "0"), (1, ValueError, "1"), (1.5, ValueError, "1.5"), (-0.1, ValueError, "-0.1"),
    (float("nan"), ValueError, "nan"), (True, TypeError, "True"), ("0.2", TypeError, "'0.2'"), ([0.2], TypeError, "list"),
])  # fmt: skip
def test_bad_fractions_are_refused(rng, fraction, error, seen):
    X, Y = numbered(rng)
    stack = dp.NetworkStack(2, [4, 1], loss="squared_error", backend="numpy")
    for fit in (regressor().fit, regressor().fit_full_batch, stack.fit, stack.fit_full_batch):
        with pytest.raises(
            error, match=rf"validation: expected a pair \(X, Y\), or a fraction .* 0 and 1, got {seen}$"
        ):
            fit(X, Y, validation=fraction)


def test_rows_and_weights_must_be_left(rng):
    X, Y = numbered(rng)
    with pytest.raises(ValueError, match=r"validation: expected a fraction that leaves rows to train on, got 0.2 of 1"):
        regressor().fit(X[:1], Y[:1], validation=0.2)
    held = held_out_by(regressor(), X, Y, 0.2)
    weights = np.zeros(40)
    weights[held] = 1.0
    for given, what in ((weights, "trained on"), (1.0 - weights, "held out")):
        with pytest.raises(
            ValueError, match=f"sample_weight: expected a weight above 0 among the rows {what}, got none"
        ):
            regressor().fit(X, Y, validation=0.2, sample_weight=given)


def on_disk(X, path):
    np.save(path, X.astype(np.float32))
    return np.load(path, mmap_mode="r")


def test_memory_mapped_and_converted_rows_are_as_arrays(rng, tmp_path, monkeypatch):
    X, labels = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    X = X.astype(np.float32).astype(float)
    how: dict[str, Any] = {"validation": 0.2, "epochs": 3, "batch_size": 7, "sample_weight": rng.uniform(size=60)}
    expected = network().fit(X, labels, **how)
    mapped = network().fit(on_disk(X, tmp_path / "X.npy"), labels, **how)
    monkeypatch.setattr(arrays, "CONVERTED_LIMIT", 8)
    converted = network().fit(X.astype(np.float32), labels, **how)
    for history in (mapped, converted):
        assert history.cost == expected.cost
        assert history.validation_cost == expected.validation_cost
        assert history.metrics == expected.metrics


def test_errors_name_the_rows_of_the_file(rng, tmp_path):
    X, Y = numbered(rng)
    held = held_out_by(regressor(), X, Y, 0.2)
    for row in (held[3], np.setdiff1d(np.arange(40), held)[20]):
        broken = X.copy()
        broken[row, 1] = np.nan
        with pytest.raises(ValueError, match=rf"X: expected finite numbers in float64, got nan at X\[{row}, 1\]"):
            regressor().fit(on_disk(broken, tmp_path / f"{row}.npy"), Y, validation=0.2)


def test_data_in_parts_are_refused(rng):
    class Batches:
        def __len__(self):
            return 2

        def __iter__(self):
            return iter([(np.ones((3, 4)), np.ones(3))] * 2)

    with pytest.raises(ValueError, match=r"validation: expected a pair .* data that come in parts .*got 0.2 with"):
        regressor().fit(Batches(), None, validation=0.2)


def test_members_hold_out_what_they_would_alone(trained_on, rng):
    X, labels, weights = rng.standard_normal((60, 4)), rng.integers(0, 3, 60), rng.uniform(size=60)
    options: dict[str, Any] = {"loss": "categorical_cross_entropy", "backend": trained_on}
    how: dict[str, Any] = {"validation": 0.2, "epochs": 3, "batch_size": 7, "sample_weight": weights}
    for own in (False, True):
        stack = dp.NetworkStack(3, [4, 6, 3], seeds=[4, 5, 4], **options)
        data = [(X[::step], labels[::step]) for step in (1, -1, 1)] if own else [(X, labels)] * 3
        given = [np.stack(arrays) for arrays in zip(*data, strict=True)] if own else (X, labels)
        histories = stack.fit(*given, **how)
        for k, history in enumerate(histories):
            expected = dp.Network([4, 6, 3], seed=[4, 5, 4][k], **options).fit(*data[k], **how)
            assert history.cost == pytest.approx(expected.cost, rel=1e-9)
            assert history.validation_cost == pytest.approx(expected.validation_cost, rel=1e-9)
            assert history.metrics == expected.metrics


def test_early_stopping_goes_by_it(rng):
    X, labels = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    net = network()
    history = net.fit(X, labels, validation=0.3, epochs=200, optimizer=dp.Adam(0.1), early_stopping=dp.EarlyStopping(3))
    assert history.best_epoch == 1 + int(np.argmin(history.validation_cost))
    assert history.epochs == history.best_epoch + 3


def test_full_batch_solvers_hold_rows_out(rng):
    X, Y = numbered(rng)
    held = held_out_by(regressor(), X, Y, 0.25)
    rest = np.setdiff1d(np.arange(40), held)
    nets = regressor(), regressor()
    weights = rng.uniform(size=40)
    how: dict[str, Any] = {"max_iter": 5, "l2": 0.1, "metrics": ["r2"]}
    one = nets[0].fit_full_batch(X, Y, validation=0.25, sample_weight=weights, **how)
    two = nets[1].fit_full_batch(X[rest], Y[rest], validation=(X[held], Y[held]), sample_weight=weights[rest], **how)
    assert (one.cost, one.metrics) == (two.cost, two.metrics)


RUN = """
rng = np.random.default_rng(3)
X, Y = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
net = dp.Network([4, 6, 3], loss="categorical_cross_entropy", backend="numpy")
how = {"epochs": 6, "batch_size": 7, "optimizer": dp.Adam(0.01), "validation": 0.2, "sample_weight": rng.uniform(size=60)}
"""


def test_a_resumed_run_holds_out_the_same_rows(tmp_path):
    """The other process dies after its third epoch."""
    path = tmp_path / "run.safetensors"
    names: dict[str, Any] = {"np": np, "dp": dp}
    exec(RUN, names)  # the lines that the process runs
    net, X, Y, how = (names[name] for name in ("net", "X", "Y", "how"))
    expected = net.copy().fit(X, Y, **how)
    run(
        f"{RUN}\n"
        f"net.fit(X, Y, **how, checkpoint={str(path)!r}, callbacks=[lambda end: end.epoch == 4 and os._exit(0)])\n"
    )
    with pytest.raises(ValueError, match=r"checkpoint: .* is of another run"):
        net.copy().fit(X, Y, **how | {"validation": 0.25}, checkpoint=path, resume=True)
    weights = how["sample_weight"][::-1]
    with pytest.raises(ValueError, match=r"checkpoint: .* is of another run: sample_weight"):
        net.copy().fit(X, Y, **how | {"sample_weight": weights}, checkpoint=path, resume=True)
    history = net.fit(X, Y, **how, checkpoint=path, resume=True)
    assert (history.cost, history.validation_cost) == (expected.cost, expected.validation_cost)
    assert history.metrics == expected.metrics
