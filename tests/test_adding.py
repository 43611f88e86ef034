"""An activation or a loss is added in two source files: the test adds it to a copy, and trains with it."""

import pytest
from changed_sources import run_in_copy

#: For each file, a line and the text to put before it. New rows come first, which changes all other numbers.
SOFTSIGN = {
    "kernels/shared/activation.cuh": {
        "}  // namespace activation": """
// z / (1 + |z|)
struct softsign {
    template <typename T> __host__ __device__ static T value(T z) { return z / (T(1) + fabs(z)); }
    template <typename T> __host__ __device__ static T gradient(T z) {
        const T s = T(1) + fabs(z);
        return T(1) / (s * s);
    }
    template <typename T> __host__ __device__ static T curvature(T z) {
        return (z < T(0) ? T(2) : T(-2)) * gradient(z) / (T(1) + fabs(z));
    }
};

""",
        "    DO(WITH, sigmoid, activation::sigmoid)": "    DO(WITH, softsign, activation::softsign) \\\n",
    },
    "src/deltaprop/backends/numpy/activation.py": {
        "class Activation(NamedTuple)": '''
def softsign(z: Vector, out: Vector, spare: Vector) -> None:
    """z / (1 + |z|)."""
    np.abs(z, out=spare)
    spare += 1.0
    np.divide(z, spare, out=out)


def softsign_gradient(z: Vector, out: Vector, spare: Vector) -> None:
    """1 / (1 + |z|)²."""
    np.abs(z, out=spare)
    spare += 1.0
    np.square(spare, out=spare)
    np.divide(1.0, spare, out=out)


def softsign_curvature(z: Vector, out: Vector, spare: Vector) -> None:
    """−2 sign(z) / (1 + |z|)³."""
    softsign_gradient(z, out, spare)
    np.abs(z, out=spare)
    spare += 1.0
    out /= spare
    np.sign(z, out=spare)
    out *= spare
    out *= -2.0


''',
        '    "sigmoid": Activation(': '    "softsign": Activation(softsign, softsign_gradient, softsign_curvature),\n',
    },
}
QUARTIC = {
    "kernels/shared/loss.cuh": {
        "}  // namespace loss": """
// (a - y)^4 / 4
struct quartic {
    template <class G, typename T> __host__ __device__ static T cost(T, T a, T y) {
        const T square = (a - y) * (a - y);
        return T(0.25) * square * square;
    }
    template <class G, typename T> __host__ __device__ static T delta(T z, T a, T y) {
        return (a - y) * (a - y) * (a - y) * G::gradient(z);
    }
    template <class G, typename T> __host__ __device__ static T delta_tangent(T z, T a, T y, T dz, T da) {
        const T r = a - y;
        return T(3) * r * r * da * G::gradient(z) + r * r * r * G::curvature(z) * dz;
    }
};

""",
        "    DO(squared_error, any)": "    DO(quartic, any) \\\n",
    },
    "src/deltaprop/backends/numpy/loss.py": {
        "class Targets(NamedTuple)": '''
def cubed_difference(a: Matrix, y: Matrix, out: Matrix) -> None:
    """(a − y)³."""
    np.subtract(a, y, out=out)
    np.power(out, 3.0, out=out)


def cubed_moves(a: Matrix, y: Matrix, da: Matrix, out: Matrix) -> None:
    """How (a − y)³ moves as a moves by da: by 3 (a − y)² da."""
    np.subtract(a, y, out=out)
    np.square(out, out=out)
    out *= da
    out *= 3.0


def quartic(z: Matrix, a: Matrix, y: Matrix, out: Matrix, spare: Matrix, mask: Matrix, rows: Rows) -> None:
    """(a − y)⁴/4."""
    np.subtract(a, y, out=out)
    np.square(out, out=out)
    np.square(out, out=out)
    out *= 0.25


''',
        '    "squared_error": Loss(': '    "quartic": Loss(quartic, cubed_difference, cubed_moves, True, "any", ANY_NUMBER),\n',
    },
}

#: The program that uses the new name: it trains in each way, and compares derivatives with differences.
PROGRAM = """
import json, sys
import numpy as np
import deltaprop as dp
from deltaprop.backends.native import library
from deltaprop.epochs.resident import ResidentEpoch
from host_cuda import HostCudaBackend, in_place_of_cupy

emulated, options = json.loads(sys.argv[1]), json.loads(sys.argv[2])
rng = np.random.default_rng(5)
X, Y = rng.standard_normal((24, 4)), rng.standard_normal((24, 2))
result = {"file": dp.__file__, "parameters": {}}
def trained(backend):
    net = dp.Network([4, 6, 2], **options, seed=1, backend=backend)
    net.fit(X, Y, optimizer=dp.SGD(0.05, momentum=0.5), batch_size=8, epochs=3)
    return np.asarray(net.backend.to_numpy(net.parameters)).tolist()
for way in ("numpy", "reference"):
    result["parameters"][way] = trained(way)
if emulated:
    backend = HostCudaBackend()
    with in_place_of_cupy(backend):
        result["parameters"]["one launch an epoch"] = trained(backend)
        ResidentEpoch.find = lambda task: None
        result["parameters"]["a kernel a formula"] = trained(backend)
        backend.way = "4x4"
        result["parameters"]["kernels for small layers"] = trained(backend)
        assert {"small_forward", "small_output", "resident"} <= {key[0] for key in backend._functions}
assert not isinstance(library._load("double"), str), library._load("double")

net = dp.Network([4, 6, 2], **options, seed=2, backend="numpy")
def along(function, h=1e-5):  # by central differences, along each parameter
    slopes, start = [], net.parameters.copy()
    for i in range(start.size):
        values = []
        for step in (h, -h):
            net.parameters[...] = start
            net.parameters[i] += step
            values.append(function())
        slopes.append((values[0] - values[1]) / (2 * h))
    net.parameters[...] = start
    return np.array(slopes)
gradient = lambda: net.cost_and_gradient(X, Y)[1].flat.copy()
v = rng.standard_normal(net.parameters.size)
result["gradient"] = [gradient().tolist(), along(lambda: net.cost(X, Y)).tolist()]
result["hvp"] = [np.asarray(net.hvp(X, Y, v)).ravel().tolist(), (along(gradient).T @ v).tolist()]
print(json.dumps(result))
"""


@pytest.mark.parametrize(
    ("edits", "options"),
    [
        (SOFTSIGN, {"hidden_activation": "softsign", "loss": "squared_error"}),
        (SOFTSIGN, {"hidden_activation": "tanh", "loss": "huber", "output_activation": "softsign"}),
        (QUARTIC, {"hidden_activation": "sigmoid", "loss": "quartic"}),
    ],
    ids=["hidden activation", "output activation", "loss"],
)
def test_two_files_are_enough(edits, options, tmp_path, monkeypatch):
    assert len(edits) == 2
    found = run_in_copy(PROGRAM, edits, options, tmp_path, monkeypatch)
    reference = found["parameters"].pop("reference")
    assert "numpy" in found["parameters"]
    for way, parameters in found["parameters"].items():
        assert parameters == pytest.approx(reference, rel=1e-10, abs=1e-12), way
    for name in ("gradient", "hvp"):
        ours, differences = found[name]
        assert ours == pytest.approx(differences, rel=1e-6, abs=1e-8), name
