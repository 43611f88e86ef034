"""Options of the commands that have many: each with its type, its default and its help text."""

from __future__ import annotations

import csv
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Annotated, Any, TypeVar

import typer

Options = TypeVar("Options")

#: Titles of groups of options in ``--help``.
TABLE, NETWORK, RUNNING = "Tables", "Single network (--plain)", "Running"

Data = Annotated[
    str,
    typer.Argument(
        help="A table: CSV, TSV or text (each also .gz), Parquet, or '-' for standard input. Or 'digits', a .npy or "
        ".npz file, or a folder of idx files, for a single network."
    ),
]
Model = Annotated[str, typer.Argument(help="A model file written by 'train --out'.")]
Backend = Annotated[str, typer.Option(help="auto, numpy, cupy, or cupy:1 for the second GPU.", rich_help_panel=RUNNING)]
Target = Annotated[str | None, typer.Option(help="Target column; the last one by default.")]
Task = Annotated[
    str,
    typer.Option(
        help="auto, classification or regression. auto takes text for classes, and whole numbers of a table too if "
        "they have up to 20 different values and fewer than 5 % as many as there are rows."
    ),
]
Separator = Annotated[
    str | None,
    typer.Option(help="What stands between cells of CSV; found by itself by default.", rich_help_panel=TABLE),
]
Decimal = Annotated[
    str | None,
    typer.Option(help="The mark before decimals, '.' or ','; found by itself by default.", rich_help_panel=TABLE),
]
Encoding = Annotated[
    str | None,
    typer.Option(help="Encoding of CSV, such as latin-1; UTF-8 by default.", rich_help_panel=TABLE),
]
Dtype = Annotated[str, typer.Option(help="float32 or float64.", rich_help_panel=NETWORK)]
Scale = Annotated[str, typer.Option(help="Scaling of inputs: auto, standard, range or none.", rich_help_panel=NETWORK)]
Epochs = Annotated[int, typer.Option(help="Passes over the data.", rich_help_panel=NETWORK)]

#: What `train --plain` and `sweep` do where they are not told otherwise.
HIDDEN, EPOCHS, DTYPE, SCALE = "100", 50, "float32", "auto"

#: The largest seed that scikit-learn takes.
LARGEST_SEED = 2**32 - 1


def _table(help: str, **more: Any) -> Any:
    return typer.Option(help=help, rich_help_panel=TABLE, **more)


def _network(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=NETWORK)


def _running(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=RUNNING)


@dataclass(frozen=True)
class TrainOptions:
    """Options of ``deltaprop train``; None means "what suits the data"."""

    data: Data
    target: Target = None
    task: Task = "auto"
    out: Annotated[str | None, typer.Option(help="Model file to write.")] = None
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Train a single network on a table that holds only numbers, apart from labels."),
    ] = False
    hidden: Annotated[
        str | None,
        typer.Option(
            help="Widths of the hidden layers, such as 300,100; '' for none.",
            show_default=f"64,64, or 128,128 for many classes; {HIDDEN} for a single network",
        ),
    ] = None
    drop: Annotated[list[str], _table("Columns to leave out, such as id,name.")] = field(default_factory=list)
    features: Annotated[
        list[str], _table("Columns to use, and no others; also those that would be left out as suspect.")
    ] = field(default_factory=list)
    categorical: Annotated[list[str], _table("Columns to take for categories.")] = field(default_factory=list)
    numerical: Annotated[list[str], _table("Columns to take for numbers.")] = field(default_factory=list)
    class_weight: Annotated[
        str | None, _table("'balanced' makes all classes count the same, however many rows each has.")
    ] = None
    members: Annotated[int, _table("How many networks, whose predictions are averaged.")] = 16
    time_limit: Annotated[float | None, _table("Seconds of training; --out adds up to a twentieth.")] = None
    sep: Separator = None
    decimal: Decimal = None
    encoding: Encoding = None
    epochs: Epochs = EPOCHS
    batch_size: Annotated[int, _network("Samples in a minibatch.")] = 32
    lr: Annotated[float | None, _network("Learning rate; 0.001 for adam, 0.1 for sgd.")] = None
    l2: Annotated[float, _network("λ of the penalty λ/(2m) Σ W².")] = 0.0
    optimizer: Annotated[str, _network("adam, adamw or sgd.")] = "adam"
    momentum: Annotated[float, _network("Momentum of sgd.")] = 0.0
    activation: Annotated[str, _network("Hidden activation.")] = "relu"
    output_activation: Annotated[str | None, _network("By default the one that suits the loss.")] = None
    loss: Annotated[str | None, _network("By default cross-entropy for classes, else squared error.")] = None
    init: Annotated[str | None, _network("By default he for relu, else glorot_uniform.")] = None
    validation: Annotated[float, _network("Share of the training data to validate on.")] = 0.1
    test: Annotated[float, _network("Share held out for the test, if the data bring none.")] = 0.2
    patience: Annotated[int | None, _network("Stop after so many epochs without improvement.")] = None
    scale: Scale = SCALE
    dtype: Dtype = DTYPE
    checkpoint: Annotated[str | None, _network("File to keep the state of training in, while it runs.")] = None
    checkpoint_every: Annotated[int, _network("Epochs between two checkpoints.")] = 1
    resume: Annotated[bool, _network("Resume from the checkpoint, if there is one.", "--resume")] = False
    plot: Annotated[str | None, _network("Picture of the curves of cost and accuracy to write: FILE.png.")] = None
    seed: Annotated[int, _running("Decides split or folds, initialisation and shuffling.")] = 0
    backend: Backend = "auto"
    progress: Annotated[bool, _running("Draw a progress bar.")] = True
    ranks: Annotated[
        str | None,
        _running("mpi: the processes that mpiexec or srun has started train together, each on some rows."),
    ] = None
    given: frozenset[str] = frozenset()


@dataclass(frozen=True)
class SweepOptions:
    """Options of ``deltaprop sweep``."""

    data: Annotated[
        str, typer.Argument(help="'digits', a CSV, Parquet, .npy or .npz file of numbers, or a folder of idx files.")
    ]
    grid: Annotated[
        list[str],
        typer.Option(
            help="A parameter and its values, such as lr=0.001,0.01: lr, l2, hidden (64x32 for two layers), epochs, "
            "optimizer, batch-size, activation, momentum or seed. Repeat it for more parameters: all combinations are "
            "tried."
        ),
    ]
    target: Target = None
    task: Annotated[str, typer.Option(help="auto, classification or regression.")] = "auto"
    cv: Annotated[int, typer.Option(help="Folds.")] = 5
    n_iter: Annotated[int | None, typer.Option(help="Draw so many of the combinations instead of trying all.")] = None
    csv: Annotated[str | None, typer.Option(help="CSV file of all results; standard output by default.")] = None
    out: Annotated[
        str | None, typer.Option(help="Model file of the best, which is trained as the line that is printed says.")
    ] = None
    hidden: Annotated[str, _network("Widths of the hidden layers, if the grid has none.")] = HIDDEN
    epochs: Epochs = EPOCHS
    scale: Annotated[str, _network("Scaling of inputs, fitted inside each fold: auto, standard, range or none.")] = (
        SCALE
    )
    dtype: Dtype = DTYPE
    seed: Annotated[int, _running("Decides folds, initialisation and shuffling.")] = 0
    backend: Backend = "auto"
    jobs: Annotated[int, _running("Processes.")] = 1
    progress: Annotated[bool, _running("Show a table of the best so far.")] = True


@dataclass(frozen=True)
class PredictOptions:
    """Options of ``deltaprop predict``."""

    model: Model
    data: Data
    out: Annotated[str | None, typer.Option(help="CSV file to write; standard output by default.")] = None
    proba: Annotated[bool, typer.Option("--proba", help="Add the probability of each class, one column a class.")] = (
        False
    )
    interval: Annotated[
        float | None,
        typer.Option(help="Add two columns between which a quantity lies with this probability, such as 0.9."),
    ] = None
    keep: Annotated[list[str], typer.Option(help="Columns of the file to copy, such as id,name.")] = field(
        default_factory=list
    )
    sep: Separator = None
    decimal: Decimal = None
    encoding: Encoding = None
    backend: Backend = "auto"


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of ``deltaprop evaluate``."""

    model: Model
    data: Data
    sep: Separator = None
    decimal: Decimal = None
    encoding: Encoding = None
    backend: Backend = "auto"


@dataclass(frozen=True)
class ExplainOptions:
    """Options of ``deltaprop explain``."""

    model: Annotated[
        str | None, typer.Argument(help="A file with a network; by default one with random parameters.")
    ] = None
    out: Annotated[str | None, typer.Option(help="Page to write: FILE.html; without it, tables are printed.")] = None
    layers: Annotated[str, typer.Option(help="Widths of all layers, at most 8 for a page and 16 for tables.")] = "2,3,1"
    activation: Annotated[str, typer.Option(help="Hidden activation.")] = "sigmoid"
    output_activation: Annotated[str | None, typer.Option(help="By default the one that suits the loss.")] = None
    loss: Annotated[str, typer.Option(help="Loss.")] = "binary_cross_entropy"
    output_error: Annotated[str, typer.Option(help="exact, or simplified: δ of the squared error without g′.")] = (
        "exact"
    )
    l2: Annotated[float, typer.Option(help="λ of the penalty λ/(2m) Σ W².")] = 0.0
    x: Annotated[
        str | None, typer.Option(help="The inputs, such as 0.5,-1, with ';' between samples; random by default.")
    ] = None
    y: Annotated[
        str | None, typer.Option(help="The targets in the same way, or a class a sample; random by default.")
    ] = None
    samples: Annotated[int, typer.Option(help="How many random samples, 1 … 8.")] = 4
    steps: Annotated[int, typer.Option(help="Training steps on the page, 0 … 50.")] = 20
    lr: Annotated[float, typer.Option(help="Learning rate of these steps.")] = 0.5
    seed: Annotated[int, typer.Option(help="Decides random parameters and samples.")] = 0
    backend: Backend = "auto"
    given: frozenset[str] = frozenset()


def with_options(kind: Callable[..., Options]) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Let a function of one data class be called with its fields, so that typer makes an option of each.

    A field `given` is no option: it gets the names of the options that the user has typed.

    Parameters
    ----------
    kind : type
        The data class; its fields are annotated as typer wants parameters.

    Returns
    -------
    callable
        A decorator.
    """
    signature = inspect.signature(kind, eval_str=True)
    parameters = [
        each.replace(default=[]) if repr(each.default) == "<factory>" else each  # of a list, as inspect shows it
        for each in signature.parameters.values()
    ]

    def decorate(function: Callable[[Options], None]) -> Callable[..., None]:
        @wraps(function)
        def command(context: typer.Context, **values: Any) -> None:
            if "given" in signature.parameters:
                typed = {name for name in values if _was_typed(context, name)}
                values["given"] = frozenset(typed)
            function(kind(**values))

        own = [parameter for parameter in parameters if parameter.name != "given"]
        first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        command.__signature__ = signature.replace(parameters=[first, *own])  # type: ignore[attr-defined]
        return command

    return decorate


def _was_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


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


def check_seed(seed: int) -> None:
    """Refuse a seed that scikit-learn, which splits the rows, does not take.

    Raises
    ------
    ValueError
        If it is negative or too large.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"--seed: expected a whole number from 0 to {LARGEST_SEED}, got {seed}")


def column_names(texts: list[str], option: str) -> list[str]:
    """Read names of columns from texts such as "id,name"; a name with a comma stands in double quotes.

    Raises
    ------
    ValueError
        If a name is empty.
    """
    names = [name.strip() for row in csv.reader(texts, skipinitialspace=True) for name in row]
    if not all(names):
        raise ValueError(f"{option}: expected names of columns such as id,name, got {','.join(texts)!r}")
    return names
