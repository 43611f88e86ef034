"""Warnings point to the line outside the package that called it, however deep they arise and whoever stands between."""

import subprocess
import sys
import warnings

import pytest

from deltaprop.errors import callers_level


def calling(function, module, filename):
    """A function of a made-up module that calls `function`."""
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
    ["__main__", "user", "deltaprop_of_mine", "deltaprop.network"],  # another package, whose name begins alike
]


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: " ".join(chain))
def test_the_first_line_outside_is_found(chain):
    inside = ("deltaprop.", "sklearn", "joblib")
    expected = [f"<{name}>" for name in chain if not f"{name}.".startswith(inside)][-1]
    # Even what calls `warn` has to be inside; its own globals are those of this file.
    names = {"__name__": "deltaprop.somewhere", "warnings": warnings, "callers_level": callers_level}
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
    """`warnings.warn` leaves them out: a module of the package that warns while somebody imports it."""
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
