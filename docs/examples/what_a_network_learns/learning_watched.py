"""
A function while it is learned
==============================

A network learns a wave with slow and fast parts. A callback keeps what the network says after every epoch. You see that
the slow part is learned first and the fast part last: where one stops decides what was learned.
"""

import matplotlib.pyplot as plt
import numpy as np

import deltaprop as dp

x = np.linspace(-1, 1, 400)[:, None]
target = np.sin(2 * np.pi * x) + 0.4 * np.sin(10 * np.pi * x)

# %%
# A callback is any function of an :class:`~deltaprop.callbacks.EpochEnd`, which has the network and the history so far.

outputs = []
net = dp.Network([1, 100, 100, 1], hidden_activation="tanh", loss="squared_error", seed=0)
history = net.fit(
    x,
    target,
    optimizer=dp.Adam(2e-3),
    batch_size=50,
    epochs=1200,
    callbacks=[lambda event: outputs.append(event.network.predict(x)[:, 0])],
)

# %%
# Left: the function after some epochs. Right: how much of each wave the outputs hold, the sine's coefficient divided by
# the one of the target.

waves = np.sin(np.pi * np.array([[2], [10]]) * x[:, 0])
learned = np.linalg.lstsq(waves.T, np.array(outputs).T, rcond=None)[0] / [[1.0], [0.4]]

fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4))
left.plot(x, target, color="0.7", linewidth=5, label="target")
shades = plt.colormaps["viridis"]([0.0, 0.45, 0.8])
for epoch, color in zip((20, 150, 1200), shades, strict=True):
    left.plot(x, outputs[epoch - 1], color=color, label=f"epoch {epoch}")
left.set(title="What the network says", xlabel="x", ylabel="output", ylim=(-1.5, 2.3))
left.legend(ncols=2, loc="upper center")
right.plot(range(1, len(outputs) + 1), learned[0], label="slow wave, 1 period a unit")
right.plot(range(1, len(outputs) + 1), learned[1], "--", label="fast wave, 5 periods a unit")
right.set(title="How much of each wave is learned", xlabel="epoch", ylabel="share of the target's", xscale="log")
right.legend(loc="center left")
plt.show()

# %%
# Read on: :mod:`deltaprop.callbacks` has callbacks for files and trackers of experiments, and hooks for every step.
