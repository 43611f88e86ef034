"""
Dropout against overfitting
===========================

A wide network learns 300 images by heart, wrong labels included. Dropout leaves out some hidden units in every step,
other ones each time, so that no unit can rely on the others. You see what that does to the cost on images held out.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import deltaprop as dp

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, train_size=300, stratify=y, random_state=0)

# %%
# Every seventh label or so becomes a digit drawn at random, as if people had typed them in a hurry.

rng = np.random.default_rng(0)
mistyped = rng.random(300) < 0.15
y_train[mistyped] = rng.integers(0, 10, mistyped.sum())

# %%
# Four networks with the same seed are trained as one stack; only the probability differs.

probabilities = [0.0, 0.2, 0.5, 0.7]
stack = dp.NetworkStack(
    4,
    [64, 200, 200, 10],
    seeds=0,
    hidden_activation="relu",
    loss="categorical_cross_entropy",
    init="he",
    dtype="float32",
)
histories = stack.fit(
    X_train, y_train, optimizer=dp.Adam(1e-3), epochs=80, dropout=probabilities, validation=(X_test, y_test)
)
for p, net in zip(probabilities, stack, strict=True):
    print(
        f"dropout {p}: {net.score(X_train, y_train):.0%} of the labels learned, {net.score(X_test, y_test):.0%} right"
    )

# %%
# Without dropout the cost falls fast and then rises: the network becomes more certain, and more certain of its mistakes
# as well. With a fifth or a half of the units left out it falls more slowly, and further. With 70 % left out, 80 epochs
# are too few.

fig, axis = plt.subplots()
for p, history, style in zip(probabilities, histories, ("-", "--", "-.", ":"), strict=True):
    axis.plot(range(1, 81), history.validation_cost, style, label=f"{p:.0%}")
axis.set(title="Cost on images that were held out", xlabel="epoch", ylabel="cost", yscale="log", ylim=(0.3, 3))
axis.legend(title="units left out", loc="upper right")
plt.show()

# %%
# Read on: ``dropout`` is an argument of :meth:`deltaprop.Network.fit`, one number or one for each hidden layer, and a
# parameter of the estimators.
