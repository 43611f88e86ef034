"""Gradients, Jacobians and Hessian-vector products equal the autograd of PyTorch and JAX, in float64."""

import numpy as np
import pytest
from cases import HIDDEN, PAIRS, relative, targets_for
from conftest import require

import deltaprop as dp
from deltaprop.backends.choices import LossName
from deltaprop.epochs import compiled_gradient

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(params=["matrices", "compiled"])
def way(request, monkeypatch):
    """Small evaluations, such as these, go by matrices; here they go by the compiled library too."""
    monkeypatch.setattr(compiled_gradient, "SMALL_EVALUATION", -1.0 if request.param == "compiled" else np.inf)


def torch_activations(torch):
    F = torch.nn.functional
    return {
        "sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu, "identity": lambda z: z,
        "leaky_relu": lambda z: F.leaky_relu(z, 0.01), "softplus": F.softplus, "silu": F.silu, "gelu": F.gelu,
        "exp": torch.exp, "softmax": lambda z: torch.softmax(z, -1),
    }  # fmt: skip


def torch_cost(net, X, Y, l2):
    torch = require("torch")
    F = torch.nn.functional
    g = torch_activations(torch)
    tensors = [[torch.tensor(p, requires_grad=True) for p in layers] for layers in (net.weights, net.biases)]
    a, y = torch.tensor(X), torch.tensor(Y)
    for W, b, name in zip(*tensors, net.activations, strict=True):
        z = F.linear(a, W, b)
        a = g[name](z)
    cost = {
        "squared_error": lambda: 0.5 * ((a - y) ** 2).sum(),
        "huber": lambda: F.huber_loss(a, y, reduction="sum"),
        "absolute_error": lambda: F.l1_loss(a, y, reduction="sum"),
        "binary_cross_entropy": lambda: F.binary_cross_entropy_with_logits(z, y, reduction="sum"),
        "categorical_cross_entropy": lambda: F.cross_entropy(z, y, reduction="sum"),
        "poisson": lambda: F.poisson_nll_loss(z, y, reduction="sum"),
    }[net.loss.removeprefix("clipped_")]() / len(X) + l2 / (2 * len(X)) * sum((W**2).sum() for W in tensors[0])
    cost.backward()
    return float(cost.detach()), [[p.grad.numpy() for p in layers] for layers in tensors]


def jax_functions(net, X, Y, l2):
    """Return the network as a function of one input, and its cost as a function of the parameters."""
    jax = require("jax")
    jnp, nn = jax.numpy, jax.nn
    g = {
        "sigmoid": nn.sigmoid, "tanh": jnp.tanh, "relu": nn.relu, "identity": lambda z: z,
        "leaky_relu": lambda z: nn.leaky_relu(z, 0.01), "softplus": nn.softplus, "silu": nn.silu,
        "gelu": lambda z: nn.gelu(z, approximate=False), "exp": jnp.exp, "softmax": nn.softmax,
    }  # fmt: skip

    def forward(a, weights, biases):
        for W, b, name in zip(weights, biases, net.activations, strict=True):
            z = a @ W.T + b
            a = g[name](z)
        return z, a

    def J(weights, biases):
        z, a = forward(X, weights, biases)
        r = a - Y
        costs = {
            "squared_error": lambda: 0.5 * r**2,
            "huber": lambda: jnp.where(abs(r) <= 1, 0.5 * r**2, abs(r) - 0.5),
            "absolute_error": lambda: abs(r),
            "binary_cross_entropy": lambda: nn.softplus(z) - Y * z,
            "categorical_cross_entropy": lambda: -Y * nn.log_softmax(z),
            "poisson": lambda: jnp.exp(z) - Y * z,
        }[net.loss.removeprefix("clipped_")]()
        return costs.sum() / len(X) + l2 / (2 * len(X)) * sum((W**2).sum() for W in weights)

    return lambda x: forward(x, list(net.weights), list(net.biases))[1], J


def jax_cost(net, X, Y, l2):
    jax = require("jax")
    _, J = jax_functions(net, X, Y, l2)
    with jax.enable_x64(True):
        cost, gradient = jax.value_and_grad(J, argnums=(0, 1))(list(net.weights), list(net.biases))
        return float(cost), [[np.asarray(p) for p in layers] for layers in gradient]


@pytest.mark.parametrize("autograd", [torch_cost, jax_cost])
@pytest.mark.parametrize(("loss", "output"), PAIRS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_gradient_agrees_with_autograd(way, autograd, rng, hidden, loss, output):
    net = dp.Network(
        [4, 6, 5, 3], hidden_activation=hidden, output_activation=output, loss=loss, backend="numpy", seed=2
    )
    X, Y = rng.standard_normal((9, 4)), targets_for(loss, rng, 9, 3)
    theirs, (weights, biases) = autograd(net, X, Y, 0.8)
    cost, gradient = net.cost_and_gradient(X, Y, l2=0.8)
    assert cost == pytest.approx(theirs, rel=1e-12)
    assert relative(gradient.weights, weights) < 1e-12
    assert relative(gradient.biases, biases) < 1e-12


def torch_jvp_vjp_jacobian(net, X, U, V):
    torch = require("torch")
    g = torch_activations(torch)
    W, b = ([torch.tensor(p) for p in layers] for layers in (net.weights, net.biases))

    def h(a):
        for W_l, b_l, name in zip(W, b, net.activations, strict=True):
            a = g[name](torch.nn.functional.linear(a, W_l, b_l))
        return a

    x, u, v = (torch.tensor(array) for array in (X, U, V))
    jvp = torch.func.jvp(h, (x,), (u,))[1]
    vjp = torch.func.vjp(h, x)[1](v)[0]
    jacobian = torch.stack([torch.func.jacrev(h)(row) for row in x])
    return [array.numpy() for array in (jvp, vjp, jacobian)]


def jax_jvp_vjp_jacobian(net, X, U, V):
    jax = require("jax")
    with jax.enable_x64(True):
        h, _ = jax_functions(net, None, None, 0.0)
        jvp = jax.jvp(h, (X,), (U,))[1]
        vjp = jax.vjp(h, X)[1](V)[0]
        return [np.asarray(array) for array in (jvp, vjp, jax.vmap(jax.jacfwd(h))(X))]


@pytest.mark.parametrize("autograd", [torch_jvp_vjp_jacobian, jax_jvp_vjp_jacobian])
@pytest.mark.parametrize("output", [*HIDDEN, "exp", "softmax"])
@pytest.mark.parametrize("hidden", HIDDEN)
def test_both_modes_agree_with_autograd(autograd, rng, hidden, output):
    loss: LossName = "categorical_cross_entropy" if output == "softmax" else "squared_error"
    net = dp.Network([4, 6, 5, 3], hidden_activation=hidden, output_activation=output, loss=loss, backend="numpy")
    X, U, V = (rng.standard_normal(shape) for shape in ((9, 4), (9, 4), (9, 3)))
    jvp, vjp, jacobian = autograd(net, X, U, V)
    assert relative(net.jvp(X, U), jvp) < 1e-12
    assert relative(net.vjp(X, V), vjp) < 1e-12
    for mode in ("forward", "reverse"):
        assert relative(net.jacobian(X, mode=mode), jacobian) < 1e-12


@pytest.mark.parametrize(("loss", "output"), PAIRS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_hessian_vector_product_agrees_with_autograd(way, rng, hidden, loss, output):
    """JAX also goes forward over reverse: jvp of grad."""
    jax = require("jax")
    net = dp.Network(
        [4, 6, 5, 3], hidden_activation=hidden, output_activation=output, loss=loss, backend="numpy", seed=2
    )
    X, Y, v = rng.standard_normal((9, 4)), targets_for(loss, rng, 9, 3), rng.standard_normal(net.parameters.shape)
    direction = net.copy()
    direction.parameters = v
    with jax.enable_x64(True):
        _, J = jax_functions(net, X, Y, 0.8)
        at, along = ((list(n.weights), list(n.biases)) for n in (net, direction))
        weights, biases = jax.jvp(jax.grad(J, argnums=(0, 1)), at, along)[1]
    direction.parameters = net.hvp(X, Y, v, l2=0.8)
    assert relative([*direction.weights, *direction.biases], [np.asarray(p) for p in (*weights, *biases)]) < 1e-12
