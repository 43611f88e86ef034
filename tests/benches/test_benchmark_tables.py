"""The tables of the pages on benchmarks say what the files of results say, and every file has its place."""

import json
import re
import shutil
from pathlib import Path

import pytest
from deltaprop.benches.published import catalogue
from deltaprop.benches.published.charts import CHARTS, draw
from deltaprop.benches.published.figures import Figures, MissingFigureError
from deltaprop.benches.published.table import duration, percent, ratio, significant

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benches" / "results"
NO_BREAK = "\N{NO-BREAK SPACE}"
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def content(name):
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def columns(name, *wanted):
    """Return the values of some columns of a table, row by row."""
    table = catalogue.table(Figures(RESULTS), name)
    at = [list(table.columns).index(column) for column in wanted]
    return [[row[index].value for index in at] for row in table.rows]


def test_numbers_are_written_for_readers():
    assert [significant(x) for x in (9.6097, 25640.2, 0.000373, 2049.0, 999.7, 0.0)] == [
        "9.61", f"25{NO_BREAK}600", "0.000373", f"2{NO_BREAK}050", f"1{NO_BREAK}000", "0",
    ]  # fmt: skip
    assert [duration(x) for x in (2.948, 0.1587, 7.2e-6, 3e-7)] == [
        f"2.95{NO_BREAK}s", f"159{NO_BREAK}ms", f"7.20{NO_BREAK}µs", f"0.300{NO_BREAK}µs",
    ]  # fmt: skip
    assert [ratio(x) for x in (0.857, 12.62, 590.2)] == ["0.86", "12.6", "590"]
    assert percent(0.787) == f"78.7{NO_BREAK}%"


def test_steps_beside_others():
    rows = content("peers")["rows"]
    expected = [
        [
            row["batch"],
            row["microseconds_a_step"]["deltaprop"]["median"],
            row["microseconds_a_step"]["JAX scan"]["median"],
            min(row["ratio"][name] for name in ("scikit-learn", "PyTorch", "PyTorch compiled", "JAX jit", "JAX scan")),
        ]
        for row in rows
    ]
    assert columns("peers", "minibatch", "deltaprop", "JAX scan", "best peer ÷ deltaprop") == expected


def test_the_share_of_the_peak():
    long = {row["network"]: row["by distance of the cores"] for row in content("peak")["peak"]}
    short = {row["network"]: row["by distance of the cores"] for row in content("cpu")["peak"]}
    expected = []
    for network in short:
        found = [long[network].get(where, short[network].get(where)) for where in ("near", "far")]
        expected.append([each and each["share of peak"] for each in found])
    assert columns("peak", "cores near", "cores far") == expected


def test_fits_beside_scikit_learn():
    rows = content("estimators")["fits"]
    medians = [[row["seconds"][who]["median"] for who in ("scikit-learn", "deltaprop")] for row in rows]
    assert columns("fits", "scikit-learn", "deltaprop") == medians
    assert columns("fits", "scikit-learn ÷ deltaprop") == [[pytest.approx(a / b)] for a, b in medians]
    assert columns("equality", "`coefs_` differ by") == [[row["largest_difference_of_coefs"]] for row in rows]


def test_searches():
    rows = content("sweep")["searches"]
    expected = [[row["seconds"]["SweepCV"]["median"], row["against_scikit_learn"]] for row in rows]
    assert columns("searches", "SweepCV", "scikit-learn ÷ SweepCV") == expected


def test_scripts():
    rows = content("accel")["scripts"]
    middle = [[sorted(row["seconds"][who])[1] for who in ("scikit-learn", "deltaprop")] for row in rows]
    assert columns("scripts", "scikit-learn", "deltaprop.accel") == middle


def test_predictions_and_fits_of_the_same_file():
    found = content("cpu")
    expected = []
    for row in found["predict"]:
        medians = {name: each["median"] for name, each in row["seconds"].items()}
        peers = [medians[name] for name in ("onnxruntime", "PyTorch", "scikit-learn")]
        expected.append([medians["onnxruntime"], min(peers) / medians["deltaprop"]])
    assert columns("predictions", "onnxruntime", "best peer ÷ deltaprop") == expected
    ratios = {row["what"]: row["ratio"] for row in found["fits"]}
    shown = [value for name in ("busy", "more fits") for [value] in columns(name, _last(name))]
    assert sorted(shown) == sorted(ratios.values())


def _last(name):
    return catalogue.table(Figures(RESULTS), name).columns[-1]


@pytest.mark.parametrize(("name", "file"), [("tabular", "tabular"), ("ablation", "tabular_ablation"), ("tabular networks", "tabular_networks")])  # fmt: skip
def test_summaries_of_tables(name, file):
    rows = content(file)["summary"]["all tables"]
    expected = [[row["normalised_error"], row["mean_rank"], row["median_seconds"]] for row in rows]
    assert columns(name, "all tables: error / RMSE", "mean rank", "median fit") == expected


def test_tables_where_others_are_ahead():
    scores: dict[str, dict[str, list[float]]] = {}
    for run in content("tabular")["runs"]:
        scores.setdefault(run["table"], {}).setdefault(run["contestant"], []).append(run["log_loss"])
    ahead = [
        table.replace("_", " ")
        for table, found in scores.items()
        if min(sum(values) for values in found.values()) < sum(found["deltaprop"])
    ]
    table = catalogue.table(Figures(RESULTS), "others ahead")
    assert [row[0].text for row in table.rows] == ahead
    assert all(row[-1].value is not None and row[-1].value > 1 for row in table.rows)


def test_derivatives():
    found = content("derivative_cost")
    expected = [[row["evaluations"]["gradient"], row["evaluations"]["hvp"]] for row in found["passes"]]
    assert columns("passes", "gradient", "hvp") == expected
    times = [[row["seconds"][mode]["median"] for mode in ("forward", "reverse")] for row in found["jacobians"]]
    assert columns("jacobians", "forward", "reverse") == times


def test_output_errors():
    rows = content("output_error")["medians"]
    for name, key in (("output error", "cost"), ("output error accuracy", "accuracy")):
        expected = [[row[key][-1] for row in rows if row["output_error"] == kind] for kind in ("exact", "simplified")]
        rates = [f"η = {row['learning_rate']:g}" for row in rows if row["output_error"] == "exact"]
        assert columns(name, *rates) == expected


def test_a_gpu():
    parts = content("gpu-nvidia-h200")["parts"]
    rows = {(row["network"], row["batch"], row["precision"]): row for row in parts["peers"]["rows"]}
    table = catalogue.table(Figures(RESULTS), "gpu")
    assert len(table.rows) == len(rows)
    precisions = {"float32": "fp32", "TF32": "tf32", "bfloat16": "bf16"}
    for cells in table.rows:
        network = "4096-4096-4096-4096-4096-4096" if cells[0].text == "4096 × 6" else cells[0].text
        row = rows[network, cells[1].value, precisions[cells[2].text]]
        assert cells[4].value == row["contestants"]["deltaprop"]["median"]
        others = [each["median"] for name, each in row["contestants"].items() if not name.startswith("deltaprop")]
        best = cells[3].value
        assert best == pytest.approx(min(others) / row["contestants"]["deltaprop"]["median"])
    assert columns("gpu mnist", "time") == [[row["seconds"]] for row in parts["mnist"]["rows"]]
    assert columns("gpu members", "µs a step") == [[row["median"]] for row in parts["members"]["rows"]]
    slopes = [[row["lines"]["whole"]["microseconds_a_step"]] for row in parts["epochs"]["rows"]]
    assert columns("gpu epochs", "and each step, µs") == slopes
    assert columns("gpu checks", "found")[0] == [parts["tests"]["rows"][0]["passed"]]
    rates = [[row.get("share_of_copy")] for row in parts["ceilings"]["rows"]]
    assert [[value] for [value] in columns("gpu ceilings", "of a copy's rate")] == rates
    left_out = [row[1].text.split(", ") for row in catalogue.table(Figures(RESULTS), "gpu left out").rows]
    assert sum(map(len, left_out)) == len(parts["peers"]["left_out"])


def test_limits():
    found = content("limits")
    assert columns("growth", "slope") == [[each["slope"]] for each in found["growth"].values()]
    assert columns("neighbour", "slowdown") == [[each["slowdown"]] for each in found["neighbour"].values()]
    beyond = [[each["above_what_was_held"] / 2**20] for each in found["memory"].values()]
    assert columns("memory", "beyond the data, MiB") == beyond
    assert columns("soak", "figure")[0] == [content("soak")["fits"]]
    assert columns("import time", "÷ `numpy`") == [[x] for x in content("import_time")["ratio_to_numpy"].values()]
    rows = content("limits-16-cores")["threads"]
    by_one = {row["network"]: row["GFLOP/s"] for row in rows if row["threads"] == 1}
    assert sorted(x for [x] in columns("threads", "GFLOP/s by 1") if x) == sorted(by_one.values())


def test_mnist_and_ranks():
    rows = content("mnist")["rows"]
    table = catalogue.table(Figures(RESULTS), "mnist")
    for cells, row in zip(table.rows, rows, strict=True):
        low, high = min(row["test_accuracy_percent"]), max(row["test_accuracy_percent"])
        assert cells[1].text == f"{low:.2f} – {high:.2f}{NO_BREAK}%"
    found = content("ranks")
    assert columns("ranks", "speed-up") == [[row["speedup"]["median"]] for row in found["measured"]]
    wanted = [row["rows_for_80_percent"] for row in found["on paper"] if row["ranks"] == 8]
    assert [value for [value] in columns("ranks on paper", "8 ranks")] == wanted


def test_every_file_is_shown_or_named_as_history():
    shown = {source for name in catalogue.TABLES for source in catalogue.table(Figures(RESULTS), name).sources}
    assert shown.isdisjoint(catalogue.HISTORY)
    assert shown | set(catalogue.HISTORY) == {path.stem for path in RESULTS.glob("*.json")}


def test_every_table_stands_on_a_page_and_every_figure_of_a_sentence_is_found():
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    used = {name for text in texts for name in re.findall(r"^```\{benchmark\} (.+)$", text, re.MULTILINE)}
    assert used == set(catalogue.TABLES)
    charts = re.findall(r"^```\{benchmark\} (.+)\n:chart:$", "\n".join(texts), re.MULTILINE)
    assert sorted(charts) == sorted(CHARTS)
    figures = Figures(RESULTS)
    sentences = [words for text in texts for words in re.findall(r"\{measured\}`([^`]+)`", text)]
    assert len(sentences) > 5
    assert all(catalogue.measured(figures, words).text for words in sentences)


@pytest.mark.parametrize(
    ("name", "file", "path"),
    [
        ("peers", "peers", ["rows", 0, "ratio", "JAX scan"]),
        ("fits", "estimators", ["fits", 0, "seconds", "deltaprop", "median"]),
        ("gpu", "gpu-nvidia-h200", ["parts", "peers", "rows", 0, "ratio"]),
        ("soak", "soak", ["fits"]),
        ("tabular", "tabular", ["summary", "all tables", 0, "mean_rank"]),
    ],
)
def test_what_a_file_lacks_is_named(name, file, path, tmp_path):
    whole = content(file)
    holder = whole
    for key in path[:-1]:
        holder = holder[key]
    for wrong in (None, "fast", float("nan")):
        holder[path[-1]] = wrong
        (tmp_path / f"{file}.json").write_text(json.dumps(whole))
        with pytest.raises(MissingFigureError, match=rf"{file}\.json.*expected a finite number, got"):
            catalogue.table(Figures(tmp_path), name)
    del holder[path[-1]]
    (tmp_path / f"{file}.json").write_text(json.dumps(whole))
    with pytest.raises(MissingFigureError, match=rf"{file}\.json.*expected '{path[-1]}'"):
        catalogue.table(Figures(tmp_path), name)


def test_what_was_read_is_known():
    """A page of the site is made anew when one of these changes."""
    for name in catalogue.TABLES:
        figures = Figures(RESULTS)
        assert figures.files() == []
        sources = catalogue.table(figures, name).sources
        assert set(figures.files()) == {RESULTS / f"{source}.json" for source in sources}


def test_wrong_names_are_refused(tmp_path):
    figures = Figures(RESULTS)
    with pytest.raises(MissingFigureError, match=r"one of .*'peers'.*got 'pears'"):
        catalogue.table(figures, "pears")
    with pytest.raises(MissingFigureError, match=r"soak\.json: there is no such file"):
        catalogue.table(Figures(tmp_path), "soak")
    for words, message in {
        "peers; 784-30-10; JAX scan": "expected one row '784-30-10'",
        "peers; 784-30-10, 10; JAX": "expected a column 'JAX'",
        "peers; min": "expected 'table; row; column'",
    }.items():
        with pytest.raises(MissingFigureError, match=message):
            catalogue.measured(figures, words)
    assert catalogue.measured(figures, "fits; min; scikit-learn ÷ deltaprop").value == min(
        row["ratio"] for row in content("estimators")["fits"]
    )


def test_markdown_of_a_table(tmp_path):
    shutil.copy(RESULTS / "soak.json", tmp_path)
    lines = catalogue.table(Figures(tmp_path), "soak").markdown().splitlines()
    assert lines[:2] == ["| what | figure |", "| --- | ---: |"]
    assert lines[2] == f"| fits | {content('soak')['fits']:,} |".replace(",", NO_BREAK)


def test_where_figures_come_from():
    said = catalogue.origin(Figures(RESULTS), "gpu-nvidia-h200", "../benches/results")
    found = content("gpu-nvidia-h200")
    for part in (found["command"], found["date"], found["commit"], found["device"]["name"], "cupy-cuda13x 14.2.0"):
        assert part in said
    assert said.endswith("[gpu-nvidia-h200.json](../benches/results/gpu-nvidia-h200.json).")


@pytest.mark.parametrize("name", sorted(CHARTS))
def test_charts_hold_the_figures_and_are_drawn_alike_twice(name, tmp_path):
    chart = CHARTS[name](Figures(RESULTS))
    assert all(len(values) == len(chart.rows) for values in chart.series.values())
    pytest.importorskip("matplotlib")
    for file in ("first.svg", "second.svg"):
        draw(chart, tmp_path / file, dark=False)
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()


def test_a_chart_of_steps_shows_ratios():
    chart = CHARTS["peers"](Figures(RESULTS))
    ratios = [row["ratio"]["PyTorch"] for row in content("peers")["rows"]]
    assert chart.series["PyTorch"] == pytest.approx(ratios, rel=0.05)
