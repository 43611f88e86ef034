"""Structures that Python fills in have the same fields at the same places as in compiled code."""

import ctypes
import subprocess
from importlib.resources import files
from typing import Any

import pytest
from conftest import require_compiler

import deltaprop as dp
from deltaprop.backends import kernel_structures
from deltaprop.backends.cuda.shared_memory_plan import MOST_LAYERS, Layer, Shape
from deltaprop.backends.kernel_structures import Constants, fields_of
from deltaprop.backends.native.library import EncodedInputs, EpochPlan

OFFSETS = """
#include "cpu/library.cpp"
#include <cstddef>
#include <cstdio>
int main() {{ {} }}
"""


def test_every_field_lies_where_the_compiler_puts_it(tmp_path):
    compiler = require_compiler()
    names = [field[0] for field in EpochPlan._fields_]
    within = [field[0] for field in Constants._fields_]
    lines = [f'std::printf("%zu %zu\\n", offsetof(EpochPlan, {name}), sizeof(EpochPlan::{name}));' for name in names]
    lines += [
        f'std::printf("%zu %zu\\n", offsetof(EpochPlan, constants.{x}), sizeof(EpochPlan::constants.{x}));'
        for x in within
    ]
    encoded = [field[0] for field in EncodedInputs._fields_]
    lines += [f'std::printf("%zu %zu\\n", offsetof(EncodedInputs, {x}), sizeof(EncodedInputs::{x}));' for x in encoded]
    (tmp_path / "offsets.cpp").write_text(OFFSETS.format(" ".join(lines)))
    command = [*compiler, "-std=c++17", "-O0", "-pthread", f"-I{files('deltaprop.kernels')}", "-Wno-invalid-offsetof"]
    subprocess.run([*command, str(tmp_path / "offsets.cpp"), "-o", str(tmp_path / "offsets")], check=True)
    said = subprocess.run([str(tmp_path / "offsets")], check=True, capture_output=True, text=True).stdout.split()
    fields = [(getattr(EpochPlan, name).offset, getattr(EpochPlan, name).size) for name in names]
    fields += [(EpochPlan.constants.offset + getattr(Constants, x).offset, getattr(Constants, x).size) for x in within]
    fields += [(getattr(EncodedInputs, x).offset, getattr(EncodedInputs, x).size) for x in encoded]
    assert list(map(int, said)) == [number for field in fields for number in field]
    assert (len(names), len(within), len(encoded)) > (30, 3, 5)


SOURCE = """
struct Inner {
    int a, b;  // not; fields
};
struct Outer {
    Inner inner[3];
    const double *first, *second;  // two
    const volatile int* stop;
    optimizer::Constants<double> constants;
    integer n;
};
"""


def test_declarations_of_every_kind(monkeypatch):
    monkeypatch.setattr(kernel_structures, "read", lambda file: SOURCE)
    inner: Any = type("Inner", (ctypes.Structure,), {"_fields_": fields_of("x.cu", "Inner")})
    assert inner._fields_ == [("a", ctypes.c_int), ("b", ctypes.c_int)]
    assert fields_of("x.cu", "Outer", {"Inner": inner}) == [
        ("inner", inner * 3),
        *((name, ctypes.c_void_p) for name in ("first", "second", "stop")),
        ("constants", Constants),
        ("n", ctypes.c_longlong),
    ]


def test_what_cannot_be_read_is_named(monkeypatch):
    monkeypatch.setattr(kernel_structures, "read", lambda file: "struct EpochPlan {\n    float x;\n};")
    with pytest.raises(dp.BackendError, match=r"kernels/cpu/epoch_plan.h: cannot read the field 'float x'"):
        fields_of("cpu/epoch_plan.h", "EpochPlan")
    with pytest.raises(dp.BackendError, match=r"kernels/cpu/epoch_plan.h: expected struct Layer, found none"):
        fields_of("cpu/epoch_plan.h", "Layer")


def test_a_shape_has_room_for_some_layers():
    assert MOST_LAYERS == 8
    assert Shape().layer._type_ is Layer
