"""
Better, or a lucky seed?
========================

Two settings were tried, one network each, and one was better by a percent. Is it better? You see the accuracies of 100
networks under each setting, which differ by the seed alone, trained together as one stack.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import deltaprop as dp

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, train_size=400, stratify=y, random_state=0)

# %%
# A :class:`~deltaprop.NetworkStack` has the methods of a network, with an axis of members before the others. The first
# hundred members have no penalty, the others have one.

seeds = 100
stack = dp.NetworkStack(
    2 * seeds, [64, 20, 10], seeds=[*range(seeds), *range(seeds)], loss="categorical_cross_entropy", dtype="float32"
)
histories = stack.fit(
    X_train, y_train, optimizer=dp.Adam(0.01), epochs=60, l2=[0.0] * seeds + [0.3] * seeds, validation=(X_test, y_test)
)
curves = np.array([history.metrics["accuracy"] for history in histories]).reshape(2, seeds, -1)
plain, penalised = curves[:, :, -1]

# %%
# Seeds alone move the accuracy by more than the settings differ. If one network is trained under each setting, the
# worse setting wins every so often:

print(f"mean accuracy without penalty {plain.mean():.3f}, with it {penalised.mean():.3f}")
print(f"seeds alone: from {plain.min():.3f} to {plain.max():.3f}")
print(f"the worse setting wins in {(plain[:, None] > penalised[None, :]).mean():.0%} of all pairs of single runs")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4))
bins = np.linspace(curves[:, :, -1].min(), curves[:, :, -1].max(), 15)
for values, name, color, style in ((curves[0], "no penalty", "C0", "-"), (curves[1], "l2 = 0.3", "C1", "--")):
    epochs = range(1, values.shape[1] + 1)
    low, middle, high = np.percentile(values, [5, 50, 95], axis=0)
    left.fill_between(epochs, low, high, color=color, alpha=0.25, linewidth=0)
    left.plot(epochs, middle, style, color=color, label=name)
    right.hist(values[:, -1], bins, histtype="stepfilled", facecolor=color, alpha=0.4, label=name)
    right.axvline(values[:, -1].mean(), color=color, linestyle=style)
left.set(title="Median and 90 % of the seeds", xlabel="epoch", ylabel="accuracy on test images", ylim=(0.8, 0.97))
right.set(
    title="After the last epoch, lines at the means",
    xlabel="accuracy on test images",
    ylabel="networks of 100",
    ylim=(0, 33),
)
left.legend(loc="lower right")
right.legend(loc="upper left")
plt.show()

# %%
# Read on: :class:`deltaprop.NetworkStack` takes an optimizer, a penalty, a fold or a dropout for each member.
