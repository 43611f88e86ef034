"""Compares how δ^(L) = (a − y) ⊙ g′(z), the gradient of the squared error, and δ^(L) = a − y converge.

    python -m benches.output_error [--seeds 5] [--json FILE] [--plot FILE.png]

scikit-learn's digits, 64-30-10, sigmoids throughout, minibatches of 10, 30 epochs; three quarters of the samples are
trained on, the rest is held out. Each rule is given every learning rate of a list, so that none wins by its scale:
g′ ≤ 1/4 makes the exact error the smaller one.
"""

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import deltaprop as dp
from deltaprop.derivation.losses import OutputError

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


def draw(curves: dict[str, dict[float, dict[str, list[float]]]], path: Path) -> None:
    """Draw both quantities by epoch, with a colour for each learning rate and a line style for each rule."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for axis, quantity in zip(axes, ("cost", "accuracy"), strict=True):
        for rule, style in zip(RULES, ("-", "--"), strict=True):
            for rate, colour in zip(RATES, pyplot.cm.viridis(np.linspace(0, 0.9, len(RATES))), strict=True):
                values = curves[rule][rate][quantity]
                axis.plot(range(1, EPOCHS + 1), values, style, color=colour, label=f"{rule}, η = {rate:g}")
        axis.set(xlabel="epoch")
        axis.grid(alpha=0.3)
    axes[0].set(yscale="log", title="squared error ½‖a − y‖², training data")
    axes[1].set(ylim=(0.5, 1.0), title="accuracy, data held out")
    axes[1].legend(ncols=2, fontsize="small")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    curves: dict[str, dict[float, dict[str, list[float]]]] = {rule: {} for rule in RULES}
    rows = []
    print("medians over seeds   rule          η   cost after 1, 5, 30 epochs    accuracy after 1, 5, 30 epochs")
    for rule in RULES:
        for rate in RATES:
            runs = [train(rule, rate, seed) for seed in range(arguments.seeds)]
            curves[rule][rate] = {
                quantity: [statistics.median(values) for values in zip(*(run[quantity] for run in runs), strict=True)]
                for quantity in ("cost", "accuracy")
            }
            rows.append({"output_error": rule, "learning_rate": rate, **curves[rule][rate]})
            cost, accuracy = (
                "  ".join(f"{curves[rule][rate][quantity][epoch - 1]:{form}}" for epoch in (1, 5, 30))
                for quantity, form in (("cost", ".5f"), ("accuracy", ".4f"))
            )
            print(f"{rule:>28} {rate:>7g}   {cost}    {accuracy}")
    if arguments.plot:
        draw(curves, arguments.plot)
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
