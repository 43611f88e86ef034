"""A folder with the name of an optional package, such as one in the current folder, is not that package.

Each case runs in a process of its own, with only the other packages on its path.
"""

import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import deltaprop
from deltaprop.backends.installed import import_installed, is_installed

OPTIONAL = ("cupy", "nvmath", "cuda", "pyarrow", "matplotlib", "onnx", "torch", "ziglang", "pytest_benchmark")
#: Packages that are installed with the optional ones, and left out too.
BESIDE = ("cupy_backends", "cupyx", "functorch", "torchgen", "polars", "pandas", "jax", "mpl_toolkits")


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder with all installed packages except the optional ones."""
    folder = tmp_path_factory.mktemp("packages")
    for name in ("numpy", "scipy", "sklearn", "safetensors", "typer", "filelock"):
        for path in Path(next(iter(__import__(name).__path__))).parent.iterdir():
            wanted = path.is_dir() or path.suffix == ".py"
            name = path.name.partition(".")[0]
            if wanted and name not in (*OPTIONAL, *BESIDE, "deltaprop") and not name.startswith("_"):
                link = folder / path.name
                if not link.exists():
                    link.symlink_to(path)
    (folder / "deltaprop").mkdir()
    for path in Path(deltaprop.__file__).parent.iterdir():
        (folder / "deltaprop" / path.name).symlink_to(path)
    for name in ("kernels", "benches"):
        link = folder / "deltaprop" / name
        if not link.exists():
            link.symlink_to(str(files(f"deltaprop.{name}")))
    return folder


def python(packages, folder, *arguments):
    """Run Python in a folder that holds a folder with the name of every optional package."""
    for name in (*OPTIONAL, "mpi4py"):
        (folder / name / "below").mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name not in ("CXX", "PYTHONSAFEPATH")}
    # the only compiler that could be found is ziglang's
    environment |= {"PYTHONPATH": str(packages), "PATH": "", "DELTAPROP_CACHE_DIR": str(folder / "cache")}
    environment["DELTAPROP_LIBRARY"] = "native"  # not a prebuilt one, which the installed package may have
    return subprocess.run(
        [sys.executable, "-S", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


USE = """
import importlib.util, warnings
warnings.simplefilter("error")
import numpy as np
import deltaprop as dp
for name in {optional}:
    assert importlib.util.find_spec(name).origin is None, name  # there is a folder, and nothing else

X, y = np.random.default_rng(0).standard_normal((20, 3)), np.arange(20) % 2
assert dp.available_backends() == ["numpy"]
net = dp.Network([3, 4, 2], loss="categorical_cross_entropy")
net.fit(X, y, epochs=1)
dp.MLPClassifier((4,), max_iter=20, tol=10, n_iter_no_change=1).fit(X, y).predict_proba(X)
def said(function):
    try:
        function()
    except (dp.BackendError, ImportError, ValueError) as error:
        return str(error)
print(said(lambda: dp.Network([3, 2], backend="cupy")))
print(said(net.to_torch))
print(said(lambda: dp.Network.from_torch(object())))
print(said(lambda: net.to_onnx("net.onnx")))
print(said(lambda: net.fit(X, y, epochs=1).plot()))
open("t.parquet", "wb").close()
from deltaprop.inputs.files import load_dataset
print(said(lambda: load_dataset("t.parquet")))
print(said(lambda: net.fit("t.parquet", "y")))
from deltaprop.cli.bench import bench
print(said(lambda: bench("x", 1.0, None)))
from deltaprop.backends.cuda.cublas import CupyProducts, find_products
print(type(find_products(None, id, None)) is CupyProducts)
from deltaprop.backends.native.compiler import find_compiler
print(find_compiler())
import cupy  # as somebody else may have
net.fit(X, y, epochs=1)
assert net.predict(X).shape == (20, 2)
"""


def test_every_way_to_an_optional_package(packages, tmp_path):
    run = python(packages, tmp_path, "-c", USE.format(optional=OPTIONAL))
    assert run.returncode == 0, run.stderr
    said = run.stdout.splitlines()
    assert said[0].startswith("backend 'cupy': CuPy is not installed; pip install 'deltaprop[cuda13]'")
    assert said[1] == said[2] == "this needs PyTorch (No module named 'torch'); pip install torch"
    for line, extra in zip(said[3:8], ("onnx", "plot", "tables", "tables", "bench"), strict=True):
        assert f"pip install 'deltaprop[{extra}]'" in line
    assert said[8:] == ["True", "None"]


def test_the_command_line(packages, tmp_path):
    run = python(packages, tmp_path, "-c", "from deltaprop.cli import main; main()", "info")
    assert run.returncode == 0, run.stderr
    assert "CuPy is not installed" in run.stdout
    assert "no C++ compiler is here" in run.stdout


@pytest.mark.parametrize("content", ["", "x = 1"])
def test_a_module_of_that_name_is_not_cupy_either(content, packages, tmp_path):
    (tmp_path / "cupy").mkdir()
    (tmp_path / "cupy" / "__init__.py").write_text(content)
    code = "import deltaprop as dp; print(dp.available_backends()); dp.get_backend('cupy')"
    run = python(packages, tmp_path, "-c", code)
    assert run.returncode == 1
    assert run.stdout == "['numpy']\n"
    assert run.stderr.splitlines()[-1].startswith("deltaprop.errors.BackendError: backend 'cupy': what is imported as")


def test_what_is_installed(tmp_path, monkeypatch):
    assert is_installed("numpy")
    assert not is_installed("no_such_package")
    (tmp_path / "only_a_folder").mkdir()
    (tmp_path / "a_module.py").write_text("x = 7")
    monkeypatch.syspath_prepend(tmp_path)
    assert not is_installed("only_a_folder")
    with pytest.raises(ImportError, match="No module named 'only_a_folder'"):
        import_installed("only_a_folder")
    assert import_installed("a_module").x == 7
    monkeypatch.setitem(sys.modules, "a_module", None)
    assert not is_installed("a_module")
