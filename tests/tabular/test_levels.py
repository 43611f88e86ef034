"""Columns of very many levels: the means of the target that stand for rare levels help, and betray no row's own target."""

import numpy as np
import pytest
from small_tables import QUICK, QuickClassifier, QuickRegressor

MEMBERS = QUICK | {"n_members": 8}


def test_levels_that_are_noise_betray_nothing() -> None:
    """2000 levels over 4000 rows, and a target that is random: nobody does better than the majority."""
    rng = np.random.default_rng(0)
    names = np.array([f"level {k}" for k in range(2000)], object)
    levels, y = rng.choice(names, 6000), (rng.random(6000) < 0.3).astype(int)
    model = QuickClassifier(**MEMBERS).fit({"level": levels[:4000]}, y[:4000])
    majority = 1 - y[:4000].mean()
    assert model.oof_score_ == pytest.approx(majority, abs=0.02)
    probabilities = model.predict_proba({"level": levels[4000:]})[:, 1]
    new = y[4000:]
    # The standard error of a mean of 2000 labels is 0.01.
    assert probabilities.mean() == pytest.approx(new.mean(), abs=0.03)
    loss = -np.mean(np.where(new == 1, np.log(probabilities), np.log(1 - probabilities)))
    share = y[:4000].mean()
    constant = -np.mean(np.where(new == 1, np.log(share), np.log(1 - share)))
    assert loss < constant + 0.01


def test_the_means_of_rare_levels_help() -> None:
    """300 levels, 10 rows each; the level is all there is to know."""
    rng = np.random.default_rng(1)
    effects = rng.normal(size=300)
    own = rng.integers(0, 300, 4000)
    y = effects[own] + 0.5 * rng.normal(size=4000)
    levels = np.array([f"level {k}" for k in own], object)
    table, new = {"level": levels[:3000]}, {"level": levels[3000:]}
    model = QuickRegressor(**MEMBERS).fit(table, y[:3000])
    # Without means, a level beyond the 64 most frequent is like any other: at most a third could be explained.
    assert model.oof_score_ > 0.5
    assert model.score(new, y[3000:]) > 0.5
