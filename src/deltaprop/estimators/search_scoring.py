"""The scores of the members of a stack in a search: many at once where it can be, else by scikit-learn's scorers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.metrics._scorer import _MultimetricScorer, _PassthroughScorer, _Scorer
from sklearn.model_selection._validation import _score
from sklearn.utils import _safe_indexing
from sklearn.utils._metadata_requests import _routing_enabled
from sklearn.utils.validation import _check_method_params

from deltaprop.backends.array_types import AnyArray, ArrayLike, Indices
from deltaprop.derivation.state import StackState
from deltaprop.estimators.inputs import on_host
from deltaprop.estimators.member_fits import MemberRecords
from deltaprop.estimators.member_training import predict_members
from deltaprop.estimators.search_jobs import TEST, TRAIN, Job, Split
from deltaprop.estimators.together import EstimatorGroup

#: Scorings that are the estimator's own score, which is computed for many members at once.
OWN_SCORES = {"classifier": (None, "accuracy"), "regressor": (None, "r2")}


class Scoring:
    """How the members of stacks are scored.

    Parameters
    ----------
    sweep : SweepCV or HalvingSweepCV
        Its parameters are used; it is not changed.
    X, y
        As they were given: scorers get their rows.
    scorers : callable
        What scikit-learn's `_fit_and_score` calls for the scores.
    params : dict
        What the scorers get besides.

    Attributes
    ----------
    splits : sequence of (array of int, array of int)
        The rows to train on and those to test on.
    own_score : bool
        Whether the score is the estimator's own.
    """

    y: ArrayLike
    scorers: Any
    error_score: Any

    def __init__(self, sweep: Any, X: ArrayLike, y: ArrayLike, scorers: Any, params: dict[str, Any]) -> None:
        self.X, self.y, self.scorers, self.error_score = X, y, scorers, sweep.error_score
        self.sides: tuple[int, ...] = (TEST, TRAIN) if sweep.return_train_score else (TEST,)
        self.params: dict[str, AnyArray] = {
            name: on_host(value, name) for name, value in params.items() if value is not None
        }
        self.splits: Sequence[Split] = ()
        is_routed = _routing_enabled()  # the methods of a pipeline then have rules of their own
        kind = "classifier" if is_classifier(sweep.estimator) else "regressor"
        own = isinstance(sweep.scoring, str | None) and sweep.scoring in OWN_SCORES[kind]
        self.own_score: bool = own and self.params.keys() <= {"sample_weight"}
        #: Scorers of scikit-learn ask an estimator for predictions only: a network is as good as its pipeline.
        self.of_predictions: bool = _is_of_predictions(scorers) and not is_routed
        self._needs_pipeline = is_routed

    def as_sent(self, group: EstimatorGroup) -> Scoring:
        """Return the scoring for workers that have the table of a group; inputs that are not looked at are left out."""
        if not self.own_score or self._needs_pipeline:
            return self
        for split in self.splits:
            for side in self.sides:
                if not group.has_score(len(split[side]), self._weights(split[side])):
                    return self
        result = copy.copy(self)
        result.X = None
        return result

    def _weights(self, rows: Indices) -> AnyArray | None:
        weights = _check_method_params(self.y, params=self.params, indices=rows).get("sample_weight")
        return None if weights is None else np.asarray(weights)

    def members(
        self,
        group: EstimatorGroup,
        jobs: dict[int, Job],
        stack: StackState,
        records: MemberRecords,
        side: int,
    ) -> dict[int, Any]:
        """Score members on the samples that they were trained on (`side` is TRAIN) or tested on (TEST).

        Parameters
        ----------
        group : EstimatorGroup
        jobs : dict of int to Job
            By the number of the member.
        stack : StackState
        records : MemberRecords
        side : int

        Returns
        -------
        scores : dict of int to float or dict
            By the number of the member; members whose parameters are not finite have none.
        """
        of_fold: dict[int, list[int]] = {}
        for k in sorted(jobs, key=lambda k: (jobs[k].split, k)):
            if records.finite[k]:
                of_fold.setdefault(id(jobs[k].fold), []).append(k)
        scores: dict[int, Any] = {}
        for members in of_fold.values():
            job = jobs[members[0]]
            of_split = self.splits[job.split][side]
            params = _check_method_params(self.y, params=self.params, indices=of_split)
            weights = self._weights(of_split)
            at_once = self.own_score and not (self._needs_pipeline and job.fold.dress)
            if at_once and group.has_score(len(of_split), weights):
                values = self._at_once(group, job, np.array(members), stack, side, weights)
                scores |= dict(zip(members, values, strict=True))
            else:
                scores |= self._one_by_one(group, {k: jobs[k] for k in members}, stack, records, side, params)
        return scores

    def _at_once(
        self, group: EstimatorGroup, job: Job, members: Any, stack: StackState, side: int, weights: Any
    ) -> list[float]:
        rows = job.fold.scored[side]
        on_backend = group.backend.asarray(rows, np.int64)
        outputs = predict_members(stack, members, group.X[on_backend])
        values: list[float] = group.score(outputs, group.table.targets[rows], weights).tolist()
        return values

    def _one_by_one(
        self,
        group: EstimatorGroup,
        jobs: dict[int, Job],
        stack: StackState,
        records: MemberRecords,
        side: int,
        params: Any,
    ) -> dict[int, Any]:
        first = next(iter(jobs.values()))
        fold, of_split = first.fold, self.splits[first.split][side]
        y = _safe_indexing(self.y, of_split)
        undressed = fold.dress is None or self.of_predictions
        X = fold.seen(side) if fold.samples and undressed else _safe_indexing(self.X, of_split)
        scores = {}
        for k, job in jobs.items():
            fitted = group.as_fitted(job.estimator, group.network(stack.parameters[k]), records, k)
            fitted = fitted if undressed else fold.dress(fitted)
            scores[k] = _score(fitted, X, y, self.scorers, params, self.error_score)
        return scores

    def failed(self, error: str) -> dict[str, Any]:
        """Return the entry of a fit that has failed, without its times."""
        score, names = self.error_score, getattr(self.scorers, "_scorers", None)
        return {"fit_error": error} | {
            KINDS_OF_SCORES[side]: dict.fromkeys(names, score) if names else score for side in self.sides
        }


#: scikit-learn's names of the scores, by side.
KINDS_OF_SCORES = {TRAIN: "train_scores", TEST: "test_scores"}


def _is_of_predictions(scorers: Any) -> bool:
    """Return whether these scorers see nothing of an estimator but its predictions."""
    if isinstance(scorers, _MultimetricScorer):
        return all(map(_is_of_predictions, scorers._scorers.values()))
    return type(scorers) in (_Scorer, _PassthroughScorer)
