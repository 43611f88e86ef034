"""
How sure is an ensemble?
========================

Twenty networks that were trained on different samples agree where there are data and part where there are none. You see
their mean, their spread, and where not to trust the prediction.
"""

import matplotlib.pyplot as plt
import numpy as np

import deltaprop as dp

rng = np.random.default_rng(0)
x = np.concatenate([rng.uniform(-4, -1, 80), rng.uniform(1, 3, 60)])
y = np.sin(1.5 * x) + 0.15 * rng.normal(size=len(x))
grid = np.linspace(-6, 6, 400)

# %%
# Every member has its own seed and, with ``bootstrap=True``, rows drawn with replacement. ``return_std=True`` gives the
# spread of the members beside their mean.

network = dp.MLPRegressor(
    hidden_layer_sizes=(40,), activation="tanh", solver="lbfgs", alpha=1e-3, max_iter=3000, tol=1e-3
)
ensemble = dp.EnsembleRegressor(network, n_estimators=20, bootstrap=True, random_state=0).fit(x[:, None], y)
mean, spread = ensemble.predict(grid[:, None], return_std=True)

# %%
# The spread says how much the answer depends on the sample. It grows between the two groups of points and outside of
# them. It isn't the noise of the points, and far outside all members can be wrong together.

members = ensemble.stack_.predict(grid[:, None])[:, :, 0]
fig, axis = plt.subplots(figsize=(8, 4.4))
axis.fill_between(
    grid, mean - 2 * spread, mean + 2 * spread, alpha=0.25, linewidth=0, label="mean ± 2 standard deviations"
)
axis.plot(grid, members.T, color="0.6", linewidth=0.5)
axis.plot(grid, mean, label="mean of 20 networks")
axis.plot(grid, np.sin(1.5 * grid), "k--", linewidth=1, label="truth")
axis.plot(x, y, "o", color="C1", markersize=4, markeredgecolor="w", markeredgewidth=0.4, label="data")
axis.set(title="Members agree where there are data", xlabel="x", ylabel="y", ylim=(-3.2, 3.2))
fig.legend(loc="outside lower center", ncols=4)
plt.show()

# %%
# Read on: :class:`deltaprop.EnsembleRegressor` and :class:`deltaprop.EnsembleClassifier`. For the noise of the points
# themselves see :ref:`sphx_glr_gallery_losses_and_derivatives_quantile_regression.py`.
