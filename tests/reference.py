"""The lecture's per-sample loop, in plain float64 NumPy: written to be read and to be right, not to be fast.

Column vectors, one sample at a time, formulas as a book prints them (log(a), a(1 − a)): nothing here is shared with
the library that it checks, not even `deltaprop.doctor.textbook`, whose loop a test compares with this one. Every
function also takes complex arguments, so that `along` differentiates it to the last digit.
"""

import math
from typing import Any

import numpy as np

STEP = 1e-30


def along(function, points, directions):
    """The derivative of `function` at `points` along `directions`: Im f(x + i h u)/h, which has no cancellation.

    (Squire and Trapp, Using complex variables to estimate derivatives of real functions, SIAM Review, 1998.)
    """
    moved = [np.asarray(x) + 1j * STEP * np.asarray(u) for x, u in zip(points, directions, strict=True)]
    result = function(*moved)
    return [np.imag(r) / STEP for r in result] if isinstance(result, (list, tuple)) else np.imag(result) / STEP


@np.vectorize
def ERF(z):
    """erf; for complex z its expansion to first order, which is enough for `along`."""
    x, y = np.real(z), np.imag(z)
    slope = 2 / math.sqrt(math.pi) * math.exp(-(x**2))
    return math.erf(x) + 1j * slope * y if np.iscomplexobj(z) else math.erf(x)


def logistic(z):
    return 1 / (1 + np.exp(-z))


def normal_cdf(z):
    return (1 + ERF(z / math.sqrt(2))) / 2


def normal_density(z):
    return np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def softmax(z):
    e = np.exp(z - np.real(z).max())
    return e / e.sum()


#: name: (g, g′), both functions of z.
ACTIVATIONS: dict[str, Any] = {
    "sigmoid": (logistic, lambda z: logistic(z) * (1 - logistic(z))),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "relu": (lambda z: np.where(np.real(z) > 0, z, 0.0), lambda z: np.where(np.real(z) > 0, 1.0, 0.0)),
    "leaky_relu": (
        lambda z: np.where(np.real(z) > 0, z, 0.01 * z),
        lambda z: np.where(np.real(z) > 0, 1.0, 0.01),
    ),
    "identity": (lambda z: z, lambda z: np.ones_like(z)),
    "softplus": (lambda z: np.log(1 + np.exp(z)), logistic),
    "silu": (lambda z: z * logistic(z), lambda z: logistic(z) * (1 + z * (1 - logistic(z)))),
    "gelu": (lambda z: z * normal_cdf(z), lambda z: normal_cdf(z) + z * normal_density(z)),
    "exp": (np.exp, np.exp),
    "softmax": (softmax, None),
}


def sample_cost(loss, h, y):
    """Cost of one sample from its output h and target y."""
    loss = loss.removeprefix(
        "clipped_"
    )  # costs in the tests are below the clip, except in the tests of the clip itself
    if loss == "squared_error":
        return 0.5 * sum((h - y) ** 2)
    if loss == "binary_cross_entropy":
        return sum(-y * np.log(h) - (1 - y) * np.log(1 - h))
    if loss == "categorical_cross_entropy":
        return sum(-y * np.log(h))
    if loss == "poisson":
        return sum(h - y * np.log(h))
    if loss == "huber":
        r = np.where(np.real(h - y) < 0, y - h, h - y)
        return sum(np.where(np.real(r) <= 1, r**2 / 2, r - 0.5))
    if loss == "absolute_error":
        return sum(np.where(np.real(h - y) < 0, y - h, h - y))
    raise KeyError(loss)


def output_delta(loss, activation, z, h, y):
    """δ^(L) = ∂cost/∂z^(L), by the chain rule: ∂cost/∂h through the derivative of the output activation."""
    loss = loss.removeprefix("clipped_")
    if loss == "categorical_cross_entropy":
        slope = -y / h
        jacobian = np.diag(h) - np.outer(h, h)
        return jacobian @ slope
    slope = {
        "squared_error": lambda: h - y,
        "binary_cross_entropy": lambda: (h - y) / (h * (1 - h)),
        "poisson": lambda: 1 - y / h,
        "absolute_error": lambda: np.sign(np.real(h - y)),
        "huber": lambda: np.where(abs(np.real(h - y)) <= 1, h - y, np.sign(np.real(h - y))),
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
    Delta_W = [np.zeros_like(W) for W in weights]
    Delta_b = [np.zeros_like(b) for b in biases]
    deltas = [np.zeros((m, len(b)), b.dtype) for b in biases]
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


def jacobian(weights, biases, activations, x):
    """∂h_k/∂x_i of one sample, a column for each direction of x."""
    columns = [along(lambda x: forward(weights, biases, activations, x)[1][-1], [x], [e]) for e in np.eye(len(x))]
    return np.column_stack(columns)


def hessian_vector_product(weights, biases, activations, loss, X, Y, V_W, V_b, **options):
    """The derivative of the gradient along (V_W, V_b), as lists over the layers."""
    layers = len(weights)

    def gradient(*parameters):
        _, gradient_W, gradient_b, _ = cost_and_gradient(
            parameters[:layers], parameters[layers:], activations, loss, X, Y, **options
        )
        return [*gradient_W, *gradient_b]

    moved = along(gradient, [*weights, *biases], [*V_W, *V_b])
    return moved[:layers], moved[layers:]
