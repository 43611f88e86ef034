"""
Early stopping
==============

On few, noisy data a network learns the law first and the noise afterwards. :class:`~deltaprop.EarlyStopping` watches
the cost on rows held out, stops when it has not improved for a while, and restores the best parameters. You see the
curves, and the functions that come out with and without it.
"""

import matplotlib.pyplot as plt
import numpy as np

import deltaprop as dp

rng = np.random.default_rng(0)
x = rng.uniform(-1, 1, (100, 1))
y = np.sin(3 * x) + 0.35 * rng.normal(size=x.shape)


def train(**options):
    net = dp.Network([1, 60, 60, 1], hidden_activation="tanh", loss="squared_error", init="lecun", seed=1)
    return net, net.fit(x, y, optimizer=dp.Adam(3e-3), batch_size=20, validation=0.3, **options)


# %%
# 3000 epochs are allowed; training ends long before. The vertical line marks the epoch whose parameters were kept.

stopped, history = train(epochs=3000, early_stopping=dp.EarlyStopping(patience=400))
print(f"ended after {history.epochs} epochs, parameters of epoch {history.best_epoch}")
history.plot()

# %%
# The same network without early stopping goes on to bend towards single points.

# sphinx_gallery_thumbnail_number = 2
trained_on, _ = train(epochs=3000)
grid = np.linspace(-1, 1, 400)[:, None]
fig, axis = plt.subplots()
axis.plot(x, y, "o", color="0.6", markersize=4, label="data")
axis.plot(grid, np.sin(3 * grid), "k--", linewidth=1, label="law")
axis.plot(grid, stopped.predict(grid), label=f"stopped, epoch {history.best_epoch}")
axis.plot(grid, trained_on.predict(grid), "-.", label="trained on, epoch 3000")
axis.set(title="What the network says", xlabel="x", ylabel="y")
axis.legend(loc="upper left")
plt.show()

# %%
# Read on: :class:`deltaprop.EarlyStopping` can watch any metric;
# :ref:`sphx_glr_gallery_choosing_dropout.py` is another remedy.
