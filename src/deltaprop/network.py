"""`Network`: the public face of a multi-layer perceptron: what it can be asked (`NetworkFunction`), and learning."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from deltaprop.arguments import (
    check_bool,
    check_callables,
    check_choice,
    check_dropout,
    check_number,
    check_path,
    check_whole_number,
)
from deltaprop.backends.array_types import ArrayLike
from deltaprop.backends.choices import MetricName
from deltaprop.backends.device_scope import methods_on_its_device
from deltaprop.derivation.backprop import L2Scaling, Objective, Reduction
from deltaprop.derivation.update_rule import Optimizer
from deltaprop.files.atomic_file import check_writable
from deltaprop.files.saved_network import SavedNetwork
from deltaprop.inputs.sources import CheckedSource
from deltaprop.lecture.shown_network import ShownNetwork
from deltaprop.network_function import NetworkFunction
from deltaprop.ranks.choice import RanksArgument, find_ranks
from deltaprop.ranks.failures import ending_all_on_failure, failing_together
from deltaprop.reports.history import History
from deltaprop.training import loop
from deltaprop.training.callbacks import EpochCallback
from deltaprop.training.early_stopping import EarlyStopping
from deltaprop.training.exclusive import training_of
from deltaprop.training.fit_arguments import Validation, check_early_stopping, check_optimizer, with_validation
from deltaprop.training.loop import FitPlan
from deltaprop.training.metrics import Metric
from deltaprop.training.scored_network import ScoredNetwork

if TYPE_CHECKING:
    from deltaprop.training.solvers import Method


@methods_on_its_device
class Network(NetworkFunction, SavedNetwork, ShownNetwork, ScoredNetwork):
    """A multi-layer perceptron, trained by backpropagation in matrix form.

    Parameters
    ----------
    layer_sizes : sequence of int
        Widths s_1 … s_L: inputs, hidden layers, outputs. At least two, each at least 1.
    hidden_activation : str or sequence of str, default "sigmoid"
        "sigmoid", "tanh", "relu", "identity", "leaky_relu", "softplus", "silu" or "gelu", one for all hidden layers or
        one for each.
    output_activation : str, optional
        By default the one that belongs to the loss: sigmoid for binary cross-entropy, softmax for categorical, exp for
        poisson, identity for the others, which go with every activation but softmax.
    loss : str or (cost, gradient), default "binary_cross_entropy"
        "squared_error", "binary_cross_entropy" (over each of K outputs), "categorical_cross_entropy", "poisson",
        "huber" or "absolute_error"; the formulas stand in `deltaprop.derivation.backprop`.
        "clipped_binary_cross_entropy" and "clipped_categorical_cross_entropy" are scikit-learn's, whose cost of an
        output is at most −log ε. A pair of
        functions of the outputs and the targets: the cost, (m,) or (m, s_L), and its gradient ∂cost/∂h, (m, s_L).
    init : str, default "glorot_uniform"
        "glorot_uniform", "scikit_learn", "normal", "scaled_normal", "lecun", "he", "debug_initialize" or "zeros".
        "scikit_learn" is "glorot_uniform" but for layers of sigmoids, whose range is smaller by √3; so estimators draw.
    dtype : {"float64", "float32"}
        Of parameters and all arithmetic. Data are converted to it.
    backend : {"auto", "numpy", "cupy", "cupy:N"} or Backend
        "auto" is CuPy where a CUDA device answers, else NumPy; "cupy:1" is CuPy on the second of several devices.
    seed : int, default 0
        Decides initialisation and shuffling; the same seed gives the same numbers on one backend.
    output_error : {"exact", "simplified"}
        δ^(L) under the squared error: (a − y) ⊙ g′(z), its gradient, or a − y, as one derivation leaves it. The latter
        is a training rule, not the gradient of the cost, and is refused where that is needed.
    precision : {"fp32", "tf32", "bf16", "fp16"}, optional
        Of the operands of matrix products on the CUDA backend, for dtype float32; sums, parameters and everything else
        stay float32. By default "fp32", all of it float32. Rounding an operand costs it up to 2⁻¹¹ of itself in
        "tf32" and "fp16", 2⁻⁸ in "bf16". In "fp16" δ is scaled for the product, so that it does not vanish; in "bf16"
        z, a and δ of hidden layers are kept in 16 bits too while training by captured steps. Small networks whose
        epochs are one launch are float32 throughout.
    device : int, optional
        On which of several CUDA devices the network lives, counted from 0, whichever is current when it is used; by
        default on the one that is current now. Where that is device 0, processes that ``mpiexec`` or ``srun`` has
        started on this machine take the devices in turn.

    Raises
    ------
    ValueError, TypeError
        If an argument is not one of these; the message names it, what was seen and what was expected.
    BackendError
        If the backend cannot be had here, or has no such precision.

    See Also
    --------
    deltaprop.NetworkStack : Many networks, trained at once.
    deltaprop.MLPClassifier : A network as an estimator of scikit-learn.
    deltaprop.TabularClassifier : For tables with text, dates and gaps.

    Notes
    -----
    Arrays come back as the kind that came in: NumPy for NumPy (and lists, DataFrames), CuPy for CuPy. Methods that only
    read the network may be called from several threads at once, also while one thread trains it; two that train it are
    refused.

    Examples
    --------
    >>> import deltaprop as dp
    >>> net = dp.Network([2, 8, 1], backend="numpy", seed=3)
    >>> X, Y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    >>> history = net.fit(X, Y, optimizer=dp.Adam(0.1), epochs=300)
    >>> [round(float(p)) for p in net.predict(X)[:, 0]]
    [0, 1, 1, 0]
    """

    # -- training -----------------------------------------------------------------------------------------------

    def fit(
        self,
        X: ArrayLike,
        Y: ArrayLike | None = None,
        *,
        optimizer: Optimizer | None = None,
        batch_size: int | None = 32,
        epochs: int = 10,
        l2: float = 0.0,
        l2_scaling: L2Scaling = "per_sample",
        reduction: Reduction = "mean",
        sample_weight: ArrayLike | None = None,
        shuffle: bool = True,
        dropout: float | Sequence[float] = 0.0,
        validation: Validation | None = None,
        metrics: Sequence[MetricName | Metric] | None = None,
        early_stopping: EarlyStopping | None = None,
        callbacks: Sequence[EpochCallback] = (),
        progress: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 1,
        resume: bool = False,
        ranks: RanksArgument = None,
    ) -> History:
        """Train by gradient descent over minibatches: θ := θ − η ∂J/∂θ, from the parameters the network has.

        Parameters
        ----------
        X : array_like, (m, s_1), or path, or iterable
            As for `cost`. Host data for which a device has no room stay on the host and are uploaded chunk by chunk,
            while the device trains on the chunk before: the same result. Data larger than memory are read chunk by
            chunk: a `numpy.memmap`, shuffled as any array; the path of a Parquet file; the path of a folder of ``.npz``
            files with arrays X and y; or an iterable with a length that yields batches (X, Y) anew in every epoch. Of
            the last three, row groups and files come in a random order and samples are shuffled within windows of 64
            MiB; an iterable's order is its own. NumPy arrays of another dtype, and class labels, are converted chunk
            by chunk where all of them would become more than 512 MiB. For their order with `ranks`, see there.
        Y : array_like, (m, s_L), or str, optional
            As for `cost`; with a Parquet file, the name of the target column, by default the last; with a folder or an
            iterable, None.
        optimizer : Optimizer, optional
            `SGD`, `Adam`, `AdamW` or your own; ``SGD()`` by default. Its learning rate may be a schedule.
        batch_size : int or None, default 32
            Samples a step: 1 is per sample, None is full batch. The last minibatch of an epoch may be shorter; its
            gradient is the mean over the samples it has.
        epochs : int, default 10
            Passes over the data.
        l2 : float, default 0.0
            As for `cost`; the m in λ/(2m) counts all samples, so that minibatches estimate ∇J.
        l2_scaling : {"per_sample", "absolute"}
            As for `cost`.
        reduction : {"mean", "sum"}
            As for `cost`.
        sample_weight : array_like, (m,), optional
            As for `cost`. The gradient of a minibatch is the mean by the weights in it.
        shuffle : bool, default True
            Draw a new order every epoch, from the seed and the number of epochs trained so far.
        dropout : float or sequence of float, default 0.0
            With what probability a unit of the hidden layers is left out of a step, one number for all hidden layers
            or one for each, in [0, 1). `History.cost` is then the cost of the thinned networks.
        validation : (X, Y) or float, optional
            Data whose cost and metrics are recorded after every epoch. They too may be larger than a device. A number
            between 0 and 1 is the share of the rows that is held out for that, at random, and not trained on: the same
            rows for the same seed, whenever `fit` is called. Where Y are classes (labels, one-hot rows, a column of 0
            and 1), each keeps its share, unless a class has one row or a part has fewer rows than there are classes.
            Sample weights go with their rows and count in the validation cost. Files, folders and iterables cannot be
            divided.
        metrics : sequence of str or callable, optional
            Recorded on the validation data: "accuracy", "mean_squared_error", "mean_absolute_error", "r2", or a
            function of prediction and targets. By default accuracy for cross-entropies, else nothing.
        early_stopping : EarlyStopping, optional
            When to stop before `epochs`; the best parameters are then restored.
        callbacks : sequence of callable
            Each is given an `EpochEnd` after every epoch; one that returns True ends training.
        progress : bool, default False
            Draw a progress bar on standard error, or in a notebook below the cell.
        checkpoint : path, optional
            Where to write, after every `checkpoint_every` epochs and at the end, all that training depends on: a model
            file that `Network.load` reads as well, with the parameters that `fit` would leave: the best, under early
            stopping. It is written beside its final name and renamed, so that there is always a whole one. Every row
            of the data is read once more to begin with, for a digest by which other data are told (an iterable twice).
            Within `fit`, SIGINT and SIGTERM are then held back until the step is done and a checkpoint written; the
            best parameters are left in the network, and KeyboardInterrupt or SystemExit(143) is raised.
        checkpoint_every : int, default 1
            Epochs.
        resume : bool, default False
            Go on from the checkpoint where there is one, and from the start where there is none. On NumPy, a run that
            was killed ends with the parameters, to the bit, that it would have had. `epochs` may be more than before,
            and not fewer than are done. Schedules, losses and metrics of your own are compared by name and code, but
            not by what they read from their modules.
        ranks : "mpi" or mpi4py communicator, optional
            The processes that train this network together, each on some rows of every minibatch; "mpi" are all that
            ``mpiexec`` has started. Every rank makes the same network and calls `fit` with the same arguments, among
            them all the data, and ends with the same parameters, to the bit. `batch_size` counts the rows of all ranks,
            and the result does not depend on their number, but for rounding. Rank 0 calls schedules, callbacks and
            metrics of your own, draws, and writes checkpoints, from which any number of ranks may go on. What one rank
            raises, all raise, the others as `RankError`. It needs ``pip install 'deltaprop[mpi]'``. On CUDA each rank
            has a device of its own, and their gradients are added up by NCCL, ``pip install nvidia-nccl-cu13`` or
            ``nvidia-nccl-cu12``; no two devices have run this yet. Of data on disk each rank reads rows of its own, but
            for a checkpoint's digest and for the targets where a share is held out; they come in another order than
            without ranks: every minibatch takes a slice of each of some shards (slices of a memory map, row groups,
            files), which are shuffled one by one. A memory map with ``shuffle=False`` keeps its order. With fewer
            shards than ranks, some ranks have no rows, and rank 0 warns.

        Returns
        -------
        History
            Of a resumed run, from its first epoch; the same on every rank.

        Raises
        ------
        ValueError, TypeError
            If an argument is not one of these, or the checkpoint is damaged or of another network, other data, another
            configuration or more epochs. Nothing has been trained then; but data that are read in parts are checked in
            every epoch, and the parameters of the last good one are kept where they are refused. Also if a schedule
            returns what is no learning rate; what was learned before is then in the network, and in the checkpoint.
        OSError
            If a checkpoint cannot be written or read.
        DivergenceError
            If the cost or a parameter is no longer finite; the parameters of the last good epoch are kept.
        MemoryError
            If the device has no room for the data and the buffers of a step; the parameters are what they were.
        RuntimeError
            If another call is training the network: in another thread, or the one whose callback this is. Of several
            ranks, `RankError` if another one has failed.
        BackendError
            If MPI cannot be had, or was started by the launcher of another MPI library. On CUDA, if NCCL cannot be
            had, or two ranks have the same device.

        Warns
        -----
        RuntimeWarning
            If no epoch had a number that early stopping could go by.

        See Also
        --------
        fit_full_batch : Trains by L-BFGS and its like.
        deltaprop.NetworkStack.fit : Trains many networks at once.
        deltaprop.History : What is returned.

        Examples
        --------
        >>> import deltaprop as dp
        >>> from sklearn.datasets import load_digits
        >>> X, y = load_digits(return_X_y=True)
        >>> net = dp.Network([64, 32, 10], hidden_activation="relu", loss="categorical_cross_entropy", seed=0)
        >>> stopping = dp.EarlyStopping(patience=5)
        >>> history = net.fit(X / 16, y, optimizer=dp.Adam(0.01), epochs=15, validation=0.2, early_stopping=stopping)
        >>> history.metrics["accuracy"][history.best_epoch - 1] > 0.93
        True
        """
        together = find_ranks(ranks)
        with ending_all_on_failure(together), ExitStack() as busy:
            with failing_together(together):
                objective = Objective(l2, l2_scaling, reduction)
                inputs, targets, weights = self._door.training_data(X, Y, sample_weight, batch_size, together)
                given = (inputs, targets, weights)
                samples, held_out, resolved = with_validation(self, given, validation, metrics, together)
                plan = FitPlan(
                    optimizer=check_optimizer(optimizer),
                    batch_size=None if batch_size is None else check_whole_number("batch_size", batch_size, least=1),
                    epochs=check_whole_number("epochs", epochs, least=1),
                    objective=objective,
                    shuffle=check_bool("shuffle", shuffle),
                    dropout=check_dropout(dropout, len(self.layer_sizes) - 2),
                    metrics=resolved,
                    early_stopping=early_stopping,
                    callbacks=check_callables("callbacks", callbacks),
                    progress=check_bool("progress", progress),
                    checkpoint=checkpoint,
                    checkpoint_every=check_whole_number("checkpoint_every", checkpoint_every, least=1),
                    resume=check_bool("resume", resume),
                    ranks=together,
                )
                if resume and checkpoint is None:
                    raise ValueError("resume: expected a checkpoint to go on from, got checkpoint=None")
                if checkpoint is not None and together.is_first:
                    check_writable(check_path("checkpoint", checkpoint))
                if batch_size is None and isinstance(inputs, CheckedSource):
                    raise ValueError("batch_size: expected a number with data that are read part by part, got None")
                if early_stopping is not None:
                    check_early_stopping(early_stopping, resolved, held_out is not None)
                busy.enter_context(training_of(self))
            return loop.train(self, *samples, held_out, plan)

    def fit_full_batch(
        self,
        X: ArrayLike,
        Y: ArrayLike,
        *,
        method: Method = "l-bfgs",
        max_iter: int = 200,
        tol: float = 1e-5,
        l2: float = 0.0,
        l2_scaling: L2Scaling = "per_sample",
        reduction: Reduction = "mean",
        sample_weight: ArrayLike | None = None,
        validation: Validation | None = None,
        metrics: Sequence[MetricName | Metric] | None = None,
        callbacks: Sequence[EpochCallback] = (),
        progress: bool = False,
    ) -> History:
        """Train on all samples at once by a solver that finds its own step, from the parameters the network has.

        Parameters
        ----------
        X : array_like, (m, s_1)
            As for `cost`.
        Y : array_like, (m, s_L)
            As for `cost`.
        method : {"l-bfgs", "cg", "newton-cg", "gd"}
            scipy's L-BFGS, nonlinear conjugate gradients or Newton-CG (with exact Hessian-vector products), or
            steepest descent under Armijo's rule.
        max_iter : int, default 200
            Iterations at most. One of them takes one evaluation of J and its gradient or a few; of Newton-CG, as many
            Hessian-vector products as its inner solver needs.
        tol : float, default 1e-5
            Converged once no entry of ∂J/∂θ exceeds it in magnitude.
        l2 : float, default 0.0
            As for `cost`.
        l2_scaling : {"per_sample", "absolute"}
            As for `cost`.
        reduction : {"mean", "sum"}
            As for `cost`.
        sample_weight : array_like, (m,), optional
            As for `cost`.
        validation : (X, Y) or float, optional
            As for `fit`, recorded after every iteration.
        metrics : sequence of str or callable, optional
            As for `fit`, recorded after every iteration.
        callbacks : sequence of callable
            Each is given an `EpochEnd` after every iteration; one that returns True ends training.
        progress : bool, default False
            Draw a progress bar on standard error, or in a notebook below the cell.

        Returns
        -------
        History
            One entry an iteration; ``converged`` and ``message`` say how it ended.

        Raises
        ------
        ValueError, TypeError
            If an argument is not one of these, or the output error is "simplified". Nothing has been trained then.
        DivergenceError
            If the cost or its gradient is no longer finite; the network keeps the parameters of the last iteration.
        RuntimeError
            If another call is training the network.

        See Also
        --------
        fit : Trains by minibatches.

        Notes
        -----
        The solvers work in float64 on the host, the network in its own dtype on its backend: with float32, a line
        search ends at float32's rounding of J, so ask for no tighter `tol` than some 1e-4 there. scipy's Newton-CG
        ends where the curvature along its direction is below 7e-16, so ask it for no tighter `tol` than some 1e-7.

        Examples
        --------
        >>> import deltaprop as dp
        >>> net = dp.Network([2, 8, 1], hidden_activation="tanh", seed=3)
        >>> X, Y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
        >>> history = net.fit_full_batch(X, Y, l2=1e-3)
        >>> history.converged, history.epochs < 200
        (True, True)
        >>> [round(float(p)) for p in net.predict(X)[:, 0]]
        [0, 1, 1, 0]
        """
        from deltaprop.training import solvers  # not at start-up, for those who do without

        objective = Objective(l2, l2_scaling, reduction)
        self._require_exact("fit_full_batch")
        check_choice("method", method, solvers.Method)
        given = self._door.samples(X, Y, sample_weight)
        samples, held_out, resolved = with_validation(self, given, validation, metrics)
        plan = solvers.FullBatchPlan(
            method=method,
            max_iter=check_whole_number("max_iter", max_iter, least=1),
            tol=check_number("tol", tol, least=0.0),
            objective=objective,
            metrics=resolved,
            callbacks=check_callables("callbacks", callbacks),
            progress=check_bool("progress", progress),
        )
        with training_of(self):
            return solvers.train_full_batch(self, *samples, held_out, plan)

    def __repr__(self) -> str:
        configuration = self.configuration
        sizes = configuration.pop("layer_sizes")
        arguments = ", ".join(f"{name}={value!r}" for name, value in configuration.items())
        return f"Network({sizes}, {arguments}, backend={self.backend.label!r})"
