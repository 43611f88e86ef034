"""Compares how δ^(L) = (a − y) ⊙ g′(z), the gradient of the squared error, and δ^(L) = a − y converge.

    python -m benches.output_error [--seeds 5] [--json FILE] [--plot FILE.png]
    python -m benches.output_error --draw-only FILE.json --plot FILE.png

scikit-learn's digits, 64-30-10, sigmoids throughout, minibatches of 10, 30 epochs; three quarters of the samples are
trained on, the rest is held out. Each rule is given every learning rate of a list, so that none wins by its scale:
g′ ≤ 1/4 makes the exact error the smaller one. `--draw-only` trains nothing: it draws what an earlier run has kept.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import deltaprop as dp
from deltaprop.cli.plot import save_plot
from deltaprop.derivation.losses import OutputError
from deltaprop.reports.plot_style import COLOURS, MARKERS, legend_below, panels

from .machine import machine

RULES: tuple[OutputError, ...] = ("exact", "simplified")
RATES = (0.1, 0.3, 1.0, 3.0, 10.0)
EPOCHS = 30


def train(rule: OutputError, rate: float, seed: int) -> dict[str, list[float]]:
    """Train; return the squared error of the training samples and the accuracy on the others after every epoch."""
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(X))
    X, Y = X[order] / 16, np.eye(10)[y[order]]
    cut = 3 * len(X) // 4
    net = dp.Network(
        [64, 30, 10], loss="squared_error", output_activation="sigmoid", output_error=rule, backend="numpy", seed=seed
    )
    record: dict[str, list[float]] = {"cost": [], "accuracy": []}

    def after_epoch(_: object) -> None:
        record["cost"].append(net.cost(X[:cut], Y[:cut]))
        record["accuracy"].append(float(np.mean(net.predict(X[cut:]).argmax(axis=1) == Y[cut:].argmax(axis=1))))

    net.fit(X[:cut], Y[:cut], optimizer=dp.SGD(rate), batch_size=10, epochs=EPOCHS, callbacks=[after_epoch])
    return record


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw both quantities by epoch, with a colour and marker for each learning rate and a line for each rule."""
    figure, axes = panels(2, (5.5, 4.2))
    rates = sorted({row["learning_rate"] for row in rows})
    for row in sorted(rows, key=lambda row: (row["learning_rate"], row["output_error"])):
        k, rule = rates.index(row["learning_rate"]), row["output_error"]
        look = {"color": COLOURS[k], "marker": MARKERS[k], "linestyle": "-" if rule == "exact" else "--"}
        for axis, quantity in zip(axes, ("cost", "accuracy"), strict=True):
            epochs = range(1, len(row[quantity]) + 1)
            label = f"{rule}, η = {rates[k]:g}"
            axis.plot(epochs, row[quantity], **look, markersize=4, markevery=(3 * k % 5, 5), label=label)
            axis.set_xlabel("epoch")
    axes[0].set(yscale="log", ylabel="cost J, mean of ½‖a − y‖²", title="training data")
    axes[1].set(ylim=(0.5, 1.0), ylabel="accuracy, share of the samples", title="data held out")
    legend_below(figure, len(rates))
    save_plot(figure, str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--draw-only", type=Path, metavar="FILE.json", help="draw the medians of this file")
    arguments = parser.parse_args()
    if arguments.draw_only:
        if not arguments.plot:
            parser.error("--draw-only: expected --plot FILE.png with it")
        draw(json.loads(arguments.draw_only.read_text())["medians"], arguments.plot)
        return
    rows = []
    print("medians over seeds   rule          η   cost after 1, 5, 30 epochs    accuracy after 1, 5, 30 epochs")
    for rule in RULES:
        for rate in RATES:
            runs = [train(rule, rate, seed) for seed in range(arguments.seeds)]
            medians = {
                quantity: [statistics.median(values) for values in zip(*(run[quantity] for run in runs), strict=True)]
                for quantity in ("cost", "accuracy")
            }
            rows.append({"output_error": rule, "learning_rate": rate, **medians})
            cost, accuracy = (
                "  ".join(f"{medians[quantity][epoch - 1]:{form}}" for epoch in (1, 5, 30))
                for quantity, form in (("cost", ".5f"), ("accuracy", ".4f"))
            )
            print(f"{rule:>28} {rate:>7g}   {cost}    {accuracy}")
    if arguments.plot:
        draw(rows, arguments.plot)
    if arguments.json:
        result = {
            "command": "python -m benches.output_error",
            "seeds": arguments.seeds,
            "machine": machine("scikit-learn"),
            "medians": rows,
        }
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
