"""Stages that train on the CPU, in every way, and compare with a training sample by sample."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from deltaprop.backends import Backend, get_backend
from deltaprop.backends.choices import FloatName
from deltaprop.backends.native.library import library, library_origin, library_problem
from deltaprop.derivation.state import SHUFFLE_STREAM
from deltaprop.doctor.fits import OPTIMIZERS, Fit, relative, worst
from deltaprop.doctor.record import Record
from deltaprop.doctor.textbook import trained
from deltaprop.doctor.ways import only
from deltaprop.epochs.compiled import CompiledEpoch
from deltaprop.epochs.recorded import RecordedEpoch
from deltaprop.epochs.task import WholeEpoch

DTYPES: tuple[FloatName, ...] = ("float64", "float32")


def compiled(backend: Backend, record: Record) -> None:
    """Train in the library that came with the package or is compiled for this processor."""
    problem = library_problem(np.dtype(DTYPES[0]))
    if problem is not None:
        record.slow(f"epochs are recorded calls of NumPy: {problem}")
        return recorded(backend, record)
    record.trying("the library for each dtype")
    with ThreadPoolExecutor(len(DTYPES)) as pool:  # a compiler takes half a minute on a slow machine
        list(pool.map(library, map(np.dtype, DTYPES)))
    record.fact("compiled library", library_origin(np.dtype(DTYPES[0])))
    return _against_the_textbook(backend, record, CompiledEpoch)


def recorded(backend: Backend, record: Record) -> None:
    """Train by recorded calls of NumPy."""
    _against_the_textbook(backend, record, RecordedEpoch)


def steps(backend: Backend, record: Record) -> None:
    """Train by single calls of NumPy: this is the reference for other backends."""
    _against_the_textbook(get_backend("reference"), record, None)


def _against_the_textbook(backend: Backend, record: Record, way: type[WholeEpoch] | None) -> None:
    ways = () if way is None else (way,)
    with only(*ways) as found:
        for dtype in DTYPES:
            for rule in OPTIMIZERS:
                fit = Fit(dtype, rule)
                record.trying(fit.name)
                record.compare(fit.name, textbook_error(backend, fit), fit.allowed)
    if len(found) != len(ways) * len(DTYPES) * len(OPTIMIZERS):
        record.not_taken("compiled" if way is CompiledEpoch else "recorded")


def textbook_error(backend: Backend, fit: Fit) -> float:
    """Return how far a training ends from the same training by `textbook`."""
    network, (X, y) = fit.network(backend), fit.data()
    weights, biases = ([np.array(x, np.float64) for x in arrays] for arrays in (network.weights, network.biases))
    orders = [
        np.random.default_rng((network.seed, SHUFFLE_STREAM, epoch)).permutation(len(X)) for epoch in range(fit.epochs)
    ]
    costs = fit.train(network, X, y).cost
    expected = trained(weights, biases, X, y, orders, fit.batch, 0.1, OPTIMIZERS[fit.rule])
    flat = np.concatenate([x.ravel() for x in (*weights, *biases)])
    of_parameters = relative(np.asarray(network.parameters), flat)
    return worst(of_parameters, relative(np.array(costs), np.array(expected)))
