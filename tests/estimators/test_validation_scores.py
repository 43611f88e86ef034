"""Validation data are scored, and early stopping uses the scores."""

import warnings

import numpy as np
import pytest
from cases import relative
from sklearn.exceptions import ConvergenceWarning, UndefinedMetricWarning
from sklearn.metrics import log_loss, mean_absolute_error, r2_score
from small_fits import classifier, regressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("early", [False, True])
def test_validation_data_are_scored_after_every_epoch(iris, early):
    X, y = iris
    train, held = (X[::2], y[::2]), (X[1::2], y[1::2])
    weight = np.linspace(0.5, 2, len(held[1]))
    seen = []

    def watch(event):
        h = event.network.predict(held[0])
        seen.append((log_loss(held[1], h, sample_weight=weight), np.average(h.argmax(1) == held[1], weights=weight)))
        assert event.epoch == len(seen)

    fitted = classifier(callbacks=[watch], early_stopping=early, tol=0, n_iter_no_change=3, max_iter=40)
    fitted.fit(*train, validation_data=(*held, weight))
    assert fitted.validation_loss_curve_ == pytest.approx([loss for loss, _ in seen], rel=1e-12)
    assert fitted.validation_scores_ == pytest.approx([score for _, score in seen], rel=1e-12)
    plain = classifier(max_iter=40).fit(*train)
    if early:  # no training data was held out, and the best parameters are back
        assert fitted.loss_curve_ == plain.loss_curve_[: fitted.n_iter_]
        assert fitted.best_validation_score_ == max(fitted.validation_scores_)
        assert np.average(fitted.predict(held[0]) == held[1], weights=weight) == max(fitted.validation_scores_)
    else:
        assert np.array_equal(fitted.coefs_[0], plain.coefs_[0])
    assert plain.validation_scores_ is None
    assert plain.validation_loss_curve_ is None
    for solver in ("lbfgs", "sgd"):
        fitted = regressor(solver=solver, max_iter=5, loss="poisson").fit(*train, validation_data=held)
        deviance = (
            held[1] * np.log(np.maximum(held[1], 1) / fitted.predict(held[0])) - held[1] + fitted.predict(held[0])
        )
        assert fitted.validation_loss_curve_[-1] == pytest.approx(deviance.mean(), rel=1e-9)
        assert fitted.validation_scores_[-1] == pytest.approx(r2_score(held[1], fitted.predict(held[0])))


def test_scoring_decides_early_stopping(table):
    pandas = pytest.importorskip("pandas")
    X, y = table
    frame = pandas.DataFrame(X, columns=list("abcde"))
    seen = []
    held = (X[90:], y[90:])

    def watch(event):
        seen.append(-mean_absolute_error(held[1], event.network.predict(held[0])[:, 0]))

    options = {"early_stopping": True, "max_iter": 30, "learning_rate_init": 0.01, "callbacks": [watch]}
    fitted = regressor(scoring="neg_mean_absolute_error", **options)
    fitted.fit(frame[:90], y[:90], validation_data=(frame[90:], y[90:]))
    assert fitted.validation_scores_ == pytest.approx(seen)
    assert list(fitted.feature_names_in_) == list("abcde")
    calls = []

    def scorer(estimator, X, y):
        calls.append(estimator)
        return -float(len(calls))

    stopped = regressor(scoring=scorer, early_stopping=True, n_iter_no_change=2, max_iter=50).fit(X, y)
    assert stopped.n_iter_ == 4  # the first was the best, and three more brought no improvement
    assert stopped.best_validation_score_ == -1.0


def scores_in_turn(*scores):
    """Return a scorer that gives these scores in turn, and repeats the last."""
    given = iter(scores)
    return lambda estimator, X, y: next(given, scores[-1])


@pytest.mark.parametrize(
    ("scores", "kept", "epochs", "best"),
    [
        ([np.nan], 4, 4, np.nan),  # no score, so the parameters of the last epoch stay
        ([-np.inf], 1, 20, -np.inf),  # usual scores: the first is the best, and others within tol are as good
        ([np.nan, 0.5, np.nan], 2, 6, 0.5),
        ([0.1, np.nan, 0.7, np.nan, 0.2], 3, 7, 0.7),
        ([np.nan, np.nan, -np.inf, np.nan], 3, 7, -np.inf),
        ([np.inf, np.nan, 1.0], 1, 5, np.inf),
    ],
)
def test_validation_scores_that_are_nan_improve_nothing(table, scores, kept, epochs, best):
    X, y = table
    early = regressor(early_stopping=True, scoring=scores_in_turn(*scores), n_iter_no_change=3, max_iter=20)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        early.fit(X[:90], y[:90], validation_data=(X[90:], y[90:]))
    said = [str(warning.message) for warning in caught if "the validation score was nan" in str(warning.message)]
    assert len(said) == bool(np.isnan(best))
    assert all(warning.filename == __file__ for warning in caught)
    assert early.n_iter_ == epochs
    assert np.array_equal(early.best_validation_score_, best, equal_nan=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        plain = regressor(max_iter=kept).fit(X[:90], y[:90])
    assert relative(early.coefs_, plain.coefs_) < 1e-14


def test_an_undefined_score_is_warned_of_by_scikit_learn_and_by_name(table):
    X, y = table
    early = regressor(early_stopping=True, n_iter_no_change=2)
    with pytest.warns(UndefinedMetricWarning), pytest.warns(UserWarning, match="early_stopping: the validation score"):
        early.fit(X[:90], y[:90], validation_data=(X[:1], y[:1]))
    assert early.n_iter_ == 3
    one_class = classifier(early_stopping=True, scoring="roc_auc", n_iter_no_change=2)
    with pytest.warns(UndefinedMetricWarning), pytest.warns(UserWarning, match="early_stopping: the validation score"):
        one_class.fit(X[:90], y[:90] > 0, validation_data=(X[:5], np.ones(5, bool)))
    assert np.isnan(one_class.best_validation_score_)
    # A score that is a number is better than none, also in the fit that follows.
    one_class.set_params(warm_start=True).fit(X, y > 0, validation_data=(X, y > 0))
    assert one_class.best_validation_score_ == max(one_class.validation_scores_[3:])
    assert relative(one_class.coefs_, [*one_class.to_sklearn().coefs_]) == 0.0
    # If a later fit has no score, its last parameters are kept, not those of the earlier fit.
    before = [coef.copy() for coef in one_class.coefs_]
    one_class.set_params(n_iter_no_change=2)
    with pytest.warns(UndefinedMetricWarning), pytest.warns(UserWarning, match="early_stopping: the validation score"):
        one_class.fit(X, y > 0, validation_data=(X[:5], np.ones(5, bool)))
    assert relative(one_class.coefs_, before) > 1e-3
    assert one_class.to_sklearn().best_validation_score_ == -np.inf


def test_a_validation_set_that_is_diverged_from_is_still_restored(table):
    X, y = table
    fitted = regressor(solver="sgd", learning_rate_init=3.0, early_stopping=True, max_iter=100).fit(X, y)
    assert np.isnan(fitted.validation_scores_[-1])
    assert np.isfinite(fitted.predict(X)).all()
    assert fitted.n_iter_ < 100
