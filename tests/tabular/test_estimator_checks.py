"""scikit-learn's checks pass on the tabular estimators."""

from dataclasses import replace

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

import deltaprop as dp
from deltaprop.tabular import estimator as module
from deltaprop.tabular.recipe import recipe_for

#: Checks that cannot hold, each with the reason.
EXPECTED_TO_FAIL = {
    "check_sample_weight_equivalence_on_dense_data": "folds are dealt by row: copies of a row fall into several folds, "
    "a row with a weight falls into one",
}


@pytest.fixture(autouse=True)
def _few_epochs(monkeypatch):
    monkeypatch.setattr(module, "recipe_for", lambda *sizes: replace(recipe_for(*sizes), epochs=20))


@pytest.mark.filterwarnings("ignore")  # the checks handle warnings themselves
@parametrize_with_checks(
    [dp.TabularClassifier(n_members=2, hidden_layer_sizes=16), dp.TabularRegressor(n_members=2, hidden_layer_sizes=16)],
    expected_failed_checks=lambda estimator: EXPECTED_TO_FAIL,
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)
