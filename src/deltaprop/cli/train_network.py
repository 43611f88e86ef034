"""``deltaprop train --plain``: one network, which is prepared, trained, tested and saved."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deltaprop.arguments import check_number, check_whole_number
from deltaprop.backends import get_backend
from deltaprop.backends.array_types import Floats, HostArray
from deltaprop.backends.native.library import load_ahead
from deltaprop.cli.options import HIDDEN, TrainOptions, check_seed, hidden_sizes
from deltaprop.cli.plot import check_plot, save_plot
from deltaprop.derivation.activations import HIDDEN_ACTIVATIONS, check_activation
from deltaprop.derivation.initialization import check_initialization
from deltaprop.derivation.losses import LOSSES, check_loss, check_output_activation
from deltaprop.derivation.optimizers import SGD, Adam, AdamW
from deltaprop.derivation.state import check_dtype
from deltaprop.derivation.update_rule import Optimizer
from deltaprop.epochs.interruption import Interruption
from deltaprop.files.atomic_file import check_writable
from deltaprop.inputs import cells
from deltaprop.inputs.files import Dataset, load_dataset
from deltaprop.inputs.raw_rows import RawRows
from deltaprop.network import Network
from deltaprop.ranks.base import ALONE, Ranks
from deltaprop.ranks.failures import failing_together, is_known_to_all
from deltaprop.reports.history import History
from deltaprop.tabular.trained import Label, Trained, plain_label
from deltaprop.training.callbacks import EpochCallback
from deltaprop.training.early_stopping import EarlyStopping

Matrix = HostArray

#: More distinct whole numbers than this are quantities, not classes; more distinct texts than this have to recur.
MOST_CLASSES = 100


@dataclass(frozen=True)
class Split:
    """The row numbers of the samples to train on, to validate on and to test on (none if there is a test set)."""

    train: Matrix
    validation: Matrix
    test: Matrix


def train_network(options: TrainOptions, ranks: Ranks = ALONE) -> Iterator[str]:
    """Read, prepare, train, test and save, and yield the lines to print; of several ranks, the first tests and saves.

    Raises
    ------
    ValueError, OSError, BackendError
        If an option or the data are bad; nothing has been trained then.
    DivergenceError
        If the cost is no longer finite.
    KeyboardInterrupt, SystemExit
        After a signal, when what has been learned is saved.
    """
    with failing_together(ranks):
        hidden, optimizer, backend = widths_of(options), optimizer_of(options), get_backend(options.backend)
        check_options(options, writes=ranks.is_first)
        dataset = load_dataset(options.data, options.target)
        if dataset.y is None:
            raise ValueError(f"{options.data}: expected targets to train on")
        dataset, classes = with_classes(dataset, options.task)
        split = _split(dataset, classes, options)
        network = Network(**network_options(dataset, classes, hidden, options), backend=backend, seed=options.seed)
        trained = _prepare(dataset, classes, split, options.scale, network)
    yield from _header(options.data, dataset, split, trained, ranks)
    interruption = Interruption()
    # With a checkpoint or other ranks, `fit` hears signals itself. Without callbacks it trains several epochs together,
    # faster.
    heard_by_fit = options.checkpoint is not None or ranks.size > 1
    hears = not heard_by_fit and (options.progress or options.out is not None)
    with failing_together(ranks):
        load_ahead(backend, network.dtype)
    began = time.perf_counter()
    callbacks: list[EpochCallback] = [lambda event: interruption()] if hears else []
    try:
        with interruption.awaited() if hears else nullcontext():
            history = _fit(trained, dataset, split, optimizer, callbacks, options, ranks)
    except (KeyboardInterrupt, SystemExit) as error:
        keeps = options.checkpoint is None or isinstance(error, KeyboardInterrupt)  # SIGTERM leaves little time
        if heard_by_fit and keeps and is_known_to_all(error):
            with failing_together(ranks):
                if ranks.is_first:
                    yield from _saved(trained, options, interrupted=True)
        raise
    with failing_together(ranks):
        if ranks.is_first:
            how = f"interrupted after epoch {history.epochs}" if interruption() else history.message
            yield _speed(history, len(split.train), time.perf_counter() - began, how)
            yield from _results(trained, dataset, split, history, options, interrupted=interruption())
    interruption.obey()


def _results(
    trained: Trained, dataset: Dataset, split: Split, history: History, options: TrainOptions, *, interrupted: bool
) -> Iterator[str]:
    """Test and save the network."""
    if dataset.test is not None:
        yield f"test        {trained.score(*dataset.test)}"
    elif len(split.test) and dataset.y is not None:
        yield f"test        {trained.score(dataset.X, dataset.y, split.test)}"
    yield from _saved(trained, options, interrupted=interrupted)
    if options.plot is not None:
        save_plot(history.plot(), options.plot)
        yield f"curves      {options.plot}"


def _fit(
    trained: Trained,
    dataset: Dataset,
    split: Split,
    optimizer: Optimizer,
    callbacks: Sequence[EpochCallback],
    options: TrainOptions,
    ranks: Ranks,
) -> History:
    """Train the network."""
    assert dataset.y is not None
    X, y = trained.inputs(dataset.X, split.train), trained.targets(dataset.y[split.train])
    held_out = None
    if len(split.validation):
        held_out = (trained.inputs(dataset.X, split.validation), trained.targets(dataset.y[split.validation]))
    return trained.network.fit(
        X,
        y,
        optimizer=optimizer,
        batch_size=options.batch_size,
        epochs=options.epochs,
        l2=options.l2,
        validation=held_out,
        metrics=None if held_out is None else ("r2",) if trained.classes is None else ("accuracy",),
        early_stopping=None if options.patience is None else EarlyStopping(options.patience),
        callbacks=callbacks,
        progress=options.progress,
        checkpoint=options.checkpoint,
        checkpoint_every=options.checkpoint_every,
        resume=options.resume,
        ranks=None if ranks.size == 1 else ranks,
    )


def _saved(trained: Trained, options: TrainOptions, *, interrupted: bool) -> Iterator[str]:
    """Save the network if there is a file for it; after Ctrl-C, say what is kept and how to go on."""
    if options.out is not None:
        trained.save(options.out)
        yield f"model       {options.out}{' (what has been learned so far)' if interrupted else ''}"
    elif interrupted:
        yield "model       not kept: with --out FILE, what has been learned so far would have been saved"
    if not interrupted:
        return
    if options.checkpoint is not None:
        yield "go on       by the same command with --resume"
    else:
        yield "go on       with --checkpoint FILE --resume, the same command would go on where it left off"


def check_options(options: TrainOptions, *, writes: bool = True) -> None:
    """Refuse what is wrong before the data are read; a process that `writes` has to be able to."""
    for name in ("epochs", "batch_size", "checkpoint_every"):
        check_whole_number(name, getattr(options, name), least=1)
    if options.patience is not None:
        check_whole_number("patience", options.patience, least=1)
    check_number("l2", options.l2, least=0.0)
    check_seed(options.seed)
    check_dtype(options.dtype)
    check_activation(options.activation, HIDDEN_ACTIVATIONS, "--activation")
    if options.init is not None:
        check_initialization(options.init)
    if options.loss is not None:
        check_output_activation(check_loss(options.loss), options.output_activation)
    for path in (options.out, options.checkpoint):
        if path is not None and writes:
            check_writable(path)
    if options.plot is not None and writes:
        check_plot(options.plot)
    if options.resume and options.checkpoint is None:
        raise ValueError("--resume: expected --checkpoint FILE with it")


def network_options(
    dataset: Dataset, classes: list[Label] | None, hidden: tuple[int, ...], options: TrainOptions
) -> dict[str, Any]:
    """Choose what `Network` and `NetworkStack` are told, as it suits the data.

    Raises
    ------
    ValueError
        If the loss does not suit the target.
    """
    loss = options.loss or ("squared_error" if classes is None else "categorical_cross_entropy")
    if classes is None and LOSSES[loss].classifies:
        raise ValueError(f"--loss: {loss} is for classes, but the target {dataset.target_name!r} is a quantity")
    return {
        "layer_sizes": [dataset.X.shape[1], *hidden, 1 if classes is None else len(classes)],
        "hidden_activation": options.activation,
        "output_activation": options.output_activation,
        "loss": loss,
        "init": options.init or ("he" if "relu" in options.activation else "glorot_uniform"),
        "dtype": options.dtype,
    }


def _header(data: str, dataset: Dataset, split: Split, trained: Trained, ranks: Ranks) -> Iterator[str]:
    """Say what is trained on what."""
    network, classes = trained.network, trained.classes
    source = "standard input" if data == "-" else data
    what = "regression" if classes is None else f"{len(classes)} classes"
    yield (
        f"data        {source}: {len(split.train)} samples to train on, {len(split.validation)} to validate on, "
        f"{dataset.X.shape[1]} features, target {dataset.target_name!r} ({what})"
    )
    yield (
        f"network     {'-'.join(map(str, network.layer_sizes))}, {network.hidden_activation}, "
        f"{network.output_activation}, {network.loss}, {network.dtype.name} on {network.backend.label}"
        f"{f', by {ranks.size} ranks' if ranks.size > 1 else ''}"
    )


def _speed(history: History, samples: int, seconds: float, how: str) -> str:
    """Say how long training took, and how it ended."""
    return (
        f"training    {history.epochs} epochs in {seconds:.2f} s, "
        f"{history.epochs * samples / seconds:,.0f} samples/s, cost {history.cost[-1]:.6f} ({how})"
    )


def widths_of(options: TrainOptions) -> tuple[int, ...]:
    """Read the widths of the hidden layers."""
    return hidden_sizes(HIDDEN if options.hidden is None else options.hidden)


def optimizer_of(options: TrainOptions) -> Optimizer:
    """Make the optimizer."""
    rate = options.lr
    if options.momentum and options.optimizer != "sgd":
        raise ValueError(f"momentum: expected optimizer sgd with it, got {options.optimizer}")
    match options.optimizer:
        case "sgd":
            return SGD(0.1 if rate is None else rate, momentum=options.momentum)
        case "adam":
            return Adam(0.001 if rate is None else rate)
        case "adamw":
            return AdamW(0.001 if rate is None else rate)
    raise ValueError(f"--optimizer: expected sgd, adam or adamw, got {options.optimizer!r}")


def with_classes(dataset: Dataset, task: str) -> tuple[Dataset, list[Label] | None]:
    """Find the labels of a data set, in order; None if the target is a quantity.

    Labels are as they are written: "007" and "7" are two classes. So the targets of the data set that is returned are
    text where they are numbers that are not written as usual.
    """
    assert dataset.y is not None
    classes = classes_of(dataset.y, task)
    if classes is None or dataset.labels is None:
        return dataset, classes
    return replace(dataset, y=dataset.labels, labels=None), classes_of(dataset.labels, "classification")


def classes_of(y: Matrix, task: str) -> list[Label] | None:
    """Find the labels, in order; None if the target is a quantity."""
    if task not in ("auto", "classification", "regression"):
        raise ValueError(f"--task: expected auto, classification or regression, got {task!r}")
    is_text = y.dtype.kind not in "iubf"
    if task == "regression":
        if is_text:
            raise ValueError(f"--task: regression needs numbers as targets, got text such as {str(y[0])!r}")
        return None
    values = np.unique(y)
    whole = is_text or bool((values == np.round(values)).all())
    if task == "auto" and not (is_text or (whole and len(values) <= min(MOST_CLASSES, max(2, len(y) // 2)))):
        return None
    if len(values) > MOST_CLASSES and 2 * len(values) > len(y):
        raise ValueError(
            f"target: expected numbers, or classes with several rows each, got {len(values)} different values in "
            f"{len(y)} rows"
        )
    if len(values) < 2:
        raise ValueError(f"target: expected at least two classes, got only {plain_label(values[0])!r}")
    return [plain_label(value) for value in values]


def _split(dataset: Dataset, classes: list[Label] | None, options: TrainOptions) -> Split:
    """Choose the rows to train, validate and test on, by class if every class is large enough."""
    from sklearn.model_selection import train_test_split

    for name, share in (("--validation", options.validation), ("--test", options.test)):
        if not 0.0 <= share < 1.0:
            raise ValueError(f"{name}: expected a share in [0, 1), got {share}")
    everything = np.arange(len(dataset.X))
    nothing = everything[:0]

    def cut(rows: Matrix, share: float) -> tuple[Matrix, Matrix]:
        if share == 0.0 or len(rows) < 3:
            return rows, nothing
        labels = None
        if classes is not None and dataset.y is not None:
            _, counts = np.unique(dataset.y[rows], return_counts=True)
            if counts.min() >= 2 and min(share, 1 - share) * len(rows) >= len(counts):
                labels = dataset.y[rows]
        kept, held_out = train_test_split(rows, test_size=share, random_state=options.seed, stratify=labels)
        return np.sort(kept), np.sort(held_out)

    rest, test = cut(everything, 0.0 if dataset.test is not None else options.test)
    train, validation = cut(rest, options.validation)
    return Split(train, validation, test)


def scaling(X: RawRows, scale: str, *, common_range: bool) -> tuple[Matrix, Matrix]:
    """Choose what to subtract from every feature, and by what to divide it then, (n,) each."""
    n = X.shape[1]
    if scale == "auto":
        scale = "range" if common_range else "standard"
    if scale == "standard":
        offset, spread = X.mean_and_deviation()
        spread[cells.is_constant(*X.column_ranges())] = 0.0  # what spread it seems to have is the rounding of its mean
    elif scale == "range":
        low, high = X.range()
        offset, spread = np.full(n, low), np.full(n, 0.0 if cells.is_constant(low, high) else high - low)
    elif scale == "none":
        offset, spread = np.zeros(n), np.ones(n)
    else:
        raise ValueError(f"--scale: expected auto, standard, range or none, got {scale!r}")
    spread[spread == 0] = 1.0  # a constant feature has no spread to divide by
    return offset, spread


def scaling_of_target(y: Floats) -> tuple[float, float]:
    """Choose what to subtract from quantities, (m,), and by what to divide them then."""
    constant = cells.is_constant(y.min(), y.max())
    return float(y.mean()), 1.0 if constant else float(y.std()) or 1.0


def _prepare(dataset: Dataset, classes: list[Label] | None, split: Split, scale: str, network: Network) -> Trained:
    """Compute offsets and scales from the training rows alone."""
    offset, spread = scaling(RawRows(dataset.X, split.train), scale, common_range=dataset.common_range)
    target_offset, target_scale = 0.0, 1.0
    if classes is None and dataset.y is not None and network.output_activation == "identity":
        target_offset, target_scale = scaling_of_target(dataset.y[split.train].astype(np.float64))
    return Trained(
        network, offset, spread, target_offset, target_scale, classes, dataset.feature_names, dataset.target_name
    )
