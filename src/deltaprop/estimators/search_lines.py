"""The lines that a search prints under ``verbose``, as scikit-learn prints them."""

from __future__ import annotations

import sys
from typing import Any

from joblib.logger import short_format_time

from deltaprop.estimators.search_jobs import Job

#: How long a line is at least.
WIDTH = 80


class Lines:
    """Prints a line for each fit of a search.

    Parameters
    ----------
    verbose : int
        Above 1, a line when a fit is done; above 2, with its scores and its split; above 9, with its candidate, and a
        line before.
    candidates, splits : int
        How many there are.
    """

    verbose: int
    candidates: int
    splits: int

    def __init__(self, verbose: int, candidates: int, splits: int) -> None:
        self.verbose, self.candidates, self.splits = verbose, candidates, splits

    def total(self) -> None:
        """Say how many fits there are."""
        if self.verbose > 0:
            fits = self.candidates * self.splits
            _say(f"Fitting {self.splits} folds for each of {self.candidates} candidates, totalling {fits} fits")

    def begun(self, job: Job) -> None:
        """Say that a fit begins."""
        if self.verbose > 9:
            _say(f"{self._head(job)} START {_named(job)}".ljust(WIDTH, "."))

    def done(self, job: Job, entry: dict[str, Any]) -> None:
        """Say that a fit is done."""
        if self.verbose > 1:
            named = _named(job)
            text = f"{named};" if named else ""
            if self.verbose > 2:
                text += _scores(entry["test_scores"], entry.get("train_scores"))
            text += f" total time={short_format_time(entry['fit_time'] + entry['score_time'])}"
            head = f"{self._head(job)} END "
            _say(head + text.rjust(WIDTH - len(head), "."))

    def _head(self, job: Job) -> str:
        of_split = f" {job.split + 1}/{self.splits}" if self.verbose > 2 else ""
        of_candidate = f"; {job.candidate + 1}/{self.candidates}" if self.verbose > 9 else ""
        return f"[CV{of_split}{of_candidate}]"


def _named(job: Job) -> str:
    return ", ".join(f"{name}={job.parameters[name]}" for name in sorted(job.parameters))


def _scores(test: Any, train: Any) -> str:
    if not isinstance(test, dict):
        return f", score={test:.3f}" if train is None else f", score=(train={train:.3f}, test={test:.3f})"
    both = {name: "" if train is None else f"train={train[name]:.3f}, " for name in test}
    return "".join(f" {name}: ({both[name]}test={test[name]:.3f})" for name in sorted(test))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
