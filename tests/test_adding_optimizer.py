"""Adding an optimizer takes four source files: done here in a copy of the sources, which then trains with it.

It trains in every way there is, one network and several, beside a loop that is written here.
"""

import numpy as np
import pytest
import reference
from changed_sources import run_in_copy

import deltaprop as dp
from deltaprop.epochs.random_numbers import draw_order

INIT = "    from deltaprop.derivation.optimizers import SGD as SGD"
#: For each file what stands there, and what is put before it. New rows come first, which changes all other numbers.
RMSPROP = {
    "kernels/shared/optimizer.cuh": {
        "    DO(momentum)                        \\": "    DO(rho)                             \\\n",
        "// An entry, less the share": """// v := rho v + (1 - rho) g^2;  theta - eta g / (sqrt(v) + epsilon)
struct rmsprop : Rule {
    static constexpr int moments = 1;
    template <typename T> __host__ __device__ static T step(T theta, T g, T& v, T&, T rate, const Constants<T>& of) {
        v = of.rho * v + (T(1) - of.rho) * g * g;
        return theta - rate * g / (sqrt(v) + of.epsilon);
    }
};

""",
        "    DO(sgd, 0) ": "    DO(rmsprop, 1) \\\n",
    },
    "src/deltaprop/backends/numpy/optimizer.py": {
        "class Update(NamedTuple)": '''def rmsprop(
    theta: Vector, gradient: Vector, mean: Vector, rate: Scalar, spare: Vector, *, rho: Scalar, epsilon: Scalar
) -> None:
    """v := ρ v + (1 − ρ) g², θ := θ − η g/(√v + ε)."""
    np.square(gradient, out=spare)
    spare *= 1.0 - rho
    mean *= rho
    mean += spare
    np.sqrt(mean, out=spare)
    spare += epsilon
    np.divide(gradient, spare, out=spare)
    spare *= rate
    theta -= spare


''',
        '    "sgd": Update(': '    "rmsprop": Update(rmsprop, 1),\n',
    },
    "src/deltaprop/derivation/optimizers.py": {
        "@dataclass(frozen=True)\nclass Adam(": '''@dataclass(frozen=True)
class RMSprop(BuiltIn):
    """θ := θ − η g/(√v + ε), v a running mean of g²."""

    learning_rate: LearningRate = 0.001
    rho: float = 0.9
    epsilon: float = 1e-7

    def init(self, network: NetworkState) -> dict[str, Any]:
        """{"mean": v}, all 0."""
        return self._zeros(network)

    @property
    def _moments(self) -> tuple[str, ...]:
        return ("mean",)

    def _described(self) -> Rule:
        return _rule("rmsprop", rho=self.rho, epsilon=self.epsilon)


''',
    },
    "src/deltaprop/__init__.py": {
        INIT: "    from deltaprop.derivation.optimizers import RMSprop as RMSprop\n",
        '"SGD", "Adam", "AdamW")': '"RMSprop", ',
    },
}
LION = {
    "kernels/shared/optimizer.cuh": {
        "// An entry, less the share": """// theta - eta sign(beta_1 m + (1 - beta_1) g);  m := beta_2 m + (1 - beta_2) g
struct lion : Rule {
    static constexpr int moments = 1;
    static constexpr bool decays = true;
    template <typename T> __host__ __device__ static T step(T kept, T g, T& m, T&, T rate, const Constants<T>& of) {
        const T where = of.beta_1 * m + (T(1) - of.beta_1) * g;
        m = of.beta_2 * m + (T(1) - of.beta_2) * g;
        return kept - rate * T(int(where > T(0)) - int(where < T(0)));
    }
};

""",
        "    DO(sgd, 0) ": "    DO(lion, 1) \\\n",
    },
    "src/deltaprop/backends/numpy/optimizer.py": {
        "class Update(NamedTuple)": '''def lion(
    theta: Vector,
    gradient: Vector,
    mean: Vector,
    rate: Scalar,
    spare: Vector,
    other: Vector,
    *,
    beta_1: Scalar,
    beta_2: Scalar,
) -> None:
    """θ := θ − η sign(β₁ m + (1 − β₁) g), m := β₂ m + (1 − β₂) g."""
    np.multiply(gradient, 1.0 - beta_1, out=spare)
    np.multiply(mean, beta_1, out=other)
    spare += other
    np.sign(spare, out=spare)
    spare *= rate
    theta -= spare
    np.multiply(gradient, 1.0 - beta_2, out=spare)
    mean *= beta_2
    mean += spare


''',
        '    "sgd": Update(': '    "lion": Update(lion, 2, decays=True),\n',
    },
    "src/deltaprop/derivation/optimizers.py": {
        "@dataclass(frozen=True)\nclass Adam(": '''@dataclass(frozen=True)
class Lion(BuiltIn):
    """θ := θ − ηλθ − η sign(β₁ m + (1 − β₁) g), m a running mean of g (Chen et al., 2023)."""

    learning_rate: LearningRate = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.99
    weight_decay: float = 0.0

    def init(self, network: NetworkState) -> dict[str, Any]:
        """{"mean": m}, all 0."""
        return self._zeros(network)

    @property
    def _moments(self) -> tuple[str, ...]:
        return ("mean",)

    def rates(self, learning_rate: float, taken: int, steps: int) -> np.ndarray[Any, Any]:
        """η and ηλ of each step."""
        result = super().rates(learning_rate, taken, steps)
        result[:, 1] = learning_rate * self.weight_decay
        return result

    def _described(self) -> Rule:
        return _rule("lion", beta_1=self.beta_1, beta_2=self.beta_2)


''',
    },
    "src/deltaprop/__init__.py": {
        INIT: "    from deltaprop.derivation.optimizers import Lion as Lion\n",
        '"SGD", "Adam", "AdamW")': '"Lion", ',
    },
}

SIZES, SAMPLES, BATCH, EPOCHS, L2, SEEDS = [4, 6, 2], 21, 8, 3, 0.3, [1, 2, 3]

#: What the copy does with its new rule: trained parameters, by each way to train, of one network and of several.
PROGRAM = """
import json, sys
import numpy as np
import deltaprop as dp
from deltaprop.epochs import engines
from deltaprop.epochs.compiled import CompiledEpoch
from deltaprop.epochs.compiled_members import CompiledMembers
from deltaprop.epochs.graph import GraphEpoch
from deltaprop.epochs.recorded import RecordedEpoch
from deltaprop.epochs.resident import ResidentEpoch
from deltaprop.epochs.resident_members import ResidentMembers
from deltaprop.epochs.stepped_members import SteppedMembers
from host_cuda import HostCudaBackend, in_place_of_cupy

emulated, given = json.loads(sys.argv[1]), json.loads(sys.argv[2])
X, Y = np.array(given["X"]), np.array(given["Y"])
rules = [getattr(dp, given["name"])(**numbers) for numbers in given["rules"]]
how = {"batch_size": given["batch"], "l2": given["l2"]}
options = {"hidden_activation": "sigmoid", "loss": "squared_error"}
result = {"file": dp.__file__, "one": {}, "several": {}}

def only(way):
    def find(*arguments):
        found = way.find(*arguments)
        assert found is not None, way
        return found
    return () if way is None else (type(way.__name__, (way,), {"find": staticmethod(find)}),)

def one(name, backend, way):
    engines.EPOCHS[getattr(backend, "name", "numpy")] = lambda: only(way)
    def train(epochs, **more):
        net = dp.Network(given["sizes"], **options, seed=given["seeds"][0], backend=backend)
        net.fit(X, Y, optimizer=rules[0], epochs=epochs, **how, **more)
        return np.asarray(net.backend.to_numpy(net.parameters)).tolist()
    result["one"][name] = train(given["epochs"])
    train(1, checkpoint=f"{name}.safetensors")
    resumed = train(given["epochs"], checkpoint=f"{name}.safetensors", resume=True)
    assert np.allclose(resumed, result["one"][name], rtol=1e-12, atol=1e-14), name

def several(name, backend, way):
    engines.MEMBERS_EPOCHS[getattr(backend, "name", "numpy")] = lambda: only(way)
    stack = dp.NetworkStack(len(rules), given["sizes"], **options, seeds=given["seeds"], backend=backend)
    stack.fit(X, Y, optimizer=rules, epochs=given["epochs"], **how)
    result["several"][name] = np.asarray(stack.backend.to_numpy(stack.parameters)).tolist()

one("compiled", "numpy", CompiledEpoch)
one("recorded", "reference", RecordedEpoch)
one("step by step", "reference", None)
several("compiled members", "numpy", CompiledMembers)
several("stepped members", "reference", SteppedMembers)
if emulated:
    backend = HostCudaBackend()
    with in_place_of_cupy(backend):
        one("one launch an epoch", backend, ResidentEpoch)
        one("captured steps", backend, GraphEpoch)
        one("a kernel a formula", backend, None)
        several("one launch for all members", backend, ResidentMembers)
        assert {"resident", "optimizer"} <= {key[0] for key in backend._functions}
print(json.dumps(result))
"""


def rmsprop(theta, g, mean, is_weight, learning_rate, rho, epsilon):
    v = rho * mean + (1 - rho) * g**2
    return theta - learning_rate * g / (np.sqrt(v) + epsilon), v


def lion(theta, g, mean, is_weight, learning_rate, beta_1, beta_2, weight_decay):
    shrunk = theta - learning_rate * weight_decay * theta if is_weight else theta
    move = learning_rate * np.sign(beta_1 * mean + (1 - beta_1) * g)
    return shrunk - move, beta_2 * mean + (1 - beta_2) * g


def trained(step, numbers, seed, X, Y):
    """The flat vector of a network after the epochs, sample by sample."""
    net = dp.Network(SIZES, hidden_activation="sigmoid", loss="squared_error", seed=seed, backend="reference")
    theta = [array.copy() for array in (*net.weights, *net.biases)]
    layers, means = len(net.weights), [np.zeros_like(array) for array in theta]
    activations = [*net.activations]
    for epoch in range(EPOCHS):
        order = draw_order(net, SAMPLES, ahead=epoch)
        for start in range(0, SAMPLES, BATCH):
            rows = order[start : start + BATCH]
            _, of_W, of_b, _ = reference.cost_and_gradient(
                theta[:layers], theta[layers:], activations, "squared_error", X[rows], Y[rows]
            )
            of_W = [g + L2 / SAMPLES * W for g, W in zip(of_W, theta, strict=False)]
            for i, g in enumerate((*of_W, *of_b)):
                theta[i], means[i] = step(theta[i], g, means[i], i < layers, **numbers)
    return np.concatenate([array.ravel() for array in theta])


@pytest.mark.parametrize(
    ("name", "edits", "step", "rules"),
    [
        (
            "RMSprop",
            RMSPROP,
            rmsprop,
            [
                {"learning_rate": 0.01, "rho": 0.8, "epsilon": 1e-3},
                {"learning_rate": 0.02, "rho": 0.9, "epsilon": 1e-2},
                {"learning_rate": 0.03, "rho": 0.6, "epsilon": 1e-4},
            ],
        ),
        (
            "Lion",
            LION,
            lion,
            [
                {"learning_rate": 0.01, "beta_1": 0.8, "beta_2": 0.9, "weight_decay": 0.5},
                {"learning_rate": 0.02, "beta_1": 0.7, "beta_2": 0.99, "weight_decay": 0.0},
                {"learning_rate": 0.03, "beta_1": 0.5, "beta_2": 0.6, "weight_decay": 1.5},
            ],
        ),
    ],
    ids=["with a constant of a new name", "with weight decay"],
)
def test_four_files_are_enough(name, edits, step, rules, tmp_path, monkeypatch):
    assert len(edits) == 4
    rng = np.random.default_rng(5)
    X, Y = rng.standard_normal((SAMPLES, 4)), rng.standard_normal((SAMPLES, 2))
    given = {"name": name, "rules": rules, "X": X.tolist(), "Y": Y.tolist(), "sizes": SIZES, "batch": BATCH}
    given |= {"epochs": EPOCHS, "l2": L2, "seeds": SEEDS}
    found = run_in_copy(PROGRAM, edits, given, tmp_path, monkeypatch)
    expected = [trained(step, numbers, seed, X, Y) for numbers, seed in zip(rules, SEEDS, strict=True)]
    assert {"compiled", "recorded", "step by step"} <= found["one"].keys()
    assert {"compiled members", "stepped members"} <= found["several"].keys()
    for way, parameters in found["one"].items():
        assert parameters == pytest.approx(expected[0], rel=1e-10, abs=1e-12), way
    for way, several in found["several"].items():
        for parameters, own in zip(several, expected, strict=True):
            assert parameters == pytest.approx(own, rel=1e-10, abs=1e-12), way
