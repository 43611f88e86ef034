"""Who is told that something takes some seconds, and where."""

import io
import logging
from types import SimpleNamespace

import pytest

from deltaprop.backends import compiled_files
from deltaprop.backends.native import compiler
from deltaprop.reports import notice


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def quiet(monkeypatch):
    monkeypatch.setattr(notice, "always", False)
    terminal = Terminal()
    monkeypatch.setattr(notice, "sys", SimpleNamespace(stderr=terminal))
    return terminal


def test_a_terminal_shows_it(quiet):
    notice.notice("compiling")
    assert quiet.getvalue() == "compiling\n"


@pytest.mark.parametrize(("always", "shown"), [(False, ""), (True, "compiling\n")])
def test_a_file_gets_it_from_the_command_line_only(always, shown, quiet, monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(notice, "sys", SimpleNamespace(stderr=file))
    monkeypatch.setattr(notice, "always", always)
    notice.notice("compiling")
    assert file.getvalue() == shown


def test_who_logs_gets_it_there(quiet, caplog):
    with caplog.at_level(logging.INFO, logger="deltaprop"):
        notice.notice("compiling")
    assert caplog.messages == ["compiling"]
    assert quiet.getvalue() == ""


def test_without_standard_error_nothing_fails(monkeypatch):
    monkeypatch.setattr(notice, "sys", SimpleNamespace(stderr=None))
    notice.notice("compiling")


def test_it_is_told_before_a_compilation_and_not_again(quiet, monkeypatch, tmp_path):
    events = []
    monkeypatch.setenv("DELTAPROP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(compiler, "find_compiler", lambda: ("c++",))
    monkeypatch.setattr(compiler, "run_compiler", lambda *arguments, **options: b"an answer")
    monkeypatch.setattr(compiler, "try_out", lambda *arguments: None)
    monkeypatch.setattr(compiler, "compile_unit", lambda *arguments: events.append(quiet.getvalue()) or b"a library")
    monkeypatch.setattr(compiled_files, "compiled_here", [])
    for _ in range(2):
        assert compiler.native_library("float", lambda path: path.read_bytes()) == b"a library"
    assert events == ["deltaprop: compiling once for this processor and float (about 10 s) …\n"]
    assert quiet.getvalue() == events[0]
