"""Writes the file of results, whole after every row, so that an interrupted run keeps its rows."""

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from threading import RLock
from typing import Any

from deltaprop.files.atomic_file import write_atomically


class Results:
    """The results and their file; several threads may add rows.

    Parameters
    ----------
    path : Path or None
        The file; None writes nothing.
    facts : dict
        The facts at the top: command, date, machine, device.
    """

    path: Path | None
    content: dict[str, Any]

    def __init__(self, path: Path | None, facts: dict[str, Any]) -> None:
        self.path, self.content = path, {**facts, "parts": {}, "left_out": {}}
        self.lock: RLock = threading.RLock()
        self._write()

    def begin(self, part: str) -> None:
        with self.lock:
            self.content["parts"][part] = {"status": "running", "rows": []}
            self._write()

    def names(self, part: str) -> list[str]:
        """Return the names of the rows that a part has so far."""
        with self.lock:
            return [row["name"] for row in self.content["parts"][part]["rows"]]

    def row(self, part: str, row: dict[str, Any]) -> None:
        """Add a row, or replace the one of its name."""
        with self.lock:
            rows = self.content["parts"][part]["rows"]
            device = self.content.get("device", {}).get("name")
            put(rows, row | ({"device": device} if device else {}))
            self._write()

    def end(self, part: str, planned: Iterable[str], **facts: Any) -> list[str]:
        """Record how a part ended; return the names of planned rows that have not come."""
        with self.lock:
            entry = self.content["parts"][part]
            there = {row["name"] for row in entry["rows"]}
            missing = [name for name in planned if name not in there]
            entry.update(facts, left_out=missing)
            self._write()
            return missing

    def leave_out(self, part: str, why: str) -> None:
        with self.lock:
            self.content["left_out"][part] = why
            self._write()

    def _write(self) -> None:
        if self.path is not None:
            write_atomically(self.path, dumps(self.content))


def put(rows: list[dict[str, Any]], row: dict[str, Any]) -> None:
    """Add `row` to a list, or replace the row of its name."""
    for place, other in enumerate(rows):
        if other["name"] == row["name"]:
            rows[place] = row
            return
    rows.append(row)


def dumps(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def file_of(device: str) -> Path:
    """Return the file for the results of a device."""
    return Path(__file__).parents[1] / "results" / f"gpu-{'-'.join(device.lower().split())}.json"


def merged(contents: list[dict[str, Any]]) -> dict[str, Any]:
    """Merge runs on one kind of device: a later row replaces an earlier one of its name.

    Raises
    ------
    ValueError
        If the runs were on several kinds of device, whose figures cannot stand in one table.
    """
    names = {content["device"]["name"] for content in contents}
    if len(names) != 1:
        raise ValueError(f"results: expected one kind of device, got {', '.join(sorted(names))}")
    whole: dict[str, Any] = json.loads(json.dumps(contents[0]))
    for content in contents[1:]:
        for part, entry in content["parts"].items():
            kept = whole["parts"].setdefault(part, {"rows": []})
            whole["left_out"].pop(part, None)
            rows = kept["rows"]
            for row in entry["rows"]:
                put(rows, row)
            there = {row["name"] for row in rows}
            missing = dict.fromkeys([*kept.get("left_out", ()), *entry.get("left_out", ())])
            kept.update({key: value for key, value in entry.items() if key != "rows"}, rows=rows)
            kept["left_out"] = [name for name in missing if name not in there]
    return whole
