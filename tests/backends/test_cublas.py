"""Products by cublasLt: descriptors are right, and the fastest of several algorithms is chosen."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_cublaslt import Algorithm, FakeLt, fake_products, installed

from deltaprop.backends.cuda import cublas
from deltaprop.backends.cuda.cublas import GUESSES, find_products
from deltaprop.backends.cuda.tuning import fastest

OPTIONS = {"kind": "float32", "factor": 1.0, "transpose_A": False, "transpose_B": False, "keep": None}


def product(products, A, B, out, **how):
    products(A, B, out, **OPTIONS | how)


def operands(rng, m=6, k=5, n=4, dtype=np.float32):
    return rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype), np.empty((m, n), dtype)


@pytest.mark.parametrize("algorithms", [1, 3])
@pytest.mark.parametrize("keep", [None, 0.5, "on the device"])
@pytest.mark.parametrize("members", [(), (3,)])
@pytest.mark.parametrize(("transpose_A", "transpose_B"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_products(monkeypatch, kind, transpose_A, transpose_B, members, keep, algorithms, rng):
    """Timing does not change the matrix to which a product is added."""
    products = fake_products(monkeypatch, FakeLt([Algorithm(9.0 - i) for i in range(algorithms)]), GUESSES)
    A, B, out = (rng.standard_normal((*members, *shape)).astype(kind) for shape in ((6, 5), (5, 4), (6, 4)))
    A, B = np.swapaxes(A, -1, -2).copy() if transpose_A else A, np.swapaxes(B, -1, -2).copy() if transpose_B else B
    left, right = np.swapaxes(A, -1, -2) if transpose_A else A, np.swapaxes(B, -1, -2) if transpose_B else B
    kept = 0.0 if keep is None else 0.5 * out.astype(np.float64)
    expected = kept + 0.25 * np.einsum("...ik,...kj->...ij", left.astype(np.float64), right.astype(np.float64))
    keep = np.array(0.5, kind) if keep == "on the device" else keep
    how = {"kind": kind, "factor": 0.25, "transpose_A": transpose_A, "transpose_B": transpose_B, "keep": keep}
    product(products, A, B, out, **how)
    assert out == pytest.approx(expected, rel=1e-5 if kind == "float32" else 1e-13)


@pytest.mark.parametrize("members", [(), (3,)])
@pytest.mark.parametrize(("transpose_A", "transpose_B"), [(False, False), (True, False), (False, True)])
def test_operands_wider_than_the_result(monkeypatch, transpose_A, transpose_B, members, rng):
    """Padding beyond the result is not read, and it does not change the plan of another shape."""
    lt = FakeLt([Algorithm(5.0)])
    products = fake_products(monkeypatch, lt, GUESSES)
    for m, n in ((6, 4), (5, 4), (6, 3)):
        A, B, out = (
            rng.standard_normal((*members, 6, 5)),
            rng.standard_normal((*members, 5, 4)),
            np.empty((*members, m, n)),
        )
        expected = np.einsum("...ik,...kj->...ij", A[..., :m, :], B[..., :n])
        A[..., m:, :], B[..., n:] = np.nan, np.nan
        A, B = np.swapaxes(A, -1, -2).copy() if transpose_A else A, np.swapaxes(B, -1, -2).copy() if transpose_B else B
        product(products, A, B, out, kind="float64", transpose_A=transpose_A, transpose_B=transpose_B)
        assert out == pytest.approx(expected, rel=1e-13)
    assert len(lt.asked) == 3


def test_the_fastest_is_found_once_a_shape(monkeypatch, rng):
    lt = FakeLt([Algorithm(54.7), Algorithm(9.0), Algorithm(5.0), Algorithm(7.0)])
    products = fake_products(monkeypatch, lt, GUESSES)
    A, B, out = operands(rng)
    product(products, A, B, out)
    assert lt.asked == [GUESSES]
    assert lt.multiplied[-1] == 2
    assert set(lt.multiplied) == {0, 1, 2, 3}
    times, lt.algorithms[2].microseconds = lt.timed, 1000.0  # later timings do not change it
    del lt.multiplied[:]
    for _ in range(3):
        product(products, A, B, out)
    assert lt.multiplied == [2, 2, 2]
    assert lt.timed == times
    product(products, *operands(rng, m=7))
    assert lt.asked == [GUESSES, GUESSES]


@pytest.mark.parametrize(("second", "chosen"), [(9.6, 0), (9.4, 1), (10.0, 0), (20.0, 0)])
def test_the_first_guess_stays_unless_another_is_faster_by_a_margin(monkeypatch, second, chosen, rng):
    lt = FakeLt([Algorithm(10.0), Algorithm(second)])
    lt.overhead = 0.0
    product(fake_products(monkeypatch, lt, GUESSES), *operands(rng))
    assert lt.multiplied[-1] == chosen


def test_nothing_is_timed_while_a_stream_is_capturing(monkeypatch, rng):
    lt = FakeLt([Algorithm(54.7), Algorithm(5.0)])
    products = fake_products(monkeypatch, lt, GUESSES)
    A, B, out = operands(rng)
    lt.capturing = True
    product(products, A, B, out)
    lt.capturing = False
    product(products, A, B, out)  # a shape keeps its algorithm
    assert (lt.asked, lt.timed, lt.multiplied) == ([1], 0, [0, 0])
    assert out == pytest.approx(A @ B, rel=1e-5)


def test_alignments_have_plans_of_their_own(monkeypatch, rng):
    """An algorithm that needs operands at multiples of 16 bytes must not get others."""
    lt = FakeLt([Algorithm(5.0)])
    products = fake_products(monkeypatch, lt, GUESSES)
    memory = rng.standard_normal(64 + 64).astype(np.float32)
    first = (-memory.ctypes.data % 256) // 4
    _, B, out = operands(rng, m=2, k=5, n=4)
    for start in (0, 0, 1, 2):
        A = memory[first + start : first + start + 10].reshape(2, 5)
        product(products, A, B, out)
        assert out == pytest.approx(A @ B, rel=1e-5)
    assert len(lt.asked) == 3


def test_guesses_that_are_refused_are_left_out(monkeypatch, rng):
    lt = FakeLt([Algorithm(10.0, refused=True), Algorithm(1.0, state=15), Algorithm(8.0), Algorithm(6.0)])
    A, B, out = operands(rng)
    product(fake_products(monkeypatch, lt, GUESSES), A, B, out)
    assert lt.multiplied[-1] == 3
    assert 1 not in lt.multiplied
    assert out == pytest.approx(A @ B, rel=1e-5)


def test_long_products_are_timed_once(monkeypatch, rng):
    lt = FakeLt([Algorithm(5000.0), Algorithm(6000.0), Algorithm(4000.0)])
    product(fake_products(monkeypatch, lt, GUESSES), *operands(rng))
    assert lt.multiplied == [0, 1, 2, 0, 1, 2, 2]


def test_short_ones_take_a_bounded_number_of_launches(monkeypatch, rng):
    """All near the best get one more round, and the nearest two more."""
    lt = FakeLt([Algorithm(5.0 + i) for i in range(GUESSES)])
    product(fake_products(monkeypatch, lt, GUESSES), *operands(rng))
    assert len(lt.multiplied) < 250
    assert lt.multiplied.count(7) < lt.multiplied.count(1)


def test_without_memory_for_a_copy_the_first_guess_is_taken(monkeypatch, rng):
    lt = FakeLt([Algorithm(54.7), Algorithm(5.0)])
    products = fake_products(monkeypatch, lt, GUESSES)
    lt.exhausted = True
    A, B, out = operands(rng)
    out.fill(1.0)
    product(products, A, B, out, keep=2.0)
    assert lt.multiplied == [0]
    assert out == pytest.approx(2.0 + A @ B, rel=1e-5)


def test_no_algorithm_at_all(monkeypatch, rng):
    with pytest.raises(RuntimeError, match=r"no way to multiply \(6, 5\) by \(5, 4\) in float32"):
        product(fake_products(monkeypatch, FakeLt([]), GUESSES), *operands(rng))


def test_tuning_can_be_switched_off(monkeypatch, rng):
    monkeypatch.setattr(cublas, "is_installed", lambda name: True)
    lt = FakeLt([Algorithm(54.7), Algorithm(5.0)])
    installed(monkeypatch, lt)
    find: Any = find_products
    cp = SimpleNamespace(cuda=SimpleNamespace(Device=lambda: SimpleNamespace(id=0)))
    for value, guesses in (("0", 1), ("1", GUESSES), ("", GUESSES)):
        monkeypatch.setenv("DELTAPROP_TUNE", value)
        assert find(cp, None, None).guesses == guesses
    monkeypatch.setenv("DELTAPROP_TUNE", "off")
    with pytest.raises(ValueError, match="DELTAPROP_TUNE: expected 0 or 1, got 'off'"):
        find(cp, None, None)


class NoisyWatch:
    """A watch whose times vary from launch to launch, upwards by up to so many percent."""

    def __init__(self, seconds, noise, rng):
        self.seconds, self.noise, self.rng = seconds, noise, rng

    def once(self, way):
        return 8e-6 + self.many(way, 1)

    def many(self, way, launches):
        return self.seconds[way()] * (1.0 + self.noise * self.rng.uniform())


def test_noise_seldom_misleads(rng):
    """None of 200 choices among eight is worse than the best by much more than the margin."""
    for _ in range(200):
        seconds = rng.uniform(3e-6, 60e-6, 8)
        ways = [lambda i=i: i for i in range(8)]
        chosen = fastest(ways, NoisyWatch(seconds, 0.03, rng))
        assert seconds[chosen] <= 1.09 * seconds.min()
