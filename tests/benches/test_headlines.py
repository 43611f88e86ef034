"""The README's table of headline ratios says what the files of results say, and a command renews it."""

import json
from pathlib import Path

import pytest
from deltaprop.benches.headlines import BEGIN, END, ROWS, markdown, renewed
from deltaprop.benches.published.figures import Figures

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benches" / "results"


def ratios():
    """Compute the ratios from the files, in the order of the table."""

    def content(name):
        return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))

    own = ("deltaprop", "NumPy alone", "bare products")
    steps = {row["network"]: row["microseconds_a_step"] for row in content("peers")["rows"]}
    for network in ("784-30-10", "784-512-512-10"):
        medians = {name: each["median"] for name, each in steps[network].items()}
        yield min(value for name, value in medians.items() if name not in own) / medians["deltaprop"]
    fit = content("estimators")["fits"][0]["seconds"]
    yield fit["scikit-learn"]["median"] / fit["deltaprop"]["median"]
    search = content("sweep")["searches"][0]["seconds"]
    yield search["scikit-learn"]["median"] / search["SweepCV"]["median"]
    [prediction] = [
        row["seconds"] for row in content("cpu")["predict"] if (row["network"], row["rows"]) == ("64-100-10", 10000)
    ]
    peers = [each["median"] for name, each in prediction.items() if not name.startswith("deltaprop")]
    yield min(peers) / prediction["deltaprop"]["median"]
    scripts = {Path(row["script"]).stem: row["seconds"] for row in content("accel")["scripts"]}
    for name in ("grid_search", "partial_fit"):
        yield sorted(scripts[name]["scikit-learn"])[1] / sorted(scripts[name]["deltaprop"])[1]
    contestants = content("gpu-nvidia-h200")["parts"]["peers"]["rows"][0]["contestants"]
    yield contestants["JAX scan"]["median"] / contestants["deltaprop"]["median"]


def test_the_table_says_what_the_files_say():
    lines = markdown(Figures(RESULTS)).splitlines()[2:]
    assert len(lines) == len(ROWS) <= 8
    shown = [float(line.split(" | ")[2]) for line in lines]
    assert shown == pytest.approx(list(ratios()), rel=0.05)  # a ratio of medians, or the median of ratios


def test_the_page_on_benchmarks_takes_the_table_from_the_same_rows():
    text = (ROOT / "docs" / "benchmarks" / "index.md").read_text(encoding="utf-8")
    assert text.count("```{benchmark-headlines}\n```") == 1
    assert "{measured}" not in text.partition("## ")[0]


def test_the_readme_has_the_table():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert renewed(text, markdown(Figures(RESULTS))) == text, "run: python -m benches.headlines --write README.md"


def test_the_table_is_put_between_the_markers():
    page = f"before\n\n{BEGIN}\n\nold\n\n{END}\n\nafter\n"
    new = renewed(page, "| new |\n")
    assert new == f"before\n\n{BEGIN}\n\n| new |\n\n{END}\n\nafter\n"
    assert renewed(new, "| new |\n") == new
    for wrong in ("", f"{END} {BEGIN}", f"{BEGIN} {BEGIN} {END}", BEGIN):
        with pytest.raises(ValueError, match="expected the lines"):
            renewed(wrong, "")
