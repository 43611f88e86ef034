"""Steps that ranks share, on paper: the time of their arithmetic, and of the sum of their gradients over a network.

Ring: 2 (R − 1) messages of 1/R of the gradient, one after the other. Rabenseifner: the same bytes in 2 log₂ R messages
(Thakur, Rabenseifner and Gropp, "Optimization of Collective Communication Operations in MPICH", 2005).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Algorithm = Literal["ring", "Rabenseifner"]
#: Floating-point operations of a step, a weight and a row: z, δ and ∂J/∂W, each a multiplication and an addition.
OPERATIONS = 6.0


@dataclass(frozen=True)
class Network:
    """What joins the machines.

    Parameters
    ----------
    name : str
    bytes_a_second : float
        Of one machine, each way.
    latency : float
        Seconds of a short message.
    """

    name: str
    bytes_a_second: float
    latency: float


#: TCP over Ethernet, and a network made for clusters.
NETWORKS = (Network("10 Gbit/s", 1.25e9, 20e-6), Network("100 Gbit/s", 12.5e9, 2e-6))


def seconds_of_sum(size: int, ranks: int, network: Network, algorithm: Algorithm) -> float:
    """Return how long it takes to add up `size` bytes over so many ranks."""
    messages = 2 * (ranks - 1) if algorithm == "ring" else 2 * math.ceil(math.log2(ranks))
    return messages * network.latency + 2 * (ranks - 1) / ranks * size / network.bytes_a_second


def rows_for(share: float, weights: int, flops: float, sum_: float) -> int:
    """Return of how many rows on each rank a step is arithmetic to such a `share`, at so many operations a second."""
    return math.ceil(share / (1 - share) * sum_ * flops / (OPERATIONS * weights))


def rows_without_latency(share: float, flops: float, bytes_a_second: float, itemsize: int) -> float:
    """Return the same for many ranks and a large network: it no longer depends on the size of either.

    2 × itemsize bytes a weight go each way; at a share of 0.8 in float32 it is 5.3 × operations ÷ bytes a second.
    """
    return share / (1 - share) * 2 * itemsize / bytes_a_second * flops / OPERATIONS
