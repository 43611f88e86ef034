"""What a network is made of: its layers, the shapes of their parameters and how many there are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from deltaprop.derivation.state import NetworkState
from deltaprop.reports.notebook import ShownOnce
from deltaprop.reports.sheet import Sheet
from deltaprop.reports.text_table import Table
from deltaprop.training.stack_function import StackFunction

#: More seeds than these are shown by the first and the last.
SEEDS = 8


@dataclass(frozen=True)
class LayerSummary:
    """One layer of a network.

    Parameters
    ----------
    name : str
        "input", "hidden" or "output".
    units : int
        How many units it has.
    activation : str
        What follows z; empty for the inputs.
    weights : tuple of int
        The shape of the weights before it, (units, units of the layer before); empty for the inputs.
    biases : tuple of int
        The shape of its biases; empty for the inputs.

    Examples
    --------
    >>> from deltaprop.lecture.summary import LayerSummary
    >>> LayerSummary("hidden", 3, "sigmoid", weights=(3, 2), biases=(3,)).parameters
    9
    """

    name: str
    units: int
    activation: str = ""
    weights: tuple[int, ...] = ()
    biases: tuple[int, ...] = ()

    @property
    def parameters(self) -> int:
        """How many weights and biases it has."""
        return sum(prod(shape) for shape in (self.weights, self.biases) if shape)


@dataclass(frozen=True, repr=False)
class Summary(ShownOnce):
    """The layers of a network or of the members of a stack; ``str()`` gives them as a table.

    Parameters
    ----------
    title : str
        What it is, and its widths.
    layers : list of LayerSummary
        Inputs, hidden layers, outputs; of one member, if it is a stack.
    members : int or None
        How many networks a stack has; None for one network.
    facts : dict of str to str
        Loss, dtype, backend and what else belongs to all layers.

    See Also
    --------
    deltaprop.Network.summary : Makes it.

    Examples
    --------
    >>> import contextlib, io
    >>> import deltaprop as dp
    >>> with contextlib.redirect_stdout(io.StringIO()):  # it prints itself
    ...     summary = dp.Network([2, 3, 1]).summary()
    >>> [(layer.name, layer.units, layer.parameters) for layer in summary.layers], summary.parameters
    ([('input', 2, 0), ('hidden', 3, 9), ('output', 1, 4)], 13)
    """

    title: str
    layers: list[LayerSummary]
    members: int | None
    facts: dict[str, str]

    @property
    def parameters(self) -> int:
        """How many parameters a network has; of a stack, all members together."""
        return (1 if self.members is None else self.members) * sum(layer.parameters for layer in self.layers)

    @property
    def _sheet(self) -> Sheet:
        table = Table(["layer", "units", "activation", "weights", "biases", "parameters"], left=1)
        for number, layer in enumerate(self.layers, start=1):
            shapes = (str(shape) if shape else "–" for shape in (layer.weights, layer.biases))
            count = f"{layer.parameters:,}" if layer.weights else "–"
            table.add(f"{number} {layer.name}", f"{layer.units:,}", layer.activation or "–", *shapes, count)
        one = sum(layer.parameters for layer in self.layers)
        if self.members is not None:
            table.add("each member", *[""] * 4, f"{one:,}")
        table.add("total", *[""] * 4, f"{self.parameters:,}", strong=True)
        return Sheet(self.title, table, self.facts)

    def __str__(self) -> str:
        return self._sheet.text()

    def __repr__(self) -> str:
        return f"<Summary of {self.title}: {self.parameters:,} parameters>"

    def _repr_html_(self) -> str:
        return self._sheet.html()


def summarize(network: NetworkState) -> Summary:
    """Summarise a network, or a stack of them."""
    stack = network if isinstance(network, StackFunction) else None
    sizes, lead = network.layer_sizes, len(network.lead)
    layers = [LayerSummary("input", sizes[0])]
    for l, (W, b, g) in enumerate(zip(network.weights, network.biases, network.activations, strict=True), start=1):
        name = "output" if l == len(sizes) - 1 else "hidden"
        layers.append(LayerSummary(name, sizes[l], g, tuple(W.shape[lead:]), tuple(b.shape[lead:])))
    members = None if stack is None else len(stack.seeds)
    count = (members or 1) * sum(layer.parameters for layer in layers)
    trained = [network.epochs_trained] if stack is None else [each.epochs_trained for each in stack._networks]
    fewest, most = min(trained), max(trained)
    facts = {
        "memory": _memory(count * network.dtype.itemsize),
        "loss": network.loss if isinstance(network.loss, str) else _functions(network.loss),
        "init": network.init,
        "seed" if stack is None else "seeds": str(network.seed) if stack is None else _several(stack.seeds),
        "dtype": network.dtype.name,
        "backend": network.backend.label,
        "epochs trained": f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}",
    }
    if network.output_error != "exact":
        facts["output error"] = network.output_error
    kind = "Network" if members is None else f"NetworkStack of {members:,}"
    return Summary(f"{kind}: {' → '.join(map(str, sizes))}", layers, members, facts)


def _several(seeds: list[int]) -> str:
    """Write seeds, the middle ones of many left out."""
    written = [str(seed) for seed in seeds]
    return ", ".join(written if len(seeds) <= SEEDS else [*written[:3], "…", written[-1]])


def _functions(loss: Iterable[object]) -> str:
    """Write the names of a loss that is a pair of functions."""
    names = (str(getattr(function, "__name__", type(function).__name__)) for function in loss)
    return f"a pair of functions: {', '.join(names)}"


def _memory(size: float) -> str:
    """Write a number of bytes."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"
