"""How many blocks and threads a network in shared memory gets."""

from typing import Any, cast

import numpy as np
import pytest
from cases import known_rule

import deltaprop as dp
from deltaprop.backends.cuda import shared_memory
from deltaprop.backends.cuda.shared_memory import find_residence


class H200:
    """Its limits only: bytes of a block's shared memory, blocks of a cluster, multiprocessors."""

    def shared_memory_limits(self):
        return 232448, 8, 132


@pytest.mark.parametrize(
    ("sizes", "batch", "members", "clusters", "fastest"),
    [
        ((64, 32, 1), 32, 1, (1, 2, 4, 8), (8, 256)),
        ((64, 32, 1), 32, 1, (1, 2, 4), (4, 256)),
        ((64, 32, 1), 32, 1, (1, 2), (2, 512)),
        ((64, 32, 1), 32, 200, (1, 2), (1, 256)),  # two networks on a multiprocessor
        ((784, 30, 10), 10, 1, (1, 2, 4, 8), (8, 256)),
        ((784, 30, 10), 10, 1, (1, 2), (2, 512)),
        ((784, 30, 10), 10, 1, (1,), (1, 512)),
    ],
    ids=str,
)
def test_what_was_fastest_is_chosen(sizes, batch, members, clusters, fastest, monkeypatch):
    """Blocks and threads, as measured on an H200."""
    monkeypatch.setattr(shared_memory, "CLUSTERS", clusters)
    hidden, rule, backend = ["sigmoid"] * (len(sizes) - 1), known_rule(dp.SGD(0.1)), cast(Any, H200())
    found = find_residence(backend, sizes, hidden, "squared_error", np.dtype("float32"), batch, rule, members)
    assert found is not None
    assert (found.blocks, found.shape.threads) == fastest
