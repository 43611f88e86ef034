"""
Finding a learning rate
=======================

The learning rate matters more than any other setting. :class:`~deltaprop.callbacks.LearningRateFinder` tries a hundred
rates in a hundred steps, without touching the network. You see its curve, and how training goes at the rate that it
suggests, far below it and far above it.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

import deltaprop as dp
from deltaprop.callbacks import LearningRateFinder

X, y = load_digits(return_X_y=True)
X = X / 16
options = {"hidden_activation": "relu", "loss": "categorical_cross_entropy", "init": "he"}
net = dp.Network([64, 50, 50, 10], **options, seed=0)

# %%
# The rate grows from step to step. At first nothing happens, then the cost falls, and in the end it explodes. The
# suggestion is where it falls most steeply.

finder = LearningRateFinder(lowest=1e-4, highest=10.0).find(net, X, y, optimizer=dp.SGD(momentum=0.9), batch_size=64)
finder.plot()

# %%
# Three copies of the network are trained side by side: a :class:`~deltaprop.NetworkStack` takes an optimizer for each.

factors = {"a hundredth of it": 0.01, "the suggestion": 1.0, "thirty times of it": 30.0}
rates = [factor * finder.suggestion for factor in factors.values()]
stack = dp.NetworkStack(3, [64, 50, 50, 10], seeds=0, **options)
histories = stack.fit(
    X, y, optimizer=[dp.SGD(rate, momentum=0.9) for rate in rates], batch_size=64, epochs=30, validation=0.2
)

fig, axis = plt.subplots(figsize=(8.5, 4))
for history, name, rate, style in zip(histories, factors, rates, ("--", "-", ":"), strict=True):
    axis.plot(range(1, 31), history.validation_cost, style, label=f"{name}: {rate:.2g}")
axis.set(
    title="The same network at three learning rates", xlabel="epoch", ylabel="cost on images held out", yscale="log"
)
fig.legend(title="learning rate", loc="outside right upper")
plt.show()

# %%
# Far too low, training crawls; far too high, it gets nowhere.
#
# Read on: :ref:`sphx_glr_gallery_choosing_learning_rate_schedules.py` changes the rate while training goes on.
