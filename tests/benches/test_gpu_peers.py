"""The contestants of `benches.gpu` compute the same, and each time has the name of what ran."""

from typing import Any

import numpy as np
import pytest
import rehearsal
from conftest import require
from deltaprop.benches.contestants import Case, Jax, Ours, Torch
from deltaprop.benches.gpu_parts import peers, small_fits
from deltaprop.benches.gpu_parts.part import Options
from rehearsal import Told

import deltaprop as dp

emulated = rehearsal.emulated


SMALL = Case((6, 5, 3), 4, 3)


def steps_in_float64(case, rounded):
    """Plain steps in float64, with rounded operands in every product."""
    W, b = [x.astype(float) for x in case.W], [x.astype(float) for x in case.b]
    for rows in case.order.reshape(-1, case.batch):
        A = [case.X[rows].astype(float)]
        for l in range(len(W)):
            Z = rounded(A[-1]) @ rounded(W[l]).T + b[l]
            e = np.exp(Z - Z.max(axis=1, keepdims=True))
            A.append(1 / (1 + np.exp(-Z)) if l < len(W) - 1 else e / e.sum(axis=1, keepdims=True))
        delta = (A[-1] - case.Y[rows]) / len(rows)
        for l in reversed(range(len(W))):
            of_W, of_b = rounded(delta).T @ rounded(A[l]), delta.sum(axis=0)
            if l:
                delta = rounded(delta) @ rounded(W[l]) * (A[l] * (1 - A[l]))
            W[l] -= 0.1 * of_W
            b[l] -= 0.1 * of_b
    return [x for pair in zip(W, b, strict=True) for x in pair]


def test_jax_with_operands_of_bfloat16_rounds_them_and_nothing_else():
    require("jax")
    ml_dtypes = require("ml_dtypes")
    one = Jax(SMALL, "cpu", "bf16", operands="bfloat16")
    one.epoch()
    one.wait()
    got = one.parameters()
    rounded = steps_in_float64(SMALL, lambda x: x.astype(ml_dtypes.bfloat16).astype(float))
    plain = steps_in_float64(SMALL, lambda x: x)
    assert peers.distance(got, rounded) < 2e-5  # an entry may be rounded the other way
    assert peers.distance(got, plain) > 1e-4


def test_contestants_agree_with_the_formulas():
    expected = steps_in_float64(SMALL, lambda x: x)
    makers: dict[str, Any] = {"ours": lambda: Ours(SMALL, "reference")}
    if require("torch"):
        makers["torch"] = lambda: Torch(SMALL, "cpu")
    for name, make in makers.items():
        one = make()
        one.epoch()
        one.wait()
        assert peers.distance(one.parameters(), expected) < 1e-6, name


def test_tf32_is_allowed_where_it_is_asked_for():
    torch = require("torch")
    for precision, allowed in (("tf32", True), ("fp32", False), ("bf16", False)):
        Torch(SMALL, "cpu", precision)
        assert torch.backends.cuda.matmul.allow_tf32 is allowed


def test_a_peer_that_cannot_run_is_named_in_its_row(monkeypatch):
    def broken():
        raise RuntimeError("no such thing\nmore")

    entries = {"deltaprop": lambda: Ours(SMALL, "reference"), "other": broken}
    monkeypatch.setattr(peers, "contestants", lambda *_, **__: entries)
    table = peers.Peers(Options(60.0, rehearse=True, avoid={"row: third": "it broke"}), Told())
    table.cases[0] = SMALL
    entries["third"] = broken
    row = table.row("row", 0, "fp32", compiled=False)
    assert row["errors"] == {"other": "RuntimeError: no such thing", "third": "it broke"}
    assert list(row["contestants"]) == ["deltaprop"]
    assert row["contestants"]["deltaprop"]["agrees"]
    assert peers.compare(row) == {"best_peer": None, "ratio": None}


def test_a_peer_that_computes_something_else_disagrees(monkeypatch):
    class Cheat(Ours):
        def epoch(self):
            """Nothing."""

    entries = {"deltaprop": lambda: Ours(SMALL, "reference"), "cheat": lambda: Cheat(SMALL, "reference")}
    monkeypatch.setattr(peers, "contestants", lambda *_, **__: entries)
    table = peers.Peers(Options(60.0, rehearse=True), Told())
    table.cases[0] = SMALL
    row = table.row("row", 0, "fp32", compiled=False)
    assert not row["contestants"]["cheat"]["agrees"]
    assert peers.compare(row)["best_peer"] is None


def test_no_time_stands_under_the_name_of_a_way_that_was_refused():
    one = Ours(SMALL, "reference")
    assert one.way == "RecordedEpoch"
    one.epoch()
    one.trainer.whole_epoch = None
    with pytest.raises(RuntimeError, match="expected epochs by RecordedEpoch, got NoneType"):
        one.epoch()


def test_graphs_that_are_refused_are_no_graphs(emulated, monkeypatch):
    monkeypatch.setattr(type(emulated), "captures", False, raising=False)
    with small_fits.only("captured"), pytest.raises(RuntimeError, match="single steps, as graphs are refused"):
        small_fits.distance(emulated, "captured", "float32", dp.SGD(0.1))
