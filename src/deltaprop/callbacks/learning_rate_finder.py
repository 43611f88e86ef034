"""`LearningRateFinder`: the cost over learning rates that grow from step to step, and which rate is a good one."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from deltaprop.arguments import check_number, check_whole_number
from deltaprop.backends.array_types import ArrayLike, Floats
from deltaprop.derivation.state import NetworkState
from deltaprop.reports.plotting import plot_rates
from deltaprop.training.callbacks import Callback, FitBegin

#: A curve ends where its smoothed cost has risen to so many times the lowest.
RISEN = 4.0


class LearningRateFinder(Callback):
    """Find a learning rate by a range test: one step at each of many rates, from low to high.

    The steps are those of a copy of the network, by the optimizer, the minibatches and the penalty of the training. The
    network, the state of its optimizer and its random numbers stay as they were. As a callback of `fit` or of an
    estimator it looks before the first epoch, and training goes on as it would have; `find` does nothing but look.

    Parameters
    ----------
    lowest : float, default 1e-6
        The rate to begin with.
    highest : float, default 10.0
        The rate to end with.
    steps : int, default 100
        How many rates; each is a constant factor above the one before.
    smoothing : float, default 0.9
        How much of the smoothed cost is the one before, in [0, 1).

    Attributes
    ----------
    rates : array of float
        The learning rates that were tried; the test ends early where the cost explodes.
    costs : array of float
        The mean cost of the minibatch before the step at each of them.
    smoothed : array of float
        The costs, smoothed.
    suggestion : float or None
        The rate at which the smoothed cost falls most steeply over the logarithm of the rate; None where it never
        falls. The first 1/(1 − smoothing) rates are left out, as their smoothed costs are means over few minibatches.

    Raises
    ------
    ValueError, TypeError
        If a number is out of range.

    References
    ----------
    .. [1] Leslie N. Smith, "Cyclical learning rates for training neural networks", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> import deltaprop as dp
    >>> from deltaprop.callbacks import LearningRateFinder
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> net = dp.Network([3, 1], loss="squared_error", init="zeros", backend="numpy")
    >>> finder = LearningRateFinder().find(net, X, X.sum(axis=1), batch_size=50)
    >>> 0.01 < finder.suggestion < 1.0
    True
    """

    def __init__(self, lowest: float = 1e-6, highest: float = 10.0, steps: int = 100, smoothing: float = 0.9) -> None:
        self.lowest: float = check_number("lowest", lowest, above=0.0)
        self.highest: float = check_number("highest", highest, above=self.lowest)
        self.steps: int = check_whole_number("steps", steps, least=5)
        self.smoothing: float = check_number("smoothing", smoothing, least=0.0, below=1.0)
        self.rates: Floats = np.empty(0)
        self.costs: Floats = np.empty(0)
        self.smoothed: Floats = np.empty(0)
        self.suggestion: float | None = None
        self._only_looks = False

    def find(self, network: Any, X: ArrayLike, Y: ArrayLike, **options: Any) -> Self:
        """Look which learning rate suits a network, without training it.

        Parameters
        ----------
        network : Network
            It stays as it is.
        X : array_like, (m, s_1)
            Inputs, as of `Network.fit`.
        Y : array_like, (m, s_L)
            Targets, as of `Network.fit`.
        **options : dict
            Other arguments of `Network.fit`: ``optimizer``, ``batch_size``, ``l2``, ``sample_weight`` and so on.

        Returns
        -------
        LearningRateFinder
            This one, with the curve.

        Raises
        ------
        ValueError, TypeError
            As `Network.fit`.

        Examples
        --------
        >>> import deltaprop as dp
        >>> from deltaprop.callbacks import LearningRateFinder
        >>> net = dp.Network([1, 1], loss="squared_error", seed=0)
        >>> before = net.copy()
        >>> finder = LearningRateFinder(lowest=1e-3, highest=1.0, steps=7).find(net, [[0.0], [1.0]], [1.0, 3.0])
        >>> [round(float(rate), 6) for rate in finder.rates]
        [0.001, 0.003162, 0.01, 0.031623, 0.1, 0.316228, 1.0]
        >>> bool((net.parameters == before.parameters).all())
        True
        """
        kind = type(network)
        if not issubclass(kind, NetworkState):
            raise TypeError(
                f"network: expected a Network, got {kind.__name__}; an estimator takes the finder among its callbacks"
            )
        if "callbacks" in options:
            raise TypeError("callbacks: expected none, as nothing is trained here; give fit the finder among its own")
        self._only_looks = True
        try:
            trained: Any = network
            trained.fit(X, Y, **options, callbacks=[self])
        finally:
            self._only_looks = False
        return self

    def on_fit_begin(self, event: FitBegin) -> bool:
        """Make the test.

        Parameters
        ----------
        event : FitBegin
            What there is to train.

        Returns
        -------
        bool
            Whether this is a call of `find`, which does not train.

        Raises
        ------
        ValueError
            If this is the training of a stack, or on all samples at once by a solver, or data come in chunks.
        """
        if event.try_rates is None:
            raise ValueError("LearningRateFinder: expected the training of one network by minibatches")
        rates = np.geomspace(self.lowest, self.highest, self.steps)
        self._keep(rates, np.array(event.try_rates(rates.tolist())))
        return self._only_looks

    def _keep(self, rates: Floats, costs: Floats) -> None:
        """Keep the part of the curve before the cost explodes, and find the rate to suggest."""
        smoothed = smooth(costs, self.smoothing)
        risen = ~(smoothed <= RISEN * np.fmin.accumulate(smoothed))
        end = int(risen.argmax()) if risen.any() else len(costs)
        self.rates, self.costs, self.smoothed = rates[:end], costs[:end], smoothed[:end]
        self.suggestion = None
        if end >= 3:
            slope = np.gradient(self.smoothed, np.log(self.rates))
            # The first smoothed costs are means over few minibatches, and fall and rise with these.
            begin = min(round(1.0 / (1.0 - self.smoothing)), end // 2)
            steepest = begin + int(slope[begin:].argmin())
            if slope[steepest] < 0:
                self.suggestion = float(self.rates[steepest])

    def plot(self) -> Any:
        """Draw the cost over the learning rate, with the suggestion.

        Returns
        -------
        matplotlib.figure.Figure
            Made by pyplot; ``.savefig("rates.png")`` writes it.

        Raises
        ------
        ImportError
            If matplotlib is not installed; the message names the extra that installs it.
        ValueError
            If there is no curve yet.

        Examples
        --------
        >>> import deltaprop as dp
        >>> from deltaprop.callbacks import LearningRateFinder
        >>> net = dp.Network([1, 1], loss="squared_error", seed=0)
        >>> finder = LearningRateFinder(steps=30).find(net, [[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
        >>> figure = finder.plot()  # needs matplotlib
        >>> figure.savefig("rates.png")
        """
        return plot_rates(self.rates, self.costs, self.smoothed, self.suggestion)


def smooth(values: Floats, share: float) -> Floats:
    """Return the exponential means of the values so far, s_k = Σ share^(k−i) v_i / Σ share^(k−i)."""
    result, total, weight = np.empty(len(values)), 0.0, 0.0
    for k, value in enumerate(values.tolist()):
        total, weight = share * total + value, share * weight + 1.0
        result[k] = total / weight
    return result
