"""What our files hold: every value and tensor from a file is checked against this before it is used."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta, Struct, ValidationError, convert

from deltaprop.derivation.state import Configuration
from deltaprop.files.file_kinds import require_kind
from deltaprop.files.model_file import Tensors, in_one_line

#: The version of `Training`; it rises whenever the meaning of a field changes.
CHECKPOINT_VERSION = 2

LARGEST = sys.float_info.max


#: Every reader of JSON reads whole numbers up to this limit exactly.
Count = Annotated[int, Meta(ge=0, le=2**53)]
Width = Annotated[int, Meta(ge=1, le=2**53)]
Seed = Annotated[int, Meta(ge=0)]
#: The name of an activation, a loss and the like; short enough for a message.
Name = Annotated[str, Meta(max_length=40)]
Finite = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]
NotNegative = Annotated[float, Meta(ge=0.0, le=LARGEST)]
Positive = Annotated[float, Meta(gt=0.0, le=LARGEST)]


# No `pattern`: msgspec 0.22 frees a pattern in a union twice, which crashes the process when it ends.


class Exact(Struct, forbid_unknown_fields=True):
    """An object that has these fields and no others."""


class Common(Exact):
    """The arguments that make an equal network or stack; its constructor knows the names."""

    layer_sizes: Annotated[list[Width], Meta(min_length=2)]
    hidden_activation: Name | list[Name]
    output_activation: Name
    #: A name; in a checkpoint it may also be the description of a pair of functions.
    loss: Name | list[Any]
    output_error: Name
    init: Name
    dtype: Literal["float32", "float64"]

    def __post_init__(self) -> None:
        hidden, layers = self.hidden_activation, len(self.layer_sizes) - 2
        if isinstance(hidden, list) and len(hidden) != layers:
            raise ValueError(f"{len(hidden)} activations of {layers} hidden layers")

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by name."""
        return {name: getattr(self, name) for name in self.__struct_fields__}

    @property
    def size(self) -> int:
        """How many parameters there are."""
        return sum((s_in + 1) * s_out for s_in, s_out in pairwise(self.layer_sizes))


class NetworkArguments(Common):
    """The arguments of a network."""

    seed: Seed


class StackArguments(Common):
    """The arguments of a stack."""

    members: Width
    seeds: Annotated[list[Seed], Meta(min_length=1)]


class Position(Exact):
    """Where training stands: epochs done, and minibatches of the next one."""

    epoch: Count
    batch: Count


class Recorded(Exact):
    """A `History` of minibatch training."""

    cost: list[Finite]
    validation_cost: list[float]
    metrics: dict[str, list[float]]
    learning_rate: list[NotNegative]
    seconds: list[NotNegative]
    best_epoch: Annotated[int, Meta(ge=1)] | None
    message: str


class RandomState(Exact):
    """The state of NumPy's MT19937 generator, and the second of two normal numbers."""

    key: Annotated[list[Annotated[int, Meta(ge=0, lt=2**32)]], Meta(min_length=624, max_length=624)]
    pos: Annotated[int, Meta(ge=0, le=624)]
    has_gauss: Literal[0, 1]
    gauss: Finite


class EstimatorRun(Exact):
    """What the checkpoint of an estimator holds besides; "earlier" is what fits before this one have recorded."""

    #: Before this fit drew anything but its first parameters.
    random_state: RandomState
    learning_rate: NotNegative
    t: Count
    earlier_losses: list[float]
    earlier_scores: list[float] | None
    earlier_validation_losses: list[float] | None
    worse_epochs: Count
    best_loss: float | None
    best_watched: float
    best_score: float | None
    #: Whether the file holds the best parameters before the last ones.
    has_best: bool


class Training(Exact):
    """What a checkpoint holds besides a network."""

    #: Checked by `network_content`.
    version: int
    configuration: dict[str, dict[str, Any]]
    position: Position
    counters: dict[str, Count]
    cost: Finite
    history: Recorded
    ended: bool
    #: Of an estimator's fit.
    estimator: EstimatorRun | None = None

    def __post_init__(self) -> None:
        history, epochs = self.history, self.position.epoch
        always = [history.cost, history.learning_rate, history.seconds, *history.metrics.values()]
        if any(len(values) != epochs for values in always) or len(history.validation_cost) not in (0, epochs):
            raise ValueError(f"expected {epochs} numbers, one an epoch, of everything that the history records")
        if history.best_epoch is not None and history.best_epoch > epochs:
            raise ValueError(f"best epoch {history.best_epoch} of {epochs}")
        if self.ended and (self.position.batch or not epochs):
            raise ValueError("an end inside an epoch")
        if self.estimator is not None and (self.position.batch or not epochs or history.best_epoch is not None):
            raise ValueError("an estimator inside an epoch")

    @property
    def has_best(self) -> bool:
        """Whether there are best parameters besides the last."""
        return self.history.best_epoch is not None if self.estimator is None else self.estimator.has_best


class Preparation(Exact):
    """What the command line keeps besides a network: how to make inputs of raw columns, and answers of outputs."""

    target_offset: Finite
    target_scale: Positive
    classes: Annotated[list[str | int | Finite], Meta(min_length=2)] | None
    feature_names: list[str]
    target_name: str


class NetworkContent(Exact):
    """The configuration in a file with a network."""

    network: NetworkArguments
    epochs_trained: Count
    training: Training | None = None
    data: Preparation | None = None

    def __post_init__(self) -> None:
        sizes, data, training = self.network.layer_sizes, self.data, self.training
        if training is not None and training.position.epoch > self.epochs_trained:
            raise ValueError(f"{training.position.epoch} epochs of {self.epochs_trained}")
        if data is None:
            return
        if len(data.feature_names) != sizes[0]:
            raise ValueError(f"{len(data.feature_names)} feature names for {sizes[0]} inputs")
        answers = 1 if data.classes is None else len(data.classes)
        if answers != sizes[-1] or (data.classes is not None and len(set(data.classes)) != answers):
            raise ValueError(
                f"expected as many different classes as outputs, {sizes[-1]}, or one output and no classes"
            )


class StackContent(Exact):
    """The configuration in a file with a stack."""

    stack: StackArguments
    epochs_trained: list[Count]

    def __post_init__(self) -> None:
        count = self.stack.members
        if not len(self.stack.seeds) == len(self.epochs_trained) == count:
            raise ValueError(f"expected a seed and epochs trained for each of {count} members")


def network_content(path: str | os.PathLike[str], configuration: Configuration, tensors: Tensors) -> NetworkContent:
    """Check what a file with a network holds, and return it; nothing is allocated that the file does not hold.

    Raises
    ------
    ValueError
        If the file holds anything else; the message begins with `path`.
    """
    require_kind(path, configuration, "network")
    training = configuration.get("training")
    version = training.get("version", 1) if isinstance(training, dict) else CHECKPOINT_VERSION
    if version != CHECKPOINT_VERSION:
        raise ValueError(
            f"{path}: a checkpoint of version {in_one_line(version)}, expected {CHECKPOINT_VERSION}: it was written by "
            "another release of deltaprop"
        )
    content = converted(path, "a network", configuration, NetworkContent)
    check_tensors(path, "a network", _of_network(content, tensors), tensors)
    return content


def stack_content(path: str | os.PathLike[str], configuration: Configuration, tensors: Tensors) -> StackContent:
    """Check what a file with a stack holds, and return it.

    Raises
    ------
    ValueError
        If the file holds anything else; the message begins with `path`.
    """
    require_kind(path, configuration, "stack")
    content = converted(path, "a stack", configuration, StackContent)
    shape = (content.stack.members, content.stack.size)
    check_tensors(path, "a stack", {"parameters": Tensor(shape, content.stack.dtype)}, tensors)
    return content


class Tensor(Struct, frozen=True):
    """What a tensor has to be."""

    shape: tuple[int, ...]
    dtype: str
    #: The range of its entries; nan is outside of every range.
    least: float = -LARGEST
    most: float = LARGEST


def _of_network(content: NetworkContent, tensors: Tensors) -> dict[str, Tensor]:
    """Describe the tensors in a file with a network, by name."""
    network = content.network
    dtype, whole = network.dtype, (network.size,)
    expected: dict[str, Tensor] = {}
    for l, (s_in, s_out) in enumerate(pairwise(network.layer_sizes)):
        expected[f"weights.{l}"] = Tensor((s_out, s_in), dtype)
        expected[f"biases.{l}"] = Tensor((s_out,), dtype)
    if content.data is not None:
        width = (network.layer_sizes[0],)
        expected["input.offset"] = Tensor(width, "float64")
        expected["input.scale"] = Tensor(width, "float64", least=sys.float_info.min * sys.float_info.epsilon)
    if content.training is not None:
        if content.training.has_best:
            expected["last"] = Tensor(whole, dtype)
        if content.training.position.batch:
            expected["epoch_start"] = Tensor(whole, dtype)
        for name in tensors:
            if name.startswith("optimizer."):
                expected[name] = Tensor(whole, dtype)
        # A square may overflow: Adam then leaves that parameter alone.
        if "optimizer.second_moment" in expected:
            expected["optimizer.second_moment"] = Tensor(whole, dtype, least=0.0, most=float("inf"))
    return expected


def check_tensors(path: str | os.PathLike[str], what: str, expected: Mapping[str, Tensor], tensors: Tensors) -> None:
    """Check the tensors of a file against their descriptions, by name.

    Raises
    ------
    ValueError
        If one is missing, too many or not as described; the message begins with `path`, and names `what` the file is.
    """
    for name in sorted(expected.keys() | tensors.keys()):
        form, tensor = expected.get(name), tensors.get(name)
        if form is None or tensor is None or tensor.shape != form.shape or tensor.dtype != form.dtype:
            wanted = "nothing" if form is None else f"{form.dtype} of shape {form.shape}"
            found = "nothing" if tensor is None else f"{tensor.dtype} of shape {in_one_line(tensor.shape)}"
            where = in_one_line(repr(name))
            raise ValueError(f"{path}: does not describe {what} (tensor {where}: expected {wanted}, got {found})")
        # Two numbers of the whole: no array is made.
        if not (form.least <= float(tensor.min()) and float(tensor.max()) <= form.most):
            raise ValueError(f"{path}: holds numbers in {name} that are not finite, or out of range")


Content = TypeVar("Content", bound=Struct)


def converted(path: str | os.PathLike[str], what: str, configuration: Any, kind: type[Content]) -> Content:
    """Check the configuration of a file against a declaration, and return it as an object of that class.

    Raises
    ------
    ValueError
        If it is not as declared; the message begins with `path`, and names `what` the file is.
    """
    try:
        return convert(configuration, kind)
    except (ValidationError, RecursionError) as error:
        raise ValueError(f"{path}: does not describe {what} ({in_one_line(error)})") from error
