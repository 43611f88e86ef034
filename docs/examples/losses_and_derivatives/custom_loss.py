"""
A loss of your own
==================

A few gross errors in the data pull a fit by least squares far away. You write the Cauchy loss, log(1 + (h − y)²/c²),
as a pair of functions, check its gradient, and see a fit that does not mind the outliers.
"""

import matplotlib.pyplot as plt
import numpy as np

import deltaprop as dp

# %%
# The first function gives the cost of each sample, the second its derivative by the outputs h. Backpropagation does the
# rest.

c = 0.2


def cauchy(h, y):
    return np.log1p(((h - y) / c) ** 2).sum(axis=1)


def cauchy_gradient(h, y):
    return 2 * (h - y) / (c**2 + (h - y) ** 2)


# %%
# One point in eight is wrong by up to 4, always upwards.

rng = np.random.default_rng(0)
x = np.sort(rng.uniform(-3, 3, 160))[:, None]
y = np.sin(x) + 0.1 * rng.normal(size=x.shape)
wrong = rng.random(160) < 0.125
y[wrong] += rng.uniform(1, 4, (wrong.sum(), 1))

# %%
# A wrong derivative trains badly without saying so. :func:`~deltaprop.check_gradient` compares it with differences.

net = dp.Network([1, 20, 1], hidden_activation="tanh", loss=(cauchy, cauchy_gradient), seed=0)
print("the gradient is right:", dp.check_gradient(net, x, y).passed)

# %%
# The same network under three losses:

losses = {"squared_error": "squared_error", "huber": "huber", "Cauchy, our own": (cauchy, cauchy_gradient)}
fig, axis = plt.subplots(figsize=(8.5, 4.2))
axis.plot(x[~wrong], y[~wrong], "o", color="0.6", markersize=4, label="data")
axis.plot(x[wrong], y[wrong], "x", color="0.3", markersize=5, label="gross errors")
for (name, loss), style in zip(losses.items(), ("--", "-.", "-"), strict=True):
    net = dp.Network([1, 20, 1], hidden_activation="tanh", loss=loss, seed=0)
    net.fit_full_batch(x, y, l2=0.1)
    error = np.abs(net.predict(x) - np.sin(x)).mean()
    axis.plot(x, net.predict(x), style, label=f"{name}: {error:.2f}")
axis.plot(x, np.sin(x), "k:", linewidth=1.2, label="truth")
axis.set(title="A fit with gross errors in the data", xlabel="x", ylabel="y")
fig.legend(title="and mean distance to the truth", loc="outside right upper")
plt.show()

# %%
# Read on: ``loss`` of :class:`deltaprop.Network` and of :class:`deltaprop.MLPRegressor`;
# :ref:`sphx_glr_gallery_losses_and_derivatives_quantile_regression.py` uses the same door.
