"""One sample's way through a small network and back, with a name for every number of the derivation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from deltaprop.backends import Array
from deltaprop.backends.array_types import Floats
from deltaprop.derivation.backprop import Objective
from deltaprop.derivation.derivatives import CostDerivatives
from deltaprop.derivation.state import NetworkState
from deltaprop.reports.text_table import Table

Matrix: TypeAlias = Floats
Format: TypeAlias = Literal["table", "markdown"]
#: A layer wider than this makes a table that nobody reads.
WIDEST = 16


@dataclass(frozen=True, repr=False)
class Explanation:
    """Every quantity of one forward and one backward pass over one sample; ``str()`` gives them as tables.

    Parameters
    ----------
    Theta : list of array, (s_{l+1}, 1 + s_l)
        Θ^(l) = [b^(l), W^(l)].
    a : list of array, (s_l,)
        The outputs a^(1) … a^(L) of the layers; a^(1) is x.
    z : list of array, (s_l,)
        The inputs z^(2) … z^(L) of the activations.
    slope : list of array, (s_l,), or None
        The derivatives g′(z^(2)) … g′(z^(L)); None for a softmax layer, whose derivative is a matrix.
    delta : list of array, (s_l,)
        The errors δ^(2) … δ^(L).
    Delta : list of array, (s_{l+1}, 1 + s_l)
        Δ^(l) = δ^(l+1) [1; a^(l)]ᵀ, the bias in column 0.
    D : list of array, (s_{l+1}, 1 + s_l)
        ∂J/∂Θ^(l) = Δ^(l)/m + λ/m [0, W^(l)], m = 1.
    y : array, (s_L,)
        The target.
    cost : float
        The cost J of this sample, with the penalty.
    text : str
        The tables as text.
    """

    Theta: list[Matrix]
    a: list[Matrix]
    z: list[Matrix]
    slope: list[Matrix | None]
    delta: list[Matrix]
    Delta: list[Matrix]
    D: list[Matrix]
    y: Matrix
    cost: float
    text: str

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Explanation of one sample: a^(L) = {self.a[-1]}, J = {self.cost:.6g}>"


def explain(network: NetworkState, X: Array, Y: Array, objective: Objective, format: Format) -> Explanation:
    """Explain both passes over one sample, X : (1, s_1), Y : (1, s_L), trusted arrays of the network's backend."""
    backend, host = network.backend, network.backend.to_numpy
    unpenalised = CostDerivatives(network, X, Y, Objective())
    _, gradient = unpenalised.cost_and_gradient()
    work, Delta = unpenalised.work, [host(theta) for theta in gradient.thetas]
    if objective.penalty(1):
        backend.add_l2_gradient(network.flat_weights, objective.penalty(1), gradient.flat_weights)
    a, z, delta = ([host(array)[0] for array in arrays] for arrays in (work.A, work.Z, work.delta))
    J, y, D = objective.total(network, unpenalised.cost, 1), host(Y)[0], [host(theta) for theta in gradient.thetas]
    slope = [_slope(network, g, Z) for g, Z in zip(network.activations, work.Z, strict=True)]
    Theta = [host(theta) for theta in network.thetas]
    explanation = Explanation(Theta, a, z, slope, delta, Delta, D, y, J, text="")
    return replace(explanation, text=_text(network, explanation, objective, markdown=format == "markdown"))


def _slope(network: NetworkState, activation: str, Z: Array) -> Matrix | None:
    if activation == "softmax":
        return None
    out = network.backend.empty(Z.shape, network.dtype)
    network.backend.activation_gradient(activation, Z, out)
    slope: Matrix = network.backend.to_numpy(out)[0]
    return slope


def _text(network: NetworkState, seen: Explanation, objective: Objective, *, markdown: bool) -> str:
    """Write the two passes as tables, in the order in which they are computed."""
    L = len(network.layer_sizes)
    sections: list[str] = []

    def section(title: str, table: Table) -> None:
        heading = f"### {title}\n" if markdown else title
        sections.append(f"{heading}\n{table.render(markdown=markdown)}")

    for l, theta in enumerate(seen.Theta, start=1):
        section(f"Θ^({l}) = [b^({l}), W^({l})], the bias in column 0", _matrix(theta, f"Θ^({l})"))
    section("Layer 1, the input: a^(1) = x", _columns({"a^(1)": seen.a[0]}))
    for l in range(2, L + 1):
        g = network.activations[l - 2]
        columns = {f"z^({l})": seen.z[l - 2], f"a^({l})": seen.a[l - 1], f"g′(z^({l}))": seen.slope[l - 2]}
        if l == L:
            columns["y"] = seen.y
        formula = f"z^({l}) = W^({l - 1}) a^({l - 1}) + b^({l - 1}), a^({l}) = g(z^({l})), g = {g}"
        section(f"Layer {l}: {formula}", _columns(columns))
    penalty = objective.penalty(1)
    decay = f" + {penalty:g}/2 Σ W²" if penalty else ""
    loss = network.loss if isinstance(network.loss, str) else "a pair of functions"
    sections.append(f"J = {seen.cost:.9g}, {loss}{decay}")
    for l in range(L, 1, -1):
        section(_delta_formula(network, l), _columns({f"δ^({l})": seen.delta[l - 2]}))
    for l in range(1, L):
        section(f"Δ^({l}) = δ^({l + 1}) [1; a^({l})]ᵀ, the bias in column 0", _matrix(seen.Delta[l - 1], f"Δ^({l})"))
        decay = f" + {penalty:g} [0, W^({l})]" if penalty else ""
        section(f"D^({l}) = ∂J/∂Θ^({l}) = Δ^({l})/m{decay}, m = 1", _matrix(seen.D[l - 1], f"D^({l})"))
    return "\n\n".join(sections)


def _delta_formula(network: NetworkState, l: int) -> str:
    L = len(network.layer_sizes)
    if l < L:
        return f"δ^({l}) = (W^({l}))ᵀ δ^({l + 1}) ⊙ g′(z^({l}))"
    if network.output_error == "simplified":
        return f"δ^({L}) = a^({L}) − y, simplified: without g′(z^({L}))"
    if not isinstance(network.loss, str):
        return f"δ^({L}) = ∂a^({L})/∂z^({L}) ∂cost/∂a^({L})"
    return {
        "squared_error": f"δ^({L}) = (a^({L}) − y) ⊙ g′(z^({L}))",
        "absolute_error": f"δ^({L}) = sign(a^({L}) − y) ⊙ g′(z^({L}))",
        "huber": f"δ^({L}) = clip(a^({L}) − y, −1, 1) ⊙ g′(z^({L}))",
    }.get(network.loss, f"δ^({L}) = a^({L}) − y")


def _columns(columns: dict[str, Matrix | None]) -> Table:
    """Make a table with one row a unit and one column a quantity; a dash stands where there is none."""
    table = Table(["unit", *columns])
    units = max(len(values) for values in columns.values() if values is not None)
    for i in range(units):
        table.add(str(i + 1), *("–" if values is None else _number(values[i]) for values in columns.values()))
    return table


def _matrix(values: Matrix, name: str) -> Table:
    """Make a table with one row a unit of the layer above and one column an input of it; the bias is input 0."""
    table = Table([name, *map(str, range(values.shape[1]))])
    for i, row in enumerate(values):
        table.add(str(i + 1), *map(_number, row))
    return table


def _number(value: float) -> str:
    return f"{float(value):.6g}"
