"""
Forward or reverse mode
=======================

The Jacobian ∂h/∂x can be had column by column, one forward pass for each input, or row by row, one backward pass for
each output. Both give the same numbers. You see what each costs as the number of inputs grows, and why training goes
backward.
"""

import matplotlib.pyplot as plt
import numpy as np

import deltaprop as dp

# %%
# A scalar chain first: y = sin(x²). Forward mode carries dw/dx along, reverse mode carries dy/dw back.

functions, derivatives = [np.square, np.sin], [lambda w: 2 * w, np.cos]
for mode in ("forward", "reverse"):
    print(dp.accumulate(functions, derivatives, 0.5, mode=mode))

# %%
# Now networks with 16 outputs and more and more inputs. A pass multiplies by every weight once: that is the cost,
# counted.

rng = np.random.default_rng(0)
inputs, outputs = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256]), 16
cost = {"forward": [], "reverse": [], "gradient": []}
agree = True
for width in inputs:
    net = dp.Network([width, 64, 64, outputs], hidden_activation="tanh", loss="squared_error", seed=0)
    X = rng.normal(size=(10, width))
    agree &= np.allclose(net.jacobian(X, mode="forward"), net.jacobian(X, mode="reverse"), rtol=0, atol=1e-12)
    weights = sum(W.size for W in net.weights)
    cost["forward"].append((1 + width) * weights)
    cost["reverse"].append((1 + outputs) * weights)
    cost["gradient"].append((1 + 1) * weights)
print("both modes agree to 1e-12:", agree)

# %%
# Each mode takes one pass for the values, then forward mode one for each input and reverse mode one for each output.
# They cross where there are as many inputs as outputs, and ``mode="auto"`` takes the cheaper one. The gradient of a
# cost is a Jacobian with a single row: one pass back, however many inputs, or parameters, there are.

fig, axis = plt.subplots()
names = ("Jacobian, forward mode", "Jacobian, reverse mode", "gradient of one output, reverse mode")
for name, multiplications, style in zip(names, cost.values(), ("o-", "s--", "^-."), strict=True):
    axis.plot(inputs, multiplications, style, label=name)
axis.axvline(outputs, color="0.6", linestyle=":", label="as many inputs as outputs")
axis.set(
    title="A network with 16 outputs", xlabel="inputs", ylabel="multiplications a sample", xscale="log", yscale="log"
)
axis.set_xticks(inputs, inputs)
axis.set_xticks([], minor=True)
axis.legend(loc="upper left")
plt.show()

# %%
# Read on: :meth:`deltaprop.Network.jacobian`, :meth:`~deltaprop.Network.jvp` and :meth:`~deltaprop.Network.vjp`;
# :func:`deltaprop.accumulate`; :doc:`/lecture/index`.
