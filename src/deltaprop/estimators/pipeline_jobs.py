"""The fits of a search over a pipeline whose last step is a network."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags

from deltaprop.backends.array_types import ArrayLike
from deltaprop.estimators.parallel_tasks import Tasks
from deltaprop.estimators.pipeline_folds import PreparedSplit, Unprepared, one_table, prepare
from deltaprop.estimators.search_jobs import Job, Networks, Place, Split
from deltaprop.estimators.together import COPIES, KINDS, MEMORY, Table, group_key

#: Parameters of a pipeline that a candidate may not change where fits are to be trained together.
OF_ALL_STEPS = {"steps", "memory", "verbose", "transform_input"}
#: Values that are the same wherever they are equal.
PLAIN = (bool, int, float, str, type(None), np.generic)


def has_network_last(estimator: Any) -> bool:
    """Return whether `estimator` is a pipeline whose steps before a network can be fitted once for many networks."""
    return (
        type(estimator) is Pipeline
        and bool(estimator.steps)
        and type(estimator.steps[-1][1]) in KINDS
        and not estimator.verbose
        and getattr(estimator, "transform_input", None) is None
        and not get_tags(estimator).input_tags.pairwise
    )


def same(value: Any) -> Any:
    """Return a key: equal keys are of parameters with the same effect."""
    return (type(value), value) if isinstance(value, PLAIN) else id(value)


def key_of(parameters: dict[str, Any]) -> Any:
    """Return a key of several parameters, as `same` does; the parameters have to be kept alive."""
    return frozenset((name, same(value)) for name, value in parameters.items())


class PipelineJobs:
    """The fits of a search over a pipeline whose last step is an `MLPClassifier` or an `MLPRegressor`.

    Candidates with the same parameters of the other steps share these steps, fitted once a split. On this machine, the
    samples of all splits, transformed, are one table, as far as the memory allows. Workers on other machines are sent
    the samples as they were given, and transform what they train on.

    Parameters
    ----------
    pipeline : Pipeline
        One that `has_network_last`.
    X, y
        As they were given.
    fit_params : dict
        What its `fit` gets besides.
    with_train : bool
        Whether training samples are scored as well.
    memory : int or None
        Bytes that the transformed samples may take; by default 2³⁰. One split at least is held.
    tasks : Tasks
        Fits the steps in workers.

    Raises
    ------
    ValueError, TypeError
        If the targets cannot be checked once for all fits.
    """

    pipeline: Any
    y: ArrayLike
    fit_params: dict[str, Any]
    with_train: bool
    memory: int
    tasks: Tasks
    last: Any

    def __init__(
        self,
        pipeline: Pipeline,
        X: ArrayLike,
        y: ArrayLike,
        fit_params: dict[str, Any],
        *,
        with_train: bool,
        memory: int | None,
        tasks: Tasks,
    ) -> None:
        self.pipeline, self.X, self.y, self.fit_params = pipeline, X, y, fit_params
        self.with_train, self.memory, self.tasks = with_train, memory or MEMORY, tasks
        self.last, network = pipeline.steps[-1]
        self.epochs: str = f"{self.last}__max_iter"
        self.networks: Networks = Networks(network, network.dtype)
        self._replaced: dict[int, tuple[Any, Networks]] = {}
        # The inputs differ from split to split; one column stands for them while the targets are checked.
        self.whole: Table = Table.of(network, np.zeros((len(y), 1)), y)

    def together(
        self,
        candidates: Sequence[dict[str, Any]],
        splits: Sequence[Split],
        done: Container[Place],
        alone: list[Job],
    ) -> Iterator[list[Job]]:
        """Give the fits that can be trained together, as many as the memory allows; append the others to `alone`.

        Fits in `done` are left out.
        """
        waiting: dict[Any, list[tuple[PreparedSplit, list[Job]]]] = {}
        held = 0
        for steps, jobs in self._by_steps(candidates, splits, done, alone):
            for prepared, own in self._prepare(steps, jobs, splits, alone):
                if held and held + prepared.bytes > self.memory:
                    yield from self._tables(waiting, splits)
                    waiting, held = {}, 0
                waiting.setdefault(prepared.kind, []).append((prepared, own))
                held += prepared.bytes
        yield from self._tables(waiting, splits)

    def groups(
        self,
        candidates: Sequence[dict[str, Any]],
        splits: Sequence[Split],
        done: Container[Place],
        alone: list[Job],
    ) -> Iterator[tuple[dict[str, Any], list[Job], int]]:
        """Give the fits on one split whose steps and widths are the same, for workers that fit these steps.

        Each group comes with the parameters of its steps, and with the bytes that a fit takes: those of a network for
        the inputs as they are, since the transformed ones are not known. Other fits are appended to `alone`.
        """
        columns = self.X.shape[1] if len(np.shape(self.X)) == 2 else 1
        for steps, jobs in self._by_steps(candidates, splits, done, alone):
            of_key: dict[Any, list[Job]] = {}
            for job in jobs:
                of_key.setdefault((job.split, group_key(job.estimator)), []).append(job)
            for own in of_key.values():
                try:
                    widths = self.whole.widths(self.whole.configured(own[0].estimator))
                except (ValueError, TypeError):
                    alone += own
                else:
                    parameters = sum((1 + below) * above for below, above in pairwise([columns, *widths[1:]]))
                    yield steps, own, COPIES * parameters * np.dtype(np.float64).itemsize

    def unprepared(self, splits: Sequence[Split]) -> Unprepared:
        """Return what it takes to fit the steps on these splits."""
        return Unprepared(self.pipeline, self.networks.base, self.X, self.y, splits, self.fit_params, self.with_train)

    def _by_steps(
        self,
        candidates: Sequence[dict[str, Any]],
        splits: Sequence[Split],
        done: Container[Place],
        alone: list[Job],
    ) -> list[tuple[dict[str, Any], list[Job]]]:
        """Collect the fits by the parameters of the steps before the network."""
        alike = [self.whole.is_seen_alike(train) for train, _ in splits]
        found: dict[Any, tuple[dict[str, Any], list[Job]]] = {}
        for c, parameters in enumerate(candidates):
            left = [s for s in range(len(splits)) if (c, s) not in done]
            estimator = self._network(parameters) if left else None
            steps = {name: value for name, value in parameters.items() if not self._is_of_network(name)}
            for s in left:
                job = Job(c, s, parameters, estimator)
                if estimator is None or not alike[s]:
                    alone.append(job)
                else:
                    found.setdefault(key_of(steps), (steps, []))[1].append(job)
        return list(found.values())

    def _is_of_network(self, name: str) -> bool:
        return name == self.last or name.startswith(f"{self.last}__")

    def _network(self, parameters: dict[str, Any]) -> Any:
        """Return the network of a candidate; None if it cannot be trained together with others."""
        if OF_ALL_STEPS & parameters.keys():
            return None
        networks = self.networks
        if self.last in parameters:
            value = parameters[self.last]
            if type(value) is not type(networks.base):
                return None
            networks = self._replaced.setdefault(id(value), (value, Networks(value, self.networks.dtype)))[1]
        prefix = f"{self.last}__"
        own = {name.removeprefix(prefix): value for name, value in parameters.items() if name.startswith(prefix)}
        return networks.of(own)

    def _prepare(
        self, steps: dict[str, Any], jobs: list[Job], splits: Sequence[Split], alone: list[Job]
    ) -> Iterator[tuple[PreparedSplit, list[Job]]]:
        """Fit the steps on every split; append the fits of a split whose samples cannot be shared to `alone`."""
        of_split: dict[int, list[Job]] = {}
        for job in jobs:
            of_split.setdefault(job.split, []).append(job)
        first, *others = of_split
        common = self.unprepared(splits)
        results = [prepare(common, steps, first)]
        if results[0] is None:  # as the others would be, most likely
            alone += jobs
            return
        results += self.tasks.run(prepare, common, [(steps, s) for s in others])
        for prepared, own in zip(results, of_split.values(), strict=True):
            if prepared is None:
                alone += own
            else:
                yield prepared, own

    def _tables(
        self, waiting: dict[Any, list[tuple[PreparedSplit, list[Job]]]], splits: Sequence[Split]
    ) -> Iterator[list[Job]]:
        together: list[Job] = []
        for of_kind in waiting.values():
            folds = one_table(self.whole, [prepared for prepared, _ in of_kind], splits)
            for fold, (_, jobs) in zip(folds, of_kind, strict=True):
                together += [replace(job, fold=fold) for job in jobs]
        yield together
