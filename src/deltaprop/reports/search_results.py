"""The best candidates of a search, for a notebook: their scores and the parameters in which they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from deltaprop.reports.plot_style import shortened
from deltaprop.reports.search_plots import varied
from deltaprop.reports.sheet import Sheet
from deltaprop.reports.text_table import Table

#: How many candidates are shown.
SHOWN = 10


def search_sheet(
    results: Mapping[str, Any], refit: object, splits: int, best: int | None, resource: str | None = None
) -> Sheet:
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
    resource : str, optional
        The resource of a successive halving.

    Returns
    -------
    Sheet
        Rank, mean and spread of the score, the parameters that vary and the mean time of a fit, best first. Of a
        successive halving, those of the last iteration come first, and the resource stands in place of the rank.
    """
    scores = [name.removeprefix("mean_test_") for name in results if name.startswith("mean_test_")]
    score = refit if refit in scores else scores[0]
    candidates = results["params"]
    shown = [name for name in varied(candidates) if name != resource]
    mean, spread = results[f"mean_test_{score}"], results[f"std_test_{score}"]
    rank, seconds = results[f"rank_test_{score}"], results["mean_fit_time"]
    iterations = results["iter"] if resource is not None else np.zeros(len(candidates), int)
    place = rank if resource is None else results["n_resources"]
    table = Table([resource or "rank", f"mean test {score}", "±", *shown, "seconds a fit"], left=0)
    order = np.lexsort((rank, -iterations))[:SHOWN]
    for k in order:
        values = (shortened(candidates[k].get(name, "")) for name in shown)
        figures = (str(int(place[k])), f"{mean[k]:.4f}", f"{spread[k]:.4f}")
        table.add(*figures, *values, f"{seconds[k]:.3g}", strong=k == best)
    facts = {}
    if best is not None:
        chosen = ", ".join(f"{name}={shortened(value)}" for name, value in candidates[best].items())
        facts = {"best candidate": chosen, f"its mean test {score}": f"{mean[best]:.4f} ± {spread[best]:.4f}"}
    count, title = f"{len(candidates)} candidates", f"Results of {len(candidates)} candidates on {splits} splits"
    if resource is not None:
        sizes = [f"{(iterations == n).sum()} with {place[iterations == n][0]}" for n in np.unique(iterations)]
        facts[f"candidates, by {resource}"] = ", ".join(sizes)
        count = f"{len(candidates)} results"
        title = f"Results of {(iterations == 0).sum()} candidates in {len(sizes)} iterations on {splits} splits"
    more = f"The first {len(order)} of {count}." if len(order) < len(candidates) else ""
    return Sheet(title, facts, table, more)
