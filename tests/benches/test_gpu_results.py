"""The results of `benches.gpu` are complete in the file after every row, merged by device, and shown as tables."""

import json
from typing import Any

import pytest
from deltaprop.benches import gpu
from deltaprop.benches.gpu_parts import cases, markdown, peers
from deltaprop.benches.gpu_parts.results import Results, file_of, merged


def test_the_file_is_whole_after_every_row(tmp_path):
    path = tmp_path / "r.json"
    results = Results(path, {"device": {"name": "GPU"}})
    results.begin("bits")
    for value in (1, 2):
        results.row("bits", {"name": "a", "value": value})
        assert json.loads(path.read_text())["parts"]["bits"]["rows"] == [{"name": "a", "value": value, "device": "GPU"}]
    assert results.end("bits", ["a", "b"], status="cut off") == ["b"]
    assert json.loads(path.read_text())["parts"]["bits"]["left_out"] == ["b"]


def content_of(device, part, *rows, missing=()):
    entry = {"status": "done", "rows": list(rows), "left_out": list(missing)}
    return {"device": {"name": device}, "parts": {part: entry}, "left_out": {}}


def test_runs_on_one_kind_of_device_are_merged():
    first = content_of("GPU", "peers", {"name": "a", "t": 1}, {"name": "b", "t": 2}, missing=["c"])
    second = content_of("GPU", "peers", {"name": "b", "t": 3}, {"name": "c", "t": 4})
    whole = merged([first, second])
    assert whole["parts"]["peers"]["rows"] == [{"name": "a", "t": 1}, {"name": "b", "t": 3}, {"name": "c", "t": 4}]
    assert whole["parts"]["peers"]["left_out"] == []
    with pytest.raises(ValueError, match="one kind of device, got GPU, Other"):
        merged([first, content_of("Other", "peers")])


def test_each_device_has_its_file():
    assert file_of("NVIDIA H200").name == "gpu-nvidia-h200.json"
    assert file_of("NVIDIA H100 80GB HBM3").name == "gpu-nvidia-h100-80gb-hbm3.json"


def test_tables_of_several_files_and_the_merged_file(tmp_path, capsys):
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    top = {"date": "2026-01-02", "machine": {"versions": {"numpy": "2.0", "jax": None}}, "command": "c"}
    rows = [{"name": "copy", "bytes_a_second": 3e12}, {"name": "product tf32", "flop_a_second": 4e14}]
    for file, row in zip(files, rows, strict=True):
        file.write_text(json.dumps(top | content_of("NVIDIA Z1", "ceilings", row)))
    gpu.main(["--markdown", *map(str, files), "--json", str(tmp_path / "whole.json")])
    shown = capsys.readouterr().out
    assert shown.startswith("NVIDIA Z1, 2026-01-02 (numpy 2.0); `c`")
    assert "| copy | 3.00 TB/s |" in shown
    assert "| product tf32 | 400.0 TFLOP/s |" in shown
    whole = json.loads((tmp_path / "whole.json").read_text())
    assert [row["name"] for row in whole["parts"]["ceilings"]["rows"]] == ["copy", "product tf32"]


def test_results_hold_no_path_of_a_machine():
    given = ["--budget", "440", "--mnist", "/a/b", "--json=/c/d.json", "--only", "bits"]
    shown = "python -m benches.gpu --budget 440 --mnist FOLDER --json FILE --only bits"
    assert gpu.command_of(given) == shown


def peer_row(**named):
    row: dict[str, Any] = {
        "name": "n",
        "network": "3-2",
        "batch": 4,
        "precision": "fp32",
        "compiled": False,
        "way": "ResidentEpoch",
    }
    row |= {"blocks": 4, "flop_a_step": 8e6, "errors": {}} | named
    row["contestants"] = {
        who: {"median": t, "spread": [t, 2 * t], "agrees": agrees, "distance": 0.0}
        for who, (t, agrees) in row["contestants"].items()
    }
    return row | peers.compare(row)


def test_the_table_of_peers():
    """Peers that disagree do not count; the second pass has its own ratio; the share is relative to a large product."""
    first = peer_row(contestants={"deltaprop": (10.0, True), "JAX scan": (30.0, True), "cheat": (1.0, False)})
    second = peer_row(compiled=True, contestants={"deltaprop": (20.0, True), "PyTorch compiled": (25.0, True)})
    assert (first["best_peer"], first["ratio"]) == ("JAX scan", 3.0)
    content = content_of("GPU", "peers", second, first)
    content["parts"]["ceilings"] = {"rows": [{"name": "product fp32", "flop_a_second": 1e12}]}
    header, _, line = markdown.peers(content).splitlines()
    cells = dict(zip(header.split(" | "), line.split(" | "), strict=True))
    assert cells["best peer / deltaprop"] == "1.25 (PyTorch compiled)"
    assert cells["cheat"] == "1 (disagrees)"
    assert cells["deltaprop"] == "10 (10–20)"
    assert cells["way"] == "ResidentEpoch, 4 blocks"
    assert markdown.share(first, {"fp32": 1e12}) == pytest.approx(0.8)
    assert "80.0%" in line  # 8e6 operations in 10 µs are 0.8e12 a second


def test_cases_by_number_and_by_name():
    assert cases.find_cases(["784-30-10", "0"]) == [1, 0]
    assert cases.find_cases([]) == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match=r"--cases: expected some of 0 \(784-100-10\).* got '9-9'"):
        cases.find_cases(["9-9"])
