"""The folder of compiled files: who may write to it, where it is, and what happens without it.

Each case runs in a process of its own, which must end with status 0.
"""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import prepared_fits
import pytest
from prepared_fits import AS_NUMPY, FIT, another_compiler, cached, compilations, fit, start
from processes import outputs_of

compiler = prepared_fits.compiler
setting = prepared_fits.setting
clean = prepared_fits.clean


pytestmark = pytest.mark.skipif(os.name != "posix", reason="owners, modes and process groups are POSIX's")


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_folders_are_the_users_alone_whatever_the_umask(umask, setting, tmp_path):
    setting["DELTAPROP_CACHE_DIR"] = str(tmp_path / "deep" / "er" / "cache")
    if umask == 0o777 and os.geteuid() != 0:
        pytest.skip("only root can do anything with such files")
    assert fit(setting, umask=umask)["warnings"] == []
    for folder in (tmp_path / "deep", tmp_path / "deep" / "er", tmp_path / "deep" / "er" / "cache"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in Path(setting["DELTAPROP_CACHE_DIR"]).iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & ~0o600 == 0
    assert len(cached(setting)) == 2


def of_another_user(path, *, mode=0o700):
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to somebody else")
    path.mkdir(parents=True)
    path.chmod(mode)
    os.chown(path, 65534, 65534)


@pytest.mark.parametrize("case", ["writable", "above writable", "by group", "another's", "above another's"])
def test_a_folder_that_others_can_write_to_is_not_used(case, setting, tmp_path):
    folder = Path(setting["DELTAPROP_CACHE_DIR"])
    if case == "writable":
        folder.mkdir()
        folder.chmod(0o777 | stat.S_ISVTX)
    elif case == "above writable":
        (tmp_path / "open").mkdir()
        (tmp_path / "open").chmod(0o777)
        folder = tmp_path / "open" / "cache"
    elif case == "by group":
        folder.mkdir()
        if os.geteuid() == 0:
            os.chown(folder, -1, 65534)
        elif len(os.getgroups()) < 2:
            pytest.skip("needs a group with others in it")
        else:
            os.chown(folder, -1, next(group for group in os.getgroups() if group != os.getgid()))
        folder.chmod(0o770)
    elif case == "another's":
        of_another_user(folder)
    else:
        of_another_user(tmp_path / "another's")
        folder = tmp_path / "another's" / "cache"
    setting["DELTAPROP_CACHE_DIR"] = str(folder)
    found = fit(setting)["warnings"]
    assert len(found) == 1
    reason = "belongs to another user (65534)" if "another" in case else "other users can write to"
    assert found[0].startswith(f"compiled files are not kept in {folder}, for ")
    assert reason in found[0]
    instead = found[0].split("; ")[-1]
    assert instead.startswith(f"{tmp_path}/tmp/deltaprop-")
    assert instead.endswith(" is used instead, until this process ends")
    assert not folder.exists() or list(folder.iterdir()) == []
    assert list((tmp_path / "tmp").iterdir()) == []
    assert compilations(setting) == 2


def test_a_sticky_folder_above_such_as_tmp_is_fine(setting, tmp_path):
    (tmp_path / "sticky").mkdir()
    (tmp_path / "sticky").chmod(0o1777)
    setting["DELTAPROP_CACHE_DIR"] = str(tmp_path / "sticky" / "cache")
    assert fit(setting)["warnings"] == []
    assert len(cached(setting)) == 2


PLACES = {
    "relative": (".", "work"),
    "relative, below": ("a/b", "work/a/b"),
    "home": ("~/c", "home/c"),
    "empty": ("", "home/.cache/deltaprop"),
    "missing": (None, "home/.cache/deltaprop"),
}


@pytest.mark.parametrize("case", PLACES)
def test_wherever_the_folder_is_said_to_be(case, setting, tmp_path):
    value, place = PLACES[case]
    (tmp_path / "work").mkdir()
    del setting["DELTAPROP_CACHE_DIR"]
    if value is not None:
        setting["DELTAPROP_CACHE_DIR"] = value
    # from another current folder, once the first library is compiled
    move = "from deltaprop.backends.native import library as n; n.library(np.dtype('f4')); os.chdir('/')"
    assert fit(setting, prepare=move, cwd=tmp_path / "work")["warnings"] == []
    setting["DELTAPROP_CACHE_DIR"] = str(tmp_path / place)
    assert len(cached(setting)) == 2
    assert compilations(setting) == 2


def test_a_folder_that_goes_away_meanwhile_is_made_again(setting):
    gone = f"""
import shutil
from deltaprop.backends.native import library as n
n.library(np.dtype('f4'))
shutil.rmtree({setting["DELTAPROP_CACHE_DIR"]!r})
"""
    assert fit(setting, prepare=gone, umask=0)["warnings"] == []
    assert len(cached(setting)) == 1
    assert stat.S_IMODE(Path(setting["DELTAPROP_CACHE_DIR"]).stat().st_mode) == 0o700


def test_the_folder_of_the_platform(setting, tmp_path):
    del setting["DELTAPROP_CACHE_DIR"]
    setting["XDG_CACHE_HOME"] = str(tmp_path / "xdg")
    assert fit(setting)["warnings"] == []
    if sys.platform == "linux":
        assert len(list((tmp_path / "xdg" / "deltaprop").glob("*.so"))) == 2


UNUSABLE = {
    "a file": lambda folder: folder.write_text(""),
    "below a file": lambda folder: (folder.write_text(""), folder / "cache")[1],
    "a device": lambda folder: Path("/dev/full"),
    "a name too long": lambda folder: folder / ("x" * 300),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_folder_that_cannot_be_is_done_without(case, setting, tmp_path):
    other = UNUSABLE[case](Path(setting["DELTAPROP_CACHE_DIR"]))
    if isinstance(other, Path):
        setting["DELTAPROP_CACHE_DIR"] = str(other)
    assert fit(setting)["warnings"] == []
    assert compilations(setting) == 2
    assert list((tmp_path / "tmp").iterdir()) == []


def test_without_a_home_or_room_for_temporary_files(setting, tmp_path):
    """Without a folder for temporary files the home serves; without a home, NumPy trains, and a warning says why."""
    nowhere = "import tempfile; tempfile.tempdir = '/dev/null/nowhere'"
    assert fit(setting, before=nowhere)["warnings"] == []
    assert [path.name for path in (tmp_path / "home").iterdir()] == []
    setting["HOME"] = "/dev/null"
    found = fit(setting | {"DELTAPROP_CACHE_DIR": ""}, before=nowhere)["warnings"]
    assert len(found) == 2
    assert all("no folder for temporary files" in warning and AS_NUMPY in warning for warning in found)


def mounted(options, folder):
    """Return a command prefix that mounts a filesystem in memory at `folder`, visible to that command only."""
    folder.mkdir(mode=0o700)
    prefix = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        f'mount -t tmpfs -o mode=700,{options} none {folder} && exec "$@"',
        "sh",
    ]
    if not shutil.which("unshare") or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    return prefix


@pytest.mark.parametrize("options", ["noexec", "size=64k", "ro"])
def test_a_filesystem_without_programs_or_room_or_writing(options, setting, tmp_path):
    prefix = mounted(options, Path(setting["DELTAPROP_CACHE_DIR"]))
    assert fit(setting, prefix=prefix)["warnings"] == []
    assert compilations(setting) == 2
    assert list((tmp_path / "tmp").iterdir()) == []


def test_where_temporary_files_cannot_be_run_either(setting, tmp_path):
    """If programs cannot run from temporary files either, the home is tried last."""
    for name in ("cache", "tmp"):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
    prefix = mounted("noexec", tmp_path / "cache") + mounted("noexec", tmp_path / "tmp")
    assert fit(setting, prefix=prefix)["warnings"] == []
    assert [path.name for path in (tmp_path / "home").iterdir()] == []


def test_a_home_that_cannot_be_written_to(setting, tmp_path):
    del setting["DELTAPROP_CACHE_DIR"]
    shutil.rmtree(tmp_path / "home")
    if os.geteuid() == 0:  # root may write anywhere, except where nobody may
        prefix = mounted("ro", tmp_path / "home")
    else:
        (tmp_path / "home").mkdir(mode=0o500)
        prefix = []
    assert fit(setting, prefix=prefix)["warnings"] == []
    assert compilations(setting) == 2
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_killed_processes_have_left_is_removed(setting, clean, compiler, tmp_path):
    folder = Path(setting["DELTAPROP_CACHE_DIR"])
    for path in cached(setting):
        path.unlink()
    begun = tmp_path / "begun"
    first = f"[ -s {begun} ] || {{ echo $$ > {begun}; sleep 30; }}"
    setting["CXX"] = str(another_compiler(tmp_path, compiler, first))
    process = start(setting)
    while not begun.exists() or not begun.read_text():
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    os.kill(int(begun.read_text()), signal.SIGKILL)  # else it would write into the folder that is to look old
    outputs_of(process, 60)
    (left,) = (tmp_path / "tmp").glob("deltaprop-*")
    (tmp_path / "tmp" / "deltaprop-of-somebody").mkdir()  # without the lock: not ours
    for old in (left, tmp_path / "tmp" / "deltaprop-of-somebody"):
        os.utime(old, (time.time() - 7200,) * 2)
    assert fit(setting) == clean
    assert [path.name for path in (tmp_path / "tmp").iterdir()] == ["deltaprop-of-somebody"]
    # A partly written file: the next compilation of this file removes it.
    stem = cached(setting)[0].name.rpartition("-")[0]
    cached(setting)[0].unlink()
    (folder / f".{stem}.xyz.part").write_bytes(b"half")
    assert fit(setting) == clean
    assert list(folder.glob("*.part")) + list(folder.glob(".*.part")) == []


def test_the_private_folder_of_a_process_that_lives_is_left_alone(setting, tmp_path):
    """A living process keeps its folder, however old; and the child of a fork does not remove its parent's."""
    Path(setting["DELTAPROP_CACHE_DIR"]).write_text("no folder")
    after = f"""
import pathlib, subprocess
(folder,) = cache_folder.private_folders_so_far()
os.utime(folder, (1.0, 1.0))
assert subprocess.run([sys.executable, "-c", {FIT.format(before="", prepare="", after="")!r}]).returncode == 0
child = os.fork()
if child == 0:
    sys.exit(0)
os.waitpid(child, 0)
assert len(list(folder.glob("*.so"))) == 2
"""
    process = start(setting, after=after)
    output, errors = outputs_of(process)
    assert process.returncode == 0, errors
    assert len(output.splitlines()) == 2
    assert list((tmp_path / "tmp").iterdir()) == []
