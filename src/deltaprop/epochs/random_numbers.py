"""The random numbers of an epoch: they depend on the network's seed, on what they are for, and on the epochs before.

So a training that is interrupted, watched or resumed draws the same numbers as one that is not.
"""

from __future__ import annotations

import numpy as np

from deltaprop.backends.array_types import Indices
from deltaprop.backends.base import RandomStream, philox_key
from deltaprop.derivation.state import DROPOUT_STREAM, SHUFFLE_STREAM, NetworkState


def draw_order(network: NetworkState, samples: int, ahead: int = 0) -> Indices:
    """Draw a permutation of 0 … samples − 1: the order of samples in the next epoch, or in one so many epochs `ahead`.

    It is drawn on the host, so that every backend visits the samples in the same order.
    """
    return np.random.default_rng(_key(network, SHUFFLE_STREAM, ahead)).permutation(samples)


def window_generator(network: NetworkState) -> np.random.Generator:
    """Return the generator that shuffles parts, and samples within windows, in the next epoch."""
    return np.random.default_rng(_key(network, SHUFFLE_STREAM))


def shard_generator(network: NetworkState, shard: int) -> np.random.Generator:
    """Return the generator that shuffles a shard of the data in the next epoch."""
    return np.random.default_rng((*_key(network, SHUFFLE_STREAM), shard))


def dropout_stream(network: NetworkState, ahead: int = 0) -> RandomStream:
    """Return the backend's stream of random numbers for the masks of the next epoch, or of one so many `ahead`."""
    return network.backend.random_stream(_key(network, DROPOUT_STREAM, ahead))


def dropout_keys(network: NetworkState, epochs: int) -> Indices:
    """Return the keys of the streams of the next epochs, (epochs, 2) of uint64, for compiled code."""
    return np.array([philox_key(_key(network, DROPOUT_STREAM, ahead)) for ahead in range(epochs)])


def _key(network: NetworkState, stream: int, ahead: int = 0) -> tuple[int, int, int]:
    return (network.seed, stream, network.epochs_trained + ahead)
