"""
A rare class
============

One case in thirty is ill. A network that is right as often as possible overlooks many of them. You see how
``class_weight`` moves the boundary, what it costs in false alarms, and that a threshold does the same afterwards.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_curve
from sklearn.model_selection import train_test_split

import deltaprop as dp

rng = np.random.default_rng(0)
X = np.concatenate([rng.normal(size=(5800, 2)), rng.normal([1.8, 1.2], 0.6, size=(200, 2))])
y = np.repeat([0, 1], [5800, 200])
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

# %%
# ``"balanced"`` lets both classes count the same in sum, so that each ill case counts 29 times.

models = {}
for name, class_weight in (("as they come", None), ("balanced", "balanced")):
    model = dp.MLPClassifier((16,), class_weight=class_weight, learning_rate_init=0.01, tol=1e-4, random_state=0)
    models[name] = model.fit(X_train, y_train)
    (_, alarms), (missed, found) = confusion_matrix(y_test, model.predict(X_test))
    print(f"{name}: {found} of {found + missed} ill cases found, with {alarms} false alarms")

# %%
# Right: each point of a curve is a threshold on the probability. The two curves nearly agree, and the marks show where
# each model stands at its threshold of ½: weights choose another point of the same trade.

grid_x, grid_y = np.meshgrid(np.linspace(-3.5, 4, 200), np.linspace(-3.5, 4, 200))
points = np.stack([grid_x, grid_y], axis=-1).reshape(-1, 2)
fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.4))
left.plot(*X_test[y_test == 0].T, ".", color="0.75", markersize=3, label="healthy")
left.plot(*X_test[y_test == 1].T, "^", color="black", markersize=4, label="ill")
for (name, model), color, style in zip(models.items(), ("C0", "C1"), ("-", "--"), strict=True):
    ill = model.predict_proba(points)[:, 1].reshape(grid_x.shape)
    left.contour(grid_x, grid_y, ill, [0.5], colors=color, linestyles=style, linewidths=2)
    precision, recall, thresholds = precision_recall_curve(y_test, model.predict_proba(X_test)[:, 1])
    right.plot(recall, precision, style, color=color, label=name)
    half = np.searchsorted(thresholds, 0.5)
    right.plot(recall[half], precision[half], "o", color=color, markersize=10, markeredgecolor="k")
left.set(title="Test data, and where each model says ½", xlabel="$x_1$", ylabel="$x_2$")
right.set(
    title="The trade", xlabel="share of the ill that is found", ylabel="share of alarms that is right", ylim=(0, 1)
)
left.legend(loc="lower left")
right.legend(loc="upper right")
plt.show()

# %%
# Read on: ``class_weight`` of :class:`deltaprop.MLPClassifier` and :class:`deltaprop.TabularClassifier`, and
# ``sample_weight`` of every ``fit``.
