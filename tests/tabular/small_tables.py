"""Small tables and quick estimators for tests."""

from dataclasses import replace
from typing import Any

import numpy as np

import deltaprop as dp
from deltaprop.tabular.recipe import Recipe, recipe_for

#: Two members of few units that train for few epochs.
QUICK: dict[str, Any] = {"n_members": 2, "hidden_layer_sizes": 16, "random_state": 0}


class QuickClassifier(dp.TabularClassifier):
    """Trains for few epochs."""

    def _recipe(self, rows: int, columns: int, outputs: int) -> Recipe:
        return replace(recipe_for(rows, columns, outputs), epochs=12)


class QuickRegressor(dp.TabularRegressor):
    """Trains for few epochs."""

    def _recipe(self, rows: int, columns: int, outputs: int) -> Recipe:
        return replace(recipe_for(rows, columns, outputs), epochs=12)


def two_classes(rows: int = 120, seed: int = 0) -> tuple[dict[str, Any], Any]:
    """Make a table with numbers, text and a gap, and labels that follow from the first column."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=rows)
    noise = rng.normal(size=rows)
    noise[1] = np.nan
    table = {"useful": numbers, "noise": noise, "text": rng.choice(["a", "b", "c"], rows).tolist()}
    return table, np.where(numbers > 0, "yes", "no")
