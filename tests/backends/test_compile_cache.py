"""The cache of compiled files: whatever lies there, whoever else compiles, whatever the compiler does.

Each case is a process of its own, which has to end well. What compiles is `fuzz.prepared_compiler`, a program that copies
what the real compiler made, and that can be told to fail in every way.
"""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import fuzz
import pytest
from conftest import missing

from deltaprop.backends.native import compiler as native_compiler

pytestmark = pytest.mark.skipif(os.name != "posix", reason="owners, modes and process groups are POSIX's")
TESTS = Path(__file__).parents[1]
#: Fits on "numpy" and on "reference"; what comes out, and every warning, as JSON.
FIT = f"""
import json, os, sys, time, warnings
sys.path.insert(0, {str(TESTS)!r})
import numpy as np
{{before}}
import deltaprop as dp
from deltaprop.backends import cache_folder, compiled_files
from deltaprop.backends.native import compiler_process
from deltaprop.backends.native import compiler as native_compiler
{{prepare}}
import fuzz
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    ours = fuzz.fitted("numpy")
for a, b, tolerance in zip(ours, fuzz.fitted("reference"), (2e-5, 1e-12), strict=True):
    assert np.allclose(a, b, rtol=tolerance, atol=tolerance)
{{after}}
numbers = b"".join(a.tobytes() for a in ours).hex()
print(json.dumps({{{{"numbers": numbers, "warnings": [str(w.message) for w in caught]}}}}))
"""
AS_NUMPY = "; epochs are trained step by step, by NumPy"


@pytest.fixture(scope="module")
def compiler(tmp_path_factory):
    if native_compiler.find_compiler() is None:
        missing("g++", "no C++ compiler")
    return fuzz.prepared_compiler(tmp_path_factory.mktemp("prepared") / "compiler")


@pytest.fixture
def setting(compiler, tmp_path):
    """The environment of a process: a cache, temporary files and a home of its own."""
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    return os.environ | {
        "CXX": str(compiler),
        "DELTAPROP_CACHE_DIR": str(tmp_path / "cache"),
        "PREPARED_LOG": str(tmp_path / "log"),
        "TMPDIR": str(tmp_path / "tmp"),
        "HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": "",
    }


def start(setting, *, before="", prepare="", after="", prefix=(), **options):
    code = FIT.format(before=before, prepare=prepare, after=after)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*prefix, sys.executable, "-c", code], env=setting, text=True, **pipes, **options)


def end(process):
    """What it printed; it has to have ended well."""
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return json.loads(output)


def fit(setting, **options):
    return end(start(setting, **options))


def compilations(setting):
    log = Path(setting["PREPARED_LOG"])
    return len(log.read_text().splitlines()) if log.exists() else 0


def cached(setting):
    return sorted(Path(setting["DELTAPROP_CACHE_DIR"]).glob("*.so"))


def another_compiler(tmp_path, compiler, body):
    """One that does what `body`, lines of sh, says before it compiles to $output."""
    command = tmp_path / "another" / "c++"
    shutil.copytree(compiler.parent, command.parent)
    text = compiler.read_text()
    assert text.count('\ncp "$') == 1
    command.write_text(text.replace('\ncp "$', f'\n{body}\ncp "$'))
    return command


@pytest.fixture
def clean(setting):
    """What comes out with a cache that was empty."""
    found = fit(setting)
    assert found["warnings"] == []
    assert compilations(setting) == 2
    assert [path.name.split("-")[:2] for path in cached(setting)] == [["epoch", "double"], ["epoch", "float"]]
    return found


def test_fuzzed_caches(tmp_path):
    run = subprocess.run(
        [sys.executable, str(TESTS / "fuzz.py"), "--kind", "caches", "--inputs", "24", "--seed", "5"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("none crashed, all with the numbers of a clean one") > 8


def test_a_damaged_file_is_compiled_again_and_then_kept(setting, clean):
    """One that is cut off may be a SIGBUS where it is loaded."""
    for path, part in zip(cached(setting), (0.9, 0.02), strict=True):
        os.truncate(path, int(part * path.stat().st_size))
    assert fit(setting) == clean
    assert compilations(setting) == 4
    assert fit(setting) == clean
    assert compilations(setting) == 4
    assert len(cached(setting)) == 2


def test_float_and_double_that_were_exchanged_are_not_loaded(setting, clean):
    double, single = cached(setting)
    key = {path: path.name.rpartition("-") for path in (double, single)}
    content = {path: path.read_bytes() for path in (double, single)}
    for path, other in ((double, single), (single, double)):
        path.unlink()
        path.with_name(f"{key[path][0]}-{key[other][2]}").write_bytes(content[other])
    for path in cached(setting):
        path.chmod(0o600)
    assert fit(setting) == clean
    assert compilations(setting) == 4


GARBAGE = {
    "no library": 'echo nonsense > "$output"; exit 0',
    "nothing": "exit 0",
    "an empty file": ': > "$output"; exit 0',
    "half a library": 'head -c 30000 "$(dirname "$0")/$real.so" > "$output"; exit 0',
    "a library without its functions": 'cp "$ANOTHER_LIBRARY" "$output"; exit 0',
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_what_a_compiler_wrote_is_tried_before_it_is_kept(kind, setting, compiler, tmp_path):
    import _ctypes

    setting["ANOTHER_LIBRARY"] = _ctypes.__file__
    setting["CXX"] = str(another_compiler(tmp_path, compiler, GARBAGE[kind]))
    for _ in range(2):
        found = fit(setting)
        assert len(found["warnings"]) == 2  # one for each library
        assert all(AS_NUMPY in warning and "\n" not in warning for warning in found["warnings"])
    assert cached(setting) == []
    shutil.copy(compiler, setting["CXX"])  # the same compiler, mended
    assert fit(setting)["warnings"] == []
    assert len(cached(setting)) == 2


def test_six_processes_that_begin_at_once_compile_once(setting, compiler, tmp_path):
    setting["CXX"] = str(another_compiler(tmp_path, compiler, "sleep 1"))
    processes = [start(setting) for _ in range(6)]
    found = [end(process) for process in processes]
    assert all(other == found[0] for other in found)
    assert found[0]["warnings"] == []
    assert compilations(setting) == 2


@pytest.mark.parametrize("usable", [True, False])
def test_threads_that_begin_at_once_compile_once(usable, setting, compiler, tmp_path):
    setting["CXX"] = str(another_compiler(tmp_path, compiler, "sleep 1"))
    if not usable:
        Path(setting["DELTAPROP_CACHE_DIR"]).write_text("no folder")
    threads = "from concurrent.futures import ThreadPoolExecutor as P; list(P(4).map(fuzz.fitted, ['numpy'] * 4))"
    assert fit(setting, prepare=f"import fuzz; {threads}")["warnings"] == []
    assert compilations(setting) == 2


def test_a_fork_while_another_thread_compiles(setting, compiler, tmp_path):
    """The child has no part in the lock of its parent: both train."""
    setting["CXX"] = str(another_compiler(tmp_path, compiler, f"touch {tmp_path}/begun; sleep 1"))
    code = f"""
import fuzz, threading
from pathlib import Path
thread = threading.Thread(target=fuzz.fitted, args=("numpy",))
thread.start()
while not Path({str(tmp_path / "begun")!r}).exists():
    time.sleep(0.01)
warnings.simplefilter("ignore")  # of forks beside threads
child = os.fork()
if child == 0:
    code = 1
    try:
        fuzz.fitted("numpy")
        code = 0
    finally:
        os._exit(code)
thread.join()
assert os.waitpid(child, 0)[1] == 0
"""
    fit(setting, prepare=code)
    assert compilations(setting) == 2


def test_a_lock_that_is_not_to_be_had_is_waited_for_no_longer_than_its_limit(setting, clean, tmp_path):
    """The process compiles for itself alone, and leaves the cache to whoever holds the lock."""
    folder = Path(setting["DELTAPROP_CACHE_DIR"])
    stems = [path.name.rpartition("-")[0] for path in cached(setting)]
    for path in cached(setting):
        path.unlink()
    hold = f"""
from filelock import FileLock
held = [FileLock(f"{folder}/.{{stem}}.lock") for stem in {stems}]
for lock in held: lock.acquire()
print("held", flush=True)
time.sleep(100)
"""
    with subprocess.Popen([sys.executable, "-c", f"import time{hold}"], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout.readline() == b"held\n"
            assert fit(setting, prepare="compiled_files.SECONDS_TO_WAIT = 0.3") == clean
            assert cached(setting) == []
        finally:
            holder.kill()
    assert fit(setting) == clean
    assert len(cached(setting)) == 2


HANGING = {"asked": "s/-E) echo/-E) sleep 987 \\& sleep 987; echo/", "compiling": "s/^cp/sleep 987 \\& sleep 987; cp/"}


@pytest.mark.parametrize("when", HANGING)
def test_a_compiler_that_hangs_is_stopped_with_all_it_started(when, setting, compiler, tmp_path):
    setting["CXX"] = str(another_compiler(tmp_path, compiler, ""))
    subprocess.run(["sed", "-i", HANGING[when], setting["CXX"]], check=True)
    assert "sleep 987 &" in Path(setting["CXX"]).read_text()
    began = time.monotonic()
    found = fit(setting, prepare="native_compiler.SECONDS_TO_ANSWER = native_compiler.SECONDS_TO_COMPILE = 1.5")
    assert time.monotonic() - began < 60
    assert len(found["warnings"]) == 2
    assert all("was stopped, for it took more than 1.5 s" in warning for warning in found["warnings"])
    assert all(AS_NUMPY in warning for warning in found["warnings"])
    assert not [each for each in commands_of_all() if each == ["sleep", "987"]]


def commands_of_all():
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_text(errors="replace").split("\0")[:-1]
        except OSError:
            continue


def test_an_interrupt_while_it_compiles_ends_the_compiler_too(setting, compiler, tmp_path):
    setting["CXX"] = str(another_compiler(tmp_path, compiler, f"touch {tmp_path}/begun; sleep 986"))
    process = start(setting)
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        time.sleep(0.05)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert not [each for each in commands_of_all() if each == ["sleep", "986"]]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_compiler_that_says_much_is_quoted_in_a_line(setting, compiler, tmp_path):
    body = "yes 'warning: of something' | head -n 40000 >&2; echo 'epoch.cpp:7: error: too fast' >&2; exit 3"
    setting["CXX"] = str(another_compiler(tmp_path, compiler, body))
    found = fit(setting)["warnings"]
    assert len(found) == 2
    for warning in found:
        assert "\n" not in warning
        assert len(warning) < 1500
        assert "failed: epoch.cpp:7: error: too fast (40000 more lines are not shown)" in warning


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_a_compiler_that_does_not_stop_talking_takes_no_memory(setting, compiler, tmp_path):
    """Its time limit ends it; what it said before is dropped but for the beginning."""
    setting["CXX"] = str(another_compiler(tmp_path, compiler, "yes 'error: much' >&2"))
    # Not getrusage, which remembers who this process was before it began.
    after = """
with open("/proc/self/status") as status:
    assert next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) < 600 * 1024
"""
    prepare = "native_compiler.SECONDS_TO_COMPILE = 1.0"
    assert len(fit(setting, prepare=prepare, after=after)["warnings"]) == 2


def test_a_server_that_the_compiler_leaves_running_is_not_waited_for(setting, compiler, tmp_path):
    """As caching compilers do; it holds the pipes open."""
    setting["CXX"] = str(another_compiler(tmp_path, compiler, f"sleep 985 & echo $! >> {tmp_path}/servers"))
    try:
        began = time.monotonic()
        assert fit(setting)["warnings"] == []
        assert time.monotonic() - began < 60
    finally:
        for number in (tmp_path / "servers").read_text().split():
            os.kill(int(number), signal.SIGKILL)


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
    # From elsewhere, once the first library is compiled.
    move = "import fuzz; from deltaprop.backends.native import library as n; n.library(np.dtype('f4')); os.chdir('/')"
    assert fit(setting, prepare=move, cwd=tmp_path / "work")["warnings"] == []
    setting["DELTAPROP_CACHE_DIR"] = str(tmp_path / place)
    assert len(cached(setting)) == 2
    assert compilations(setting) == 2


def test_a_folder_that_goes_away_meanwhile_is_made_again(setting):
    gone = f"""
import fuzz, shutil
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
    """Temporary files then lie in the home; without that as well, NumPy trains, and a warning says why."""
    nowhere = "import tempfile; tempfile.tempdir = '/dev/null/nowhere'"
    assert fit(setting, before=nowhere)["warnings"] == []
    assert [path.name for path in (tmp_path / "home").iterdir()] == []
    setting["HOME"] = "/dev/null"
    found = fit(setting | {"DELTAPROP_CACHE_DIR": ""}, before=nowhere)["warnings"]
    assert len(found) == 2
    assert all("no folder for temporary files" in warning and AS_NUMPY in warning for warning in found)


def mounted(options, folder):
    """What runs a command where a filesystem in memory lies at `folder`, for it alone."""
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
    """The home is tried last."""
    for name in ("cache", "tmp"):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
    prefix = mounted("noexec", tmp_path / "cache") + mounted("noexec", tmp_path / "tmp")
    assert fit(setting, prefix=prefix)["warnings"] == []
    assert [path.name for path in (tmp_path / "home").iterdir()] == []


def test_a_home_that_cannot_be_written_to(setting, tmp_path):
    del setting["DELTAPROP_CACHE_DIR"]
    shutil.rmtree(tmp_path / "home")
    if os.geteuid() == 0:  # who may write anywhere but where nobody may
        prefix = mounted("ro", tmp_path / "home")
    else:
        (tmp_path / "home").mkdir(mode=0o500)
        prefix = []
    assert fit(setting, prefix=prefix)["warnings"] == []
    assert compilations(setting) == 2
    assert list((tmp_path / "tmp").iterdir()) == []


OTHER_KERNELS = """
import importlib.util, pathlib, shutil
import deltaprop.kernels
copied = pathlib.Path({folder!r}) / "kernels"
if not copied.exists():
    shutil.copytree(pathlib.Path(deltaprop.kernels.__file__).parent, copied)
    changed = sorted(copied.rglob({pattern!r}))
    assert changed
    changed[-1].write_text(changed[-1].read_text() + "// changed")
spec = importlib.util.spec_from_file_location("deltaprop.kernels", copied / "__init__.py")
sys.modules["deltaprop.kernels"] = deltaprop.kernels = importlib.util.module_from_spec(spec)
"""


@pytest.mark.parametrize("pattern", ["thread_pool.h", "real.cuh", "epoch.cpp"])
def test_whichever_source_is_edited_is_noticed(pattern, setting, clean, tmp_path):
    edited = OTHER_KERNELS.format(folder=str(tmp_path), pattern=pattern)
    assert fit(setting, prepare=edited) == clean
    assert compilations(setting) == 4
    assert fit(setting, prepare=edited) == clean
    assert fit(setting) == clean
    assert compilations(setting) == 4


def test_another_compiler_or_processor_is_noticed(setting, clean):
    assert fit(setting | {"PREPARED_VERSION": "2"}) == clean
    assert compilations(setting) == 4
    other = "native_compiler._processor = lambda: 'model name : another'"
    assert fit(setting, prepare=other) == clean
    assert compilations(setting) == 6
    assert fit(setting) == clean
    assert compilations(setting) == 6
    if Path("/proc/cpuinfo").exists():
        kind = native_compiler._processor()
        assert kind == native_compiler._processor()
        assert "MHz" not in kind
        assert kind


def test_what_killed_processes_have_left_is_removed(setting, clean, compiler, tmp_path):
    folder = Path(setting["DELTAPROP_CACHE_DIR"])
    for path in cached(setting):
        path.unlink()
    setting["CXX"] = str(another_compiler(tmp_path, compiler, f"touch {tmp_path}/begun; sleep 3"))
    process = start(setting)
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.communicate(timeout=60)
    (left,) = (tmp_path / "tmp").glob("deltaprop-*")
    (tmp_path / "tmp" / "deltaprop-of-somebody").mkdir()  # without the lock: none of ours
    for old in (left, tmp_path / "tmp" / "deltaprop-of-somebody"):
        os.utime(old, (time.time() - 7200,) * 2)
    assert fit(setting) == clean
    assert [path.name for path in (tmp_path / "tmp").iterdir()] == ["deltaprop-of-somebody"]
    # A part of a file, written aside: the cache of the next compilation of this file is free of it.
    stem = cached(setting)[0].name.rpartition("-")[0]
    cached(setting)[0].unlink()
    (folder / f".{stem}.xyz.part").write_bytes(b"half")
    assert fit(setting) == clean
    assert list(folder.glob("*.part")) + list(folder.glob(".*.part")) == []


def test_the_private_folder_of_a_process_that_lives_is_left_alone(setting, tmp_path):
    """However old it is; and the child of a fork that ends does not remove its parent's."""
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
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert len(output.splitlines()) == 2
    assert list((tmp_path / "tmp").iterdir()) == []


CUBIN = """
import sys
from pathlib import Path
from deltaprop.backends.cuda.compiler import cached_cubin
path = cached_cubin("sgd", "float32", "sm_90")
whole = path.read_bytes()
assert whole[:4] == b"\\x7fELF"
path.write_bytes(whole[:100])
assert cached_cubin("sgd", "float32", "sm_90") == path
assert path.read_bytes() == whole
path.rename(path.with_name(path.name.replace("sgd", "adam")))
assert cached_cubin("sgd", "float32", "sm_90").read_bytes() == whole
other = cached_cubin("adam", "float32", "sm_90")
assert b"adam" in other.read_bytes()
"""


def test_damaged_cuda_kernels_are_compiled_again(setting):
    try:
        import cupy  # noqa: F401
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        missing("nvrtc", str(error))
    run = subprocess.run([sys.executable, "-c", CUBIN], env=setting, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_the_cache_is_found_without_the_library_that_locks_it(setting, clean):
    """A second start is as cheap as it can be."""
    assert fit(setting, after="assert 'filelock' not in sys.modules") == clean
