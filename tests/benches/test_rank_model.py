"""The model of `benches.ranks` against sums written out by hand."""

import pytest
from deltaprop.benches.rank_parts.model import Network, rows_for, rows_without_latency, seconds_of_sum

NETWORK = Network("a network", 1e9, 1e-5)


def test_sums():
    # 8 ranks, a megabyte: 7/8 of it goes out twice; 14 messages one after the other, or 6.
    assert seconds_of_sum(10**6, 8, NETWORK, "ring") == pytest.approx(14e-5 + 1.75e-3, rel=1e-12)
    assert seconds_of_sum(10**6, 8, NETWORK, "Rabenseifner") == pytest.approx(6e-5 + 1.75e-3, rel=1e-12)


def test_the_rows_that_are_enough():
    weights, flops, sum_ = 10**5, 1e11, 2e-3
    rows = rows_for(0.8, weights, flops, sum_)

    def share(rows):
        arithmetic = 6.0 * weights * rows / flops
        return arithmetic / (arithmetic + sum_)

    assert share(rows - 1) < 0.8 <= share(rows)


def test_a_large_network_on_many_ranks_needs_as_many_rows_as_any():
    flops, bytes_ = 1.2e11, 1.25e9
    limit = rows_without_latency(0.8, flops, bytes_, 4)
    assert limit == pytest.approx(5.333 * flops / bytes_, rel=1e-3)
    fast = Network("without latency", bytes_, 0.0)
    for weights in (10**7, 10**9):
        sum_ = seconds_of_sum(4 * weights, 4096, fast, "Rabenseifner")
        assert rows_for(0.8, weights, flops, sum_) == pytest.approx(limit, rel=2e-3)
