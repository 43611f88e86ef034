"""
XOR with every number
=====================

Two inputs, two hidden units, one output: the smallest network that learns *exclusive or*. You see every quantity of one
forward and one backward pass in numbers, and in the picture why the hidden layer makes the task easy.
"""

import matplotlib.pyplot as plt
import numpy as np

import deltaprop as dp

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
y = np.array([0, 1, 1, 0])
net = dp.Network([2, 2, 1], hidden_activation="sigmoid", seed=1)

# %%
# Before training, one sample goes forward (z, a), its error comes back (δ), and their products are the gradient (Δ, D).
# The names are the names of the lecture, and each table can be checked with a pocket calculator.

net.explain([0, 1], 1)

# %%
# Steps against that gradient, averaged over the four samples, are all there is to training.

history = net.fit(X, y, optimizer=dp.Adam(0.1), batch_size=None, epochs=500)
for x, output in zip(X, net.predict(X)[:, 0], strict=True):
    print(f"{x[0]} xor {x[1]}: {output:.2f}")

# %%
# No straight line in the plane of the inputs has both crosses on one side and both discs on the other. The hidden layer
# carries the four points to other places: the two crosses meet in one corner, and a straight line parts them from the
# discs.

grid = np.linspace(-0.25, 1.25, 151)
points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
hidden = net.forward(X).a[1]
b, w1, w2 = net.thetas[1][0]

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8))
shades = left.pcolormesh(grid, grid, net.predict(points).reshape(151, 151), vmin=0, vmax=1, shading="auto")
fig.colorbar(shades, ax=left, label="output of the network")
right.axline((0, -b / w2), slope=-w1 / w2, color="0.4", linestyle="--", label="output = 0.5")
for axis, places in ((left, X), (right, hidden)):
    axis.plot(*places[y == 1].T, "o", color="orange", markeredgecolor="k", markersize=11, label="xor = 1")
    axis.plot(*places[y == 0].T, "X", color="white", markeredgecolor="k", markersize=11, label="xor = 0")
left.set(title="Plane of the inputs", xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
right.set(title="Plane of the hidden units", xlabel="$a^{(2)}_1$", ylabel="$a^{(2)}_2$", aspect="equal")
right.set(xlim=(-0.1, 1.1), ylim=(-0.1, 1.1))
fig.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3)
plt.show()

# %%
# Read on: :meth:`deltaprop.Network.explain` also writes a page to step through;
# :ref:`sphx_glr_gallery_losses_and_derivatives_gradient_check.py` finds faults in a derivation;
# :doc:`/lecture/index` derives every formula.
