"""How many rows of each shard a minibatch takes, and whose they are."""

import threading

import numpy as np
import pytest
from threads import ThreadRanks

import deltaprop as dp
from deltaprop.epochs.sharding import RowSharding
from deltaprop.inputs import sources
from deltaprop.inputs.shards import PartShards
from deltaprop.ranks.base import ONE_RANK


def slices_of(sizes, batch_size):
    """Write out which rows of each shard each minibatch has: (shard, row) by the formula, in whole numbers."""
    S, n = len(sizes), sum(sizes)
    steps = -(-n // batch_size)
    given = [[(n_s * b * S + steps * s) // (steps * S) for b in range(steps + 1)] for s, n_s in enumerate(sizes)]
    minibatches = [[(s, i) for s in range(S) for i in range(given[s][b], given[s][b + 1])] for b in range(steps)]
    return [minibatch for minibatch in minibatches if minibatch]


def rank_of(number, size):
    return ThreadRanks(number, [None] * size, threading.Barrier(size))


@pytest.mark.parametrize("batch_size", [1, 3, 20, 64, 500])
@pytest.mark.parametrize("sizes", [[7] * 12, [0, 40, 1, 1, 9, 13], [1] * 5, [100]], ids=str)
def test_every_row_is_once_in_an_epoch(sizes, batch_size):
    class Given(RowSharding):
        def __init__(self, ranks):
            self._starts = np.cumsum([0, *sizes])
            super(RowSharding, self).__init__(np.array(sizes), batch_size, ranks)

    net, n = dp.Network([2, 1], backend="numpy", seed=3), sum(sizes)
    whole = Given(ONE_RANK)
    minibatches = slices_of(sizes, batch_size)
    assert list(whole.shares.sizes) == [len(minibatch) for minibatch in minibatches]
    order = whole.order(net, of_all=True)
    assert sorted(order) == list(range(n))
    for size in (1, 2, 5, 15):
        found = [Given(rank_of(rank, size)) for rank in range(size)]
        assert sorted(shard for own in found for shard in own.own) == list(range(len(sizes)))
        for own in found:
            assert own.shares.sizes == whole.shares.sizes
            np.testing.assert_array_equal(own.order(net, of_all=False), order[own.shares.rows])
        assert sorted(row for own in found for row in own.shares.rows) == list(range(n))
        assert max(len(own.shares.rows) for own in found) == found[0].most_rows


@pytest.mark.parametrize("batch_size", [1, 7, 60, 61, 1000])
def test_minibatches_of_equal_shards_are_even(batch_size):
    sizes = RowSharding(840 * 5, batch_size, ONE_RANK).shares.sizes
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == -(-4200 // batch_size)


def test_minibatches_of_other_shards_are_about_as_large():
    sizes = RowSharding(840 * 5 + 29, 100, ONE_RANK).shares.sizes
    assert len(sizes) == 43
    assert all(abs(size - 4229 / 43) < 5 for size in sizes)


class Sized(sources.Parts):
    """Parts that have sizes and no rows."""

    def __init__(self, sizes, columns):
        self._measure(sizes, columns)

    def part(self, number):
        raise NotImplementedError

    def name(self, number):
        return f"part {number}"

    def describe(self):
        return "parts"


@pytest.mark.parametrize(
    ("parts", "rows", "count", "window"),
    [
        (1, 10**6, 1, 2**26),  # 64 MiB
        (30, 10**6, 30, 2**26),
        (500, 10**7, 48, 2**31 // 48),  # 1.2 GB each
        (500, 10**5, 167, 2**31 // 167),  # 12.8 MB each: as many as 2 GiB hold
        (5000, 100, 840, 2**31 // 840),
    ],
)
def test_how_many_shards_there_are(parts, rows, count, window):
    found = PartShards(Sized([rows] * parts, 15))
    assert len(found.sizes) == count
    assert found.sizes.sum() == parts * rows
    assert found.rows_of_window == window // 128
