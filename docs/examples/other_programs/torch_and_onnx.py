"""
To PyTorch and ONNX, and back
=============================

A network that was trained here goes on in other programs: as a module of PyTorch, and as an ONNX file for whatever
reads those. You see that all three say the same, to rounding, and that both ways lead back. (``pip install torch
onnx``)
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from onnx.reference import ReferenceEvaluator
from sklearn.datasets import make_moons

import deltaprop as dp

X, y = make_moons(400, noise=0.2, random_state=0)
net = dp.Network([2, 16, 16, 1], hidden_activation="tanh", dtype="float32", seed=0)
net.fit_full_batch(X, y, max_iter=60, l2=0.5)

# %%
# Out: a module that PyTorch may train on, and a file for every program that reads ONNX.

module = net.to_torch()
print(module)
folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "moons.onnx"
net.to_onnx(path)
session = ReferenceEvaluator(str(path))
(name,) = session.input_names

# %%
# And in again. The parameters are the same, bit by bit.

from_torch = dp.Network.from_torch(module, loss="binary_cross_entropy")
from_onnx = dp.Network.from_onnx(path)
print("from PyTorch:", np.array_equal(net.parameters, from_torch.parameters))
print("from ONNX:   ", np.array_equal(net.parameters, from_onnx.parameters))
folder.cleanup()

# %%
# The probability of the second class by three programs, over a grid. The largest difference is rounding: single
# precision has some seven digits.

grid_x, grid_y = np.meshgrid(np.linspace(-1.8, 2.8, 160), np.linspace(-1.3, 1.8, 160))
points = np.stack([grid_x, grid_y], axis=-1).reshape(-1, 2).astype(np.float32)
outputs = {
    "deltaprop": net.predict(points),
    "PyTorch": module(torch.from_numpy(points)).detach().numpy(),
    "ONNX": session.run(None, {name: points})[0],
}
fig, axes = plt.subplots(1, 3, figsize=(9.5, 3.4), sharex=True, sharey=True)
for axis, (program, output) in zip(axes, outputs.items(), strict=True):
    shades = axis.contourf(grid_x, grid_y, output.reshape(grid_x.shape), np.linspace(0, 1, 11))
    axis.plot(*X[y == 1].T, ".", color="white", markersize=3)
    axis.plot(*X[y == 0].T, ".", color="orangered", markersize=3)
    axis.set(title=program, xlabel="$x_1$")
    print(f"{program}: equal to 1e-6: {np.allclose(output, outputs['deltaprop'], rtol=0, atol=1e-6)}")
axes[0].set_ylabel("$x_2$")
fig.colorbar(shades, ax=axes, label="probability")
plt.show()

# %%
# Read on: :ref:`guide-other-programs` lists what each kind of model becomes; :meth:`deltaprop.Network.from_torch` says
# which modules can be read.
