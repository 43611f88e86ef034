"""The step of the build that compiles the library: which wheel comes of it, and that it is optional."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(
    os.name != "posix" or not (ROOT / "setup.py").exists(), reason="a checkout builds nothing on this system"
)
#: Writes its arguments into its output.
COMPILER = """#!/bin/sh
arguments="$*"
while [ "$1" != -o ]; do shift; done
echo "$arguments" > "$2"
"""


@pytest.fixture(scope="module")
def setup():
    pytest.importorskip("setuptools", minversion="77")
    spec = importlib.util.spec_from_file_location("setup_of_deltaprop", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("linux-x86_64", ("linux", "x86_64")),
        ("linux-aarch64", ("linux", "aarch64")),
        ("macosx-11.0-arm64", ("darwin", "arm64")),
        ("macosx-10.13-x86_64", ("darwin", "x86_64")),
        ("win-amd64", ("win", "amd64")),
    ],
)
def test_the_target_of_a_platform(setup, platform, expected):
    assert setup.target(platform) == expected


def test_a_universal_python_builds_for_the_machine(setup, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert setup.target("macosx-11.0-universal2") == ("darwin", "arm64")


def test_the_build_imports_no_numpy(setup):
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import setup
with setup.prebuilding() as prebuild:
    assert prebuild.__module__ == "deltaprop.backends.native.prebuilding"
    assert "numpy" not in sys.modules
assert not [name for name in sys.modules if name.startswith("deltaprop")]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize(("body", "prebuilt"), [(COMPILER, True), ("#!/bin/sh\nexit 1\n", False)], ids=["c++", "false"])
def test_the_tag_says_whether_the_wheel_has_libraries(setup, body, prebuilt, tmp_path):
    machine = sysconfig.get_platform().rpartition("-")[2]
    if not sysconfig.get_platform().startswith("linux") or machine not in ("x86_64", "aarch64"):
        pytest.skip("another platform")
    copied = tmp_path / "copied"
    copied.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copied)
    for name in ("src", "kernels", "benches"):
        shutil.copytree(
            ROOT / name, copied / name, ignore=shutil.ignore_patterns("__pycache__", "results", "*.egg-info")
        )
    left = copied / "build" / "lib" / "deltaprop" / "kernels" / "cpu" / "of_an_earlier_build.cpp"
    left.parent.mkdir(parents=True)
    left.write_text("")
    command = tmp_path / "c++"
    command.write_text(body)
    command.chmod(0o755)
    environment = os.environ | {"CXX": str(command), "DELTAPROP_LIBRARY": ""}
    build = [sys.executable, "setup.py", "-q", "bdist_wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=copied, env=environment, check=True, timeout=120, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    platform = sysconfig.get_platform().replace("-", "_")
    assert wheel.stem.split("-")[2:] == (["py3", "none", platform] if prebuilt else ["py3", "none", "any"])
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (about,) = [archive.read(name).decode() for name in names if name.endswith(".dist-info/WHEEL")]
    libraries = [name for name in names if name.endswith(".so")]
    assert len(libraries) == ((5 if machine == "x86_64" else 2) if prebuilt else 0)
    assert all(name.startswith("deltaprop/backends/native/prebuilt/") for name in libraries)
    assert f"Root-Is-Purelib: {str(not prebuilt).lower()}" in about
    assert "deltaprop/kernels/cpu/processor.cpp" in names
    assert f"deltaprop/kernels/cpu/{left.name}" not in names  # the libraries were not made of it
