"""`python -m deltaprop.accel` runs scripts, modules and code as `python` does, and others may run it in turn."""

import os
import subprocess
import sys

import pytest

#: It prints what a script can see of how it was started, and ends as its first argument says.
SCRIPT = """
import atexit, multiprocessing, sys
import beside
print(__name__, __file__ == beside.script, __spec__, __doc__, sys.argv[1:], sys.path[0] == beside.folder)

def twice(x):
    return 2 * x

if __name__ == "__main__":
    atexit.register(lambda: print("at exit", __name__))
    if sys.argv[1] == "fit":
        from deltaprop import accel
        from sklearn.neural_network import MLPClassifier
        fitted = MLPClassifier(max_iter=300, random_state=0, alpha=2.0).fit([[0.0], [1.0]] * 10, [0, 1] * 10)
        print(accel.enabled(), fitted.score([[0.0], [1.0]], [0, 1]))
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.map(twice, [1, 2]))
    if sys.argv[1] == "raise":
        beside.fail()
    if sys.argv[1] == "exit":
        sys.exit(7)
    if sys.argv[1] == "interrupt":
        raise KeyboardInterrupt
"""
BESIDE = """
import pathlib
folder = str(pathlib.Path(__file__).parent)
script = folder + "/script.py"

def fail():
    raise KeyError("lost")
"""
#: Somebody else's runner, which runs modules as `python -m cuml.accel -m` does.
RUNNER = """
import runpy, sys
sys.argv[:] = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
ACCEL = ("-m", "deltaprop.accel")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    for name, text in (("script.py", SCRIPT), ("beside.py", BESIDE), ("runner.py", RUNNER)):
        (folder / name).write_text(text)
    return folder


def python(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize("end", ["raise", "exit", "interrupt"])
def test_a_script_ends_as_without(folder, end):
    plain, ours = (python(folder, *way, "script.py", end, "--profile", "-m", "x") for way in ((), ACCEL))
    assert ours.returncode == plain.returncode != 0
    assert ours.stdout == plain.stdout
    assert ours.stderr == plain.stderr
    assert "at exit __main__" in ours.stdout


def test_others_run_us_and_the_profile_comes_last(folder):
    run = python(folder, "runner.py", "-m", "deltaprop.accel", "--profile", "-v", "script.py", "fit")
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines[0] == "__main__ True None None ['fit'] True"
    assert lines[1] == "True 1.0"
    assert lines[-2:] == ["[2, 4]", "at exit __main__"]
    assert "MLPClassifier.fit" in run.stderr
    assert "deltaprop, " in run.stderr


def test_modules_and_code(folder):
    for way in (("-c", "import sys; print(sys.argv, sys.path[0]); 1 / 0", "-v"), ("-m", "beside")):
        plain, ours = (python(folder, *before, *way) for before in ((), ACCEL))
        assert (ours.returncode, ours.stdout, ours.stderr) == (plain.returncode, plain.stdout, plain.stderr)


#: The package runs in a thread when its main module has ended, and fails in a call by `runpy` of its own.
PACKAGE = """
import pickle, runpy, sys, threading
print(sys.argv[1:], __name__, __package__, __spec__.name, sys.path[0].endswith("scripts"))

class Kept:
    pass

def later():
    threading.main_thread().join()
    print(type(pickle.loads(pickle.dumps(Kept()))).__module__)

threading.Thread(target=later).start()
runpy.run_path(sys.argv[1])
"""


@pytest.mark.parametrize("way", [("-m", "package"), ("package",), ("-m", "package.inner"), ("package/inner",)])
def test_packages_and_folders(folder, way):
    (folder / "package" / "inner").mkdir(parents=True, exist_ok=True)
    (folder / "package" / "__init__.py").touch()
    (folder / "package" / "inner" / "__init__.py").touch()
    (folder / "package" / "__main__.py").write_text(PACKAGE)
    (folder / "fails.py").write_text("1 / 0\n")
    plain, ours = (python(folder, *before, *way, "fails.py") for before in ((), ACCEL))
    assert (ours.returncode, ours.stdout, ours.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    assert ours.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 2, "expected a script, -m module or -c code"),
        (("none.py",), 2, "can't open file 'none.py': No such file or directory"),
        (("-m", "no.such.module"), 1, "No module named no.such.module"),
        (("--help",), 0, ""),
    ],
)
def test_what_cannot_be_run(arguments, status, message, capsys):
    from deltaprop import accel
    from deltaprop.accel.__main__ import main

    with pytest.raises(SystemExit) as ended:
        main(arguments)
    accel.uninstall()
    assert ended.value.code == status
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Everything after its name" in shown.out or status
