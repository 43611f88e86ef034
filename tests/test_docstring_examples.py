"""The examples of the docstrings run as printed, each one as a user would paste it: by itself, in an empty folder."""

import doctest
import inspect
import sys

import pytest
from conftest import missing
from public_face import PATHS, function_of, needs_example

from deltaprop import accel

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
#: Packages that an example may need and that users' tests do without.
OPTIONAL = ("matplotlib", "onnx", "pandas", "skl2onnx", "torch")
#: Examples that are not run: they start processes, or talk to the server of a tracker.
SKIPPED = {
    "deltaprop.doctor.run.check_backend",
    "deltaprop.callbacks.mlflow_runs.MLflow",
    "deltaprop.callbacks.tensorboard.TensorBoard",
    "deltaprop.callbacks.wandb_runs.WandB",
}
PARSER = doctest.DocTestParser()


def home(described):
    """Return where a docstring is written, which is one place for all classes that inherit a method."""
    function = inspect.unwrap(function_of(described))
    return f"{function.__module__}.{function.__qualname__}"


def collected():
    """Return the docstrings with examples, by the place where each is written."""
    found: dict[str, doctest.DocTest] = {}
    for path, described in PATHS.items():
        text = inspect.getdoc(described) or ""
        if ">>>" in text:
            found.setdefault(home(described), PARSER.get_doctest(text, {}, path, None, None))
    return found


EXAMPLES = collected()


class Runner(doctest.DebugRunner):
    """Count the examples that were run, and stop at the first that fails."""

    ran = 0

    def report_success(self, out, test, example, got):
        self.ran += 1


@pytest.fixture
def somewhere_empty(tmp_path, monkeypatch):
    """Work in a temporary folder, draw into memory, and leave scikit-learn's classes as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    if "matplotlib" in sys.modules:
        sys.modules["matplotlib"].use("Agg")
    was_enabled = accel.enabled()
    yield
    if not was_enabled:
        accel.uninstall()
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def what_is_missing(error):
    """Return the optional package that an example could not import, or None."""
    while error is not None:
        name = (getattr(error, "name", None) or "").partition(".")[0]
        if isinstance(error, ImportError) and name in OPTIONAL:
            return name
        error = error.__cause__
    return None


def run(examples):
    """Run the examples, and return how many there were and how many gave what is printed."""
    runner = Runner(optionflags=FLAGS, verbose=False)
    globs = {"__name__": "__main__"}
    test = doctest.DocTest(examples.examples, globs, examples.name, None, None, examples.docstring)
    try:
        runner.run(test, out=lambda text: None, clear_globs=True)
    except doctest.UnexpectedException as failure:
        package = what_is_missing(failure.exc_info[1])
        if package:
            missing(package, f"{examples.name} needs it")
        raise failure.exc_info[1] from None
    except doctest.DocTestFailure as failure:
        want, got = failure.example.want, failure.got
        pytest.fail(f"{examples.name}: {failure.example.source}expected {want!r}, got {got!r}", pytrace=False)
    return len(test.examples), runner.ran


@pytest.mark.parametrize("place", EXAMPLES)
@pytest.mark.usefixtures("somewhere_empty")
def test_the_examples_of_a_docstring_run(place):
    examples, ran = run(EXAMPLES[place])
    skipped = sum(doctest.SKIP in each.options for each in EXAMPLES[place].examples)
    assert ran == examples - skipped
    assert bool(skipped) == (place in SKIPPED)


def test_every_example_that_has_to_be_there_is_run():
    assert [path for path in PATHS if needs_example(path) and home(PATHS[path]) not in EXAMPLES] == []
    assert len(EXAMPLES) > 120
    assert set(EXAMPLES) >= {
        "deltaprop.network.Network",
        "deltaprop.accel.install",
        "deltaprop.files.saved_network.SavedNetwork.load",
    }


def test_a_wrong_output_and_an_exception_are_failures():
    wrong = PARSER.get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    with pytest.raises(pytest.fail.Exception, match="expected '3"):
        run(wrong)
    broken = PARSER.get_doctest(">>> 1 / 0\n", {}, "broken", None, None)
    with pytest.raises(ZeroDivisionError):
        run(broken)


def test_an_example_is_skipped_where_its_package_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delenv("DELTAPROP_REQUIRED", raising=False)
    with pytest.raises(pytest.skip.Exception, match="torch"):
        run(EXAMPLES["deltaprop.files.saved_network.SavedNetwork.to_torch"])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(pytest.skip.Exception, match="pandas"):
        run(EXAMPLES["deltaprop.reports.history.History.frame"])
