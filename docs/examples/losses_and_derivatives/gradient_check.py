"""
Finding faults in your own backpropagation
==========================================

Who writes backpropagation for the first time makes one of a few mistakes, and the network still learns, a little worse.
You write it in twelve lines, plant four of these mistakes, and see that each one leaves its own mark.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm

import deltaprop as dp

rng = np.random.default_rng(0)
X, y = rng.normal(size=(50, 4)), rng.integers(0, 2, 50)
net = dp.Network([4, 5, 3, 1], hidden_activation="sigmoid", loss="binary_cross_entropy", seed=0)
l2 = 2.0

# %%
# First, that the library can be trusted: its gradient against differences of the cost.

check = dp.check_gradient(net, X, y, l2=l2)
print(f"{check.entries} entries compared, passed: {check.passed}")


# %%
# Now our own, in the names of the lecture: Θ with the bias in column 0, δ from the last layer back, D = ∂J/∂Θ.


def gradient(Thetas, X, y, l2, fault=None):
    m, A = len(X), [X]
    for Theta in Thetas:
        A.append(1 / (1 + np.exp(-(A[-1] @ Theta[:, 1:].T + Theta[:, 0]))))
    delta, D = A[-1] - y[:, None], []
    for l in reversed(range(len(Thetas))):
        penalty = Thetas[l].copy()
        penalty[:, 0] *= fault == "bias is penalised"
        ones = np.zeros((m, 1)) if fault == "$a_0 = 1$ is missing" else np.ones((m, 1))
        Delta = delta.T @ np.hstack([ones, A[l]])
        D.insert(0, (Delta if fault == "1/m is missing" else Delta / m) + l2 / m * penalty)
        slope = 1 if fault == "g′(z) is missing" else A[l] * (1 - A[l])
        delta = delta @ Thetas[l][:, 1:] * slope
    return D


# %%
# The relative difference ‖a − b‖ / ‖a + b‖ to the library's gradient, for biases and weights of each layer.

right = net.cost_and_gradient(X, y, l2=l2)[1].thetas
faults = [None, "bias is penalised", "$a_0 = 1$ is missing", "g′(z) is missing", "1/m is missing"]
parts = [(l, name, columns) for l in range(3) for name, columns in (("b", slice(0, 1)), ("W", slice(1, None)))]
table = np.empty((len(faults), len(parts)))
for row, fault in enumerate(faults):
    own = gradient(net.thetas, X, y, l2, fault)
    for column, (l, _, entries) in enumerate(parts):
        a, b = own[l][:, entries], right[l][:, entries]
        table[row, column] = max(np.linalg.norm(a - b) / np.linalg.norm(a + b), 1e-17)

# %%
# Below 1e-9 is rounding. A fault in the biases alone is in the penalty or in a_0; a fault everywhere but in the last
# layer is in δ; a fault everywhere is a factor.

fig, axis = plt.subplots(figsize=(8, 3.8))
image = axis.imshow(table, norm=LogNorm(1e-16, 1), aspect="auto")
for (row, column), value in np.ndenumerate(table):
    dark = value < 1e-7
    axis.text(column, row, "equal" if dark else f"{value:.2f}", ha="center", va="center", color="w" if dark else "k")
axis.set_xticks(range(len(parts)), [f"${name}^{{({l + 1})}}$" for l, name, _ in parts])
axis.set_yticks(range(len(faults)), ["no fault", *faults[1:]])
axis.set(title="Where each fault shows", xlabel="part of the gradient")
fig.colorbar(image, label="relative difference")
plt.show()

# %%
# Read on: :func:`deltaprop.check_gradient` names the layer and the entry;
# :ref:`sphx_glr_gallery_first_steps_xor_explained.py` has every number to compare with; :doc:`/lecture/index` derives
# each line.
