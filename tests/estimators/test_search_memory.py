"""A search over a pipeline lets go of the samples that it has trained on."""

import gc
import weakref
from typing import Any

import pytest
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import deltaprop as dp
from deltaprop.estimators import pipeline_folds, pipeline_jobs


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("max_iter", [1, 300])
def test_transformed_samples_of_few_splits_are_held_at_a_time(max_iter, monkeypatch):
    """Also where `max_iter` ends all fits, which the search warns of at its end."""
    X, y = load_iris(return_X_y=True)
    tables: list[weakref.ref[Any]] = []
    alive: list[int] = []
    original: Any = pipeline_folds.one_table

    def watched(*arguments):
        gc.collect()
        alive.append(sum(table() is not None for table in tables))
        folds = original(*arguments)
        tables.append(weakref.ref(folds[0].table))
        return folds

    monkeypatch.setattr(pipeline_jobs, "one_table", watched)
    base = dp.MLPClassifier((3,), max_iter=max_iter, tol=1.0, n_iter_no_change=1, random_state=0, backend="numpy")
    model = make_pipeline(StandardScaler(), base)
    search = dp.SweepCV(model, {"mlpclassifier__alpha": [1e-4, 1.0]}, cv=6, refit=False, memory_limit=X.nbytes)
    search.fit(X, y)
    assert len(alive) == 6
    assert max(alive) <= 1  # the one that was trained on before
