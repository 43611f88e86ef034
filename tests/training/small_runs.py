"""The network and the data that the tests of checkpoints train."""

import deltaprop as dp


def network(backend="numpy", **options):
    return dp.Network([4, 6, 3], **{"loss": "categorical_cross_entropy", "backend": backend} | options)


def three_classes(rng):
    """Random samples for it, with random labels."""
    return rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
