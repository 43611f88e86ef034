"""
The curvature of the cost
=========================

The Hessian of a network with 3500 parameters has 12 million entries. Nobody needs to form it:
:meth:`~deltaprop.Network.hvp` multiplies it by a vector, and SciPy's Lanczos iteration finds its largest and smallest
eigenvalues from such products. You see the curvature before and after training.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.datasets import load_digits

import deltaprop as dp

X, y = load_digits(return_X_y=True)
X, y = X[:600] / 16, y[:600]
net = dp.Network([64, 40, 20, 10], hidden_activation="tanh", loss="categorical_cross_entropy", seed=0)
n = len(net.parameters)
print(f"{n} parameters")


def ends_of_spectrum(count=20):
    """Compute the `count` largest and smallest eigenvalues of the Hessian of the cost."""
    hessian = LinearOperator((n, n), matvec=lambda v: net.hvp(X, y, v.ravel()), dtype=float)
    values = eigsh(hessian, 2 * count, which="BE", v0=np.ones(n), return_eigenvectors=False, tol=1e-6)
    return np.sort(values)[::-1]


# %%
# Beside the eigenvalues at the start and after 30 epochs, a check by differences: H v has to be the change of the
# gradient along v.

before = ends_of_spectrum()
net.fit(X, y, optimizer=dp.Adam(3e-3), epochs=30)
after = ends_of_spectrum()

v = np.random.default_rng(0).normal(size=n)
theta, step = net.parameters.copy(), 1e-5
net.parameters = theta + step * v
ahead = net.cost_and_gradient(X, y)[1].flat
net.parameters = theta - step * v
behind = net.cost_and_gradient(X, y)[1].flat
net.parameters = theta
difference = np.abs((ahead - behind) / (2 * step) - net.hvp(X, y, v)).max()
print("H v agrees with differences of gradients to 1e-6:", difference < 1e-6)

# %%
# After training some nine directions are steeper than the others, and nearly all are flat: all eigenvalues that are not
# drawn lie between the two pictures. The steepest direction limits the learning rate of plain gradient descent to 2/λ.
# The cost was bent downwards along some directions at the start, and hardly is any more: a minimum is near.

print(f"largest eigenvalue: {before[0]:.1f} before and {after[0]:.1f} after training")
print(f"smallest eigenvalue: {before[-1]:.2f} before and {after[-1]:.2f} after training")
ranks = np.r_[1:21, n - 19 : n + 1]
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4), sharey=True, width_ratios=[3, 2])
for axis, part, where in ((left, slice(0, 20), "largest"), (right, slice(20, 40), "smallest")):
    axis.axhline(0, color="0.7", linewidth=0.8)
    axis.plot(ranks[part], before[part], "o", label="before training")
    axis.plot(ranks[part], after[part], "s", label="after training")
    axis.locator_params(axis="x", integer=True, nbins=5)
    axis.set(title=f"The 20 {where}", xlabel=f"rank, of {n} eigenvalues")
left.set_ylabel("eigenvalue λ of the Hessian")
left.legend(loc="upper right")
plt.show()

# %%
# Read on: :meth:`deltaprop.Network.fit_full_batch` with ``method="newton-cg"`` trains by such products.
