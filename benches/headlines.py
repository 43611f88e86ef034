"""Prints the table of headline ratios, or renews it in the README.

    python -m benches.headlines [--write README.md]

The table stands between the lines ``<!-- headlines -->`` and ``<!-- /headlines -->``. Its figures come from the files
in benches/results; the pages under docs/benchmarks have all of them, and begin with this table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .published.catalogue import measured
from .published.figures import Figures

BEGIN, END = "<!-- headlines -->", "<!-- /headlines -->"
#: What was compared, with whom, the figure, and the command.
ROWS = [
    (
        "a training step, 784-30-10, 10 rows, CPU",
        "JAX's scan",
        "peers; 784-30-10, 10; best peer ÷ deltaprop",
        "benches.peers",
    ),
    (
        "a training step, 784-512-512-10, 128 rows, CPU",
        "JAX's scan",
        "peers; 784-512-512-10, 128; best peer ÷ deltaprop",
        "benches.peers",
    ),
    (
        "`MLPClassifier.fit` on digits, by Adam",
        "scikit-learn",
        "fits; digits, 1797 × 64, adam; scikit-learn ÷ deltaprop",
        "benches.estimators",
    ),
    (
        "a grid search of 40 × 5 networks, float64",
        "scikit-learn",
        "searches; digits, 40 × 5 of 32 units, batches of 200, float64; scikit-learn ÷ SweepCV",
        "benches.sweep",
    ),
    (
        "`predict` of 10 000 rows, 64-100-10",
        "best of three libraries",
        "predictions; 64-100-10, 10 000; best peer ÷ deltaprop",
        "benches.cpu",
    ),
    (
        "an unchanged script with a grid search",
        "scikit-learn",
        "scripts; grid search; scikit-learn ÷ deltaprop",
        "benches.accel",
    ),
    (
        "an unchanged script with `partial_fit`",
        "scikit-learn",
        "scripts; partial fit; scikit-learn ÷ deltaprop",
        "benches.accel",
    ),
    (
        "a training step, 784-100-10, 128 rows, H200",
        "JAX's scan",
        "gpu; 784-100-10, 128, float32; best peer ÷ deltaprop",
        "benches.gpu",
    ),
]


def markdown(figures: Figures) -> str:
    """Return the table in Markdown."""
    lines = ["| what | beside | times as fast | made by |", "| --- | --- | ---: | --- |"]
    for what, beside, figure, command in ROWS:
        lines.append(f"| {what} | {beside} | {measured(figures, figure).text} | `python -m {command}` |")
    return "\n".join(lines) + "\n"


def renewed(text: str, table: str) -> str:
    """Return a page with the table between the markers.

    Raises
    ------
    ValueError
        If the page does not have each marker once, one after the other.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"expected the lines {BEGIN} and {END} once each, in this order")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table}\n{END}{rest.partition(END)[2]}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the table of headline ratios, or renew it in a page.")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="the page with the markers, such as README.md")
    page = parser.parse_args().write
    table = markdown(Figures())
    if page is None:
        print(table, end="")
    else:
        page.write_text(renewed(page.read_text(encoding="utf-8"), table), encoding="utf-8")


if __name__ == "__main__":
    main()
