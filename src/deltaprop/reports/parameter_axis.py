"""The axis of a hyperparameter: where its values stand, on what scale, and which ticks name them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deltaprop.reports.plot_style import CHARACTER, LONGEST_NAME, PANEL, as_label, label_height, shortened

#: Parameters that act by their order of magnitude: their axis is logarithmic from one decade on.
BY_MAGNITUDE = frozenset(
    ("learning_rate", "learning_rate_init", "lr", "eta", "eta0", "alpha", "l1", "l2", "weight_decay", "tol", "epsilon")
)
#: Units of parameters that have one.
UNITS = {
    "learning_rate": "η",
    "learning_rate_init": "η",
    "lr": "η",
    "max_iter": "epochs",
    "epochs": "epochs",
    "n_iter_no_change": "epochs",
    "batch_size": "samples",
    "n_samples": "samples",
    "time_limit": "s",
}
#: So many numbers get a tick each, if they stand apart; so many words do in any case.
MOST_NUMBERS, MOST_WORDS = 6, 60
#: Numbers whose sizes lie outside of these are words.
SMALLEST, LARGEST = 1e-290, 1e290
#: The shortest distance of two ticks, as a share of the axis.
APART = 0.12
#: How many decades lie between 0 and the smallest positive value; what matplotlib makes of ``linscale=1``.
ZERO_DECADES = 10 / 9
#: Words that stand upright are cut off here, lest they take the room of the picture.
LONGEST_WORD = 28

Scale = Literal["words", "linear", "log", "symlog"]


@dataclass(frozen=True)
class ParameterAxis:
    """Where the values of one parameter stand.

    Parameters
    ----------
    name : str
        The name of the parameter.
    at : array of float
        The place of each value: itself, or the number of its word.
    scale : {"words", "linear", "log", "symlog"}
        The kind of the axis. "symlog" is logarithmic, with 0 at its left end.
    words : list of str
        What stands at 0, 1, 2, … on an axis of words.
    """

    name: str
    at: NDArray[np.float64]
    scale: Scale
    words: Sequence[str] = ()

    @property
    def label(self) -> str:
        """The name with its unit, if it has one."""
        unit = UNITS.get(self.name.rsplit("__", 1)[-1])
        shown = f" [{unit}]" if unit else ""
        return as_label(self.name, LONGEST_NAME - len(shown), keeps_end="__" in self.name) + shown

    @property
    def width(self) -> float:
        """The width that a panel needs, inches."""
        return max(PANEL[0], 0.8 + 0.15 * min(len(self.words), MOST_WORDS))

    @property
    def rotation(self) -> int:
        """By how many degrees words are turned, so that they don't overlap."""
        longest = max(map(len, self._shown), default=0)
        if len(self.words) * (longest + 1) * CHARACTER < 0.8 * PANEL[0]:
            return 0
        return 30 if len(self.words) <= 8 else 90

    @property
    def height(self) -> float:
        """The height that the words take beyond one line, inches."""
        return label_height(self._shown, self.rotation)

    @property
    def _shown(self) -> list[str]:
        return [shortened(word, LONGEST_WORD) for word in self.words]

    def draw(self, axis: Any) -> None:
        """Set up the x-axis of a panel."""
        axis.set_xlabel(self.label)
        if self.scale == "words":
            each = math.ceil(len(self.words) / MOST_WORDS)
            turned = {"rotation": self.rotation, "ha": "right", "rotation_mode": "anchor"} if self.rotation else {}
            if self.rotation == 90:
                turned |= {"va": "center", "fontsize": 8}
            axis.set_xticks(range(0, len(self.words), each), map(as_label, self._shown[::each]), **turned)
            axis.set_xlim(-0.5, len(self.words) - 0.5)
            return
        if self.scale == "log":
            axis.set_xscale("log")
        elif self.scale == "symlog":
            smallest = float(self.at[self.at > 0].min())
            axis.set_xscale("symlog", linthresh=smallest, linscale=1.0)
            # Two strokes across the frame: from here to 0, the scale is not logarithmic.
            stroke = {"marker": [(-1, -2), (1, 2)], "markersize": 9, "color": axis.spines["bottom"].get_edgecolor()}
            shares = smallest * np.array([0.45, 0.55])
            axis.plot(shares, [0, 0], linestyle="none", clip_on=False, transform=axis.get_xaxis_transform(), **stroke)
        low, high = self._stands(self.at).min(), self._stands(self.at).max()
        margin = 0.06 * (high - low) or 0.5 * (abs(high) or 1.0)
        axis.set_xlim(self._value(low - margin), self._value(high + margin))
        ticks = self._ticks()
        if ticks is None:
            axis.locator_params(axis="x", nbins=5)
        else:
            axis.set_xticks(ticks, [_number(tick) for tick in ticks])
            if self.scale != "linear":
                axis.set_xticks([], minor=True)

    def _stands(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where values stand along the axis: in decades, where it is logarithmic."""
        if self.scale not in ("log", "symlog"):
            return values
        smallest = self.at[self.at > 0].min()
        return np.where(values > 0, np.log10(np.where(values > 0, values, 1.0)), np.log10(smallest) - ZERO_DECADES)

    def _value(self, stand: float) -> float:
        """Return which value stands at a place along the axis."""
        if self.scale == "linear":
            return stand
        smallest = self.at[self.at > 0].min()
        if self.scale == "symlog" and stand < np.log10(smallest):
            return float(smallest * (1 - (np.log10(smallest) - stand) / ZERO_DECADES))
        return float(10.0**stand)

    def _ticks(self) -> list[float] | None:
        """Return the values where ticks stand; None leaves it to matplotlib."""
        values = np.unique(self.at)
        places = self._stands(values)
        if len(values) == 1:
            return [float(values[0])]
        close = float(np.diff(places).min()) < APART * (places[-1] - places[0])
        if len(values) <= MOST_NUMBERS and not close and max(len(f"{value:g}") for value in values) <= 7:
            return [float(value) for value in values]
        if self.scale == "linear":
            return None
        positive = values[values > 0]
        zero = [0.0] if self.scale == "symlog" else []
        return zero + log_ticks(float(positive.min()), float(positive.max()))


def log_ticks(low: float, high: float) -> list[float]:
    """Return ticks of a logarithmic axis: 1, 2, 5, 10 … over few decades, else at most seven powers of ten."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if math.log10(high / low) < 2.2:
        ticks = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
    else:
        inside = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
        ticks = [10.0**power for power in inside[:: math.ceil(len(inside) / 7)]]
    return [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]


def _number(value: float) -> str:
    """Write a tick: a power of ten by its exponent, where it is far from 1."""
    power = math.log10(value) if value > 0 else 0.5
    if abs(power - round(power)) < 1e-9 and not -3 <= power <= 4:
        return f"$10^{{{round(power)}}}$"
    return f"{value:.4g}"


def parameter_axis(name: str, values: Sequence[Any]) -> ParameterAxis:
    """Choose the axis of a parameter by its values.

    Numbers get an axis of numbers. It is logarithmic where they span a decade and act by their magnitude, or lie more
    evenly on it; 0 then stands at its left end. Everything else is a word, as numbers among words and None are.
    """
    if all(_is_number(value) for value in values):
        at = np.array(values, float)
        return ParameterAxis(name, at, _scale(name, at))
    texts = [str(value) for value in values]
    kinds = dict(zip(texts, values, strict=True))
    words = list(dict.fromkeys(texts))
    if all(_is_sortable(value) for value in kinds.values()):
        words.sort(key=lambda text: _order(kinds[text]))
    return ParameterAxis(name, np.array([words.index(text) for text in texts], float), "words", words)


def _is_number(value: Any) -> bool:
    """Tell whether a value can stand on an axis of numbers; matplotlib can't draw the largest and smallest floats."""
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        return False
    size: Any = abs(value)
    return bool(size == 0 or SMALLEST <= size <= LARGEST)


def _is_sortable(value: object) -> bool:
    return value is None or _is_number(value) or (isinstance(value, tuple) and all(map(_is_number, value)))


def _order(value: Any) -> tuple[float, ...]:
    """Order None before numbers, and tuples of layer sizes by their length and then by their sizes."""
    if value is None:
        return (-1.0,)
    return (float(len(value)), *value) if isinstance(value, tuple) else (1.0, float(value))


def _scale(name: str, at: NDArray[np.float64]) -> Scale:
    positive = np.unique(at[at > 0])
    if at.min() < 0 or not positive.size or positive[-1] < 10 * positive[0] * (1 - 1e-9):
        return "linear"
    if name.rsplit("__", 1)[-1] not in BY_MAGNITUDE:
        even, log = _off_middle(positive), _off_middle(np.log(positive))
        if even <= log or (len(positive) < 3 and positive[-1] < 50 * positive[0]):
            return "linear"
    return "log" if at.min() > 0 else "symlog"


def _off_middle(places: NDArray[np.float64]) -> float:
    """Return how far the median lies from the middle, as a share of the range."""
    return abs(float((np.median(places) - places[0]) / (places[-1] - places[0])) - 0.5)
