"""Outputs of each member for rows of its own: the same as of the member by itself, also where some have no rows."""

from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.inputs.encoded_rows import Copied, EncodedRows, InputEncoding, OneHot
from deltaprop.tabular.members import Members
from deltaprop.tabular.own_rows import outputs_of_own_rows


def made(backend: Any) -> tuple[dp.NetworkStack, EncodedRows, np.ndarray]:
    """Make three networks of random parameters, stored rows and the inputs that these stand for."""
    rng = np.random.default_rng(0)
    numbers, levels = rng.normal(size=700), rng.integers(0, 3, 700)
    stored = np.stack([numbers, levels], axis=1).astype(np.float32)
    inputs = np.column_stack([stored[:, 0], levels[:, np.newaxis] == np.arange(3)])
    options: dict[str, Any] = {"hidden_activation": "silu", "loss": "squared_error", "dtype": "float32"}
    stack = dp.NetworkStack(3, [4, 5, 2], backend=backend, **options)
    stack.parameters = rng.normal(size=stack.parameters.shape)
    return stack, EncodedRows(stored, InputEncoding(2, [Copied(0), OneHot(1, 3)])), inputs


def output(network: Any, row: np.ndarray) -> np.ndarray:
    """Compute what a network says to one row of inputs, in float64."""
    first, second = (np.asarray(theta, np.float64) for theta in network.thetas)
    z = first[:, 0] + first[:, 1:] @ row
    return second[:, 0] + second[:, 1:] @ (z / (1 + np.exp(-z)))


@pytest.mark.parametrize("backend", ["numpy", "auto"])
def test_each_member_predicts_its_own_rows(backend: str) -> None:
    stack, rows, inputs = made(backend)
    own = [np.arange(600), np.zeros(0, np.int64), np.array([699, 3])]
    found = outputs_of_own_rows(stack, [rows.take(part) for part in own])
    assert [part.shape for part in found] == [(600, 2), (0, 2), (2, 2)]
    for network, part, outputs in zip(stack, own, found, strict=True):
        for place, row in enumerate(part):
            np.testing.assert_allclose(outputs[place], output(network, inputs[row]), rtol=1e-4, atol=1e-5)
    nothing = outputs_of_own_rows(stack, [rows.take(own[1])] * 3)
    assert [part.shape for part in nothing] == [(0, 2)] * 3


@pytest.mark.parametrize("outputs_at_once", [1, 100, 2**22])
@pytest.mark.parametrize("backend", ["numpy", "auto"])
def test_rows_held_out_by_some_have_the_mean_of_these(
    backend: str, outputs_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deltaprop.tabular.members.MOST_OUTPUTS", outputs_at_once)
    stack, rows, inputs = made(backend)
    rows = rows.take(np.arange(40))
    held_out = [np.arange(10), np.arange(5, 30), np.array([0, 7, 31])]
    found, count = Members(stack, held_out).held_out_outputs(rows)
    for row in range(40):
        of = [output(network, inputs[row]) for network, own in zip(stack, held_out, strict=True) if row in own]
        assert count[row] == len(of)
        expected = np.mean(of, axis=0) if of else np.full(2, np.nan)
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-5)
