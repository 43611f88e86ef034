"""The activations g and their derivatives g′ and g″ in NumPy; the twin of ``kernels/shared/activation.cuh``.

Every function writes into `out` and allocates nothing: ``value(z, out, spare)``, ``gradient(z, out, spare)`` and
``curvature(z, out, spare)`` take 1-D contiguous arrays of one size, `spare` being scratch. `out` may be `z` itself in
no function.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from deltaprop.backends.array_types import Floats

Vector: TypeAlias = Floats
Function: TypeAlias = Callable[[Vector, Vector, Vector], object]

#: Below this e^−z would overflow soon, while σ(z) = e^z/(1+e^z) has long been e^z to the last bit.
SIGMOID_TAIL: dict[Any, float] = {np.dtype(np.float32): -87.0, np.dtype(np.float64): -708.0}
#: 1 as an array: a ufunc takes longer to look at a Python number than to add 1 to a hundred others.
ONE: dict[Any, Vector] = {np.dtype(dtype): np.ones((), dtype) for dtype in (np.float32, np.float64)}
#: The type that holds the bits of a number, and the bit of its sign.
SIGN: dict[Any, tuple[Any, Vector]] = {
    np.dtype(np.float32): (np.uint32, np.array(1 << 31, np.uint32)),
    np.dtype(np.float64): (np.uint64, np.array(1 << 63, np.uint64)),
}
LEAKY_SLOPE = 0.01
SQRT_TWO_PI = 2.5066282746310002


def minus_abs(z: Vector, out: Vector) -> None:
    """−|z|, by setting the bit of the sign: one pass for two."""
    bits, sign = SIGN[z.dtype]
    np.bitwise_or(z.view(bits), sign, out=out.view(bits))


def straight_sigmoid(z: Vector, out: Vector, spare: Vector) -> None:
    """σ(z) = 1/(1 + e^−z), but 0 where e^−z overflows and σ(z) is no normal number any more; `out` may be `z`."""
    one = ONE[z.dtype]
    np.negative(z, out)
    np.exp(out, out)
    np.add(out, one, out)
    np.divide(one, out, out)  # reciprocal takes twice as long


def sigmoid(z: Vector, out: Vector, spare: Vector) -> None:
    """σ(z) = 1/(1 + e^−z)."""
    tail = SIGMOID_TAIL[z.dtype]
    # One comparison keeps the rare tail out of the common path; argmin is the cheapest way to a minimum, or to a nan.
    if z.size == 0 or z.item(z.argmin()) >= tail:
        straight_sigmoid(z, out, spare)
    else:
        np.maximum(z, tail, out=out)
        straight_sigmoid(out, out, spare)
        np.exp(z, out=out, where=z < tail)


def sigmoid_gradient(z: Vector, out: Vector, spare: Vector) -> None:
    """σ′(z) = e^−|z|/(1 + e^−|z|)², which does not vanish where σ(z) rounds to 1."""
    minus_abs(z, out)
    np.exp(out, out=out)
    np.add(out, 1.0, out=spare)
    np.square(spare, out=spare)
    np.divide(out, spare, out=out)


def sigmoid_curvature(z: Vector, out: Vector, spare: Vector) -> None:
    """σ″(z) = −σ′(z) tanh(z/2), where the textbook's σ′ (1 − 2σ) would cancel next to 0."""
    sigmoid_gradient(z, out, spare)
    np.multiply(z, -0.5, out=spare)
    np.tanh(spare, out=spare)
    out *= spare


def tanh(z: Vector, out: Vector, spare: Vector) -> None:
    """tanh(z)."""
    np.tanh(z, out=out)


def tanh_gradient(z: Vector, out: Vector, spare: Vector) -> None:
    """1 − tanh(z)² = 4 e^−2|z|/(1 + e^−2|z|)² = 4 σ′(2z)."""
    np.multiply(z, 2.0, out=spare)
    minus_abs(spare, out)
    np.exp(out, out=out)
    np.add(out, 1.0, out=spare)
    np.square(spare, out=spare)
    np.divide(out, spare, out=out)
    out *= 4.0


def tanh_curvature(z: Vector, out: Vector, spare: Vector) -> None:
    """−2 tanh(z) (1 − tanh(z)²)."""
    tanh_gradient(z, out, spare)
    np.tanh(z, out=spare)
    out *= spare
    out *= -2.0


def no_curvature(z: Vector, out: Vector, spare: Vector) -> None:
    """The constant 0: of the identity, and of functions made of straight pieces."""
    out.fill(0.0)


def relu(z: Vector, out: Vector, spare: Vector) -> None:
    """max(z, 0)."""
    np.maximum(z, 0.0, out=out)


def relu_gradient(z: Vector, out: Vector, spare: Vector) -> None:
    """1 where z > 0, else 0."""
    # Through a mask laid over the scratch: a comparison that writes floats would have NumPy allocate a cast buffer.
    mask = spare.view(np.bool_)[: z.size]
    np.greater(z, 0.0, out=mask)
    np.copyto(out, mask)


def leaky_relu(z: Vector, out: Vector, spare: Vector) -> None:
    """max(z, 0.01 z)."""
    np.multiply(z, LEAKY_SLOPE, out=out)
    np.maximum(z, out, out=out)


def leaky_relu_gradient(z: Vector, out: Vector, spare: Vector) -> None:
    """1 where z > 0, else 0.01."""
    relu_gradient(z, out, spare)
    np.maximum(out, LEAKY_SLOPE, out=out)


def identity(z: Vector, out: Vector, spare: Vector) -> None:
    """The value z itself."""
    np.copyto(out, z)


def identity_gradient(z: Vector, out: Vector, spare: Vector) -> None:
    """The constant 1."""
    out.fill(1.0)


def softplus(z: Vector, out: Vector, spare: Vector) -> None:
    """log(1 + e^z) = max(z, 0) + log1p(e^−|z|)."""
    minus_abs(z, spare)
    np.exp(spare, out=spare)
    np.log1p(spare, out=spare)
    np.maximum(z, 0.0, out=out)
    out += spare


softplus_gradient = sigmoid


def silu(z: Vector, out: Vector, spare: Vector, sigma: Function = sigmoid) -> None:
    """z σ(z)."""
    sigma(z, out, spare)
    out *= z


def silu_gradient(z: Vector, out: Vector, spare: Vector, sigma: Function = sigmoid) -> None:
    """σ(z) + z σ′(z) = σ(z) (1 + z σ(−z))."""
    np.negative(z, out=out)
    sigma(out, spare, spare)
    np.multiply(spare, z, out=spare)
    np.add(spare, 1.0, out=spare)
    sigma(z, out, out)
    out *= spare


def silu_curvature(z: Vector, out: Vector, spare: Vector) -> None:
    """2 σ′(z) + z σ″(z) = σ′(z) (2 − z tanh(z/2))."""
    sigmoid_gradient(z, out, spare)
    np.multiply(z, 0.5, out=spare)
    np.tanh(spare, out=spare)
    spare *= z
    np.subtract(2.0, spare, out=spare)
    out *= spare


@cache
def _normal_cdf() -> Any:
    """Φ, which NumPy has not; scipy is loaded only by those who use gelu."""
    from scipy.special import ndtr

    return ndtr


def gelu(z: Vector, out: Vector, spare: Vector) -> None:
    """z Φ(z), Φ the standard normal distribution function."""
    _normal_cdf()(z, out=out)
    out *= z


def gelu_gradient(z: Vector, out: Vector, spare: Vector) -> None:
    """Φ(z) + z φ(z), φ the standard normal density."""
    np.square(z, out=spare)
    spare *= -0.5
    np.exp(spare, out=spare)
    spare *= z
    spare *= 1.0 / SQRT_TWO_PI
    _normal_cdf()(z, out=out)
    out += spare


def gelu_curvature(z: Vector, out: Vector, spare: Vector) -> None:
    """φ(z) (2 − z²), in the order in which nothing overflows."""
    np.multiply(z, -0.5, out=out)
    out *= z
    np.exp(out, out=out)
    out *= 1.0 / SQRT_TWO_PI
    np.multiply(out, z, out=spare)
    spare *= z
    out *= 2.0
    out -= spare


def exp(z: Vector, out: Vector, spare: Vector) -> None:
    """e^z, the inverse link of counts."""
    np.exp(z, out=out)


#: Branch-free replacements, used while recording.
STRAIGHT: dict[Function, Function] = {
    sigmoid: straight_sigmoid,
    silu: partial(silu, sigma=straight_sigmoid),
    silu_gradient: partial(silu_gradient, sigma=straight_sigmoid),
}


class Activation(NamedTuple):
    """The functions g, g′ and g″, and whether hidden layers may use them or output layers only."""

    value: Function
    gradient: Function
    curvature: Function
    hidden: bool = True


#: All activations that act on one element at a time. ``kernels/shared/activation.cuh`` has the same names.
ACTIVATION_FORMULAS = {
    "sigmoid": Activation(sigmoid, sigmoid_gradient, sigmoid_curvature),
    "tanh": Activation(tanh, tanh_gradient, tanh_curvature),
    "relu": Activation(relu, relu_gradient, no_curvature),
    "identity": Activation(identity, identity_gradient, no_curvature),
    "leaky_relu": Activation(leaky_relu, leaky_relu_gradient, no_curvature),
    "softplus": Activation(softplus, softplus_gradient, sigmoid_gradient),
    "silu": Activation(silu, silu_gradient, silu_curvature),
    "gelu": Activation(gelu, gelu_gradient, gelu_curvature),
    "exp": Activation(exp, exp, exp, hidden=False),
}
