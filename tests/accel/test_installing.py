"""Installing and uninstalling: what was there comes back, whoever else has wrapped it."""

import subprocess
import sys
import threading
from functools import wraps
from typing import Any

import numpy as np
import pytest
from accelerating import accelerated
from sklearn.datasets import load_iris
from sklearn.model_selection import _search
from sklearn.neural_network import MLPClassifier
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
from sklearn.utils.parallel import _FuncWrapper

from deltaprop import accel
from deltaprop.accel.profiling import PROFILE

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X, y = load_iris(return_X_y=True)


def everything():
    """Return all that scikit-learn's classes and modules hold."""
    return [dict(vars(owner)) for owner in (BaseMultilayerPerceptron, MLPClassifier, _search, _FuncWrapper)]


def test_what_was_there_comes_back():
    before = everything()
    assert not accel.enabled()
    accel.install()
    accel.install()
    assert accel.enabled()
    assert everything() != before
    accel.uninstall()
    assert not accel.enabled()
    assert everything() == before
    accel.uninstall()
    assert everything() == before


def test_extension_of_ipython():
    accel.load_ipython_extension(None)
    assert accel.enabled()
    accel.unload_ipython_extension(None)
    assert not accel.enabled()


def test_somebody_has_wrapped_a_function_before_us_and_another_after_us(monkeypatch):
    calls = []

    def wrap(name):
        found = BaseMultilayerPerceptron._fit_stochastic

        @wraps(found)
        def _fit_stochastic(*args, **options):
            calls.append(name)
            return found(*args, **options)

        monkeypatch.setattr(BaseMultilayerPerceptron, "_fit_stochastic", _fit_stochastic)
        return _fit_stochastic

    def fit():
        calls.clear()
        MLPClassifier(max_iter=2, random_state=0).fit(X, y)
        return calls, sum(count for count, _ in PROFILE.calls.values())

    before = wrap("before")
    with accelerated():
        assert fit() == ([], 1)  # ours stands in place of everything that it found
        within = vars(BaseMultilayerPerceptron)["_fit_stochastic"]
        after = wrap("after")
        assert fit() == (["after"], 2)
        accel.uninstall()
        assert BaseMultilayerPerceptron._fit_stochastic is after  # it is not ours to take away
        assert fit() == (["after", "before"], 2)  # and what is within it does nothing any more
        accel.install()
        assert BaseMultilayerPerceptron._fit_stochastic is after
        assert fit() == (["after"], 3)
        monkeypatch.setattr(BaseMultilayerPerceptron, "_fit_stochastic", within)  # it is unwrapped
    assert BaseMultilayerPerceptron._fit_stochastic is before
    assert fit() == (["before"], 3)


def test_a_scikit_learn_that_we_do_not_know_is_left_alone(monkeypatch):
    def _fit_lbfgs(self, data):
        """A function with other parameters."""

    monkeypatch.setattr(BaseMultilayerPerceptron, "_fit_lbfgs", _fit_lbfgs)
    before = everything()
    with pytest.raises(RuntimeError, match=r"_fit_lbfgs is not there or has no parameter X, layer_units, y"):
        accel.install()
    assert everything() == before
    assert not accel.enabled()


def test_many_threads_fit_and_predict():
    results: dict[int, Any] = {}

    def work(seed):
        mlp = MLPClassifier(max_iter=3, random_state=seed % 2).fit(X, y)
        results[seed] = mlp.predict_proba(X)

    with accelerated() as profile:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(results) == 8
    for seed in range(8):
        assert np.array_equal(results[seed], results[seed % 2])
    assert sum(count for (_, method, _), (count, _) in profile.calls.items() if method == "fit") == 8


def test_one_object_fitted_by_two_threads_is_fitted_by_one_after_the_other():
    with accelerated():
        mlp = MLPClassifier(random_state=0).partial_fit(X, y, classes=[0, 1, 2])
        threads = [threading.Thread(target=lambda: [mlp.partial_fit(X, y) for _ in range(5)]) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert mlp.t_ > len(y)
        assert np.isfinite(mlp.coefs_[0]).all()


def test_importing_it_costs_nothing():
    code = (
        "import sys; from deltaprop import accel; assert not accel.enabled();"
        "assert not {'sklearn', 'numpy', 'scipy', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_profile_is_a_table():
    with accelerated() as profile:
        assert "no call of MLPClassifier" in str(accel.profile())
        MLPClassifier(max_iter=2, random_state=0).fit(X, y).predict(X)
        MLPClassifier(max_iter=2, random_state=0, solver="lbfgs", verbose=1).fit(X, y)
        text = str(accel.profile())
    assert accel.profile() is profile
    for part in ("MLPClassifier.fit", "MLPClassifier.predict", "deltaprop, ", "scikit-learn", "scipy prints lines"):
        assert part in text
