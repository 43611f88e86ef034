"""Gradients against the automatic differentiation of two other libraries, in float64."""

import numpy as np
import pytest
from cases import HIDDEN, PAIRS, relative, targets_for
from conftest import require

import deltaprop as dp

pytestmark = pytest.mark.filterwarnings("default")


def torch_cost(net, X, Y, l2):
    torch = require("torch")
    F = torch.nn.functional
    g = {
        "sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu, "identity": lambda z: z,
        "leaky_relu": lambda z: F.leaky_relu(z, 0.01), "softplus": F.softplus, "silu": F.silu, "gelu": F.gelu,
        "exp": torch.exp, "softmax": lambda z: torch.softmax(z, 1),
    }  # fmt: skip
    tensors = [[torch.tensor(p, requires_grad=True) for p in layers] for layers in (net.weights, net.biases)]
    a, y = torch.tensor(X), torch.tensor(Y)
    for W, b, name in zip(*tensors, net.activations, strict=True):
        z = F.linear(a, W, b)
        a = g[name](z)
    cost = {
        "squared_error": lambda: 0.5 * ((a - y) ** 2).sum(),
        "huber": lambda: F.huber_loss(a, y, reduction="sum"),
        "binary_cross_entropy": lambda: F.binary_cross_entropy_with_logits(z, y, reduction="sum"),
        "categorical_cross_entropy": lambda: F.cross_entropy(z, y, reduction="sum"),
        "poisson": lambda: F.poisson_nll_loss(z, y, reduction="sum"),
    }[net.loss]() / len(X) + l2 / (2 * len(X)) * sum((W**2).sum() for W in tensors[0])
    cost.backward()
    return float(cost.detach()), [[p.grad.numpy() for p in layers] for layers in tensors]


def jax_cost(net, X, Y, l2):
    jax = require("jax")
    jnp, nn = jax.numpy, jax.nn
    g = {
        "sigmoid": nn.sigmoid, "tanh": jnp.tanh, "relu": nn.relu, "identity": lambda z: z,
        "leaky_relu": lambda z: nn.leaky_relu(z, 0.01), "softplus": nn.softplus, "silu": nn.silu,
        "gelu": lambda z: nn.gelu(z, approximate=False), "exp": jnp.exp, "softmax": nn.softmax,
    }  # fmt: skip

    def J(weights, biases):
        a = X
        for W, b, name in zip(weights, biases, net.activations, strict=True):
            z = a @ W.T + b
            a = g[name](z)
        r = a - Y
        costs = {
            "squared_error": lambda: 0.5 * r**2,
            "huber": lambda: jnp.where(abs(r) <= 1, 0.5 * r**2, abs(r) - 0.5),
            "binary_cross_entropy": lambda: nn.softplus(z) - Y * z,
            "categorical_cross_entropy": lambda: -Y * nn.log_softmax(z),
            "poisson": lambda: jnp.exp(z) - Y * z,
        }[net.loss]()
        return costs.sum() / len(X) + l2 / (2 * len(X)) * sum((W**2).sum() for W in weights)

    with jax.enable_x64(True):
        cost, gradient = jax.value_and_grad(J, argnums=(0, 1))(list(net.weights), list(net.biases))
        return float(cost), [[np.asarray(p) for p in layers] for layers in gradient]


@pytest.mark.parametrize("autograd", [torch_cost, jax_cost])
@pytest.mark.parametrize(("loss", "output"), PAIRS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_gradient_agrees_with_autograd(autograd, rng, hidden, loss, output):
    net = dp.Network(
        [4, 6, 5, 3], hidden_activation=hidden, output_activation=output, loss=loss, backend="numpy", seed=2
    )
    X, Y = rng.standard_normal((9, 4)), targets_for(loss, rng, 9, 3)
    theirs, (weights, biases) = autograd(net, X, Y, 0.8)
    cost, gradient = net.cost_and_gradient(X, Y, l2=0.8)
    assert cost == pytest.approx(theirs, rel=1e-12)
    assert relative(gradient.weights, weights) < 1e-12
    assert relative(gradient.biases, biases) < 1e-12
