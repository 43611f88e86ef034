"""The cache of compiled files, with any content, any other process, and any failure of the compiler.

Each case runs in a process of its own, which must end with status 0.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import prepared_fits
import pytest
from conftest import missing
from prepared_fits import AS_NUMPY, TESTS, another_compiler, cached, compilations, end, fit, start
from processes import outputs_of, python

from deltaprop.backends.native import compiler as native_compiler

compiler = prepared_fits.compiler
setting = prepared_fits.setting
clean = prepared_fits.clean


pytestmark = pytest.mark.skipif(os.name != "posix", reason="owners, modes and process groups are POSIX's")


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
    """Loading a truncated file may raise SIGBUS."""
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
    shutil.copy(compiler, setting["CXX"])  # the same compiler, repaired
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
    threads = "from concurrent.futures import ThreadPoolExecutor as P; list(P(4).map(fitted, ['numpy'] * 4))"
    assert fit(setting, prepare=f"from prepared_compiler import fitted; {threads}")["warnings"] == []
    assert compilations(setting) == 2


#: A compiler's process has begun, but the thread that started it has not yet closed its own end of the pipe by which
#: that process tells that it could not begin.
STARTING = """
import subprocess
fork_exec = subprocess._fork_exec
subprocess._fork_exec = lambda *arguments: (fork_exec(*arguments), time.sleep(0.5))[0]
"""


@pytest.mark.parametrize("when", ["", STARTING], ids=["running", "starting"])
def test_a_fork_while_another_thread_compiles(when, setting, compiler, tmp_path):
    """The child waits for no lock of its parent, nor the parent for a pipe that its child holds: both train."""
    setting["CXX"] = str(another_compiler(tmp_path, compiler, f"touch {tmp_path}/begun; sleep 1"))
    code = f"""
import threading
from prepared_compiler import fitted
from pathlib import Path
{when}
thread = threading.Thread(target=fitted, args=("numpy",))
thread.start()
while not Path({str(tmp_path / "begun")!r}).exists():
    time.sleep(0.01)
warnings.simplefilter("ignore")  # of forks beside threads
child = os.fork()
if child == 0:
    code = 1
    try:
        fitted("numpy")
        code = 0
    finally:
        os._exit(code)
thread.join()
assert os.waitpid(child, 0)[1] == 0
"""
    fit(setting, prepare=code)
    assert compilations(setting) == 2


def test_a_lock_that_is_not_to_be_had_is_waited_for_no_longer_than_its_limit(setting, clean, tmp_path):
    """The process then compiles for itself, and leaves the cache to the holder of the lock."""
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
            assert holder.stdout is not None
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
    assert all(" took more than 1.5 s and was stopped" in warning for warning in found["warnings"])
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
    _, errors = outputs_of(process, 60)
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
    """Its time limit ends it; only the beginning of its output is kept."""
    setting["CXX"] = str(another_compiler(tmp_path, compiler, "yes 'error: much' >&2"))
    # not getrusage, which counts the parent's memory before exec as well
    after = """
with open("/proc/self/status") as status:
    assert next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) < 600 * 1024
"""
    prepare = "native_compiler.SECONDS_TO_COMPILE = 1.0"
    assert len(fit(setting, prepare=prepare, after=after)["warnings"]) == 2


def test_a_server_that_the_compiler_leaves_running_is_not_waited_for(setting, compiler, tmp_path):
    """Caching compilers leave such a server, which holds the pipes open."""
    setting["CXX"] = str(another_compiler(tmp_path, compiler, f"sleep 985 & echo $! >> {tmp_path}/servers"))
    try:
        began = time.monotonic()
        assert fit(setting)["warnings"] == []
        assert time.monotonic() - began < 60
    finally:
        for number in (tmp_path / "servers").read_text().split():
            os.kill(int(number), signal.SIGKILL)


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


@pytest.mark.parametrize("pattern", ["thread_pool.h", "real.cuh", "library.cpp"])
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


CUBIN = """
import sys
from pathlib import Path
from deltaprop.backends.cuda.compiler import cached_cubin
path = cached_cubin("gather", "float32", "sm_90")
whole = path.read_bytes()
assert whole[:4] == b"\\x7fELF"
path.write_bytes(whole[:100])
assert cached_cubin("gather", "float32", "sm_90") == path
assert path.read_bytes() == whole
path.rename(path.with_name(path.name.replace("gather", "dropout_mask")))
assert cached_cubin("gather", "float32", "sm_90").read_bytes() == whole
other = cached_cubin("dropout_mask", "float32", "sm_90")
assert b"dropout_mask" in other.read_bytes()
"""


def test_damaged_cuda_kernels_are_compiled_again(setting):
    try:
        import cupy  # noqa: F401
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        missing("nvrtc", str(error))
    python("-c", CUBIN, env=setting)


def test_the_cache_is_found_without_the_library_that_locks_it(setting, clean):
    """So a second start does not import filelock."""
    assert fit(setting, after="assert 'filelock' not in sys.modules") == clean
