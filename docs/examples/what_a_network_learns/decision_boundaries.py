"""
Decision boundaries as capacity grows
=====================================

Four networks, from two hidden units to two layers of a hundred, learn the same two half moons. You see the boundary
bend as the network grows, and then bend around the noise: the two largest networks are right on all rows that they
were trained on, and worse on new ones than five units are.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons

import deltaprop as dp

X, y = make_moons(120, noise=0.3, random_state=1)
X_new, y_new = make_moons(5000, noise=0.3, random_state=2)

# %%
# A few hundred iterations of L-BFGS, without any penalty, take each network as far as it can go.

networks = {}
for hidden in ([2], [5], [20], [100, 100]):
    net = dp.Network([2, *hidden, 1], hidden_activation="tanh", loss="binary_cross_entropy", seed=0)
    net.fit_full_batch(X, y, max_iter=500)
    networks[" + ".join(map(str, hidden))] = net

# %%
# The shades are the probability of the orange class. The title says how many hidden units there are, and the accuracy
# on the 120 rows of the picture and on 5000 new ones.

grid_x, grid_y = np.meshgrid(np.linspace(-2.2, 3.2, 200), np.linspace(-1.7, 2.2, 200))
points = np.stack([grid_x, grid_y], axis=-1).reshape(-1, 2)
fig, axes = plt.subplots(2, 2, figsize=(8, 6.4), sharex=True, sharey=True)
for axis, (hidden, net) in zip(axes.flat, networks.items(), strict=True):
    probability = net.predict(points).reshape(grid_x.shape)
    shades = axis.contourf(grid_x, grid_y, probability, np.linspace(0, 1, 11), cmap="PuOr_r", alpha=0.8)
    axis.contour(grid_x, grid_y, probability, [0.5], colors="k")
    axis.plot(*X[y == 0].T, "^", color="rebeccapurple", markeredgecolor="w")
    axis.plot(*X[y == 1].T, "o", color="darkorange", markeredgecolor="k")
    axis.set_title(f"{hidden} units: {net.score(X, y):.0%}, new {net.score(X_new, y_new):.0%}")
axes[1, 0].set(xlabel="$x_1$", ylabel="$x_2$")
axes[1, 1].set_xlabel("$x_1$")
axes[0, 0].set_ylabel("$x_2$")
fig.colorbar(shades, ax=axes, label="probability of the orange class", shrink=0.7)
plt.show()

# %%
# Read on: a penalty (``l2=``), :ref:`sphx_glr_gallery_choosing_early_stopping.py` and
# :ref:`sphx_glr_gallery_choosing_dropout.py` keep a large network from learning the noise.
