"""Orders that the library shuffles are NumPy's, and so is the state of the generator afterwards."""

import copy

import numpy as np
import pytest
from conftest import require_library

from deltaprop.backends.native import twister
from deltaprop.backends.native.library import library
from deltaprop.backends.native.twister import Rewound, Shuffle

#: Around 624, the words that the generator makes at a time, and around powers of two, where the mask changes.
SIZES = [0, 1, 2, 3, 4, 5, 17, 64, 65, 311, 623, 624, 625, 1797, 4096, 4097, 70_000]


def same_state(one, other):
    ours, theirs = (each.get_state(legacy=False) for each in (one, other))
    return ours["state"]["pos"] == theirs["state"]["pos"] and np.array_equal(
        ours["state"]["key"], theirs["state"]["key"]
    )


def shuffled(random_state, order, times=3, **options):
    shuffle = Shuffle(random_state, order, **options)
    for _ in range(times):
        shuffle()
    return shuffle


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("size", SIZES)
def test_orders_and_states_are_numpys(size, dtype, monkeypatch):
    require_library()
    monkeypatch.setattr(twister, "loaded_library", lambda: library(np.dtype(dtype)))
    ours, theirs = np.random.RandomState(size), np.random.RandomState(size)
    order, expected = np.arange(size), np.arange(size)
    assert shuffled(ours, order)._compiled is not None
    for _ in range(3):
        expected = expected[theirs.permutation(size)]  # as scikit-learn goes from one order to the next
    np.testing.assert_array_equal(order, expected)
    assert same_state(ours, theirs)
    np.testing.assert_array_equal(ours.standard_normal(5), theirs.standard_normal(5))


def test_draws_between_shuffles_go_on_from_them():
    require_library()
    library(np.dtype("float64"))
    ours, theirs = np.random.RandomState(1), np.random.RandomState(1)
    order, expected = np.arange(300), np.arange(300)
    shuffle = Shuffle(ours, order)
    for draws in (1, 700, 33):
        np.testing.assert_array_equal(ours.uniform(size=draws), theirs.uniform(size=draws))
        shuffle()
        theirs.shuffle(expected)
        np.testing.assert_array_equal(order, expected)


class Renamed(np.random.RandomState):
    """A random state whose methods may do something else."""


@pytest.mark.parametrize(
    "make",
    [lambda: np.random.RandomState(np.random.PCG64(2)), lambda: Renamed(2)],
    ids=["another generator", "a subclass"],
)
def test_other_generators_are_left_to_numpy(make):
    ours, theirs = make(), make()
    order, expected = np.arange(99), np.arange(99)
    rewind = Rewound(ours)
    for _ in range(2):
        order[:] = np.arange(99)
        shuffled(ours, order, times=2)
        rewind()
    for _ in range(2):
        theirs.shuffle(expected)
    np.testing.assert_array_equal(order, expected)


def test_numpy_shuffles_without_a_library(monkeypatch):
    monkeypatch.setattr(twister, "loaded_library", lambda: None)
    ours, theirs = np.random.RandomState(3), np.random.RandomState(3)
    order, expected = np.arange(50), np.arange(50)
    assert shuffled(ours, order, times=1)._compiled is None
    theirs.shuffle(expected)
    np.testing.assert_array_equal(order, expected)


def test_a_copy_shuffles_its_own_order():
    shuffle = shuffled(np.random.RandomState(4), np.arange(80))
    other, before = copy.deepcopy(shuffle), shuffle.order.copy()
    other()
    np.testing.assert_array_equal(shuffle.order, before)
    shuffle()
    np.testing.assert_array_equal(shuffle.order, other.order)


def test_orders_of_another_dtype_are_refused():
    with pytest.raises(TypeError, match="order: expected an array of int64, got one of int32"):
        Shuffle(np.random.RandomState(0), np.arange(5, dtype=np.int32))


def test_a_random_state_is_rewound():
    random_state = np.random.RandomState(6)
    random_state.uniform(size=100)
    rewind, expected = Rewound(random_state), random_state.uniform(size=2000)
    for _ in range(2):
        rewind()
        np.testing.assert_array_equal(random_state.uniform(size=2000), expected)
