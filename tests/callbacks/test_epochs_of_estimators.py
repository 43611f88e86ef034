"""Callbacks of estimators are told of the epochs of one training, also where it goes on from another."""

import csv
from typing import Any

import pytest

import deltaprop as dp
from deltaprop.callbacks import CSVLogger, ModelCheckpoint


@pytest.fixture
def data(rng):
    X = rng.standard_normal((40, 3))
    return X, X @ [1.0, -2.0, 0.5]


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def interrupt(event):
    """End training as Ctrl-C would, at the end of an epoch, before its checkpoint is written."""
    if event.epoch == 4:
        raise KeyboardInterrupt


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_fit_that_goes_on_from_another_records_its_own_epochs(data, tmp_path, early_stopping):
    """`loss_curve_` holds the epochs of both fits; callbacks are told of those of the second one."""
    path, kept = tmp_path / "training.csv", tmp_path / "best.safetensors"
    keep = ModelCheckpoint(kept, monitor="cost", save_best_only=True)
    mlp = dp.MLPRegressor(
        hidden_layer_sizes=5,
        max_iter=3,
        warm_start=True,
        early_stopping=early_stopping,
        random_state=0,
        backend="numpy",
    )
    with pytest.warns(UserWarning, match="Maximum iterations"):
        mlp.fit(*data)
    mlp.set_params(callbacks=[CSVLogger(path), keep], alpha=1e3, learning_rate_init=1e-9)  # a cost above all before
    with pytest.warns(UserWarning, match="Maximum iterations"):
        mlp.fit(*data)
    rows = rows_of(path)
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert [float(row["cost"]) for row in rows] == mlp.loss_curve_[3:]
    assert min(mlp.loss_curve_[3:]) > max(mlp.loss_curve_[:3])
    assert keep.best == min(mlp.loss_curve_[3:])
    assert keep.saved == str(kept)


def test_each_partial_fit_is_a_training_of_one_epoch(data, tmp_path):
    path = tmp_path / "training.csv"
    mlp = dp.MLPRegressor(
        hidden_layer_sizes=5, callbacks=[CSVLogger(path, append=True)], random_state=0, backend="numpy"
    )
    for _ in range(3):
        mlp.partial_fit(*data)
    assert [float(row["cost"]) for row in rows_of(path)] == mlp.loss_curve_


def test_an_estimator_that_goes_on_from_a_checkpoint_has_every_epoch_in_the_file(data, tmp_path):
    path = tmp_path / "training.csv"
    options: dict[str, Any] = {"checkpoint": tmp_path / "run"}

    def regressor(*callbacks):
        return dp.MLPRegressor(
            hidden_layer_sizes=5, max_iter=6, callbacks=list(callbacks), random_state=0, backend="numpy"
        )

    with pytest.warns(UserWarning, match="interrupted by user"):
        regressor(CSVLogger(path), interrupt).fit(*data, **options)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        mlp = regressor(CSVLogger(path)).fit(*data, **options, resume=True)
    rows = rows_of(path)
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [float(row["cost"]) for row in rows] == mlp.loss_curve_


def test_iterations_of_lbfgs_have_their_seconds(data, tmp_path):
    path, ended = tmp_path / "training.csv", []

    def count(event):
        ended.append(event.epoch)

    mlp = dp.MLPRegressor(solver="lbfgs", hidden_layer_sizes=5, callbacks=[CSVLogger(path), count], backend="numpy")
    mlp.fit(*data)
    rows = rows_of(path)
    assert [int(row["epoch"]) for row in rows] == ended == list(range(1, mlp.n_iter_ + 1))
    assert all(float(row["seconds"]) >= 0.0 for row in rows)
