"""The libraries that come with the package: which is taken, and that none is loaded that is not what was built."""

import re
import shutil
from pathlib import Path

import pytest
from conftest import require_compiler

from deltaprop.backends.kernel_sources import read
from deltaprop.backends.native import compiler, prebuilding, prebuilt_libraries, processor, selection
from deltaprop.backends.native.selection import describe, find_prebuilt, select_library
from deltaprop.backends.native.variants import V3, V4, features_in, variants_of
from deltaprop.errors import BackendError

#: Writes its arguments into its output.
COMPILER = """#!/bin/sh
arguments="$*"
while [ "$1" != -o ]; do shift; done
echo "$arguments" > "$2"
"""
ALL_BITS = 0xFFFFFFFF


@pytest.fixture
def command(tmp_path, monkeypatch):
    """A compiler that makes anything of anything; as found here."""
    path = tmp_path / "bin" / "c++"
    path.parent.mkdir()
    path.write_text(COMPILER)
    path.chmod(0o755)
    monkeypatch.setattr(compiler, "find_compiler", lambda: (str(path),))
    monkeypatch.delenv("DELTAPROP_LIBRARY", raising=False)
    return path


@pytest.fixture
def folder(command, tmp_path, monkeypatch):
    """The libraries of an installation on Linux, x86-64; nothing else can be compiled."""
    folder = tmp_path / "prebuilt"
    assert prebuilding.prebuild(folder, lambda line: None, "x86_64", "linux")
    monkeypatch.setattr(prebuilt_libraries, "FOLDER", folder)
    monkeypatch.setattr(selection, "variants_of", lambda: variants_of("x86_64", "linux"))
    monkeypatch.setattr(selection, "find_compiler", lambda: None)
    monkeypatch.setattr(compiler, "find_compiler", lambda: None)
    monkeypatch.setattr(processor, "processor_features", lambda: V4)
    prebuilt_libraries.any_prebuilt.cache_clear()
    yield folder
    prebuilt_libraries.any_prebuilt.cache_clear()


def taken():
    return select_library("float", Path)


# -- by processor ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("saved", "leaf_7", "runs_v3", "runs_v4"),
    [
        (0xE7, ALL_BITS, True, True),
        (0x07, ALL_BITS, True, False),  # the system saves no zmm
        (0xE7, ALL_BITS & ~(1 << 31), True, False),  # no AVX512VL
        (0xE7, ALL_BITS & ~(1 << 5), False, False),  # no AVX2
        (0x03, ALL_BITS, False, False),  # the system saves no ymm
    ],
)
def test_what_a_processor_reports(saved, leaf_7, runs_v3, runs_v4):
    found = features_in([ALL_BITS, leaf_7, ALL_BITS, saved])
    assert (found >= V3, found >= V4) == (runs_v3, runs_v4)


@pytest.mark.skipif(not variants_of("x86_64") or variants_of() != variants_of("x86_64"), reason="not x86-64")
def test_this_processor_is_as_linux_describes_it(monkeypatch):
    if not Path("/proc/cpuinfo").exists():
        pytest.skip("no /proc/cpuinfo")
    if not prebuilt_libraries.any_prebuilt():
        require_compiler()
    (line, *_) = re.findall(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    flags = set(line.split())
    linux = {"sse3": "pni", "cmpxchg16b": "cx16", "sse4.1": "sse4_1", "sse4.2": "sse4_2", "lahf": "lahf_lm"}
    linux |= {"lzcnt": "abm", "osxsave": "xsave", "ymm saved": "avx", "zmm saved": "avx512f"}
    expected = {name for name in V4 if linux.get(name, name) in flags}
    assert processor.processor_features() == expected


@pytest.mark.parametrize(("features", "name"), [(V4, "x86-64-v4"), (V3, "x86-64-v3"), (V4 - {"avx512bw"}, "x86-64-v3")])
def test_the_best_that_the_processor_runs_is_taken(features, name, folder, monkeypatch):
    monkeypatch.setattr(processor, "processor_features", lambda: features)
    selected = taken()
    assert selected.origin == describe() == f"prebuilt ({name})"
    assert f"-march={name}" in selected.loaded.read_text()
    assert "-DDELTAPROP_REAL=float" in selected.loaded.read_text()


def test_an_old_processor_compiles(folder, monkeypatch):
    monkeypatch.setattr(processor, "processor_features", lambda: V3 - {"fma"})
    assert find_prebuilt("float", Path) == "the prebuilt libraries are for other processors"
    with pytest.raises(BackendError, match=r"for other processors; no C\+\+ compiler is here"):
        taken()
    monkeypatch.setattr(selection, "native_library", lambda real, load: f"{real}, compiled")
    assert taken() == selection.Selected("float, compiled", "compiled here")


def test_a_processor_that_cannot_be_asked_runs_none(folder):
    def unknown():
        raise OSError("no such file")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processor, "processor_features", unknown)
        assert find_prebuilt("float", Path) == "no such file"


@pytest.mark.parametrize(
    ("machine", "system", "names"),
    [
        ("x86_64", "linux", ["x86-64-v4", "x86-64-v3"]),
        ("AMD64", "win32", []),
        ("x86_64", "darwin", ["x86-64-v3"]),
        ("arm64", "darwin", ["armv8-a"]),
        ("aarch64", "linux", ["armv8-a"]),
        ("riscv64", "linux", []),
    ],
)
def test_the_variants_of_a_machine(machine, system, names):
    assert [variant.name for variant in variants_of(machine, system)] == names


# -- by name --------------------------------------------------------------------------------------------------------


def test_a_variant_can_be_named(folder, monkeypatch):
    monkeypatch.setenv("DELTAPROP_LIBRARY", "x86-64-v3")
    assert taken().origin == "prebuilt (x86-64-v3)"
    shutil.rmtree(folder)
    asked = []
    monkeypatch.setattr(selection, "native_library", lambda real, load, options: asked.append(options))
    assert taken().origin == "compiled here (x86-64-v3)"
    assert asked == [("-march=x86-64-v3",)]


def test_native_never_is_prebuilt(folder, monkeypatch):
    monkeypatch.setenv("DELTAPROP_LIBRARY", "native")
    with pytest.raises(BackendError, match=r"no C\+\+ compiler"):
        taken()
    assert describe().startswith("none: DELTAPROP_LIBRARY asks for it, and no C++ compiler")


@pytest.mark.parametrize("named", ["x86-64-v4", "armv8-a", "fast"])
def test_what_cannot_run_is_refused(named, folder, monkeypatch):
    monkeypatch.setattr(processor, "processor_features", lambda: V3)
    monkeypatch.setenv("DELTAPROP_LIBRARY", named)
    with pytest.raises(ValueError, match=f"DELTAPROP_LIBRARY: expected .*, got '{named}'"):
        taken()
    assert describe().startswith("none: DELTAPROP_LIBRARY: expected ")


# -- whatever lies there --------------------------------------------------------------------------------------------


def library_of(folder):
    (path,) = folder.glob("epoch-float-x86-64-v4-*")
    return path


def truncate(path):
    path.write_bytes(path.read_bytes()[:40])


def flip(path):
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)


def put_folder(path):
    path.unlink()
    path.mkdir()


def put_another(path):
    (other,) = path.parent.glob("epoch-double-x86-64-v4-*")
    shutil.copy(other, path)


HARMS = {
    "truncated": truncate,
    "empty": lambda path: path.write_bytes(b""),
    "flipped": flip,
    "a folder": put_folder,
    "another": put_another,
    "a link to nothing": lambda path: (path.unlink(), path.symlink_to("nowhere")),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_library_is_not_loaded(harm, folder, monkeypatch):
    HARMS[harm](library_of(folder))
    load = lambda path: pytest.fail("it was loaded")  # noqa: E731
    assert find_prebuilt("float", load) == "the prebuilt library epoch-float-x86-64-v4 is damaged"
    assert taken().origin == "prebuilt (x86-64-v3)"  # better than none, where there is no compiler
    monkeypatch.setattr(selection, "native_library", lambda real, load: "compiled")
    assert taken().loaded == "compiled"


def test_a_missing_library_is_named(folder):
    library_of(folder).unlink()
    assert find_prebuilt("float", Path) == "this installation has no prebuilt library epoch-float-x86-64-v4"


def test_libraries_of_other_sources_are_not_loaded(folder, monkeypatch):
    monkeypatch.setattr(prebuilt_libraries, "kernel_sources", lambda: ("cpu/library.cpp", "// another"))
    load = lambda path: pytest.fail("it was loaded")  # noqa: E731
    problem = "the prebuilt library epoch-float-x86-64-v4 was compiled from other sources than are installed"
    assert find_prebuilt("float", load) == problem
    with pytest.raises(BackendError, match=rf"^{problem}; no C\+\+ compiler is here"):
        select_library("float", load)
    monkeypatch.setattr(selection, "find_compiler", lambda: ("g++",))
    assert describe().startswith(
        "compiled here by g++, as the prebuilt library epoch-double-x86-64-v4 was compiled from"
    )


def test_a_library_that_does_not_load_or_differs_is_left(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def load(path):
        raise OSError("undefined symbol")

    assert find_prebuilt("float", load) == "the prebuilt library epoch-float-x86-64-v4 does not load"

    def differs(path):
        raise BackendError("its losses are others")

    assert find_prebuilt("float", differs) == "its losses are others"


def test_links_to_the_files_are_followed(folder, tmp_path):
    """Some installers make links of all files."""
    path = library_of(folder)
    path.rename(tmp_path / "kept elsewhere")
    path.symlink_to(tmp_path / "kept elsewhere")
    assert taken().origin == "prebuilt (x86-64-v4)"


# -- building -------------------------------------------------------------------------------------------------------


def test_what_is_built(folder):
    names = sorted(re.sub(r"-[0-9a-f]{24}-[0-9a-f]{32}\.so$", "", path.name) for path in folder.iterdir())
    expected = [f"epoch-{real}-x86-64-{level}" for real in ("double", "float") for level in ("v3", "v4")]
    assert names == [*expected, "processor"]


def test_the_library_offers_the_functions_that_are_named():
    """A prebuilt library hides all others."""
    text = read(compiler.UNIT)
    assert sorted(re.findall(r'^extern "C" \w+ (\w+)\(', text, re.MULTILINE)) == sorted(compiler.FUNCTIONS)


def test_old_libraries_are_removed(command, tmp_path):
    folder = tmp_path / "prebuilt"
    folder.mkdir()
    (folder / "epoch-float-x86-64-v4-of-old-sources.so").write_text("old")
    prebuilding.prebuild(folder, lambda line: None, "aarch64", "linux")
    assert len(list(folder.iterdir())) == 2
    assert not list(folder.glob("*old*"))


@pytest.mark.parametrize(
    ("refused", "names"),
    [
        ("x86-64-v4", {"epoch-double-x86-64-v3", "epoch-float-x86-64-v3", "processor"}),
        ("x86-64-v[34]", set()),
        ("processor.cpp", set()),
    ],
)
def test_a_compiler_that_knows_less_builds_less(refused, names, command, tmp_path):
    body = f'case "$*" in *{refused}*) echo "error: bad value" >&2; exit 1;; esac\n'
    command.write_text(COMPILER.replace("arguments=", f"{body}arguments=", 1))
    folder, said = tmp_path / "prebuilt", list[str]()
    assert prebuilding.prebuild(folder, said.append, "x86_64", "linux") == bool(names)
    assert {path.name[:-61] for path in folder.glob("*")} == names
    assert any("is not compiled: " in line and "error: bad value" in line for line in said)


def test_a_compiler_that_hangs_is_stopped(command, tmp_path, monkeypatch):
    monkeypatch.setattr(compiler, "SECONDS_TO_COMPILE", 0.5)
    command.write_text(COMPILER.replace("arguments=", 'case "$*" in *armv8-a*) sleep 60;; esac\narguments=', 1))
    said = list[str]()
    assert not prebuilding.prebuild(tmp_path / "prebuilt", said.append, "aarch64", "linux")
    assert len(said) == 2
    assert all("took more than 0.5 s and was stopped" in line for line in said)


def test_without_a_compiler_or_by_wish_nothing_is_built(command, tmp_path, monkeypatch):
    said = list[str]()
    monkeypatch.setenv("DELTAPROP_LIBRARY", "native")
    assert not prebuilding.prebuild(tmp_path / "prebuilt", said.append, "x86_64", "linux")
    monkeypatch.delenv("DELTAPROP_LIBRARY")
    assert not prebuilding.prebuild(tmp_path / "prebuilt", said.append, "x86_64", "win32")
    monkeypatch.setattr(compiler, "find_compiler", lambda: None)
    assert not prebuilding.prebuild(tmp_path / "prebuilt", said.append, "x86_64", "linux")
    assert said[:2] == [
        "no library is compiled: DELTAPROP_LIBRARY is native",
        "no library is compiled for this system",
    ]
    assert said[2].startswith("no library is compiled: no C++ compiler is here")
