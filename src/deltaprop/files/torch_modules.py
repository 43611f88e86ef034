"""To and from PyTorch: a ``torch.nn.Sequential`` of Linear layers and activations is a network here, W for W."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deltaprop.backends import Array
from deltaprop.backends.array_types import AnyArray
from deltaprop.backends.installed import import_installed
from deltaprop.derivation.state import NetworkState

#: The description of a network: arguments of `Network`, weights and biases.
Description = tuple[dict[str, Any], list[Array], list[Array]]


def read(sequential: Any) -> Description:
    """Make a network of a ``torch.nn.Sequential`` that computes the same; parameters are copied to the host.

    Raises
    ------
    TypeError
        If it is not a Sequential, or holds a module other than Linear, an activation of this package, or a module that
        does nothing in prediction (Dropout, Flatten, Identity).
    ValueError
        If it holds no Linear, two activations in a row, an activation with other constants than ours, or Linear layers
        of several dtypes or of a dtype that networks do not have.
    """
    torch = _torch()
    layers: list[Any] = []
    activations: list[str | None] = []
    for place, module in _modules(sequential, torch):
        if isinstance(module, torch.nn.Linear):
            layers.append(module)
            activations.append(None)
            continue
        if isinstance(module, (torch.nn.Dropout, torch.nn.Flatten)):
            continue
        name = _activation(place, module, torch)
        if not layers or activations[-1] is not None:
            raise ValueError(f"sequential: expected a Linear before every activation, got {module} at {place}")
        activations[-1] = name
    if not layers:
        raise ValueError(f"sequential: expected at least one Linear, got {sequential}")
    dtypes = {str(layer.weight.dtype).removeprefix("torch.") for layer in layers}
    if len(dtypes) > 1:
        raise ValueError(f"sequential: expected Linear layers of one dtype, got {sorted(dtypes)}")
    weights = [_host(layer.weight) for layer in layers]
    biases = [
        _host(layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias) for layer in layers
    ]
    names = [name or "identity" for name in activations]
    configuration = {
        "layer_sizes": [weights[0].shape[1], *(len(W) for W in weights)],
        "hidden_activation": names[:-1],
        "output_activation": names[-1],
        "dtype": dtypes.pop(),
    }
    return configuration, weights, biases


def write(network: NetworkState) -> Any:
    """Make a ``torch.nn.Sequential`` on the host that computes what `network` does; parameters are copied.

    Raises
    ------
    ValueError
        If PyTorch has no module for an activation, as for exp.
    """
    torch = _torch()
    modules, by_name = [], _modules_by_name(torch)
    for W, b, name in zip(network.weights, network.biases, network.activations, strict=True):
        weight, bias = (torch.tensor(network.backend.to_numpy(x)) for x in (W, b))
        linear = torch.nn.Linear(W.shape[1], W.shape[0], dtype=weight.dtype)
        with torch.no_grad():
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)
        modules.append(linear)
        if name == "identity":
            continue
        if name not in by_name:
            raise ValueError(f"activation: PyTorch has no module for {name!r}")
        modules.append(by_name[name]())
    return torch.nn.Sequential(*modules)


def _modules(module: Any, torch: Any, place: str = "sequential") -> Iterator[tuple[str, Any]]:
    """Yield the modules of a Sequential in order; a Sequential inside it is replaced by its modules."""
    if not isinstance(module, torch.nn.Sequential):
        raise TypeError(f"{place}: expected a torch.nn.Sequential, got {type(module).__name__}")
    for name, child in module.named_children():
        where = f"{place}[{name}]"
        if isinstance(child, torch.nn.Sequential):
            yield from _modules(child, torch, where)
        else:
            yield where, child


def _activation(place: str, module: Any, torch: Any) -> str:
    """Return our name of an activation module that has our constants."""
    kinds = {type(make()): name for name, make in _modules_by_name(torch).items()}
    name = kinds.get(type(module))
    if name is None:
        known = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise TypeError(f"{place}: expected Linear, Dropout, Flatten or one of {known}, got {type(module).__name__}")
    ours = {
        "leaky_relu": getattr(module, "negative_slope", None) == 0.01,
        "softplus": getattr(module, "beta", None) == 1 and getattr(module, "threshold", 0) >= 20,
        "gelu": getattr(module, "approximate", None) == "none",
        "softmax": getattr(module, "dim", None) in (1, -1),
    }
    if not ours.get(name, True):
        raise ValueError(
            f"{place}: {module} is not our {name!r}: expected leaky slope 0.01, softplus beta 1, gelu by erf, softmax "
            "over columns"
        )
    return name


def _modules_by_name(torch: Any) -> dict[str, Any]:
    nn = torch.nn
    return {
        "identity": nn.Identity,
        "sigmoid": nn.Sigmoid,
        "tanh": nn.Tanh,
        "relu": nn.ReLU,
        "leaky_relu": nn.LeakyReLU,
        "softplus": nn.Softplus,
        "silu": nn.SiLU,
        "gelu": nn.GELU,
        "softmax": lambda: nn.Softmax(dim=-1),
    }


def _host(tensor: AnyArray) -> AnyArray:
    return tensor.detach().cpu().numpy().copy()


def _torch() -> Any:
    try:
        return import_installed("torch")
    except ImportError as error:
        raise ImportError(f"this needs PyTorch ({error}); pip install torch") from error
