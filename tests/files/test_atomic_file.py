"""A write leaves the old file or the new one, whole, and nothing else. Each case runs in a process of its own."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from processes import outputs_of

import deltaprop as dp
from deltaprop.cli import run

#: A program that writes its second argument, or "new", to its first.
WRITE = """
import sys
from deltaprop.files.atomic_file import check_writable, write_atomically
check_writable(sys.argv[1])
write_atomically(sys.argv[1], (sys.argv[2] if len(sys.argv) > 2 else "new").encode())
"""


def python(code, *arguments, status=0, **how):
    """Run a program that must end with `status`; return what it printed."""
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, **how)
    assert ended.returncode == status, ended.stderr
    return ended.stdout + ended.stderr


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_links_are_followed(tmp_path):
    (tmp_path / "far").mkdir()
    target, link, other = tmp_path / "far" / "target", tmp_path / "link", tmp_path / "other"
    target.write_text("old")
    link.symlink_to("far/target")
    other.symlink_to(link)
    python(WRITE, other)
    assert target.read_text() == "new"
    assert other.readlink() == link
    assert str(link.readlink()) == "far/target"
    target.unlink()
    python(WRITE, other, "again")  # the links lead nowhere
    assert target.read_text() == "again"
    assert (names(tmp_path), names(tmp_path / "far")) == (["far", "link", "other"], ["target"])
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    assert "cannot write" in python(WRITE, loop, status=1)
    nowhere = tmp_path / "nowhere"
    nowhere.symlink_to("no/folder")
    assert "there is no folder" in python(WRITE, nowhere, status=1)
    assert loop.is_symlink()
    assert nowhere.is_symlink()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
def test_a_file_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(mode)
    python(WRITE, path, umask=0o022)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_keeps_its_owner(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    os.chown(path, 12345, 54321)
    path.chmod(0o640)
    python(WRITE, path)
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12345, 54321, 0o640)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_files_of_others_in_a_folder_of_all():
    """It is noticed before training, as it would be too late afterwards."""
    with TemporaryDirectory() as name:  # others can enter it, unlike pytest's folders
        folder = Path(name)
        folder.chmod(0o1777)
        path = folder / "file"
        path.write_text("old")
        code = "import os; from deltaprop.files.atomic_file import *; os.seteuid(12345)" + WRITE
        assert "belongs to somebody else" in python(code, path, status=1)
        os.chown(path, 12345, 12345)
        python(code, path)
        assert path.read_text() == "new"
        assert names(folder) == ["file"]


def test_a_new_file_has_the_mode_of_any_new_file(tmp_path):
    """The umask, which all threads share, is not changed."""
    for mask in (0o022, 0o077, 0o002):
        path = tmp_path / f"{mask:o}"
        python("import os\n\ndef umask(mask):\n    raise AssertionError\n\nos.umask = umask" + WRITE, path, umask=mask)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_of_a_hard_link_one_name_gets_the_new_content(tmp_path):
    """Only so does the old content stay whole until the new is complete."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("old")
    other.hardlink_to(one)
    python(WRITE, one)
    assert (one.read_text(), other.read_text()) == ("new", "old")


def test_a_pipe_is_written_into(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for command in ([sys.executable, "-c", WRITE, pipe, "through"], None):
        net = tmp_path / "net"
        if command is None:
            save = f"import deltaprop as dp; dp.Network([2, 2], backend='numpy').save({str(pipe)!r})"
            command = [sys.executable, "-c", save]
        writer = subprocess.Popen(command)
        content = pipe.read_bytes()
        assert writer.wait() == 0
        assert stat.S_ISFIFO(pipe.stat().st_mode)
    net.write_bytes(content)
    assert dp.Network.load(net, backend="numpy").layer_sizes == (2, 2)
    with pytest.raises(ValueError, match="is a pipe or a device"):
        dp.Network.load(pipe)  # opening it would wait for ever


def test_a_socket_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
        assert "cannot write" in python(WRITE, "socket", status=1)
        assert stat.S_ISSOCK(Path("socket").stat().st_mode)
    assert names(tmp_path) == ["socket"]


@pytest.fixture
def devices(tmp_path):
    """Make devices (null, full) here, so that those of the machine are safe."""
    nodes = tmp_path / "null", tmp_path / "full"
    for node, minor in zip(nodes, (3, 7), strict=True):
        try:
            os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
            node.read_bytes() if minor == 3 else node.open("rb").close()
        except OSError as error:
            pytest.skip(f"devices cannot be made here: {error}")
    return nodes


COMMANDS = """
import sys
from deltaprop.cli import run
null, full, link, data, model, new = sys.argv[1:]
train = ["train", data, "--plain", "--epochs", "1", "--no-progress", "--hidden", "2", "--backend", "numpy", "--out"]
predict = ["predict", model, new, "--backend", "numpy", "--out"]
for command in ([*train, full], [*train, link], [*train, null, "--checkpoint", null], [*train, model]):
    print(run(command))
for command in ([*predict, full], [*predict, null]):
    print(run(command))
"""


def test_devices_are_written_into_and_never_replaced(devices, tmp_path):
    null, full = devices
    python(WRITE, null)
    assert "No space left on device" in python(WRITE, full, status=1)
    link, data, model, new = (tmp_path / name for name in ("link", "data.csv", "model", "new.csv"))
    link.symlink_to(full)
    data.write_text("a,b\n" + "".join(f"{i},{i % 2}\n" for i in range(20)))
    new.write_text("a\n1\n2\n")
    said = python(COMMANDS, null, full, link, data, model, new).splitlines()
    assert [line for line in said if line.isdecimal()] == list("220020")
    errors = [line for line in said if line.startswith("deltaprop: error: ")]
    full_disk = "deltaprop: error: [Errno 28] cannot write {}: No space left on device"
    assert errors == [full_disk.format(path) for path in (full, link, full)]
    for node, minor in zip(devices, (3, 7), strict=True):
        status = node.stat()
        assert stat.S_ISCHR(status.st_mode)
        assert status.st_rdev == os.makedev(1, minor)
        assert stat.S_IMODE(status.st_mode) == 0o666 & ~_umask()
    assert names(tmp_path) == ["data.csv", "full", "link", "model", "new.csv", "null"]


def _umask():
    return int(
        next(line for line in Path("/proc/self/status").read_text().splitlines() if "Umask" in line).split()[1], 8
    )


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="there is no /dev/stdout")
def test_standard_output_by_name(tmp_path):
    """It is a pipe, or a file with earlier output in it."""
    code = "print('before')" + WRITE + "print('after')"
    assert python(code, "/dev/stdout") == "before\nnewafter\n"
    assert python(code, "/dev/fd/1") == "before\nnewafter\n"
    path = tmp_path / "file"
    with path.open("w") as file:
        assert subprocess.run([sys.executable, "-c", code, "/dev/stdout"], stdout=file, check=False).returncode == 0
    assert path.read_text() == "before\nnewafter\n"


def test_names_that_leave_no_room_for_another(tmp_path):
    longest = os.pathconf(tmp_path, "PC_NAME_MAX")
    for name in ("x" * longest, "π" * (longest // 2), "\udcff" * longest, ".part", "-"):
        path = tmp_path / name
        python(WRITE, path)
        assert path.read_text() == "new"
        path.unlink()
    assert names(tmp_path) == []


IMPOSSIBLE = """
import sys
import deltaprop as dp
from deltaprop.cli import run
trained = []
net = dp.Network([2, 2], backend="numpy")
try:
    net.fit([[0, 1]], [[0, 1]], epochs=2, checkpoint=sys.argv[1], callbacks=[trained.append])
except OSError as error:
    print("refused:", str(error).startswith(("cannot write", "[Errno")) and "cannot write" in str(error), trained)
fit = dp.Network.fit
dp.Network.fit = lambda *arguments, **options: print("trained")
for option in ("--out", "--checkpoint", "--plot"):
    name = sys.argv[1] + ".png" * (option == "--plot" and "\\0" not in sys.argv[1])
    print(run(["train", "digits", option, name]))
print(run(["sweep", "digits", "--grid", "lr=0.1", "--out", sys.argv[1]]))
"""


@pytest.mark.parametrize("name", ["x" * 300, "loop/x", "file/x", "none/x", "loop"])
def test_an_impossible_name_is_found_before_training(tmp_path, name):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "file").write_text("")
    said = python(IMPOSSIBLE, tmp_path / name).splitlines()
    errors = [line for line in said if line.startswith("deltaprop: error: ")]
    assert [line for line in said if line not in errors] == ["refused: True []", *"2222"]
    assert ["cannot write" in line for line in errors] == 4 * [True]
    assert names(tmp_path) == ["file", "loop", "loop.png"]


KILLED = """
import os, signal, sys
from deltaprop.files.atomic_file import write_atomically
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
write_atomically(sys.argv[1], b"x" * 100_000)
"""


def test_leftovers_of_killed_writers_are_removed_by_the_next(tmp_path):
    """Only leftovers of this file are removed, by a write and by a check for writing."""
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_text("old")
    for again in (WRITE, "import sys; from deltaprop.files.atomic_file import *; check_writable(sys.argv[1])"):
        for _ in range(3):
            python(KILLED, path, status=-signal.SIGKILL)
        python(KILLED, other, status=-signal.SIGKILL)
        left = names(tmp_path)
        assert path.read_text() == ("old" if again == WRITE else "new")
        python(again, path)
        now = names(tmp_path)
        assert len(set(left) - set(now)) >= 1
        assert [name for name in now if name.endswith(".part")]  # of the other file
        python(again, other)
        assert not [name for name in names(tmp_path) if name.endswith(".part")]


HELD = """
import os, sys, time
from pathlib import Path
from deltaprop.files.atomic_file import write_atomically
flush = os.fsync
def fsync(handle):
    os.fsync = flush  # the folder's need not wait
    Path(sys.argv[2]).touch()
    while Path(sys.argv[2]).exists():
        time.sleep(0.01)
    flush(handle)
os.fsync = fsync
write_atomically(sys.argv[1], b"slow")
"""


def test_what_a_living_process_writes_is_no_leftover(tmp_path):
    folder, sign = tmp_path / "folder", tmp_path / "sign"
    folder.mkdir()
    slow = subprocess.Popen([sys.executable, "-c", HELD, folder / "file", sign])
    while not sign.exists():
        assert slow.poll() is None
        time.sleep(0.01)
    python(KILLED, folder / "file", status=-signal.SIGKILL)
    python(WRITE, folder / "file")
    assert (folder / "file").read_text() == "new"
    assert len(names(folder)) == 2
    sign.unlink()
    assert slow.wait() == 0
    assert (folder / "file").read_text() == "slow"
    assert names(folder) == ["file"]


MANY = """
import sys, threading
from deltaprop.files.atomic_file import write_atomically
def write(k):
    for i in range(15):
        write_atomically(sys.argv[1], bytes([65 + k]) * 50_000)
threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_many_writers_at_once(tmp_path):
    """Threads of two processes write: none fails, and the file is one writer's."""
    path = tmp_path / "file"
    both = [subprocess.Popen([sys.executable, "-c", MANY, path], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, errors = outputs_of(process)
        assert (process.returncode, errors) == (0, "")
    assert len(path.read_bytes()) == 50_000
    assert len(set(path.read_bytes())) == 1
    assert names(tmp_path) == ["file"]


def test_planted_leftovers_lead_nowhere(tmp_path):
    """In a folder that others may write to, links, pipes and folders under such names are left alone."""
    path, precious = tmp_path / "file", tmp_path / "precious"
    python(KILLED, path, status=-signal.SIGKILL)
    (left,) = [name for name in names(tmp_path) if name.endswith(".part")]
    prefix = left.partition("-")[0]
    precious.write_text("precious")
    (tmp_path / f"{prefix}-link.part").symlink_to(precious)
    os.mkfifo(tmp_path / f"{prefix}-pipe.part")
    (tmp_path / f"{prefix}-folder.part").mkdir()
    python(WRITE, path, timeout=60)
    assert (path.read_text(), precious.read_text()) == ("new", "precious")
    assert left not in names(tmp_path)
    assert len(names(tmp_path)) == 5


def test_pictures_are_written_so_too(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    dp.Network([4, 3], backend="numpy").save(tmp_path / "net")
    (tmp_path / "far").mkdir()
    (tmp_path / "w.png").symlink_to("far/w.png")
    (tmp_path / "far" / "w.png").write_text("old")
    (tmp_path / "far" / "w.png").chmod(0o600)
    assert run(["weights", str(tmp_path / "net"), "--plot", str(tmp_path / "w.png")]) == 0
    assert (tmp_path / "w.png").is_symlink()
    assert (tmp_path / "far" / "w.png").read_bytes().startswith(b"\x89PNG")
    assert stat.S_IMODE((tmp_path / "far" / "w.png").stat().st_mode) == 0o600


def test_onnx_files_are_written_so_too(tmp_path):
    pytest.importorskip("onnx")
    (tmp_path / "net.onnx").symlink_to("real.onnx")
    net = dp.Network([4, 3], backend="numpy")
    net.to_onnx(tmp_path / "net.onnx")
    assert names(tmp_path) == ["net.onnx", "real.onnx"]
    assert np.array_equal(dp.Network.from_onnx(tmp_path / "real.onnx", backend="numpy").parameters, net.parameters)
