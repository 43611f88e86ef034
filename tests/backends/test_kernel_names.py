"""Python and compiled code use the same numbers for activations, losses and optimizers, or say what differs."""

import ctypes
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import known_rule
from conftest import missing, require_compiler, require_emulation
from host_cuda import kernel

import deltaprop as dp
from deltaprop.backends import kernel_names
from deltaprop.backends.cuda import compiler as cuda_compiler
from deltaprop.backends.cuda.shared_memory_plan import Layer, ResidentPlan, Shape
from deltaprop.backends.kernel_names import (
    NAMES,
    Rule,
    activation_number,
    check_names,
    loss_number,
    number_of,
    numbers,
    table,
)
from deltaprop.backends.kernel_sources import included, kernel_files, read
from deltaprop.backends.native import compiler as native_compiler
from deltaprop.backends.native import library as native_library
from deltaprop.backends.numpy.activation import ACTIVATION_FORMULAS
from deltaprop.backends.numpy.loss import LOSS_FORMULAS
from deltaprop.backends.numpy.optimizer import UPDATES

ACTIVATION_NAMES = ["sigmoid", "tanh", "relu", "leaky_relu", "identity", "softplus", "silu", "gelu", "exp"]
NUMBERED = ["optimizer", "resident", "small_delta", "small_forward", "small_output"]


@pytest.fixture
def swapped(monkeypatch):
    """A function that swaps the numbers of two names of a kind in Python."""

    def swap(kind, one, other):
        rows = list(table(kind))
        i, j = (next(k for k, row in enumerate(rows) if row.partition(":")[0] == name) for name in (one, other))
        rows[i], rows[j] = rows[j], rows[i]
        tables = {each: tuple(rows) if each == kind else table(each) for each in kernel_names.TABLES}
        monkeypatch.setattr(kernel_names, "table", tables.__getitem__)

    return swap


def native_code(real="float"):
    require_compiler()
    return native_compiler.native_library(real, lambda path: path).read_bytes()


def test_the_numbers_are_the_places_in_the_tables():
    assert list(table("activations")) == ACTIVATION_NAMES
    assert numbers("activations") == {name: number for number, name in enumerate(ACTIVATION_NAMES)}
    assert [activation_number(name) for name in ("sigmoid", "exp", "softmax")] == [0, 8, -1]
    assert [loss_number(name) for name in ("squared_error", "huber", "poisson")] == [0, 1, 7]
    assert numbers("optimizers") == {"sgd": 0, "momentum": 1, "nesterov": 2, "adam": 3}
    assert numbers("constants") == {"momentum": 0, "beta_1": 1, "beta_2": 2, "epsilon": 3}


def test_numpy_has_what_the_kernels_have():
    assert set(numbers("activations")) == set(ACTIVATION_FORMULAS)
    assert sorted(table("losses")) == sorted(f"{name}:{loss.output}" for name, loss in LOSS_FORMULAS.items())
    assert set(numbers("optimizers")) == set(UPDATES)


@pytest.mark.parametrize("name", UPDATES)
def test_numpy_takes_the_constants_that_kernels_know(name):
    """A rule in NumPy is a function of θ, g, the moments, the learning rate, scratch, and constants by name."""
    parameters = inspect.signature(UPDATES[name].formula).parameters.values()
    constants = {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    assert constants <= set(table("constants"))
    assert len(parameters) == 3 + Rule(name).moments + UPDATES[name].scratch + len(constants)


@pytest.mark.parametrize(
    ("optimizer", "name", "moments"),
    [
        (dp.SGD(0.1), "sgd", 0),
        (dp.SGD(0.1, momentum=0.9), "momentum", 1),
        (dp.SGD(0.1, momentum=0.9, nesterov=True), "nesterov", 1),
        (dp.Adam(), "adam", 2),
        (dp.AdamW(), "adam", 2),
    ],
)
def test_rules_of_optimizers(optimizer, name, moments):
    rule = known_rule(optimizer)
    assert (rule.name, rule.moments, rule.descends) == (name, moments, name == "sgd")
    assert len([x for x in optimizer.init(dp.Network([2, 1])).values() if isinstance(x, np.ndarray)]) == moments


def test_a_name_that_no_kernel_knows():
    with pytest.raises(dp.BackendError, match=r"losses: 'hinge' is not in the table of kernels/shared/loss.cuh; it"):
        number_of("losses", "hinge")
    with pytest.raises(dp.BackendError, match=r"optimizers: 'lion' .* it has 'sgd', 'momentum', 'nesterov', 'adam'"):
        assert Rule("lion").number
    with pytest.raises(dp.BackendError, match=r"constants: 'rho' is not in the table of kernels/shared/optimizer.cuh"):
        assert Rule("momentum", {"rho": 0.9}).values


def test_constants_of_rules():
    adam = known_rule(dp.Adam(beta_1=0.7, epsilon=1e-3))
    assert adam.values == (0.0, 0.7, 0.999, 1e-3)
    both = Rule.of_members([adam, known_rule(dp.AdamW(beta_2=0.9))])
    assert both.constants == {"beta_1": [0.7, 0.9], "beta_2": [0.999, 0.9], "epsilon": [1e-3, 1e-8]}
    assert both.of_member(0) == adam


def test_a_table_that_is_not_there(monkeypatch):
    monkeypatch.setitem(kernel_names.TABLES, "losses", ("shared/loss.cuh", "DELTAPROP_FOR_EACH_COST(DO)"))
    with pytest.raises(dp.BackendError, match=r"kernels/shared/loss.cuh: expected the table DELTAPROP_FOR_EACH_COST"):
        table.__wrapped__("losses")


def test_no_other_file_lists_names():
    """The numbers come from the tables: no other kernel file and no Python module has a list of its own."""
    for name in set(kernel_files()) - {file for file, _ in kernel_names.TABLES.values()}:
        assert "sigmoid, tanh" not in read(name)
        assert "momentum, nesterov" not in read(name)
        assert "beta_1" not in read(name)


@pytest.mark.parametrize("room", ["backends", "epochs"])
def test_constants_stand_in_no_list_of_python(room):
    texts = {path.name: path.read_text() for path in (Path(dp.__file__).parent / room).rglob("*.py")}
    assert [name for name, text in texts.items() if "beta_1" in text] == ["optimizer.py"] * (room == "backends")


@pytest.mark.parametrize("real", ["float", "double"])
def test_the_compiled_library_agrees(real):
    check_names(native_code(real), "cpu/library.cpp", (native_library.EpochPlan, native_library.EncodedInputs))


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("activations", "sigmoid", "tanh"),
        ("activations", "gelu", "silu"),
        ("losses", "squared_error", "huber"),
        ("losses", "categorical_cross_entropy", "clipped_categorical_cross_entropy"),
        ("optimizers", "momentum", "nesterov"),
        ("constants", "beta_1", "beta_2"),
    ],
)
def test_two_names_that_are_swapped_are_an_error(kind, one, other, swapped):
    code = native_code()
    swapped(kind, one, other)
    with pytest.raises(
        dp.BackendError, match=rf"kernels/cpu/library.cpp .*: its {kind} are .*{one}.*, expected .*{other}"
    ):
        check_names(code, "cpu/library.cpp", (native_library.EpochPlan, native_library.EncodedInputs))


def test_a_plan_of_another_size_is_an_error():
    class EpochPlan(ctypes.Structure):
        _fields_ = native_library.EpochPlan._fields_[:-1]

    sizes = f"its EpochPlan has {ctypes.sizeof(native_library.EpochPlan)} bytes, expected {ctypes.sizeof(EpochPlan)}"
    with pytest.raises(dp.BackendError, match=rf"kernels/cpu/library.cpp .*: {sizes}"):
        check_names(native_code(), "cpu/library.cpp", (EpochPlan,))


def test_a_file_without_tables_is_an_error():
    with pytest.raises(dp.BackendError, match=r"its activations are missing, expected sigmoid tanh"):
        check_names(b"\x7fELF", "cpu/library.cpp")
    with pytest.raises(dp.BackendError, match=r"its Layer has an unknown number of bytes, expected 100"):
        check_names(native_code(), "cpu/library.cpp", (Layer,))


def test_training_does_not_use_a_library_that_differs(swapped, rng):
    """Otherwise it would train another network in silence."""
    require_compiler()
    X, Y = rng.standard_normal((20, 4)), rng.standard_normal((20, 2))
    options: dict[str, Any] = {"hidden_activation": "tanh", "loss": "squared_error", "seed": 1}
    reference = dp.Network([4, 5, 2], backend="reference", **options)
    reference.fit(X, Y, epochs=2, batch_size=5)
    swapped("activations", "sigmoid", "tanh")
    numbers.cache_clear()
    native_library._load.cache_clear()
    net = dp.Network([4, 5, 2], backend="numpy", **options)
    try:
        with pytest.warns(RuntimeWarning, match=r"its activations are sigmoid tanh .*, expected tanh sigmoid"):
            net.fit(X, Y, epochs=2, batch_size=5)
        with pytest.raises(dp.BackendError, match="its activations are"):
            native_library.library(np.dtype(np.float64))
    finally:
        numbers.cache_clear()
        native_library._load.cache_clear()
    assert np.array_equal(net.parameters, reference.parameters)


def test_files_that_are_checked():
    files = [name for name in cuda_compiler.kernel_files() if NAMES in included(f"cuda/{name}.cu")]
    assert files == NUMBERED
    assert NAMES in included("cpu/library.cpp")


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("name", ["optimizer", "small_delta", "small_forward", "small_output"])
def test_cubins_agree(name, architecture, swapped, tmp_path, monkeypatch):
    try:
        code = cuda_compiler.compile_kernels(name, "float32", architecture)
    except ImportError as error:
        missing("nvrtc", str(error))
    check_names(code, f"cuda/{name}.cu")
    monkeypatch.setenv("DELTAPROP_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cuda_compiler, "compile_kernels", lambda *arguments: code)
    assert cuda_compiler.cached_cubin(name, "float32", architecture).read_bytes() == code
    swapped("losses", "poisson", "huber")
    with pytest.raises(dp.BackendError, match=rf"kernels/cuda/{name}.cu .*: its losses are"):
        cuda_compiler.cached_cubin(name, "float32", architecture)


def test_emulated_kernels_are_checked(swapped):
    require_emulation()
    kernel("small_output", "small_output", "float64")
    swapped("optimizers", "sgd", "adam")
    with pytest.raises(dp.BackendError, match=r"kernels/cuda/small_delta.cu .*: its optimizers are"):
        kernel("small_delta", "small_delta_4x128", "float64", ("-DDELTAPROP_ANOTHER",))


@pytest.mark.parametrize(("structure", "size"), [(ResidentPlan, 1072), (Shape, 876), (Layer, 100)])
def test_sizes_of_the_structures_of_resident_networks(structure, size):
    """By hand: a `Layer` is 25 ints, a `Shape` 19 ints and 8 layers, a `ResidentPlan` a `Shape` in 880 bytes and 192."""
    assert ctypes.sizeof(structure) == size
