"""The one step of the build that is not in pyproject.toml: it compiles the library of the CPU into the wheel.

It is optional. Without a compiler, or if that fails, the wheel is one for every system, and the library is compiled
when it is first used. `DELTAPROP_LIBRARY=native pip install .` leaves the step out. An editable installation has no
such files either, as its sources are there to be changed.
"""

import logging
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from setuptools import Command, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build

ROOT = Path(__file__).resolve().parent
#: Where the package looks for the libraries.
PREBUILT = Path("deltaprop", "backends", "native", "prebuilt")
#: Packages whose own `__init__.py` is left out: they import NumPy, which a build need not have.
BARE = ("deltaprop", "deltaprop.backends", "deltaprop.backends.native")


@contextmanager
def prebuilding() -> Iterator[Callable[..., bool]]:
    """The function that compiles the libraries, from the sources beside this file."""
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "deltaprop"}
    for name in before:
        del sys.modules[name]
    try:
        for name in BARE:
            module = sys.modules[name] = ModuleType(name)
            module.__path__ = [str(ROOT.joinpath("src", *name.split(".")))]
        spec: Any = spec_from_file_location("deltaprop.kernels", ROOT / "kernels" / "__init__.py")
        sys.modules["deltaprop.kernels"] = module_from_spec(spec)
        yield import_module("deltaprop.backends.native.prebuilding").prebuild
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "deltaprop"]:
            del sys.modules[name]
        sys.modules.update(before)


class BuildLibraries(Command):
    """Compiles the libraries into the folder from which the wheel is made."""

    build_lib: str
    editable_mode = False
    made = False

    def initialize_options(self) -> None:
        self.build_lib = ""

    def finalize_options(self) -> None:
        self.build_lib = self.get_finalized_command("build_py").build_lib

    def run(self) -> None:
        if self.editable_mode:
            return
        system, machine = target(sysconfig.get_platform())
        with prebuilding() as prebuild:
            self.made = prebuild(Path(self.build_lib) / PREBUILT, self._say, machine, system)

    def _say(self, line: str) -> None:
        self.announce(f"compiled library: {line}", logging.INFO)

    def get_source_files(self) -> list[str]:
        return []

    def get_outputs(self) -> list[str]:
        return [str(path) for path in sorted((Path(self.build_lib) / PREBUILT).glob("*.so"))]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class BuildWithLibraries(build):
    """The build, with this step; what an earlier build has left does not get into the wheel."""

    sub_commands: ClassVar = [*build.sub_commands, ("build_libraries", None)]

    def run(self) -> None:
        if not self.distribution.have_run.get("build_py"):
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


class WheelOfLibraries(bdist_wheel):
    """A wheel for every Python on one system: ctypes loads the libraries, so they are no extension modules."""

    def get_tag(self) -> tuple[str, str, str]:
        if not self.get_finalized_command("build_libraries").made:
            return super().get_tag()
        self.root_is_pure = False
        machine = target(sysconfig.get_platform())[1]
        return self.python_tag, "none", super().get_tag()[2].replace("universal2", machine)


def target(platform: str) -> tuple[str, str]:
    """What `sys.platform` and `platform.machine` are on a platform such as "macosx-11.0-arm64"."""
    system, _, machine = platform.partition("-")
    if system == "macosx":
        machine = machine.partition("-")[2]
        return "darwin", import_module("platform").machine() if machine == "universal2" else machine
    return system, machine


if __name__ == "__main__":
    setup(cmdclass={"build": BuildWithLibraries, "build_libraries": BuildLibraries, "bdist_wheel": WheelOfLibraries})
