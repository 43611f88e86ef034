"""The best candidates of a search, for a notebook: their scores and the parameters in which they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from deltaprop.reports.sheet import Sheet
from deltaprop.reports.text_table import Table

#: How many candidates are shown.
SHOWN = 10
#: Longer values are cut off.
LONGEST_VALUE = 40


def search_sheet(results: Mapping[str, Any], refit: object, splits: int, best: int | None) -> Sheet:
    """Make the sheet of a finished search.

    Parameters
    ----------
    results : mapping of str to array
        The search's ``cv_results_``.
    refit : object
        The search's argument: where it names a score, the candidates are ranked by that one, else by the first.
    splits : int
        Into how many splits each candidate was scored.
    best : int or None
        The number of the candidate that was chosen, if there is one.

    Returns
    -------
    Sheet
        Rank, mean and spread of the score, the parameters that vary and the mean time of a fit, best first.
    """
    scores = [name.removeprefix("mean_test_") for name in results if name.startswith("mean_test_")]
    score = refit if refit in scores else scores[0]
    candidates = results["params"]
    names = sorted({name for parameters in candidates for name in parameters})
    shown = [name for name in names if len({str(parameters.get(name)) for parameters in candidates}) > 1] or names
    mean, spread = results[f"mean_test_{score}"], results[f"std_test_{score}"]
    rank, seconds = results[f"rank_test_{score}"], results["mean_fit_time"]
    table = Table(["rank", f"mean test {score}", "±", *shown, "seconds a fit"], left=0)
    order = np.argsort(rank, kind="stable")[:SHOWN]
    for k in order:
        values = (_shortened(candidates[k].get(name, "")) for name in shown)
        figures = (str(int(rank[k])), f"{mean[k]:.4f}", f"{spread[k]:.4f}")
        table.add(*figures, *values, f"{seconds[k]:.3g}", strong=k == best)
    facts = {}
    if best is not None:
        chosen = ", ".join(f"{name}={_shortened(value)}" for name, value in candidates[best].items())
        facts = {"best candidate": chosen, f"its mean test {score}": f"{mean[best]:.4f} ± {spread[best]:.4f}"}
    count = len(candidates)
    more = f"The first {len(order)} of {count} candidates." if len(order) < count else ""
    return Sheet(f"Results of {count} candidates on {splits} splits", facts, table, more)


def _shortened(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
