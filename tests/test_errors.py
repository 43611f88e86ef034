"""Warnings point to the line outside the package that called it, however deep they arise."""

import os
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

import deltaprop as dp
from deltaprop.errors import callers_level


def calling(function, module, filename):
    """Return a function of an imaginary module that calls `function`."""
    names = {"__name__": module, "called": function}
    exec(compile("def call():\n    return called()\n", filename, "exec"), names)
    return names["call"]


def warn():
    warnings.warn("here", UserWarning, stacklevel=callers_level())


CHAINS = [
    ["user"],
    ["user", "deltaprop.network"],
    ["user", "deltaprop.network", "deltaprop.training.loop", "deltaprop.epochs.trainer"],
    ["user", "sklearn.base", "deltaprop.estimators.classifier"],
    ["user", "joblib.parallel", "sklearn.base", "deltaprop.estimators.classifier", "sklearn.base", "deltaprop"],
    ["__main__", "user", "deltaprop_of_mine", "deltaprop.network"],  # another package with such a name
]


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: " ".join(chain))
def test_the_first_line_outside_is_found(chain):
    inside = ("deltaprop.", "sklearn", "joblib")
    expected = [f"<{name}>" for name in chain if not f"{name}.".startswith(inside)][-1]
    # The caller of `warn` must be inside too; the globals of `warn` itself are those of this file.
    names: dict[str, Any] = {"__name__": "deltaprop.somewhere", "warnings": warnings, "callers_level": callers_level}
    exec(compile("def warn():\n    warnings.warn('here', stacklevel=callers_level())\n", "<inside>", "exec"), names)
    call = names["warn"]
    for name in reversed(chain):
        call = calling(call, name, f"<{name}>")
    with pytest.warns(UserWarning, match="here") as caught:
        call()
    assert [warning.filename for warning in caught] == [expected]


def test_a_line_outside_is_found_at_once():
    with pytest.warns(UserWarning, match="here") as caught:
        warn()
    assert caught[0].filename == __file__


def test_frames_of_an_import_are_not_counted(tmp_path):
    """A module of the package warns while it is imported; `warnings.warn` does not count the frames of the import."""
    package = tmp_path / "joblib"  # one of the wrappers, so that its own frames are inside
    package.mkdir()
    (package / "__init__.py").write_text(
        "import warnings\nfrom deltaprop.errors import callers_level\n"
        "warnings.warn('here', UserWarning, stacklevel=callers_level())\n"
    )
    script = tmp_path / "script.py"
    script.write_text("import deltaprop.errors\n\nimport joblib\n")
    said = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True).stderr
    assert f"{script}:3: UserWarning: here" in said


def test_without_a_line_outside_the_outermost_is_named():
    code = (
        "import warnings; from deltaprop.errors import callers_level\nwarnings.warn('here', stacklevel=callers_level())"
    )
    said = subprocess.run(
        [sys.executable, "-c", f"exec({code!r}, {{'__name__': 'deltaprop.x'}})"],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert "UserWarning: here" in said


@pytest.fixture
def table(rng):
    X = rng.standard_normal((40, 3))
    return X, (X[:, 0] > 0).astype(int)


def short(**options):
    return dp.MLPClassifier((4,), max_iter=1, random_state=0, backend="numpy", **options)


class Mine(dp.MLPClassifier):
    def fit(self, X, y):  # type: ignore[override]
        return super().fit(X, y)


@pytest.mark.parametrize(
    "train",
    [
        lambda X, y: short().fit(X, y),
        lambda X, y: short(solver="lbfgs").fit(X, y),
        lambda X, y: Mine((4,), max_iter=1, backend="numpy").fit(X, y),
        lambda X, y: make_pipeline(short()).fit(X, y),
        lambda X, y: cross_val_score(short(), X, y, cv=2),
        lambda X, y: dp.SweepCV(short(), {"alpha": [0.1, 0.2]}, cv=2).fit(X, y),
        lambda X, y: dp.EnsembleClassifier(short(), 3).fit(X, y),
    ],
    ids=["fit", "lbfgs", "subclass", "pipeline", "cross_val_score", "sweep", "ensemble"],
)
def test_estimators_point_to_their_caller(table, train):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(*table)
    assert {warning.category for warning in caught} == {ConvergenceWarning}
    assert {warning.filename for warning in caught} == {__file__}


def test_members_that_diverge_are_told_where_they_were_trained(table):
    X, y = table
    stack = dp.NetworkStack(2, [3, 4, 1], loss="squared_error", backend="numpy")
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning, match="diverged; the first") as caught:
        stack.fit(X, y, optimizer=[dp.SGD(0.1), dp.SGD(1e300)], epochs=2)
    assert {warning.filename for warning in caught} == {__file__}


def test_a_cache_that_cannot_be_had_is_told_where_it_was_needed(tmp_path):
    """In a process of its own, as the warning comes once. Others may write to the folder, so it is not used."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np\nimport deltaprop as dp\n\n"
        "net = dp.Network([2, 3, 1], backend='numpy')\n"
        "net.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=1)\n"
    )
    said = subprocess.run(
        [sys.executable, script],
        env=os.environ | {"DELTAPROP_CACHE_DIR": str(folder), "DELTAPROP_LIBRARY": "native"},
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert f"{script}:5: RuntimeWarning: compiled files are not kept in {folder}" in said
