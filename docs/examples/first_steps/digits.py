"""
Handwritten digits
==================

A network with one hidden layer learns to read scikit-learn's 8 × 8 images of digits. You see how to train, to watch the
accuracy on images that are held out, to predict, and which images the network still takes for another digit.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import deltaprop as dp

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, test_size=0.25, stratify=y, random_state=0)

# %%
# The widths say it all: 64 pixels go in, 100 hidden units look at them, and 10 outputs are the probabilities of the
# digits. ``validation=0.2`` holds out a fifth of the rows, and the history records the cost and the accuracy on them.

net = dp.Network([64, 100, 10], hidden_activation="relu", loss="categorical_cross_entropy", init="he", seed=0)
history = net.fit(X_train, y_train, optimizer=dp.Adam(1e-3), epochs=30, validation=0.2)
history.plot()

# %%
# The test images were used for nothing so far. Most are read right:

probabilities = net.predict(X_test)
read_as = probabilities.argmax(axis=1)
print(f"accuracy on {len(X_test)} test images: {net.score(X_test, y_test):.3f}")

# %%
# These are the mistakes that the network is most certain about. Some of these digits would make people hesitate, too.

# sphinx_gallery_thumbnail_number = 2
mistakes = np.flatnonzero(read_as != y_test)
mistakes = mistakes[np.argsort(-probabilities[mistakes].max(axis=1))][:8]
fig, axes = plt.subplots(2, 4, figsize=(7, 4.2))
for axis in axes.flat:
    axis.axis("off")
for axis, i in zip(axes.flat, mistakes, strict=False):
    axis.imshow(X_test[i].reshape(8, 8), cmap="gray_r")
    axis.set_title(f"{y_test[i]}, read as {read_as[i]}\nwith {probabilities[i].max():.0%}")
fig.suptitle("The most certain mistakes on the test images")
plt.show()

# %%
# Read on: :class:`deltaprop.Network` takes other losses, activations and optimizers;
# :ref:`sphx_glr_gallery_what_a_network_learns_weights_as_images.py` shows what the hidden units look for.
