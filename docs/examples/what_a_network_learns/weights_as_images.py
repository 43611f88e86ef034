"""
Weights as images
=================

Each hidden unit has one weight for every pixel, so that its weights are an image: what the unit looks for. You see them
for two networks that read digits alike, one trained without a penalty on large weights and one with it.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

import deltaprop as dp

X, y = load_digits(return_X_y=True)


def train(l2):
    net = dp.Network([64, 25, 10], hidden_activation="tanh", loss="categorical_cross_entropy", seed=0)
    history = net.fit(X / 16, y, optimizer=dp.Adam(0.01), epochs=60, l2=l2, validation=0.2)
    print(f"l2={l2}: accuracy on images held out {history.metrics['accuracy'][-1]:.3f}")
    return net


# %%
# Without a penalty, the images are speckled: a weight of a pixel that hardly ever changes, such as those in the
# corners, keeps the random value that it began with.

train(l2=0.0).plot_weights(0, shape=(8, 8))

# %%
# With the penalty λ/(2m) Σ W², a weight that does not pay shrinks to nothing: the corners and the margins take the
# colour of 0, and the scale is smaller. What is left are patches and edges: one end of the scale where ink raises a
# unit, the other where ink lowers it.

# sphinx_gallery_thumbnail_number = 2
train(l2=1.0).plot_weights(0, shape=(8, 8))
plt.show()

# %%
# Read on: :meth:`deltaprop.Network.plot_weights` draws any layer;
# :ref:`sphx_glr_gallery_what_a_network_learns_deciding_pixels.py` asks what matters for one image.
