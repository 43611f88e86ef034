"""The lecture's per-sample loop, in plain float64 NumPy: written to be read and to be right, not to be fast.

Column vectors, one sample at a time, formulas as a book prints them (log(a), a(1 − a)): nothing here is shared with
the library it checks.
"""

import math

import numpy as np

ERF = np.vectorize(math.erf)


def logistic(z):
    return 1 / (1 + np.exp(-z))


def normal_cdf(z):
    return (1 + ERF(z / math.sqrt(2))) / 2


def normal_density(z):
    return np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


#: name: (g, g′), both functions of z.
ACTIVATIONS = {
    "sigmoid": (logistic, lambda z: logistic(z) * (1 - logistic(z))),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "relu": (lambda z: np.where(z > 0, z, 0.0), lambda z: np.where(z > 0, 1.0, 0.0)),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1.0, 0.01)),
    "identity": (lambda z: z, lambda z: np.ones_like(z)),
    "softplus": (lambda z: np.log(1 + np.exp(z)), logistic),
    "silu": (lambda z: z * logistic(z), lambda z: logistic(z) * (1 + z * (1 - logistic(z)))),
    "gelu": (lambda z: z * normal_cdf(z), lambda z: normal_cdf(z) + z * normal_density(z)),
    "exp": (np.exp, np.exp),
    "softmax": (softmax, None),
}


def sample_cost(loss, h, y):
    """Cost of one sample from its output h and target y."""
    if loss == "squared_error":
        return 0.5 * sum((h - y) ** 2)
    if loss == "binary_cross_entropy":
        return sum(-y * np.log(h) - (1 - y) * np.log(1 - h))
    if loss == "categorical_cross_entropy":
        return sum(-y * np.log(h))
    if loss == "poisson":
        return sum(h - y * np.log(h))
    if loss == "huber":
        r = abs(h - y)
        return sum(np.where(r <= 1, r**2 / 2, r - 0.5))
    raise KeyError(loss)


def output_delta(loss, activation, z, h, y):
    """δ^(L) = ∂cost/∂z^(L), by the chain rule: ∂cost/∂h through the derivative of the output activation."""
    if loss == "categorical_cross_entropy":
        slope = -y / h
        jacobian = np.diag(h) - np.outer(h, h)
        return jacobian @ slope
    slope = {
        "squared_error": lambda: h - y,
        "binary_cross_entropy": lambda: (h - y) / (h * (1 - h)),
        "poisson": lambda: 1 - y / h,
        "huber": lambda: np.clip(h - y, -1, 1),
    }[loss]()
    return slope * ACTIVATIONS[activation][1](z)


def forward(weights, biases, activations, x):
    """z^(2) … z^(L) and a^(1) … a^(L) of one sample."""
    z, a = [], [x]
    for W, b, g in zip(weights, biases, activations, strict=True):
        z.append(W @ a[-1] + b)
        a.append(ACTIVATIONS[g][0](z[-1]))
    return z, a


def cost_and_gradient(weights, biases, activations, loss, X, Y, *, l2=0.0, l2_scaling="per_sample", reduction="mean"):
    """J, ∂J/∂W, ∂J/∂b and every δ, (m, s_l), by the loop for i = 1 … m."""
    m = len(X)
    Delta_W = [np.zeros(W.shape) for W in weights]
    Delta_b = [np.zeros(b.shape) for b in biases]
    deltas = [np.zeros((m, len(b))) for b in biases]
    J = 0.0
    for i in range(m):
        z, a = forward(weights, biases, activations, X[i])
        J += sample_cost(loss, a[-1], Y[i])
        delta = output_delta(loss, activations[-1], z[-1], a[-1], Y[i])
        for l in reversed(range(len(weights))):
            deltas[l][i] = delta
            Delta_W[l] += np.outer(delta, a[l])
            Delta_b[l] += delta
            if l > 0:
                delta = (weights[l].T @ delta) * ACTIVATIONS[activations[l - 1]][1](z[l - 1])
    share = m if reduction == "mean" else 1
    decay = l2 / m if l2_scaling == "per_sample" else l2
    J = J / share + decay / 2 * sum((W**2).sum() for W in weights)
    gradient_W = [D / share + decay * W for D, W in zip(Delta_W, weights, strict=True)]
    gradient_b = [D / share for D in Delta_b]
    return J, gradient_W, gradient_b, deltas
