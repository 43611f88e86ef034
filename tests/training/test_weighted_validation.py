"""Members are validated on rows of their data by the weights that these rows have in training."""

from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.inputs.encoded_rows import Copied, EncodedRows, InputEncoding


@pytest.mark.parametrize("backend", ["numpy", "reference"])
@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_validation_costs_are_weighted_means(encoded: bool, own: bool, backend: Any) -> None:
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(900, 3)), rng.normal(size=(900, 2))
    weights = rng.uniform(0, 5, (2, 900) if own else 900)
    stack = dp.NetworkStack(2, [3, 4, 2], loss="squared_error", dtype="float64", backend=backend, seeds=[0, 1])
    rows = [np.arange(300), np.arange(300, 900)]
    inputs = EncodedRows(X, InputEncoding(3, [Copied(0), Copied(1), Copied(2)])) if encoded else X
    histories = stack.fit(
        inputs, Y, samples=rows[::-1], validation_samples=rows, sample_weight=weights, epochs=2, metrics=["r2"]
    )
    for k, held_out in enumerate(rows):
        own_weights = weights[k] if own else weights
        total = 0.0
        for row in held_out:
            difference = stack[k].predict(X[row : row + 1])[0] - Y[row]
            total += own_weights[row] * 0.5 * float(difference @ difference)
        assert histories[k].validation_cost[-1] == pytest.approx(total / own_weights[held_out].sum(), rel=1e-12)


def test_rows_held_out_need_a_weight() -> None:
    stack = dp.NetworkStack(2, [1, 1], backend="numpy")
    with pytest.raises(ValueError, match=r"a weight above 0 in the rows of validation_samples\[1\], got none"):
        stack.fit(np.ones((4, 1)), np.ones((4, 1)), validation_samples=[[0], [1, 2]], sample_weight=[1, 0, 0, 1])
