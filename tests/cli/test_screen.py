"""Lines for a terminal: whatever stands in a file, no terminal obeys it."""

import numpy as np

from deltaprop.cli.score_report import score_of_classes
from deltaprop.cli.screen import columns_of_text, in_lines, shortened

HOSTILE = "a\x1b[2J\tb\nc\x07"
SHOWN = r"a\x1b[2J\tb\nc\x07"


def test_control_characters_are_written_as_python_writes_them(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert shortened(HOSTILE, 40) == SHOWN
    assert shortened("Zürich ☃", 40) == "Zürich ☃"
    assert in_lines("label", HOSTILE) == [f"label       {SHOWN}"]
    assert columns_of_text(("name", "why"), [(HOSTILE, HOSTILE)])[1] == f"  {SHOWN}  {SHOWN}"


def test_a_confusion_matrix_stays_in_its_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    lines = score_of_classes(["a\tb", "c"], np.array([0, 1]), np.eye(2), "2 rows")[1:]
    assert lines[1].split() == ["a\\tb", "c", "right"]
    place = lines[1].index(" c ") + 1
    assert [line[place] for line in lines[1:]] == ["c", "0", "1"]
