"""
Quantile regression
===================

Not only the middle, but a range that holds 80 % of all cases: one network with three outputs learns the 10th, the 50th
and the 90th percentile at once, by a loss of your own. You see the band follow a noise that grows.
"""

import matplotlib.pyplot as plt
import numpy as np

import deltaprop as dp

# %%
# The pinball loss of the quantile q: an output below the target costs q times the distance, one above it (1 − q) times.
# Its minimum is where a share q of the targets lies below.

q = np.array([0.1, 0.5, 0.9])


def pinball(h, y):
    return np.where(h < y, q * (y - h), (1 - q) * (h - y)).sum(axis=1)


def pinball_gradient(h, y):
    return np.where(h < y, -q, 1 - q)


# %%
# The noise grows with x, and is skewed: long upwards, short downwards.


def draw(rng, count):
    x = rng.uniform(0, 10, (count, 1))
    return x, np.sin(x) + (0.1 + 0.12 * x) * (rng.exponential(size=x.shape) - 0.7)


x, y = draw(np.random.default_rng(0), 2000)
x_new, y_new = draw(np.random.default_rng(1), 5000)

# %%
# The targets are repeated, one column for each quantile.

net = dp.Network([1, 50, 50, 3], hidden_activation="tanh", loss=(pinball, pinball_gradient), seed=0)
net.fit(
    x / 10, np.repeat(y, 3, axis=1), optimizer=dp.Adam(dp.CosineDecay(0.01, epochs=150)), batch_size=100, epochs=150
)

below = (y_new < net.predict(x_new / 10)).mean(axis=0)
for quantile, share in zip(q, below, strict=True):
    print(f"below the {quantile:.0%} quantile lie {share:.0%} of 5000 new points")

# %%
grid = np.linspace(0, 10, 400)[:, None]
low, middle, high = net.predict(grid / 10).T
fig, axis = plt.subplots(figsize=(8, 4.2))
axis.plot(x[::3], y[::3], ".", color="0.7", markersize=3, label="data, every third point")
axis.fill_between(grid[:, 0], low, high, alpha=0.3, linewidth=0, label="10 % to 90 %")
axis.plot(grid, middle, label="median")
axis.set(title="Half of the cases lie below the line, 80 % in the band", xlabel="x", ylabel="y", ylim=(-2.5, 6))
axis.legend(loc="upper left")
plt.show()

# %%
# Read on: :class:`deltaprop.TabularRegressor` gives intervals for tables by itself;
# :ref:`sphx_glr_gallery_choosing_ensemble_uncertainty.py` shows another kind of doubt.
