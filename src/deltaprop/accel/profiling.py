"""What has run where, how often and how long, and why scikit-learn's own code ran."""

from __future__ import annotations

import logging
import threading
from collections import Counter, defaultdict

from deltaprop.forks import in_child
from deltaprop.reports.text_table import Table

LOGGER = logging.getLogger("deltaprop.accel")
#: Who has done the work, where it was not ours.
SCIKIT_LEARN = "scikit-learn"


class Profile:
    """Counts and seconds of calls, by class, method and who did the work.

    Attributes
    ----------
    calls : dict
        For each (class, method, who), how many calls and seconds.
    reasons : Counter
        For each (class, method, reason), how often scikit-learn's own code ran for that reason.
    sent : int
        How many tasks were sent to other processes.

    See Also
    --------
    deltaprop.accel.profile : Returns the one of this process.

    Examples
    --------
    >>> from deltaprop.accel.profiling import Profile
    >>> profile = Profile()
    >>> profile.add("MLPClassifier", "fit", "deltaprop", 0.25)
    >>> profile.add("MLPClassifier", "fit", "deltaprop", 0.5)
    >>> profile.calls["MLPClassifier", "fit", "deltaprop"]
    [2, 0.75]
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.calls: defaultdict[tuple[str, str, str], list[float]] = defaultdict(lambda: [0, 0.0])
        self.reasons: Counter[tuple[str, str, str]] = Counter()
        self.sent = 0

    def add(self, kind: str, method: str, who: str, seconds: float) -> None:
        """Count a call.

        Parameters
        ----------
        kind : str
            The name of the class.
        method : str
            The name of the method.
        who : str
            Who did the work.
        seconds : float
            How long it took.
        """
        with self._lock:
            entry = self.calls[kind, method, who]
            entry[0] += 1
            entry[1] += seconds

    def fell_back(self, kind: str, method: str, reason: str) -> None:
        """Count a call that scikit-learn's own code does, and log it: the first of its kind at level INFO.

        Parameters
        ----------
        kind : str
            The name of the class.
        method : str
            The name of the method.
        reason : str
            Why scikit-learn's own code does it.
        """
        key = kind, method, reason
        with self._lock:
            self.reasons[key] += 1
            first = self.reasons[key] == 1
        LOGGER.log(logging.INFO if first else logging.DEBUG, "%s.%s by scikit-learn's own code: %s", *key)

    def __str__(self) -> str:
        if not self.calls:
            lines = ["deltaprop.accel: no call of MLPClassifier or MLPRegressor in this process"]
        else:
            table = Table(["what", "by", "calls", "seconds"], left=2)
            for (kind, method, who), (calls, seconds) in sorted(self.calls.items()):
                table.add(f"{kind}.{method}", who, str(int(calls)), f"{seconds:.3f}")
            lines = ["deltaprop.accel: what ran where", table.render()]
        if self.reasons:
            table = Table(["by scikit-learn's own code", "because", "calls"], left=2)
            for (kind, method, reason), calls in sorted(self.reasons.items()):
                table.add(f"{kind}.{method}", reason, str(calls))
            lines.append(table.render())
        if self.sent:
            lines.append(f"{self.sent} tasks were sent to other processes; their calls are not counted here.")
        return "\n".join(lines)

    __repr__ = __str__


PROFILE = Profile()


def _new_lock() -> None:
    PROFILE._lock = threading.Lock()  # another thread may have held the old one when the process was copied


in_child(_new_lock)
