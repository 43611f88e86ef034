"""
A sweep as a heat map
=====================

Two parameters, 35 settings, 5 folds: 175 networks. :class:`~deltaprop.SweepCV` has scikit-learn's attributes and
scores, and trains the networks side by side. You see which settings are good, and how wide the good region is.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import deltaprop as dp

X, y = load_digits(return_X_y=True)
X, y = X[:900] / 16, y[:900]

# %%
# The parameters are those of :class:`~deltaprop.MLPClassifier`, and have scikit-learn's names. ``tol`` ends a training
# that does not get any further.

grid = {"alpha": np.logspace(-3, 1, 5).tolist(), "learning_rate_init": np.logspace(-4, -1, 7).tolist()}
network = dp.MLPClassifier((32,), batch_size=64, max_iter=1000, tol=3e-3, n_iter_no_change=5, random_state=0)
sweep = dp.SweepCV(network, grid, cv=5).fit(X, y)
print(f"best: alpha={sweep.best_params_['alpha']:g}, learning_rate_init={sweep.best_params_['learning_rate_init']:.2g}")
print(f"mean accuracy over the folds: {sweep.best_score_:.3f}")

# %%
# ``plot()`` draws the scores against each parameter by itself:

sweep.plot()

# %%
# The heat map shows both together. Candidates are in the order of scikit-learn's ``ParameterGrid``, the last parameter
# changing fastest.

# sphinx_gallery_thumbnail_number = 2
scores = sweep.cv_results_["mean_test_score"].reshape(5, 7)
fig, axis = plt.subplots(figsize=(7, 4.2))
image = axis.imshow(scores, vmin=0.8, origin="lower", aspect="auto")
for (row, column), score in np.ndenumerate(scores):
    axis.text(column, row, f"{100 * score:.0f}", ha="center", va="center", color="w" if score < 0.86 else "k")
row, column = np.unravel_index(sweep.best_index_, scores.shape)
axis.add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="k", linewidth=2.5))
axis.set_xticks(range(7), [f"{rate:.1g}" for rate in grid["learning_rate_init"]])
axis.set_yticks(range(5), [f"{alpha:g}" for alpha in grid["alpha"]])
axis.set(title="Accuracy in percent, the best is framed", xlabel="learning rate", ylabel="penalty α")
fig.colorbar(image, label="mean accuracy over 5 folds", extend="min")
plt.show()

# %%
# Read on: :class:`deltaprop.SweepCV` takes pipelines and distributions, :class:`deltaprop.HalvingSweepCV` drops the
# worst early, and :doc:`/guide/sweeps_on_a_cluster` spreads a sweep over machines.
