"""A report is shown as a table with colours, and says what has passed."""

import re
import sys

from deltaprop.cli.doctor import COLOURS, show
from deltaprop.doctor import Check, Report, Stage
from deltaprop.doctor import run as running
from deltaprop.doctor.process import Ending

CHECKS = (Check("float64 sgd", 1e-15, 1e-12), Check("float32 sgd", 2e-7, 4e-6), Check("float64 adam", 3e-16, 1e-12))
TOLD = Report(
    (
        Stage("cupy", "operations", "ok", 2.0, checks=CHECKS),
        Stage("cupy", "resident, 8 blocks", "slow", 31.26, "it took 31.3 s; less than 10 s is usual", CHECKS[:1]),
        Stage("cupy", "second stream", "failed", 1.0, "float32 SGD, steps: " + 30 * "so wrong ", CHECKS[:1], "log"),
        Stage("numpy", "40 fits", "ok", 1.0, "", (Check("host memory", 0.4, 16.0, "MiB"),)),
        Stage("cupy", "40 fits", "not tried", 1.0, "no device"),
    ),
    {"device": "0: NVIDIA H200", "Python": "3.11"},
    36.4,
)


def test_the_table():
    lines = str(TOLD).splitlines()
    assert lines[0] == "device  0: NVIDIA H200"
    assert [line for line in lines if "│ cupy    │ resident" in line] == [
        "│ cupy    │ resident, 8 blocks │ slow      │    31.3 │ 1.0e-15 │  1.0e-12 │"
    ]
    assert "│ numpy   │ 40 fits            │ ok        │     1.0 │ 0.4 MiB │ 16.0 MiB │" in lines
    assert "│ cupy    │ 40 fits            │ not tried │         │         │          │" in lines
    assert (
        "│ cupy    │ operations         │ ok        │     2.0 │ 2.0e-07 │  4.0e-06 │" in lines
    )  # nearest to its bound
    assert "│ sgd             │ 1.0e-15 │ 1.0e-12 │ 2.0e-07 │ 4.0e-06 │" in lines
    assert "│ adam            │ 3.0e-16 │ 1.0e-12 │         │         │" in lines
    assert "cupy, resident, 8 blocks: slow: it took 31.3 s; less than 10 s is usual" in lines
    assert lines[-1] == "2 ok, 1 slow, 1 failed; 36 s"
    assert max(map(len, lines)) <= 80
    wide = TOLD.text(120).splitlines()
    assert 100 < max(map(len, wide)) <= 120
    assert not TOLD.ok


def test_the_table_in_colours(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    show(TOLD, written=False)
    captured = capsys.readouterr()
    for status, code in (("failed", "1;31"), ("slow", "33"), ("ok", "32")):
        assert re.search(rf"\x1b\[{code}m{status}", captured.out), status
    assert re.sub(r"\x1b\[[\d;]*m", "", captured.out).rstrip("\n") == TOLD.text(120)
    assert "--json FILE keeps" in captured.err
    assert set(COLOURS) == {"ok", "slow", "failed", "not tried"}


def test_what_is_slow():
    def stage(seconds, usual, *events):
        told = running.Heard(lambda line: None)
        for event in (*events, ("done", None)):
            told(event)
        return told.stage("cupy", "device", Ending(seconds, "", ""), usual)

    assert stage(3.0, 10.0).status == "ok"
    assert stage(11.0, 10.0).why == "it took 11.0 s; less than 10 s is usual"
    assert stage(11.0, 10.0).status == "slow"
    anew = stage(50.0, 10.0, ("compiled", [["adam", 1.5], ["resident", 45.0]]))
    assert anew.why.startswith("2 files were compiled anew, the longest in 45.0 s")
    assert stage(3.0, 10.0, ("slow", "for a reason")).why == "for a reason"
    assert stage(50.0, 10.0, ("compiled", [])).status == "slow"


def test_a_report_is_ok_where_something_was_tried_and_nothing_failed():
    stages = {status: Stage("cupy", "device", status) for status in ("ok", "slow", "failed", "not tried")}
    assert Report((stages["ok"], stages["slow"], stages["not tried"])).ok
    assert not Report((stages["not tried"],)).ok
    assert not Report((stages["ok"], stages["failed"])).ok
    assert (Report((stages["ok"],), {"a": "1"}) + Report((stages["slow"],), {"b": "2"})).machine == {"a": "1", "b": "2"}
