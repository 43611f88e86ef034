"""The classes that a network predicts, and one number for how good its predictions are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deltaprop.arguments import check_bool
from deltaprop.backends import Array
from deltaprop.backends.array_types import AnyArray, ArrayLike, Floats
from deltaprop.backends.device_scope import methods_on_its_device
from deltaprop.derivation.losses import describe
from deltaprop.derivation.state import NetworkState, StackState
from deltaprop.inputs.arrays import HostData
from deltaprop.training import evaluation
from deltaprop.training.data_door import DataDoor
from deltaprop.training.metrics import class_numbers


@methods_on_its_device
class ScoredNetwork(NetworkState):
    """What a `Network` can say of classes and scores."""

    if TYPE_CHECKING:

        def predict(self, X: ArrayLike) -> AnyArray:
            """`Network.predict`."""

    def predict_classes(self, X: ArrayLike, *, multilabel: bool = False) -> AnyArray:
        """Predict the class of each sample: the number of its largest output; of one output, 1 where it is above ½.

        Parameters
        ----------
        X : array_like, (m, s_1)
            Samples, one a row.
        multilabel : bool, default False
            Whether each of several sigmoid outputs is a label by itself, so that a sample may have none or many.

        Returns
        -------
        array of int64, (m,), or (m, s_L) where `multilabel` is True
            Class numbers from 0, or a 1 for every label whose output is above ½ and a 0 for the others; of the same
            kind of array as X. An output of exactly ½ is class 0.

        Raises
        ------
        ValueError, TypeError
            As `predict`. Also if the outputs are no probabilities (neither sigmoid nor softmax), or if `multilabel` is
            True and they are not several sigmoid outputs.

        Examples
        --------
        >>> import deltaprop as dp
        >>> net = dp.Network([2, 3], loss="categorical_cross_entropy", init="zeros")
        >>> net.biases = [[0.0, 2.0, 1.0]]
        >>> net.predict_classes([[0.0, 0.0], [1.0, 1.0]]).tolist()
        [1, 1]
        """
        check_classes(self, multilabel=multilabel)
        return classes_of(self.predict(X), multilabel=multilabel)

    def score(
        self, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike | None = None, *, multilabel: bool = False
    ) -> float:
        """Compute how good the predictions are: accuracy of classes, R² of quantities.

        Parameters
        ----------
        X : array_like, (m, s_1)
            Samples, one a row.
        Y : array_like, (m, s_L)
            As for `cost`: class labels (m,), one-hot rows, a column of 0 and 1, or quantities.
        sample_weight : array_like, (m,), optional
            How much each sample counts, at least 0.
        multilabel : bool, default False
            As for `predict_classes`; a sample then counts as right if all its labels are.

        Returns
        -------
        float
            The share of samples whose class is predicted right, where the loss is a cross-entropy, the outputs are
            softmax, or Y are class labels of several outputs. Otherwise R², as `sklearn.metrics.r2_score` computes it:
            1 − Σ(y − h)²/Σ(y − ȳ)², the mean over the outputs.

        Raises
        ------
        ValueError, TypeError
            As `cost`. Also if `multilabel` does not suit the network, or if it is False and a row of 0 and 1 has not
            one 1, so that it names no class.

        Examples
        --------
        >>> import deltaprop as dp
        >>> net = dp.Network([2, 3], loss="categorical_cross_entropy", init="zeros")
        >>> net.biases = [[0.0, 2.0, 1.0]]  # class 1 is predicted, whatever comes
        >>> net.score([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]], [1, 1, 1, 2])
        0.75
        """
        if multilabel:
            check_classes(self, multilabel=multilabel)
        check_bool("multilabel", multilabel)
        inputs, targets, weights = DataDoor(self).samples(X, Y, sample_weight, may_stay=True)
        to_numpy = self.backend.to_numpy
        h, y = to_numpy_whole(self, evaluation.predict(self, inputs)), targets_on_host(self, targets)
        w = None if weights is None else to_numpy(weights)
        has_labels = np.ndim(Y) == 1 and self.layer_sizes[-1] > 1
        if not (multilabel or has_labels or describe(self.loss).classifies or self.output_activation == "softmax"):
            return r2_of(h, y, w)
        if not (multilabel or has_labels or describe(self.loss).rows_sum_to_one):
            refuse_many_labels(y)
        right = classes_of(h, multilabel=multilabel) == classes_of(y, multilabel=multilabel)
        return float(np.average(right.all(axis=1) if multilabel else right, weights=w))


@methods_on_its_device
class ScoredStack(StackState):
    """What a `NetworkStack` can say of classes and scores, member by member."""

    if TYPE_CHECKING:

        def predict(self, X: ArrayLike) -> AnyArray:
            """`NetworkStack.predict`."""

        def _samples_of(
            self, X: ArrayLike, Y: ArrayLike, l2: float | Sequence[float], sample_weight: ArrayLike
        ) -> list[tuple[Any, tuple[Any, Any, float], dict[str, Any]]]: ...

    def predict_classes(self, X: ArrayLike, *, multilabel: bool = False) -> AnyArray:
        """Predict the class of each sample by every member; see `Network.predict_classes`.

        Parameters
        ----------
        X : array_like, (m, s_1), or (K, m, s_1)
            As of `forward`.
        multilabel : bool, default False
            As of `Network.predict_classes`.

        Returns
        -------
        array of int64, (K, m), or (K, m, s_L) where `multilabel` is True
            Member k of it is ``stack[k].predict_classes(X)``.

        Raises
        ------
        ValueError, TypeError
            As `Network.predict_classes`; also if X has not one entry a member.

        Examples
        --------
        >>> import deltaprop as dp
        >>> stack = dp.NetworkStack(3, [2, 4], loss="categorical_cross_entropy")
        >>> stack.predict_classes([[0.0, 0.0], [1.0, 1.0]]).shape
        (3, 2)
        """
        check_classes(self, multilabel=multilabel)
        return classes_of(self.predict(X), multilabel=multilabel)

    def score(
        self, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike | None = None, *, multilabel: bool = False
    ) -> Floats:
        """Compute how good the predictions of every member are; see `Network.score`.

        Parameters
        ----------
        X : array_like, (m, s_1), or (K, m, s_1)
            As of `forward`.
        Y : array_like
            As of `cost`.
        sample_weight : array_like, (m,), or (K, m), optional
            As of `cost`.
        multilabel : bool, default False
            As of `Network.score`.

        Returns
        -------
        array, (K,) of float64
            On the host.

        Raises
        ------
        ValueError, TypeError
            As `Network.score`; also if an argument has not one entry a member.

        Examples
        --------
        >>> import deltaprop as dp
        >>> stack = dp.NetworkStack(3, [2, 4], loss="categorical_cross_entropy", init="zeros")
        >>> stack.biases = [[[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]]
        >>> stack.score([[0.0, 0.0], [1.0, 1.0]], [0, 1]).tolist()  # each member predicts a class of its own
        [0.5, 0.5, 0.0]
        """
        each = self._samples_of(X, Y, 0.0, sample_weight)
        return np.array([net.score(x, y, multilabel=multilabel, **how) for net, (x, y, _), how in each])


def check_classes(network: NetworkState, *, multilabel: bool) -> None:
    """Refuse a network whose outputs name no classes, or `multilabel` where they are not several sigmoids.

    Raises
    ------
    ValueError, TypeError
        The message names what was seen and what was expected.
    """
    output, count = network.output_activation, network.layer_sizes[-1]
    if check_bool("multilabel", multilabel) and not (output == "sigmoid" and count > 1):
        raise ValueError(
            f"multilabel: expected False unless there are several sigmoid outputs, got {count} of {output!r}"
        )
    if output not in ("sigmoid", "softmax"):
        raise ValueError(
            f"output_activation: classes are predicted by outputs that are probabilities, 'sigmoid' or 'softmax', got "
            f"{output!r} (loss {network.loss!r}); `predict` returns the outputs themselves"
        )


def classes_of(outputs: AnyArray, *, multilabel: bool) -> AnyArray:
    """Return class numbers, (…, m), or a 0 or 1 for each label, (…, m, s_L)."""
    return (outputs > 0.5) * 1 if multilabel else class_numbers(outputs)


def to_numpy_whole(network: NetworkState, outputs: Array) -> Any:
    """Return outputs on the host; those of `HostData` are there already."""
    return network.backend.to_numpy(outputs) if network.backend.owns(outputs) else outputs


def targets_on_host(network: NetworkState, targets: ArrayLike) -> Any:
    """Return targets, (m, s_L), on the host."""
    if isinstance(targets, HostData) and targets.convert is None:
        return targets.array
    if isinstance(targets, HostData):
        targets = targets.rows(slice(None), network.backend, network.dtype)
    return network.backend.to_numpy(targets)


def refuse_many_labels(targets: Any) -> None:
    """Refuse rows of 0 and 1 that have not one 1: their largest entry says nothing.

    Raises
    ------
    ValueError
        The message names the first such row.
    """
    if targets.shape[1] == 1:
        return
    many = ((targets == 0) | (targets == 1)).all(axis=1) & (targets.sum(axis=1) != 1)
    if many.any():
        row = int(many.argmax())
        raise ValueError(
            f"Y: expected one class a sample (labels, or rows with one 1), got {int(targets[row].sum())} ones in row "
            f"{row}; where a sample may have several labels, pass multilabel=True"
        )


def r2_of(h: Floats, y: Floats, weights: Floats | None) -> float:
    """Compute scikit-learn's R² in float64."""
    from sklearn.metrics import r2_score  # not at start-up, for those who do without

    return float(r2_score(y.astype(np.float64), h.astype(np.float64), sample_weight=weights))
