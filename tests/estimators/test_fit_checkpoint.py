"""An estimator's fit that goes on from a checkpoint has the numbers, to the bit, of one that was never interrupted."""

import copy
import os
import warnings
from typing import Any

import numpy as np
import pytest
from processes import run
from scipy import sparse
from sklearn.base import clone
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import deltaprop as dp

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

#: Epochs after which the fit is interrupted, each time in a new object.
LEFT_OFF = (3, 6)
SOLVERS: dict[str, dict[str, Any]] = {
    "adam": {"solver": "adam", "learning_rate_init": 0.02},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.5, "tol": 0.05},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.3, "momentum": 0.5},
    "plain": {"solver": "sgd", "momentum": 0.0, "shuffle": False},
}
COMMON: dict[str, Any] = {
    "hidden_layer_sizes": (6,),
    "batch_size": 16,
    "max_iter": 14,
    "n_iter_no_change": 2,
    "random_state": 1,
}
KEPT = (
    "loss_curve_",
    "loss_",
    "best_loss_",
    "n_iter_",
    "t_",
    "validation_scores_",
    "validation_loss_curve_",
    "best_validation_score_",
    "_no_improvement_count",
    "_best_watched",
)


class StopError(Exception):
    """Stands for the death of a process."""


def stop_after(epoch):
    def callback(event):
        if event.epoch == epoch:
            raise StopError

    return callback


@pytest.fixture
def data(rng):
    X = rng.standard_normal((90, 4))
    return X, (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(int)


def interrupted(mlp, path, *data, left_off=LEFT_OFF, **how):
    """Fit copies of an estimator, which die after these epochs and go on from the file; return the last."""
    for epoch in left_off:
        with pytest.raises(StopError):
            copy.deepcopy(mlp).set_params(callbacks=[stop_after(epoch)]).fit(*data, **how, checkpoint=path, resume=True)
    return copy.deepcopy(mlp).fit(*data, **how, checkpoint=path, resume=True)


def assert_same(one, two):
    backend = two.network_.backend
    assert np.array_equal(*(backend.to_numpy(each.network_.parameters) for each in (one, two)))
    for name in KEPT:
        assert getattr(one, name) == getattr(two, name), name
    assert one._optimizer.learning_rate == two._optimizer.learning_rate
    for name, state in one._optimizer.state.items():
        other = two._optimizer.state[name]
        assert state == other if isinstance(state, int) else np.array_equal(*map(backend.to_numpy, (state, other)))
    assert one.network_.epochs_trained == two.network_.epochs_trained
    states = [each._random_state.get_state(legacy=False) for each in (one, two)]
    assert np.array_equal(*(state["state"]["key"] for state in states))
    assert states[0]["state"]["pos"] == states[1]["state"]["pos"]


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("kinds", [(dp.MLPClassifier, MLPClassifier), (dp.MLPRegressor, MLPRegressor)])
def test_a_fit_goes_on_where_it_left_off(trained_on, data, tmp_path, kinds, name, early_stopping):
    """It equals the fit that was not interrupted, and scikit-learn's."""
    settings = COMMON | SOLVERS[name] | {"early_stopping": early_stopping}
    mlp = kinds[0](**settings, backend=trained_on)
    expected = copy.deepcopy(mlp).fit(*data)
    resumed = interrupted(mlp, tmp_path / "run", *data, left_off=(2,) if expected.n_iter_ < 7 else LEFT_OFF)
    assert_same(resumed, expected)
    again = copy.deepcopy(mlp).fit(*data, checkpoint=tmp_path / "run", resume=True)  # nothing is left to do
    assert_same(again, expected)
    theirs = kinds[1](**settings).fit(*data)
    assert resumed.n_iter_ == theirs.n_iter_
    assert resumed.loss_curve_ == pytest.approx(theirs.loss_curve_, rel=1e-9)
    for ours, other in zip(resumed.coefs_, theirs.coefs_, strict=True):
        assert np.allclose(ours, other, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("state", [None, "RandomState"])
def test_generators_that_no_number_names(data, tmp_path, state):
    """Of random_state=None and of a generator, the file knows what was drawn."""
    given = None if state is None else np.random.RandomState(7)
    mlp = dp.MLPClassifier(**COMMON | {"random_state": given, "early_stopping": True}, backend="numpy")
    stopping = copy.deepcopy(mlp)
    drawn_before = np.random.get_state()
    expected = copy.deepcopy(mlp).fit(*data)
    np.random.set_state(drawn_before)
    with pytest.raises(StopError):
        stopping.set_params(callbacks=[stop_after(3)]).fit(*data, checkpoint=tmp_path / "run")
    np.random.random(100)  # what another process may have drawn
    here = np.random.get_state()
    if given is not None:
        given.random(100)
    resumed = mlp.fit(*data, checkpoint=tmp_path / "run", resume=True)
    assert np.array_equal(resumed.network_.parameters, expected.network_.parameters)
    assert resumed.validation_scores_ == expected.validation_scores_
    if given is None:  # the generator that everybody shares has drawn the first parameters, and nothing else
        alone = np.random.RandomState()
        alone.set_state(here)
        alone.random((4 + 1) * 6 + 6 + 1)
        assert np.random.random() == alone.random()
    else:
        assert resumed._random_state is given
        assert_same(resumed, expected)


def test_another_process_goes_on(data, tmp_path):
    path = tmp_path / "run.safetensors"
    program = f"""
rng = np.random.default_rng(2)
X = rng.standard_normal((90, 4))
y = np.array(["no", "yes"])[(X[:, 0] > 0) * 1]
mlp = dp.MLPClassifier((6,), batch_size=16, max_iter=9, random_state=4, dropout=0.2, early_stopping=True, backend="numpy")
if os.environ.get("DIES"):
    mlp.callbacks = [lambda end: end.epoch == 5 and os._exit(0)]
warnings.simplefilter("ignore")
options = dict(checkpoint={str(path)!r}, resume=True) if len(sys.argv) > 1 else {{}}
mlp.fit(X, y, X[:, 1] ** 2, **options)
print(mlp.network_.parameters.tobytes().hex(), mlp.loss_curve_, mlp.validation_scores_)
"""
    run(program, "resumable", env=os.environ | {"DIES": "1"})
    assert path.exists()
    assert run(program, "resumable") == run(program)
    assert dp.Network.load(path, backend="numpy").layer_sizes == (4, 6, 1)


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csc_array, np.float32])
def test_other_tables(data, tmp_path, kind):
    X = data[0].astype(np.float32) if kind is np.float32 else kind(np.where(data[0] > 0, data[0], 0.0))
    mlp = dp.MLPClassifier(**COMMON, backend="numpy")
    resumed = interrupted(mlp, tmp_path / "run", X, data[1], np.arange(90))
    assert_same(resumed, copy.deepcopy(mlp).fit(X, data[1], np.arange(90)))
    with pytest.raises(ValueError, match=r"checkpoint: .* is of another run: X .* there, .* here"):
        mlp.fit(X * 2, data[1], np.arange(90), checkpoint=tmp_path / "run", resume=True)


def test_data_that_judge_the_fit(data, tmp_path):
    X, y = data
    judges = X[::2], y[::2], np.arange(45.0)
    for early_stopping in (False, True):
        mlp = dp.MLPClassifier(**COMMON, early_stopping=early_stopping, backend="numpy")
        path = tmp_path / str(early_stopping)
        resumed = interrupted(mlp, path, X, y, validation_data=judges)
        assert_same(resumed, copy.deepcopy(mlp).fit(X, y, validation_data=judges))
        for other in ((X[::2], y[::2]), (X[1::2], y[1::2], judges[2]), None):
            with pytest.raises(ValueError, match="is of another run"):
                copy.deepcopy(mlp).fit(X, y, validation_data=other, checkpoint=path, resume=True)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_warm_starts(data, tmp_path, early_stopping):
    """The fit in the file began with what an earlier one had learned; a new object need not know of that one."""
    mlp = dp.MLPClassifier(
        **COMMON | {"max_iter": 4, "n_iter_no_change": 50, "early_stopping": early_stopping},
        warm_start=True,
        backend="numpy",
    )
    first = mlp.fit(*data)
    expected = copy.deepcopy(first).set_params(max_iter=6).fit(*data)
    path = tmp_path / "run"
    same = copy.deepcopy(first).set_params(max_iter=6, callbacks=[stop_after(3)])
    with pytest.raises(StopError):
        same.fit(*data, checkpoint=path)
    for going_on in (clone(same), same):
        resumed = going_on.set_params(callbacks=None).fit(*data, checkpoint=path, resume=True)
        assert_same(resumed, expected)
    assert len(expected.loss_curve_) == 10


def test_training_goes_on_as_after_an_uninterrupted_fit(data, tmp_path):
    mlp = dp.MLPClassifier(**COMMON | SOLVERS["adam"], backend="numpy")
    resumed = interrupted(mlp, tmp_path / "run", *data)
    expected = copy.deepcopy(mlp).fit(*data)
    for each in (resumed, expected):
        each.partial_fit(*data)
    assert_same(resumed, expected)
    longer = copy.deepcopy(mlp).set_params(max_iter=20, n_iter_no_change=50)
    more = interrupted(longer.set_params(max_iter=8), tmp_path / "more", *data).set_params(max_iter=20)
    assert_same(
        more.fit(*data, checkpoint=tmp_path / "more", resume=True), clone(longer).set_params(max_iter=20).fit(*data)
    )


def test_how_often_and_what_callbacks_see(data, tmp_path):
    path, seen = tmp_path / "run", []
    mlp = dp.MLPClassifier(**COMMON | {"n_iter_no_change": 50}, backend="numpy", callbacks=[stop_after(8)])
    with pytest.raises(StopError):
        mlp.fit(*data, checkpoint=path, checkpoint_every=3)
    mlp.callbacks = [lambda end: seen.append((end.epoch, len(end.history.cost), len(end.history.learning_rate)))]
    mlp.fit(*data, checkpoint=path, resume=True)
    assert seen == [(epoch, epoch, epoch) for epoch in range(7, 15)]
    assert mlp.n_iter_ == 14


def test_a_callback_that_ends_training_has_ended_it(data, tmp_path):
    mlp = dp.MLPClassifier(**COMMON, backend="numpy", callbacks=[lambda end: end.epoch == 4])
    ended = mlp.fit(*data, checkpoint=tmp_path / "run")
    resumed = clone(mlp).set_params(callbacks=None).fit(*data, checkpoint=tmp_path / "run", resume=True)
    assert ended.n_iter_ == resumed.n_iter_ == 4
    assert_same(resumed, ended)


def test_nothing_left_to_do_warns_as_the_fit_did(data, tmp_path):
    mlp = dp.MLPClassifier(**COMMON | {"max_iter": 3, "n_iter_no_change": 50}, backend="numpy")
    for resume in (False, True):
        with pytest.warns(UserWarning, match=r"Maximum iterations \(3\) reached"):
            mlp.fit(*data, checkpoint=tmp_path / "run", resume=resume)


OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"alpha": 0.5}, "alpha 0.0001 there, 0.5 here"),
    ({"random_state": 2}, "random_state 1 there, 2 here"),
    ({"batch_size": 30}, "batch_size 16 there, 30 here"),
    ({"hidden_layer_sizes": 7}, "layer_sizes"),
    ({"activation": "tanh"}, "hidden_activation"),
    ({"dtype": "float32"}, "dtype"),
    ({"shuffle": False}, "shuffle True there, False here"),
    ({"early_stopping": True}, "early_stopping False there, True here"),
    ({"class_weight": {0: 2.0, 1: 1.0}}, "sample_weight"),
    ({"solver": "sgd"}, "solver 'adam' there, 'sgd' here"),
]


@pytest.mark.parametrize(("change", "message"), OTHERS, ids=lambda each: str(each)[:25])
def test_the_file_of_another_run_is_refused(data, tmp_path, change, message):
    """A fitted estimator, its generator and the file stay as they were."""
    path, mlp = tmp_path / "run", dp.MLPClassifier(**COMMON | {"max_iter": 3}, backend="numpy")
    mlp.fit(*data, checkpoint=path)
    content, before = path.read_bytes(), {name: value for name, value in vars(mlp).items() if name.endswith("_")}
    with pytest.raises(ValueError, match=f"checkpoint: .*run is of another run: {message}"):
        mlp.set_params(**change).fit(*data, checkpoint=path, resume=True)
    assert {name: value for name, value in vars(mlp).items() if name.endswith("_")}.keys() == before.keys()
    assert all(vars(mlp)[name] is value for name, value in before.items())
    assert path.read_bytes() == content


def test_other_labels_and_other_kinds_of_files_are_refused(data, tmp_path):
    X, y = data
    path, mlp = tmp_path / "run", dp.MLPClassifier(**COMMON | {"max_iter": 3}, backend="numpy")
    generator = np.random.RandomState(3)
    mlp.fit(X, y, checkpoint=path)
    with pytest.raises(ValueError, match="is of another run: classes"):
        mlp.fit(X, np.array(["a", "b"])[y], checkpoint=path, resume=True)
    assert mlp.classes_.tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"max_iter: expected at least the 3 epochs that are done .* got 2"):
        clone(mlp).set_params(max_iter=2).fit(X, y, checkpoint=path, resume=True)
    with pytest.raises(ValueError, match="is of another run"):
        dp.MLPClassifier(random_state=generator, hidden_layer_sizes=6).fit(X, y, checkpoint=path, resume=True)
    assert generator.random() == np.random.RandomState(3).random()
    net = dp.Network([4, 6, 1], backend="numpy")
    with pytest.raises(ValueError, match="is of another run"):
        net.fit(X, y, checkpoint=path, resume=True)
    net.fit(X, y, epochs=1, checkpoint=tmp_path / "net")
    with pytest.raises(ValueError, match=r"net is of Network.fit, not of an estimator's fit"):
        mlp.fit(X, y, checkpoint=tmp_path / "net", resume=True)
    net.save(tmp_path / "net")
    with pytest.raises(ValueError, match="net holds a network, but no training"):
        mlp.fit(X, y, checkpoint=tmp_path / "net", resume=True)


def test_a_damaged_file_is_refused(data, tmp_path):
    path, mlp = tmp_path / "run", dp.MLPRegressor(**COMMON | {"max_iter": 2}, backend="numpy")
    mlp.fit(*data, checkpoint=path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"run: .*(damaged|checksum)"):
            mlp.fit(*data, checkpoint=path, resume=True)
        assert path.read_bytes() == damaged


@pytest.mark.parametrize(("change", "options", "error", "message"), [
    ({"solver": "lbfgs"}, {"checkpoint": "run"}, ValueError, "checkpoint: expected None with solver='lbfgs'"),
    ({}, {"resume": True}, ValueError, "resume: expected a checkpoint to go on from, got checkpoint=None"),
    ({}, {"resume": 1, "checkpoint": "run"}, TypeError, "resume: expected True or False, got 1"),
    ({}, {"checkpoint_every": 0, "checkpoint": "run"}, ValueError, "checkpoint_every: expected a whole number of at least 1"),
    ({}, {"checkpoint": "."}, OSError, r"\."),
    ({"random_state": np.random.RandomState(np.random.PCG64(3))}, {"checkpoint": "run"}, ValueError, "random_state: .* PCG64"),
])  # fmt: skip
def test_bad_arguments_are_named(data, tmp_path, monkeypatch, change, options, error, message):
    monkeypatch.chdir(tmp_path)
    for kind in (dp.MLPClassifier, dp.MLPRegressor):
        with pytest.raises(error, match=message):
            kind(**COMMON | change, backend="numpy").fit(*data, **options)
        assert list(tmp_path.iterdir()) == []


def test_searches_and_ensembles_have_no_checkpoints(data, tmp_path):
    path, mlp = tmp_path / "run", dp.MLPClassifier(**COMMON, backend="numpy")
    for search, name in (
        (dp.SweepCV(mlp, {"alpha": [0.1]}, cv=2), "checkpoint"),
        (
            dp.SweepCV(make_pipeline(StandardScaler(), mlp), {"mlpclassifier__alpha": [0.1]}),
            "mlpclassifier__checkpoint",
        ),
    ):
        with pytest.raises(TypeError, match=f"{name}: a search trains many networks"):
            search.fit(*data, **{name: path})
    ensemble: Any = dp.EnsembleClassifier(mlp)
    with pytest.raises(TypeError, match="unexpected keyword argument 'checkpoint'"):
        ensemble.fit(*data, checkpoint=path)
    assert not path.exists()


def test_the_last_step_of_a_pipeline_has(data, tmp_path):
    pipe = make_pipeline(StandardScaler(), dp.MLPClassifier(**COMMON, backend="numpy"))
    how = {"mlpclassifier__checkpoint": tmp_path / "run", "mlpclassifier__resume": True}
    broken = clone(pipe).set_params(mlpclassifier__callbacks=[stop_after(4)])
    with pytest.raises(StopError):
        broken.fit(*data, **how)
    assert_same(clone(pipe).fit(*data, **how)[-1], clone(pipe).fit(*data)[-1])


def test_a_disk_that_is_full_ends_no_fit(data, tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()

    def remove(event):
        if event.epoch == 2:
            (folder / "run").unlink()
            folder.rmdir()

    mlp = dp.MLPClassifier(**COMMON | {"max_iter": 3}, backend="numpy", callbacks=[remove])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mlp.fit(*data, checkpoint=folder / "run")
    assert any("is not written" in str(each.message) for each in caught)
    assert mlp.n_iter_ == 3
