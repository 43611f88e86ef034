"""The scalar chain rule, accumulated from either end, equals the derivative on paper."""

import math

import mpmath
import numpy as np
import pytest
from html_tables import read_html

import deltaprop as dp

#: y = exp(sin(x²)): w_1 = x², w_2 = sin w_1, w_3 = e^w_2.
FUNCTIONS = [lambda w: w * w, math.sin, math.exp]
DERIVATIVES = [lambda w: 2 * w, math.cos, math.exp]
X = 0.5
W = [0.5, 0.25, math.sin(0.25), math.exp(math.sin(0.25))]


def test_forward_mode_tabulates_dw_dx():
    result = dp.accumulate(FUNCTIONS, DERIVATIVES, X, mode="forward")
    assert result.values == W
    assert result.derivatives == pytest.approx([1, 1, math.cos(0.25), math.cos(0.25) * W[3]], rel=1e-15)
    assert result.derivative == result.derivatives[-1]


def test_reverse_mode_tabulates_dy_dw():
    result = dp.accumulate(FUNCTIONS, DERIVATIVES, X, mode="reverse")
    assert result.values == W
    assert result.derivatives == pytest.approx([math.cos(0.25) * W[3], math.cos(0.25) * W[3], W[3], 1], rel=1e-15)
    assert result.derivative == result.derivatives[0]


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_other_kinds_of_numbers(mode):
    functions, derivatives = [mpmath.sin, mpmath.exp], [mpmath.cos, mpmath.exp]
    x = mpmath.mpf(2)
    got = dp.accumulate(functions, derivatives, x, mode=mode).derivative
    assert mpmath.almosteq(got, mpmath.diff(lambda t: mpmath.exp(mpmath.sin(t)), x), 1e-12)
    x = np.linspace(-1, 1, 5)
    result = dp.accumulate([np.sin, np.exp], [np.cos, np.exp], x, mode=mode)
    assert np.allclose(result.derivative, np.cos(x) * np.exp(np.sin(x)), rtol=1e-15)
    assert all(d.shape == (5,) for d in result.derivatives)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_the_empty_chain_is_the_identity(mode):
    result = dp.accumulate([], [], 3.0, mode=mode)
    assert (result.values, result.derivatives, result.derivative) == ([3.0], [1.0], 1.0)


def test_the_table_is_in_the_order_of_computation():
    rows = [line.split("│")[1].strip() for line in str(dp.accumulate(FUNCTIONS, DERIVATIVES, X)).splitlines()[3:-1]]
    assert rows == ["0", "1", "2", "3"]
    text = str(dp.accumulate(FUNCTIONS, DERIVATIVES, X, mode="reverse"))
    assert [line.split("│")[1].strip() for line in text.splitlines()[3:-1]] == ["3", "2", "1", "0"]
    assert "dy/dw_i" in text


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_notebook_shows_the_same_table(mode):
    result = dp.accumulate(FUNCTIONS, DERIVATIVES, X, mode=mode)
    ((header, *rows),) = read_html(result._repr_html_()).tables
    assert header == ["i", "w_i", "dw_i/dx" if mode == "forward" else "dy/dw_i"]
    expected = [
        [str(i), str(w), str(d)] for i, (w, d) in enumerate(zip(result.values, result.derivatives, strict=True))
    ]
    assert rows == (expected if mode == "forward" else expected[::-1])


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="mode: expected 'forward' or 'reverse', got 'both'"):
        dp.accumulate(FUNCTIONS, DERIVATIVES, X, mode="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="derivatives: expected 3, one for each function, got 2"):
        dp.accumulate(FUNCTIONS, DERIVATIVES[:2], X)
    with pytest.raises(TypeError, match=r"functions\[1\]: expected a function of one variable, got 3"):
        dp.accumulate([math.sin, 3], [math.cos, math.cos], X)  # type: ignore[list-item]
