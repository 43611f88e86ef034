"""Compares TabularClassifier and TabularRegressor with boosted trees, forests and other networks on real tables.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python -m benches.tabular [--data FOLDER] [--splits 3] [--write]
    python -m benches.tabular --draw-only

FOLDER holds CSV files and an origins.tsv that names the target and the task of each; scikit-learn's own tables are
added. Every contestant has its defaults, the same rows, and two threads. Errors are normalised on each split: 0 is the
best contestant and 1 the constant prediction. `--ablation` compares our recipe with itself, one ingredient changed at a
time. `--write` keeps all figures in benches/results/tabular.json and draws error against time; with `--name` they go to
a file of that name, without a picture. `--draw-only` measures nothing: it draws the kept figures anew.
"""

import argparse
import datetime
import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from deltaprop.cli.plot import save_plot
from deltaprop.reports.plot_style import COLOURS, MARKERS, legend_below, panels

from .machine import machine
from .tabular_parts.contestants import CONTESTANTS, Prediction, constant, deltaprop, deltaprop_with
from .tabular_parts.summary import measure, normalised, summarise
from .tabular_parts.tables import SHIPPED, BenchSplit, split, tables

RESULTS = Path(__file__).parent / "results"
#: Our recipe, with one ingredient changed.
ABLATION: dict[str, Callable[[BenchSplit], Prediction]] = {
    "deltaprop": deltaprop,
    "many bins for all": deltaprop_with(lambda recipe: replace(recipe, coarse_bins=recipe.bins)),
    "few bins for all": deltaprop_with(lambda recipe: replace(recipe, bins=recipe.coarse_bins)),
    "no bins": deltaprop_with(lambda recipe: replace(recipe, bins=0)),
    "labels not smoothed": deltaprop_with(lambda recipe: recipe, label_smoothing=0.0),
    "1 member": deltaprop_with(lambda recipe: recipe, n_members=1),
    "4 members": deltaprop_with(lambda recipe: recipe, n_members=4),
    "8 members": deltaprop_with(lambda recipe: recipe, n_members=8),
    "32 members": deltaprop_with(lambda recipe: recipe, n_members=32),
    "32-32": deltaprop_with(lambda recipe: recipe, hidden_layer_sizes=(32, 32)),
    "128-128": deltaprop_with(lambda recipe: recipe, hidden_layer_sizes=(128, 128)),
    "learning rate halved": deltaprop_with(lambda recipe: replace(recipe, learning_rate=recipe.learning_rate / 2)),
    "learning rate doubled": deltaprop_with(lambda recipe: replace(recipe, learning_rate=recipe.learning_rate * 2)),
    "batches halved": deltaprop_with(lambda recipe: replace(recipe, batch_size=max(1, recipe.batch_size // 2))),
    "batches doubled": deltaprop_with(lambda recipe: replace(recipe, batch_size=recipe.batch_size * 2)),
}


def run_all(
    folder: Path | None, only: list[str], splits: int, chosen: dict[str, Callable[[BenchSplit], Prediction]]
) -> list[dict[str, Any]]:
    """Let every contestant fit every split; those that are not installed are told once and left out."""
    runs, missing = [], set[str]()
    for table in tables(folder):
        if only and table.name not in only:
            continue
        for seed in range(splits):
            data = split(table, seed)
            for name, contestant in {"constant": constant, **chosen}.items():
                if name in missing:
                    continue
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        prediction, seconds = contestant(data)
                except ImportError as error:
                    missing.add(name)
                    print(f"{name}: not here ({error})")
                    continue
                figures = measure(data, prediction)
                runs.append({"table": table.name, "seed": seed, "contestant": name, "seconds": seconds, **figures})
        print(f"{table.name:14s} {_line([run for run in runs if run['table'] == table.name])}", flush=True)
    return runs


def _line(runs: list[dict[str, Any]]) -> str:
    names = dict.fromkeys(run["contestant"] for run in runs)
    means = {name: [run["log_loss"] for run in runs if run["contestant"] == name] for name in names}
    return "  ".join(f"{name} {sum(values) / len(values):.4g}" for name, values in means.items())


def show(title: str, rows: list[dict[str, Any]]) -> None:
    """Print a summary as a table of text."""
    print(f"\n{title}\n{'':22s} {'error / RMSE':>12s} {'log loss / RMSE':>16s} {'mean rank':>10s} {'median fit':>11s}")
    for row in rows:
        print(
            f"{row['contestant']:22s} {row['normalised_error']:12.4f} {row['normalised_log_loss']:16.4f} "
            f"{row['mean_rank']:10.2f} {row['median_seconds']:9.2f} s"
        )


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the normalised log loss of each contestant against the median time of its fit."""
    figure, (axis,) = panels(1, (7.0, 4.2))
    others = [row["contestant"] for row in rows if row["contestant"] != "deltaprop"]
    for row in rows:
        look = {"marker": "*", "markersize": 16, "color": COLOURS[1]}
        if row["contestant"] != "deltaprop":
            k = others.index(row["contestant"])
            rest = [colour for colour in COLOURS if colour != look["color"]]
            look = {"marker": MARKERS[k % len(MARKERS)], "markersize": 8, "color": rest[k % len(rest)]}
        where = (row["median_seconds"], row["normalised_log_loss"])
        axis.plot(*where, linestyle="none", clip_on=False, label=row["contestant"], **look)
    axis.set(xscale="log", ylim=(0, None), xlabel="time of a fit, median, two threads [s]")
    axis.set_ylabel("log loss or RMSE, normalised:\n0 the best on each table, 1 a constant")
    axis.margins(x=0.1)
    axis.spines[["top", "right"]].set_visible(False)
    legend_below(figure, 4)
    save_plot(figure, str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with CSV files and origins.tsv")
    parser.add_argument("--only", default="", help="tables, separated by commas")
    parser.add_argument("--contestants", default="", help="contestants, separated by commas")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--ablation", action="store_true", help="our recipe, with one ingredient changed at a time")
    parser.add_argument("--write", action="store_true", help="keep the figures and the picture in benches/results")
    parser.add_argument("--draw-only", action="store_true", help="draw the picture from benches/results/tabular.json")
    parser.add_argument("--name", help="name of the file of figures, without .json")
    options = parser.parse_args()
    if options.draw_only:
        kept = json.loads((RESULTS / "tabular.json").read_text())
        draw(next(iter(kept["summary"].values())), RESULTS / "tabular.png")
        return
    known = ABLATION if options.ablation else {name: run for name, run in CONTESTANTS.items() if name != "constant"}
    names = options.contestants.split(",") if options.contestants else list(known)
    only = [name for name in options.only.split(",") if name]
    runs = run_all(options.data, only, options.splits, {name: known[name] for name in names})
    present = list(dict.fromkeys(run["table"] for run in runs))
    given = [name for name in present if name not in SHIPPED]
    summaries = {"all tables": summarise(runs, present)}
    if given and len(given) < len(present):
        summaries["tables of the folder"] = summarise(runs, given)
    for title, rows in summaries.items():
        show(title, rows)
    if options.write:
        name = options.name or ("tabular_ablation" if options.ablation else "tabular")
        content = {
            "date": datetime.date.today().isoformat(),
            "command": f"python -m benches.tabular --data FOLDER --splits {options.splits}"
            + (" --ablation" if options.ablation else "")
            + (f" --contestants '{options.contestants}'" if options.contestants else ""),
            "machine": machine("scikit-learn", "catboost", "lightgbm", "pytabkit", "torch"),
            "summary": summaries,
            "normalised_log_loss_by_table": normalised(runs, "log_loss"),
            "runs": runs,
        }
        (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
        if name == "tabular":
            draw(next(iter(summaries.values())), RESULTS / "tabular.png")


if __name__ == "__main__":
    main()
