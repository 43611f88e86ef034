"""Parts of dates that ONNX operators compute are those that NumPy's calendar has."""

import numpy as np
import pytest
from conftest import require

from deltaprop.tabular.date_encoding import parts_of

PARTS = ("year", "month", "day", "weekday", "hour", "time")


def computed(seconds, folder):
    """Run a graph that has all parts as outputs."""
    require("onnx")
    from deltaprop.files.onnx_file import Graph
    from deltaprop.tabular.onnx_dates import DateParts

    runtime = require("onnxruntime")
    graph = Graph(np.dtype(np.float32))
    graph.add_input("seconds", np.int64, 1)
    parts = DateParts(graph, "seconds")
    for name in PARTS:
        graph.node("Identity", [parts.part(name)], name)
        graph.add_output(name, np.float64, 1)
    graph.write(folder / "dates.onnx", {})
    session = runtime.InferenceSession(folder / "dates.onnx", providers=["CPUExecutionProvider"])
    return dict(zip(PARTS, (out[:, 0] for out in session.run(None, {"seconds": seconds[:, np.newaxis]})), strict=True))


@pytest.mark.parametrize(
    "moments",
    [
        np.arange("1895-01-01", "2105-01-01", dtype="datetime64[D]").astype("datetime64[s]"),
        np.arange("2019-12-31T22", "2021-01-02", dtype="datetime64[h]").astype("datetime64[s]"),
        np.random.default_rng(0).integers(-(10**12), 10**12, 5000).astype("datetime64[s]"),
        np.array(
            ["0000-02-29", "-0400-02-29", "0000-03-01", "1600-02-29", "1900-02-28", "1900-03-01", "2000-02-29"], "M8[s]"
        ),
        np.array(["NaT", "1969-12-31T23:59:59", "1970-01-01", "NaT"], "M8[s]"),
    ],
    ids=["days", "hours", "any", "leap days", "gaps"],
)
def test_all_parts_of_dates(moments, tmp_path):
    found = computed(moments.astype(np.int64), tmp_path)
    expected = parts_of(moments.astype("datetime64[us]"))
    assert list(expected) == list(PARTS)
    for name in PARTS:
        exact = name in ("year", "month", "day", "weekday")
        assert np.allclose(found[name], expected[name], rtol=0 if exact else 1e-15, atol=0, equal_nan=True), name


def test_a_date_by_hand(tmp_path):
    found = computed(np.array([951_825_600]), tmp_path)  # Tuesday, 29 February 2000, 12:00
    assert {name: value.item() for name, value in found.items()} == {
        **{"year": 2000.0, "month": 2.0, "day": 29.0, "weekday": 1.0, "hour": 12.0, "time": 11_016.5},
    }
