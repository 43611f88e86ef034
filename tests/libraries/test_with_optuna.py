"""Optuna: trials of our estimators, a trial that is pruned by its curve, and many trials as one stack."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.preprocessing import scale

import deltaprop as dp

pytestmark = pytest.mark.filterwarnings("default")  # those of another library are its own


@pytest.fixture
def study():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=optuna.pruners.ThresholdPruner(upper=1.0),
    )


@pytest.fixture
def iris():
    X, y = load_iris(return_X_y=True)
    return scale(X), y


def test_the_best_trial_can_be_had_again(study, iris):
    def score(**options):
        return cross_val_score(dp.MLPClassifier((6,), max_iter=20, random_state=0, **options), *iris, cv=3).mean()

    def objective(trial):
        return score(
            alpha=trial.suggest_float("alpha", 1e-5, 1e2, log=True),
            learning_rate_init=trial.suggest_float("learning_rate_init", 1e-3, 1e-1, log=True),
        )

    study.optimize(objective, n_trials=6)
    assert study.best_value == score(**study.best_params)
    assert study.best_value == max(trial.value for trial in study.trials)


def test_a_callback_prunes_a_trial_in_the_midst_of_training(study, iris):
    optuna = pytest.importorskip("optuna")
    epochs = {}

    def objective(trial):
        rate = trial.suggest_categorical("rate", [1e-6, 0.5])

        def report(progress):
            epochs[trial.number] = progress.epoch
            trial.report(progress.history.cost[-1], progress.epoch)
            if progress.epoch >= 5 and trial.should_prune():
                raise optuna.TrialPruned

        network = dp.Network([4, 6, 3], loss="categorical_cross_entropy", seed=0)
        network.fit(*iris, optimizer=dp.SGD(rate), epochs=30, batch_size=16, callbacks=[report])
        return network.cost(*iris)

    for rate in (1e-6, 0.5):
        study.enqueue_trial({"rate": rate})
    study.optimize(objective, n_trials=2)
    slow, quick = study.trials
    assert slow.state == optuna.trial.TrialState.PRUNED
    assert quick.state == optuna.trial.TrialState.COMPLETE
    assert quick.value < 0.2
    assert epochs == {0: 5, 1: 30}


def test_trials_that_are_asked_for_together_are_trained_as_one_stack(study, iris):
    X, Xv, y, yv = train_test_split(*iris, random_state=0)
    trials = [study.ask() for _ in range(5)]
    rates = [trial.suggest_float("rate", 1e-3, 1.0, log=True) for trial in trials]
    stack = dp.NetworkStack(5, [4, 6, 3], seeds=range(5), loss="categorical_cross_entropy")
    stack.fit(X, y, optimizer=[dp.SGD(rate) for rate in rates], epochs=10, batch_size=16)
    right = (stack.predict(Xv).argmax(axis=-1) == yv).mean(axis=1)
    for trial, value in zip(trials, right, strict=True):
        study.tell(trial, float(value))
    k = int(np.argmax(right))
    alone = dp.Network([4, 6, 3], seed=k, loss="categorical_cross_entropy")
    alone.fit(X, y, optimizer=dp.SGD(rates[k]), epochs=10, batch_size=16)
    assert study.best_params == {"rate": rates[k]}
    assert study.best_value == (alone.predict(Xv).argmax(axis=1) == yv).mean()
