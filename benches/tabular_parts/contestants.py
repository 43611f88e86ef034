"""Who is compared: each takes a split and returns what it predicts for the test rows, and how long its fit took.

Every contestant has its own defaults. A library that wants gaps filled and text encoded gets the pipeline that
scikit-learn's documentation shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from deltaprop import TabularClassifier, TabularRegressor
from deltaprop.tabular.recipe import Recipe

from .tables import BenchSplit

#: Threads of each contestant.
THREADS = 2
#: HistGradientBoosting takes no column of more levels for a category.
MOST_LEVELS = 250

Prediction = tuple[Any, float]


def fit_and_predict(model: Any, split: BenchSplit, X: Any, X_test: Any) -> Prediction:
    """Fit, and predict the test rows."""
    began = time.perf_counter()
    model.fit(X, split.y)
    seconds = time.perf_counter() - began
    return (model.predict_proba(X_test) if split.classifies else model.predict(X_test)), seconds


def constant(split: BenchSplit) -> Prediction:
    """Predict the shares of the classes, or the mean."""
    if not split.classifies:
        return np.full(len(split.y_test), split.y.mean()), 0.0
    shares = np.bincount(split.y) / len(split.y)
    return np.tile(shares, (len(split.y_test), 1)), 0.0


def deltaprop(split: BenchSplit, **options: Any) -> Prediction:
    """Our estimators, as they are."""
    kind: Any = TabularClassifier if split.classifies else TabularRegressor
    if not split.classifies:
        options = {name: value for name, value in options.items() if name != "label_smoothing"}
    return fit_and_predict(kind(random_state=split.seed, **options), split, split.X, split.X_test)


def deltaprop_with(change: Callable[[Recipe], Recipe], **options: Any) -> Callable[[BenchSplit], Prediction]:
    """Our estimators with another recipe."""

    def run(split: BenchSplit) -> Prediction:
        base: Any = TabularClassifier if split.classifies else TabularRegressor

        class Changed(base):
            def _recipe(self, rows: int, columns: int, outputs: int) -> Recipe:
                recipe: Recipe = super()._recipe(rows, columns, outputs)
                return change(recipe)

        kept = {name: value for name, value in options.items() if split.classifies or name != "label_smoothing"}
        return fit_and_predict(Changed(random_state=split.seed, **kept), split, split.X, split.X_test)

    return run


def categories(frame: pd.DataFrame) -> list[str]:
    """Name the columns that hold no numbers."""
    return [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]


def as_categorical(split: BenchSplit) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give text columns pandas' categorical dtype, with the levels of the rows to train on."""
    X, X_test = split.X.copy(), split.X_test.copy()
    for name in categories(X):
        levels = pd.Categorical(X[name])
        X[name] = levels
        X_test[name] = pd.Categorical(X_test[name].where(X_test[name].isin(levels.categories)), levels.categories)
        if len(levels.categories) > MOST_LEVELS:
            X[name], X_test[name] = X[name].cat.codes, X_test[name].cat.codes
    return X, X_test


def hist_gradient_boosting(split: BenchSplit) -> Prediction:
    kind = HistGradientBoostingClassifier if split.classifies else HistGradientBoostingRegressor
    return fit_and_predict(kind(random_state=split.seed), split, *as_categorical(split))


def in_pipeline(model: Any, split: BenchSplit) -> Any:
    """Fill gaps and say where they were, scale numbers, and give each level a column."""
    texts = categories(split.X)
    numbers = [name for name in split.X if name not in texts]
    of_numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    of_texts = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="missing", missing_values=None),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    return make_pipeline(make_column_transformer((of_numbers, numbers), (of_texts, texts)), model)


def with_none(frame: pd.DataFrame) -> pd.DataFrame:
    """Write gaps of text columns as None."""
    frame = frame.copy()
    for name in categories(frame):
        column = frame[name].astype(object)
        frame[name] = column.where(column.notna(), None)
    return frame


def random_forest(split: BenchSplit) -> Prediction:
    kind = RandomForestClassifier if split.classifies else RandomForestRegressor
    model = in_pipeline(kind(random_state=split.seed, n_jobs=THREADS), split)
    return fit_and_predict(model, split, with_none(split.X), with_none(split.X_test))


def scikit_learn_mlp(split: BenchSplit) -> Prediction:
    seed = split.seed
    model = (
        MLPClassifier(random_state=seed)
        if split.classifies
        else TransformedTargetRegressor(MLPRegressor(random_state=seed), transformer=StandardScaler())
    )
    return fit_and_predict(in_pipeline(model, split), split, with_none(split.X), with_none(split.X_test))


def cat_boost(split: BenchSplit) -> Prediction:
    import catboost

    kind = catboost.CatBoostClassifier if split.classifies else catboost.CatBoostRegressor
    texts = categories(split.X)
    model = kind(verbose=0, thread_count=THREADS, random_seed=split.seed, allow_writing_files=False, cat_features=texts)
    X, X_test = (with_none(frame).fillna(dict.fromkeys(texts, "missing")) for frame in (split.X, split.X_test))
    return fit_and_predict(model, split, X, X_test)


def light_gbm(split: BenchSplit) -> Prediction:
    import lightgbm

    kind = lightgbm.LGBMClassifier if split.classifies else lightgbm.LGBMRegressor
    return fit_and_predict(kind(verbose=-1, n_jobs=THREADS, random_state=split.seed), split, *as_categorical(split))


def filled(split: BenchSplit) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fill gaps of numbers by the median of the rows to train on, and gaps of text by a level of their own."""
    texts = categories(split.X)
    gaps: dict[str, Any] = {name: "missing" if name in texts else split.X[name].median() for name in split.X}
    X, X_test = (with_none(frame).fillna(gaps) for frame in (split.X, split.X_test))
    return X, X_test


def real_mlp(split: BenchSplit) -> Prediction:
    import pytabkit

    kind = pytabkit.RealMLP_TD_Classifier if split.classifies else pytabkit.RealMLP_TD_Regressor
    model = kind(random_state=split.seed, n_threads=THREADS, device="cpu", verbosity=0)
    return fit_and_predict(model, split, *filled(split))


def tab_m(split: BenchSplit) -> Prediction:
    import pytabkit

    kind = pytabkit.TabM_D_Classifier if split.classifies else pytabkit.TabM_D_Regressor
    model = kind(random_state=split.seed, n_threads=THREADS, device="cpu", verbosity=0)
    return fit_and_predict(model, split, *filled(split))


CONTESTANTS: dict[str, Callable[[BenchSplit], Prediction]] = {
    "constant": constant,
    "deltaprop": deltaprop,
    "HistGradientBoosting": hist_gradient_boosting,
    "RandomForest": random_forest,
    "scikit-learn MLP": scikit_learn_mlp,
    "CatBoost": cat_boost,
    "LightGBM": light_gbm,
    "RealMLP": real_mlp,
    "TabM": tab_m,
}
