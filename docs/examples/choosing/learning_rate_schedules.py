"""
Learning-rate schedules
=======================

A high rate at first and a low one in the end is often better than either. You see the rates of a constant and
of three schedules, and the cost that a network of the same seed reaches under each.
"""

import matplotlib.pyplot as plt
import numpy as np

import deltaprop as dp

rng = np.random.default_rng(0)
X, X_test = rng.uniform(-1, 1, (1000, 4)), rng.uniform(-1, 1, (2000, 4))


def law(X):
    return np.sin(3 * X[:, 0]) * X[:, 1] + X[:, 2] ** 2


y = law(X) + 0.5 * rng.normal(size=1000)

# %%
# A schedule takes the place of the number. Any function of the epoch and the history is one.

schedules = {
    "constant": 0.2,
    "StepDecay": dp.StepDecay(0.2, factor=0.3, every=20),
    "CosineDecay": dp.CosineDecay(0.2, epochs=80, warmup=5),
    "ReduceOnPlateau": dp.ReduceOnPlateau(0.2, factor=0.3, patience=8),
}
stack = dp.NetworkStack(len(schedules), [4, 30, 1], seeds=0, hidden_activation="tanh", loss="squared_error")
histories = stack.fit(
    X,
    y,
    optimizer=[dp.SGD(schedule) for schedule in schedules.values()],
    batch_size=8,
    epochs=80,
    validation=(X_test, law(X_test)),
)

# %%
# Every minibatch of 8 noisy rows pulls the network another way, and a constant rate keeps it jumping: the cost on rows
# without noise stays high, and never settles. As the rate falls, the jumps die down.

fig, (top, bottom) = plt.subplots(2, 1, figsize=(7.5, 6), sharex=True)
for (name, history), style in zip(zip(schedules, histories, strict=True), ("-", "--", "-.", ":"), strict=True):
    top.plot(range(1, 81), history.learning_rate, style, label=name)
    bottom.plot(range(1, 81), history.validation_cost, style, label=name)
top.set(title="Learning rate", ylabel="rate η", yscale="log")
bottom.set(title="Cost on rows without noise", xlabel="epoch", ylabel="cost", yscale="log")
fig.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=4)
plt.show()

# %%
# Read on: :class:`deltaprop.CosineDecay`, :class:`deltaprop.StepDecay`, :class:`deltaprop.ExponentialDecay`,
# :class:`deltaprop.InverseScaling` and :class:`deltaprop.ReduceOnPlateau`.
