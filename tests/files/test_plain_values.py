"""Every value has a form in JSON types, the same in every process, and different for different values."""

import datetime
import enum
import functools
import json
import math
import subprocess
import sys
import threading
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.files.plain_values import plain

Pair = namedtuple("Pair", "a b")


class Colour(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


class Named(str):
    """A subclass of text."""


HALF: Any = np.float32(0.5)  # a type that the signatures do not name


@dataclass
class Schedule:
    initial: float
    seen: list[Any] = field(default_factory=list, compare=False)

    def __call__(self, epoch, history):
        return self.initial


class Slots:
    __slots__ = ("a", "b")

    def __init__(self, a):
        self.a = a


class Awkward:
    def __getattr__(self, name):
        raise RuntimeError(name)

    def __repr__(self):
        raise RuntimeError("no")


class Holder:
    def __init__(self, value):
        self.value, self.lock = value, threading.Lock()

    def cost(self, h, y):
        return self.value * (h - y) ** 2


def nested(depth):
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def cycle():
    value: list[Any] = [1]
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (2.5, 2.5),
        ("text", "text"),
        (np.bool_(True), True),
        (np.int64(3), 3),
        (np.uint8(3), 3),
        (np.float32(0.5), 0.5),
        (np.float16(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.str_("text"), "text"),
        (np.array(0.5, np.float32), 0.5),
        (np.array(3), 3),
        (np.array("text"), "text"),
        (Named("text"), "text"),
        (Path("a/b"), str(Path("a/b"))),
        (PurePosixPath("a/b"), "a/b"),
        (Fraction(1, 2), {"kind": "fractions.Fraction", "fields": {"_numerator": 1, "_denominator": 2}}),
        ((1, np.int8(2)), [1, 2]),
        (Pair(1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({np.int64(1)}), [1]),
        ({"a": np.float32(1)}, {"a": 1.0}),
        ({1: 2}, {"int 1": 2}),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (dp.SGD(HALF, momentum=np.float64(0.25)), {"kind": "SGD", "learning_rate": 0.5, "momentum": 0.25, "nesterov": False}),
        (dp.StepDecay(HALF), {"kind": "StepDecay", "initial": 0.5, "factor": 0.5, "every": 10}),
        (math.sqrt, "math.sqrt"),
        (dp.sigmoid, "sigmoid"),
        (Schedule, f"{__name__}.Schedule"),
    ],
)  # fmt: skip
def test_what_values_become(value, expected):
    got = plain(value)
    assert got == expected
    assert type(got) is type(expected)
    assert json.loads(json.dumps(got)) == expected


@pytest.mark.parametrize(
    "value",
    [
        *(Colour.RED, Number.ONE, b"bytes", bytearray(2), memoryview(b"x"), 1j, range(3), slice(2), ..., NotImplemented),
        *(np.datetime64("2020-01-01"), np.longdouble(1), np.complex64(1j), np.void(b"x"), np.zeros(3), np.zeros((0, 2))),
        *(np.array([1, "a", None], dtype=object), np.zeros(2, [("a", "i4"), ("b", "O")]), np.float32, np.add, np.vectorize(abs)),
        *(datetime.date(2020, 1, 1), Decimal("1.5"), OrderedDict(a=1), Pair, Schedule(1.0), Slots(1), Awkward(), Holder(2)),
        *(object(), object, threading.Lock(), np.random.default_rng(0), sys, print, [].append, "x".join, iter([]), 10**400),
        *(cycle(), functools.partial(max, 1), functools.lru_cache(lambda: 1), functools.partial(Holder(1).cost, y=2)),
        *(Holder(1).cost, Holder.cost, lambda: 1, dp.Network([2, 2], backend="numpy"), dp.get_backend("numpy"), open),
        *({"deep": nested(3000)}, {(1, 2): 3}, {None: 1}, "\ud800"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_there_is_no_value_that_has_none(value):
    assert json.dumps(plain(value)) == json.dumps(plain(value))


def of(values):
    """Return the forms as texts."""
    return [json.dumps(plain(value), sort_keys=True) for value in values]


def scaled(by):
    return lambda epoch, history: by * 0.1


def defaults(a, b=1, *, c=2):
    return a


def test_functions_that_differ():
    def inner(h):
        return [x for x in h if x > 1]

    def other_inner(h):
        return [x for x in h if x > 2]

    made = [
        lambda epoch, history: 0.1,
        lambda epoch, history: 0.2,
        lambda epoch, history: 0.1 / (1 + epoch),
        lambda epoch, history: math.sin(epoch),
        lambda epoch, history: math.cos(epoch),
        lambda epoch, history=1: 0.1,
        lambda epoch, history=2: 0.1,
        lambda epoch, *, history=2: 0.1,
        lambda epoch, history: epoch in {1, 2, 3},
        lambda epoch, history: epoch in {1, 2, 4},
        lambda epoch, history: (lambda: 1)(),
        lambda epoch, history: (lambda: 2)(),
        *(scaled(by) for by in (1, 2, 2.5, "2", (1, 2), np.zeros(2), np.ones(2), dp.StepDecay(0.1), dp.StepDecay(0.2))),
        *(inner, other_inner, defaults),
        *(functools.partial(defaults, b=b) for b in (1, 2)),
        functools.partial(defaults, 1),
        *(Holder(value).cost for value in (1, 2)),
        *(Schedule(value) for value in (1.0, 2.0)),
        *(dp.CosineDecay(0.1, epochs=epochs) for epochs in (3, 4)),
    ]  # fmt: skip
    texts = of(made)
    assert len(set(texts)) == len(texts)


def test_what_does_not_count():
    """The place of a function does not count, nor fields that a data class does not compare."""
    one, other = [(lambda epoch, history: 0.1) for _ in range(2)]
    assert plain(one) == plain(other)
    assert plain(scaled(2)) == plain(scaled(2))
    assert plain(Schedule(1.0, [1])) == plain(Schedule(1.0, [2]))
    assert plain(Holder(1)) == plain(Holder(1))


DESCRIBED = """
import functools, json, math, sys
sys.path.insert(0, sys.argv[1])
import test_plain_values as here
values = [here.scaled(2), here.defaults, here.Schedule(1.0), here.Holder(3).cost, functools.partial(here.defaults, b=2),
          lambda epoch, history: epoch in {"a", "b", "c", "d"}, {"a", "b", "c"}, here.Slots(1), object(), here.Colour.RED]
print(json.dumps(here.plain(values), sort_keys=True))
"""


def test_processes_agree():
    """Processes agree, though their hashes of text differ."""
    folder = str(Path(__file__).parent)
    said = set()
    for seed in ("0", "1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", DESCRIBED, folder],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        )
        said.add(run.stdout)
    assert len(said) == 1
