"""
Which pixels decide
===================

For one image, the derivative of the answer by each pixel says where a little more or less ink would change it. One pass
of reverse mode gives it for all pixels at once. You see these derivatives for six digits, and what steps along them
make of the images: the network takes each for another digit.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import deltaprop as dp

X, y = load_digits(return_X_y=True)
X = X / 16
net = dp.Network([64, 60, 10], hidden_activation="tanh", loss="categorical_cross_entropy", seed=0)
net.fit(X, y, optimizer=dp.Adam(3e-3), epochs=40, l2=1.0)

# %%
# ``vjp(X, v)`` computes Jᵀ v for every row, with J = ∂h/∂x: the gradient of v · h. With a 1 at the class and 0
# elsewhere that is the gradient of the probability of that class. We ask what would raise the second most probable
# class.

images = X[[0, 1, 3, 4, 6, 8]]
probabilities = net.predict(images)
rival = np.argsort(probabilities, axis=1)[:, -2]
gradient = net.vjp(images, np.eye(10)[rival])

# %%
# Small steps along that gradient, within the range of ink, until the answer changes:

changed = images.copy()
for _ in range(200):
    undecided = net.predict_classes(changed) != rival
    step = net.vjp(changed, np.eye(10)[rival])
    step /= np.abs(step).max(axis=1, keepdims=True)
    changed[undecided] = np.clip(changed + 0.02 * step, 0, 1)[undecided]

# %%
# Top: the image. Middle: the gradient, red where more ink, blue where less ink would make it look like the rival.
# Bottom: the image after the steps, in which many pixels have turned a little greyer.

fig, axes = plt.subplots(3, 6, figsize=(9, 5))
for k in range(6):
    limit = np.abs(gradient[k]).max()
    axes[0, k].imshow(images[k].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
    axes[1, k].imshow(gradient[k].reshape(8, 8), cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes[2, k].imshow(changed[k].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
    axes[0, k].set_title(f"read as {probabilities[k].argmax()}")
    axes[1, k].set_title(f"towards {rival[k]}")
    axes[2, k].set_title(f"read as {net.predict_classes(changed[k : k + 1])[0]}")
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
for axis, label in zip(axes[:, 0], ("image", "gradient", "changed"), strict=True):
    axis.set_ylabel(label)
plt.show()

# %%
# Read on: :meth:`deltaprop.Network.vjp` and :meth:`deltaprop.Network.jacobian`; the estimators have
# :meth:`deltaprop.MLPClassifier.input_gradient`; :ref:`sphx_glr_gallery_losses_and_derivatives_forward_and_reverse.py`
# says what these derivatives cost.
