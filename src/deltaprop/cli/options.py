"""Options of the commands that have many: each with its type, its default and its help text."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, TypeVar

import typer

Options = TypeVar("Options")

Data = Annotated[str, typer.Argument(help="'digits', a CSV, Parquet, .npy or .npz file, or a folder of idx files.")]
Model = Annotated[str, typer.Argument(help="A model file written by 'train --out'.")]
Backend = Annotated[str, typer.Option(help="auto, numpy, cupy, or cupy:1 for the second GPU.")]


@dataclass(frozen=True)
class TrainOptions:
    """Options of ``deltaprop train``; None means "what suits the data"."""

    data: Data
    target: Annotated[str | None, typer.Option(help="Target column; the last one by default.")] = None
    hidden: Annotated[str, typer.Option(help="Widths of the hidden layers, such as 300,100; '' for none.")] = "100"
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 50
    batch_size: Annotated[int, typer.Option(help="Samples in a minibatch.")] = 32
    lr: Annotated[float | None, typer.Option(help="Learning rate; 0.001 for adam, 0.1 for sgd.")] = None
    l2: Annotated[float, typer.Option(help="λ of the penalty λ/(2m) Σ W².")] = 0.0
    optimizer: Annotated[str, typer.Option(help="adam, adamw or sgd.")] = "adam"
    momentum: Annotated[float, typer.Option(help="Momentum of sgd.")] = 0.0
    activation: Annotated[str, typer.Option(help="Hidden activation.")] = "relu"
    output_activation: Annotated[str | None, typer.Option(help="By default the one that suits the loss.")] = None
    loss: Annotated[str | None, typer.Option(help="By default cross-entropy for classes, else squared error.")] = None
    init: Annotated[str | None, typer.Option(help="By default he for relu, else glorot_uniform.")] = None
    task: Annotated[str, typer.Option(help="auto, classification or regression.")] = "auto"
    validation: Annotated[float, typer.Option(help="Share of the training data to validate on.")] = 0.1
    test: Annotated[float, typer.Option(help="Share held out for the test, if the data bring none.")] = 0.2
    patience: Annotated[int | None, typer.Option(help="Stop after so many epochs without improvement.")] = None
    scale: Annotated[str, typer.Option(help="Scaling of inputs: auto, standard, range or none.")] = "auto"
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32"
    backend: Backend = "auto"
    seed: Annotated[int, typer.Option(help="Decides split, initialisation and shuffling.")] = 0
    out: Annotated[str | None, typer.Option(help="Model file to write.")] = None
    checkpoint: Annotated[str | None, typer.Option(help="File to keep the state of training in, while it runs.")] = None
    checkpoint_every: Annotated[int, typer.Option(help="Epochs between two checkpoints.")] = 1
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the checkpoint, if there is one.")] = False
    plot: Annotated[str | None, typer.Option(help="Picture of the curves of cost and accuracy to write: FILE.png.")] = (
        None
    )
    progress: Annotated[bool, typer.Option(help="Draw a progress bar.")] = True


@dataclass(frozen=True)
class SweepOptions:
    """Options of ``deltaprop sweep``."""

    data: Data
    grid: Annotated[
        list[str],
        typer.Option(
            help="A parameter and its values, such as lr=0.001,0.01: lr, l2, hidden (64x32 for two layers), epochs, "
            "optimizer, batch-size, activation, momentum or seed. Repeat it for more parameters: all combinations are "
            "tried."
        ),
    ]
    target: Annotated[str | None, typer.Option(help="Target column; the last one by default.")] = None
    hidden: Annotated[str, typer.Option(help="Widths of the hidden layers, if the grid has none.")] = "32"
    epochs: Annotated[int, typer.Option(help="Passes over the data, if the grid has none.")] = 50
    cv: Annotated[int, typer.Option(help="Folds.")] = 5
    n_iter: Annotated[int | None, typer.Option(help="Draw so many of the combinations instead of trying all.")] = None
    task: Annotated[str, typer.Option(help="auto, classification or regression.")] = "auto"
    scale: Annotated[
        str, typer.Option(help="Scaling of inputs, computed from all of DATA: auto, standard, range or none.")
    ] = "auto"
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32"
    backend: Backend = "auto"
    seed: Annotated[int, typer.Option(help="Decides folds, initialisation and shuffling.")] = 0
    jobs: Annotated[int, typer.Option(help="Processes.")] = 1
    out: Annotated[str | None, typer.Option(help="CSV file to write; standard output by default.")] = None
    progress: Annotated[bool, typer.Option(help="Show a table of the best so far.")] = True


def with_options(kind: Callable[..., Options]) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Let a function of one data class be called with its fields, so that typer makes an option of each.

    Parameters
    ----------
    kind : type
        The data class; its fields are annotated as typer wants parameters.

    Returns
    -------
    callable
        A decorator.
    """

    def decorate(function: Callable[[Options], None]) -> Callable[..., None]:
        @wraps(function)
        def command(**values: Any) -> None:
            function(kind(**values))

        command.__signature__ = inspect.signature(kind, eval_str=True)  # type: ignore[attr-defined]
        return command

    return decorate


def hidden_sizes(text: str, option: str = "--hidden") -> tuple[int, ...]:
    """Read widths from text such as "300,100".

    Raises
    ------
    ValueError
        If the text is not a list of whole numbers of at least 1.
    """
    try:
        widths = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError(f"{option}: expected whole numbers such as 300,100, got {text!r}") from None
    if any(width < 1 for width in widths):
        raise ValueError(f"{option}: expected widths of at least 1, got {text!r}")
    return widths
