"""The names of the losses, the output activations each goes with, and the targets it accepts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from deltaprop.arguments import check_choice
from deltaprop.backends import numpy
from deltaprop.backends.array_types import AnyArray
from deltaprop.backends.choices import LossName
from deltaprop.backends.numpy import Targets
from deltaprop.derivation.activations import OUTPUT_ACTIVATIONS, check_activation

#: What δ^(L) of the squared error is: (a − y) ⊙ g′(z), its gradient, or a − y, as one textbook derivation leaves it.
OutputError: TypeAlias = Literal["exact", "simplified"]

_IDENTITY_FIRST = ("identity", *(name for name in OUTPUT_ACTIVATIONS if name not in ("identity", "softmax")))


@dataclass(frozen=True)
class Loss:
    """What a loss asks of the network and of the targets.

    Attributes
    ----------
    activations : tuple of str
        Output activations it can be computed with; the first is the one taken by default.
    lowest, highest : float
        Range of the targets.
    rows_sum_to_one : bool
        Whether the targets of a sample are a probability distribution.
    classifies : bool
        Whether its outputs are probabilities of classes.
    """

    activations: tuple[str, ...]
    lowest: float = float("-inf")
    highest: float = float("inf")
    rows_sum_to_one: bool = False
    classifies: bool = False


def _described(output: str, targets: Targets) -> Loss:
    return Loss(_IDENTITY_FIRST if output == "any" else (output,), *targets)


#: Cost of one sample, h = a^(L) (the formulas stand in `deltaprop.derivation.backprop`).
LOSSES = {name: _described(loss.output, loss.targets) for name, loss in numpy.LOSS_FORMULAS.items()}


class CustomLoss(NamedTuple):
    """A loss as a pair of functions of the outputs h and the targets y, (m, s_L) each, of the network's kind of array.

    Attributes
    ----------
    cost : callable
        (h, y) -> what each sample costs, (m,), or each output, (m, s_L).
    gradient : callable
        (h, y) -> ∂cost/∂h, (m, s_L).
    """

    cost: Callable[[AnyArray, AnyArray], AnyArray]
    gradient: Callable[[AnyArray, AnyArray], AnyArray]


#: A loss as users give it, if it has no name: a `CustomLoss`, or a plain pair.
PairOfFunctions: TypeAlias = CustomLoss | tuple[Callable[..., Any], Callable[..., Any]]
#: What a pair of functions asks of the network and the targets: nothing.
CUSTOM = Loss(("identity", *(name for name in OUTPUT_ACTIVATIONS if name != "identity")))


def describe(loss: str | CustomLoss) -> Loss:
    """What a loss that has been checked asks of the network and of the targets."""
    return LOSSES[loss] if isinstance(loss, str) else CUSTOM


def loss_of(output_activation: str) -> LossName:
    """Return the loss that needs this output activation; the squared error where none does."""
    links: dict[str, LossName] = {
        "sigmoid": "binary_cross_entropy",
        "softmax": "categorical_cross_entropy",
        "exp": "poisson",
    }
    return links.get(output_activation, "squared_error")


def check_loss(loss: object) -> str | CustomLoss:
    """`loss`, if it is known, or a pair of callables.

    Raises
    ------
    ValueError
        If it is neither; the message lists those that are known.
    """
    if isinstance(loss, str) and loss in LOSSES:
        return loss
    if isinstance(loss, tuple) and len(loss) == 2 and all(map(callable, loss)):
        return CustomLoss(*loss)
    known = ", ".join(map(repr, LOSSES))
    raise ValueError(f"loss: unknown loss {loss!r}; known are {known}, or a pair of callables (cost, gradient)")


def check_output_activation(loss: str | CustomLoss, output_activation: str | None) -> str:
    """The output activation to use with `loss`: the one given, or the loss's own where it is None.

    Raises
    ------
    ValueError
        If the loss does not go with that activation; the message lists those that do.
    """
    allowed = describe(loss).activations
    if output_activation is None:
        return allowed[0]
    if check_activation(output_activation, OUTPUT_ACTIVATIONS, "output_activation") not in allowed:
        raise ValueError(
            f"output_activation: loss {loss!r} goes with {', '.join(map(repr, allowed))}, got {output_activation!r}, "
            f"which goes with loss={loss_of(str(output_activation))!r}"
        )
    return output_activation


def check_output_error(output_error: str, loss: str | CustomLoss) -> OutputError:
    """`output_error`, if it is known and goes with `loss`.

    Raises
    ------
    ValueError
        If it is neither "exact" nor "simplified", or is "simplified" with another loss than the squared error.
    """
    checked: OutputError = check_choice("output_error", output_error, OutputError)
    if checked == "simplified" and loss != "squared_error":
        raise ValueError(
            "output_error: 'simplified' drops g′ from the output error of loss 'squared_error'; "
            f"expected that loss, got {loss!r}"
        )
    return checked
