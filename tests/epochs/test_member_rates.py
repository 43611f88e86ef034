"""The rates of members equal each optimizer's own formula, whichever members take their steps, and however often."""

import numpy as np
import pytest
from mpmath import mp, mpf, sqrt

import deltaprop as dp
from deltaprop.derivation.backprop import Objective
from deltaprop.epochs import member_rates, task
from deltaprop.epochs.member_rates import MemberRates
from deltaprop.epochs.members import Member


def exact(optimizer, learning_rate, t):
    """Return η √(1 − β₂^t)/(1 − β₁^t) and ηλ of a step, or η and 0 for SGD."""
    if isinstance(optimizer, dp.SGD):
        return learning_rate, 0.0
    with mp.workdps(30):
        correction = sqrt(1 - mpf(optimizer.beta_2) ** t) / (1 - mpf(optimizer.beta_1) ** t)
        return float(mpf(learning_rate) * correction), learning_rate * getattr(optimizer, "weight_decay", 0.0)


OPTIMIZERS: dict[str, list[dp.Optimizer]] = {
    "shared": [dp.Adam()] * 4,
    "apart": [dp.Adam(beta_1=0.5), dp.AdamW(weight_decay=0.3), dp.SGD(), dp.Adam(beta_2=0.9)],
    "plain": [dp.SGD(), dp.SGD(momentum=0.9), dp.SGD(), dp.SGD()],
}


@pytest.mark.parametrize("spread", [0.0, 0.01])
@pytest.mark.parametrize("ahead", [1, 7, 256])
@pytest.mark.parametrize("samples", [(6, 6, 6, 6), (6, 2, 9, 6)], ids=["alike", "of many sizes"])
@pytest.mark.parametrize("optimizers", OPTIMIZERS)
def test_rates(optimizers, samples, ahead, spread, monkeypatch):
    monkeypatch.setattr(member_rates, "STEPS_AHEAD", ahead)
    members = [Member(m, 3, one, Objective()) for m, one in zip(samples, OPTIMIZERS[optimizers], strict=True)]
    rates, taken = MemberRates(members), np.zeros(4, np.int64)
    calls = [([0, 1, 2, 3], 0.1, 1)] * 3 + [([0, 3], 0.1, 1), ([1, 2], 0.1, 2), ([0, 1, 2, 3], 0.1, 2)]
    calls += [([3, 1], 0.2, 1), ([3, 1], 0.2, 1), ([0, 1, 2, 3], 0.2, 3), ([0, 1, 2, 3], 0.2, 3)] * 2
    for number, (numbers, rate, epochs) in enumerate(calls):
        which = np.array(numbers)
        learning_rates = np.full((len(which), epochs), rate) + spread * which[:, np.newaxis]
        if number == 8:
            learning_rates[:, -1] /= 2
        rows, of_member = rates(which, learning_rates, taken[which])
        for place, k in enumerate(numbers):
            batches = members[k].batches
            for step in range(epochs * batches):
                epoch, batch = divmod(step, batches)
                found = rows[of_member[place], epoch, batch if rows.shape[2] > 1 else 0]
                expected = exact(members[k].optimizer, learning_rates[place, epoch], taken[k] + step + 1)
                assert found == pytest.approx(expected, rel=1e-14), (number, k, step)
            taken[k] += epochs * batches


def test_members_alike_are_computed_once(monkeypatch):
    asked = []
    of_epochs = task.rates_of_epochs
    monkeypatch.setattr(member_rates, "rates_of_epochs", lambda *a: (asked.append(a), of_epochs(*a))[1])
    shared = dp.Adam()
    rates, which = MemberRates([Member(8, 4, shared, Objective())] * 5), np.arange(5)
    for epoch in range(60):
        rates(which, np.full((5, 1), 0.1), np.full(5, 2 * epoch))
    assert len(asked) == 2  # the first epoch by itself, then a table of 256 steps
