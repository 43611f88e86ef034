"""scikit-learn's own tests pass under deltaprop.accel; `tests/scikit_learn_suites.py` runs the longer ones too."""

import pytest
from scikit_learn_suites import run_suite
from scikit_learn_versions import needs_1_9

#: Suites that take seconds, with options, a count that is passed at least, and what ours has done in them.
QUICK = {
    "sklearn.neural_network.tests.test_mlp": ((), 55, ("MLPClassifier.fit", "MLPRegressor.partial_fit")),
    "sklearn.tests.test_docstrings": (("-k", "MLP"), 20, ()),
    "sklearn.model_selection.tests.test_validation": (
        ("-k", "partial_fit_regressors"),
        1,
        ("MLPRegressor.partial_fit",),
    ),
}


@needs_1_9
@pytest.mark.parametrize("suite", QUICK)
def test_its_own_tests_pass(suite):
    if suite == "sklearn.tests.test_docstrings":
        pytest.importorskip("numpydoc")
    options, at_least, done = QUICK[suite]
    counts, text = run_suite(suite, *options, plugin="accelerated")
    assert counts.keys() <= {"passed", "skipped"}, text
    assert counts["passed"] >= at_least, text
    for what in done:
        assert what in text
    assert "deltaprop, " in text or not done
