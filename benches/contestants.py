"""Trains one epoch of the same minibatches with the same mathematics, by us and by others, on the same device.

Every contestant starts from the same parameters, visits the samples in the same order, gathers its minibatches from
data that lie on the device, and takes plain steps θ := θ − η ∂J/∂θ of the mean cross-entropy of a network with sigmoid
hidden layers. `epoch` launches the work, `wait` waits for it, and `parameters` gives W and b layer by layer. These are
compared, so that nobody wins by computing less.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from deltaprop.backends.array_types import Floats, HostArray, Indices
from deltaprop.backends.choices import BackendName, LossName

if TYPE_CHECKING:
    from deltaprop.epochs.trainer import Trainer
    from deltaprop.network import Network

LEARNING_RATE = 0.1
#: Everything that XLA can put into CUDA graphs. Its own choice leaves out loops and conditions, so that a scan is a
#: loop on the host around graphs; with them the loop itself becomes a node of a graph.
COMMAND_BUFFERS = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONDITIONAL,WHILE"
#: Steps in the body of JAX's scan: a longer body makes larger graphs, and takes longer to compile.
UNROLL = 4


@dataclass
class Case:
    """A network, a minibatch, and data: sigmoid output for one unit, softmax for more."""

    sizes: tuple[int, ...]
    batch: int
    steps: int

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        m = self.batch * self.steps
        self.X = rng.standard_normal((m, self.sizes[0]), np.float32)
        labels = rng.integers(0, max(2, self.sizes[-1]), m)
        last = self.sizes[-1]
        self.Y = labels[:, None].astype(np.float32) if last == 1 else np.eye(last, dtype=np.float32)[labels]
        self.order: Indices = rng.permutation(m)
        bound = [np.sqrt(6 / (i + o)) for i, o in pairwise(self.sizes)]
        shapes = zip(pairwise(self.sizes), bound, strict=True)
        self.W = [rng.uniform(-b, b, (o, i)).astype(np.float32) for (i, o), b in shapes]
        self.b: list[Floats] = [np.zeros(o, np.float32) for o in self.sizes[1:]]

    @property
    def name(self) -> str:
        return "-".join(map(str, self.sizes))

    @property
    def floating_point_operations(self) -> float:
        """Return the operations of a step's matrix products: three a layer, without δ of the inputs."""
        entries = [i * o for i, o in pairwise(self.sizes)]
        return 2.0 * self.batch * (3 * sum(entries) - entries[0])


def blocks_of(whole_epoch: object) -> int | None:
    """Return the number of blocks that hold a network in shared memory, or None."""
    from deltaprop.epochs.resident import ResidentEpoch

    return whole_epoch.run.residence.blocks if isinstance(whole_epoch, ResidentEpoch) else None


def check_kept(trainer: Any, way: str) -> None:
    """Refuse an epoch that a trainer ran in another way than `way`, so that no time has a wrong name.

    Raises
    ------
    RuntimeError
        If the device has refused the way, or the graphs that it replays.
    """
    taken, backend = type(trainer.whole_epoch).__name__, trainer.network.backend
    if taken == "GraphEpoch" and not getattr(backend, "captures", True):
        taken = "single steps, as graphs are refused"
    if taken != way:
        raise RuntimeError(f"expected epochs by {way}, got {taken}")


class Ours:
    """`deltaprop.Trainer`, in the way that it chooses, or in a given way."""

    trainer: Trainer
    order: Indices

    def __init__(self, case: Case, backend: BackendName, precision: str = "fp32", way: str | None = None) -> None:
        import deltaprop as dp
        from deltaprop.derivation.backprop import Objective
        from deltaprop.epochs.graph import GraphEpoch
        from deltaprop.epochs.trainer import Trainer

        loss: LossName = "binary_cross_entropy" if case.sizes[-1] == 1 else "categorical_cross_entropy"
        precision_asked: Any = None if precision == "fp32" else precision
        self.net: Network = dp.Network(
            case.sizes, loss=loss, dtype="float32", backend=backend, precision=precision_asked
        )
        self.net.weights, self.net.biases = case.W, case.b
        optimizer, on = dp.SGD(LEARNING_RATE), self.net.backend
        X, Y = on.asarray(case.X, np.float32), on.asarray(case.Y, np.float32)
        trainer = Trainer(self.net, X, Y, optimizer, Objective(), case.batch, shuffled=True)
        if way == "graph":
            trainer.whole_epoch = GraphEpoch.find(trainer.task)
            if trainer.whole_epoch is None:  # else single steps would be timed under this name
                raise RuntimeError("an epoch can't be captured here")
        self.trainer, self.order = trainer, case.order
        self.way: str = type(trainer.whole_epoch).__name__

    def epoch(self) -> None:
        from deltaprop.reports.progress import Silent

        self.trainer.epoch(LEARNING_RATE, self.order, Silent())
        check_kept(self.trainer, self.way)

    @property
    def blocks(self) -> int | None:
        return blocks_of(self.trainer.whole_epoch)

    def wait(self) -> None:
        float(self.trainer.cost)

    def parameters(self) -> list[np.ndarray]:
        get = self.net.backend.to_numpy
        return [get(x).copy() for pair in zip(self.net.weights, self.net.biases, strict=True) for x in pair]


class Torch:
    """PyTorch: eager, compiled, or with the step in a CUDA graph."""

    torch: ModuleType
    device: str
    case: Case
    order: Any

    def __init__(self, case: Case, device: str, precision: str = "fp32", way: str = "eager") -> None:
        import torch
        from torch import nn

        self.torch, self.device, self.case = torch, device, case
        # TF32 for products of float32 only if asked for; this sets allow_tf32 too
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        layers: list[Any] = []
        for i, o in pairwise(case.sizes):
            layers += [nn.Linear(i, o), nn.Sigmoid()]
        model = nn.Sequential(*layers[:-1]).to(device)
        with torch.no_grad():
            for layer, W, b in zip(layers[::2], case.W, case.b, strict=True):
                layer.weight.copy_(torch.from_numpy(W))
                layer.bias.copy_(torch.from_numpy(b))
        X, Y = torch.from_numpy(case.X).to(device), torch.from_numpy(case.Y).to(device)
        self.model, self.order = model, torch.from_numpy(case.order).to(device)
        loss = nn.BCEWithLogitsLoss() if case.sizes[-1] == 1 else nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, foreach=True)
        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        family = device.partition(":")[0]

        def forward_backward(rows: Any) -> None:
            with torch.autocast(family, kind, enabled=kind is not None):
                cost = loss(model(X[rows]), Y[rows])
            cost.backward()

        if way == "compiled":
            compiled = torch.compile(lambda rows: loss(model(X[rows]), Y[rows]), mode="max-autotune")

            def forward_backward(rows: Any) -> None:
                with torch.autocast(family, kind, enabled=kind is not None):
                    cost = compiled(rows)
                cost.backward()

        def step(rows: Any) -> None:
            optimizer.zero_grad(set_to_none=way != "graph")
            forward_backward(rows)
            optimizer.step()

        self.step: Callable[[Any], None] = step
        if way == "graph":
            self.step = self._captured(step)

    def _captured(self, step: Callable[[Any], None]) -> Callable[[Any], None]:
        torch, rows = self.torch, self.order[: self.case.batch].clone()
        start = [p.detach().clone() for p in self.model.parameters()]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                step(rows)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step(rows)
        with torch.no_grad():
            for parameter, value in zip(self.model.parameters(), start, strict=True):
                parameter.copy_(value)

        def replay(batch: Any) -> None:
            rows.copy_(batch)
            graph.replay()

        return replay

    def epoch(self) -> None:
        for start in range(0, len(self.order), self.case.batch):
            self.step(self.order[start : start + self.case.batch])

    def wait(self) -> None:
        if self.device != "cpu":
            self.torch.cuda.synchronize()

    def parameters(self) -> list[np.ndarray]:
        return [p.detach().float().cpu().numpy().copy() for p in self.model.parameters()]


class Jax:
    """JAX: a jitted step, or a jitted scan over the epoch, with XLA's own choice of graphs or with all.

    In "bf16" the products are requested in bfloat16, for which XLA may use TF32 on a GPU. With `operands`, operands are
    really rounded to bfloat16, forward and backward, and sums are float32.

    Parameters
    ----------
    way : {"scan", "scan, graphs", "jit"}
    operands : str, optional
        The dtype to which operands of products are rounded.
    """

    jax: ModuleType
    case: Case
    way: str

    def __init__(
        self, case: Case, device: str, precision: str = "fp32", way: str = "scan", operands: str | None = None
    ) -> None:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        import jax
        import jax.numpy as jnp
        from jax import lax

        modes = {"fp32": "highest", "tf32": "tensorfloat32", "bf16": "bfloat16", "fp16": "bfloat16"}
        jax.config.update("jax_default_matmul_precision", modes[precision])
        self.jax, self.case, self.way = jax, case, way
        here = jax.devices("cpu" if device == "cpu" else "gpu")[0]
        put = lambda x: jax.device_put(x, here)  # noqa: E731
        X, Y = put(case.X), put(case.Y)
        self.order: Any = put(case.order.reshape(-1, case.batch))
        self.theta: list[tuple[Any, Any]] = [(put(W), put(b)) for W, b in zip(case.W, case.b, strict=True)]
        affine = (lambda A, W: A @ W.T) if operands is None else _rounded_affine(jax, operands)

        def cost(theta, x, y):
            for W, b in theta[:-1]:
                x = jax.nn.sigmoid(affine(x, W) + b)
            W, b = theta[-1]
            z = affine(x, W) + b
            if case.sizes[-1] == 1:
                return jnp.mean(jax.nn.softplus(z) - y * z)
            return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(z), axis=1))

        def step(theta, rows, X, Y):
            gradient = jax.grad(cost)(theta, X[rows], Y[rows])
            return jax.tree.map(lambda t, g: t - LEARNING_RATE * g, theta, gradient)

        def epoch(theta, order, X, Y):
            body = lambda theta, rows: (step(theta, rows, X, Y), None)  # noqa: E731
            return lax.scan(body, theta, order, unroll=min(UNROLL, len(order)))[0]

        options: dict[str, Any] = {}
        if way == "scan, graphs":
            options["compiler_options"] = {"xla_gpu_enable_command_buffer": COMMAND_BUFFERS}
        self.X, self.Y = X, Y
        self.step: Any = jax.jit(step, donate_argnums=0)
        self.scan: Any = jax.jit(epoch, donate_argnums=0, **options)

    def epoch(self) -> None:
        if self.way != "jit":
            self.theta = self.scan(self.theta, self.order, self.X, self.Y)
            return
        for rows in self.order:
            self.theta = self.step(self.theta, rows, self.X, self.Y)

    def wait(self) -> None:
        self.jax.block_until_ready(self.theta)

    def parameters(self) -> list[np.ndarray]:
        return [np.array(x) for pair in self.theta for x in pair]


def _rounded_affine(jax: Any, dtype: str) -> Callable[[Any, Any], Any]:
    """Return A Wᵀ and its derivative with operands rounded to `dtype` and sums of float32."""
    import jax.numpy as jnp

    def product(A, B):
        return jnp.matmul(A.astype(dtype), B.astype(dtype), preferred_element_type=jnp.float32)

    @jax.custom_vjp
    def affine(A, W):
        return product(A, W.T)

    def forward(A, W):
        return affine(A, W), (A, W)

    def backward(operands, delta):
        A, W = operands
        return product(delta, W), product(delta.T, A)

    affine.defvjp(forward, backward)
    return affine


class Naive:
    """The formulas as one would write them with the matmul and ufuncs of CuPy or NumPy."""

    xp: Any
    case: Case
    order: Any
    b: list[Any]

    def __init__(self, case: Case, xp: Any) -> None:
        self.xp, self.case = xp, case
        self.X, self.Y, self.order = xp.asarray(case.X), xp.asarray(case.Y), xp.asarray(case.order)
        self.W, self.b = [xp.array(W) for W in case.W], [xp.array(b) for b in case.b]

    def epoch(self) -> None:
        xp, W, b = self.xp, self.W, self.b
        for start in range(0, len(self.order), self.case.batch):
            rows = self.order[start : start + self.case.batch]
            A = [self.X[rows]]
            for l in range(len(W)):
                Z = A[-1] @ W[l].T + b[l]
                if l < len(W) - 1 or Z.shape[1] == 1:
                    A.append(1 / (1 + xp.exp(-Z)))
                else:
                    e = xp.exp(Z - Z.max(axis=1, keepdims=True))
                    A.append(e / e.sum(axis=1, keepdims=True))
            delta = (A[-1] - self.Y[rows]) / len(rows)
            for l in reversed(range(len(W))):
                of_W, of_b = delta.T @ A[l], delta.sum(axis=0)
                if l:
                    delta = delta @ W[l] * (A[l] * (1 - A[l]))
                W[l] -= LEARNING_RATE * of_W
                b[l] -= LEARNING_RATE * of_b

    def wait(self) -> None:
        if hasattr(self.xp, "cuda"):
            self.xp.cuda.Device().synchronize()

    def parameters(self) -> list[np.ndarray]:
        host = getattr(self.xp, "asnumpy", np.array)
        return [host(x) for pair in zip(self.W, self.b, strict=True) for x in pair]


class ScikitLearn:
    """`MLPClassifier.partial_fit`, an epoch a call, on samples laid out in the order of their visits."""

    y: HostArray | Any

    def __init__(self, case: Case) -> None:
        from sklearn.neural_network import MLPClassifier

        labels = case.Y[:, 0] > 0.5 if case.sizes[-1] == 1 else case.Y.argmax(axis=1)
        self.X, self.y = np.ascontiguousarray(case.X[case.order]), labels[case.order]
        self.mlp = MLPClassifier(
            case.sizes[1:-1],
            activation="logistic",
            solver="sgd",
            alpha=0.0,
            batch_size=case.batch,
            learning_rate_init=LEARNING_RATE,
            momentum=0.0,
            nesterovs_momentum=False,
            shuffle=False,
        )
        classes = np.unique(self.y)
        self.mlp.partial_fit(self.X[: case.batch], self.y[: case.batch], classes=classes)
        for coef, W in zip(self.mlp.coefs_, case.W, strict=True):
            coef[...] = W.T
        for intercept, b in zip(self.mlp.intercepts_, case.b, strict=True):
            intercept[...] = b

    def epoch(self) -> None:
        self.mlp.partial_fit(self.X, self.y)

    def wait(self) -> None:
        """It has waited."""

    def parameters(self) -> list[np.ndarray]:
        pairs = zip(self.mlp.coefs_, self.mlp.intercepts_, strict=True)
        return [x.copy() for coef, intercept in pairs for x in (coef.T, intercept)]


class BareProducts:
    """The floor: only the matrix products of every step, by NumPy into buffers; it learns nothing."""

    def __init__(self, case: Case) -> None:
        shapes = list(pairwise(case.sizes))
        empty = lambda *shape: np.ones(shape, np.float32)  # noqa: E731
        self.steps: int = case.steps
        self.calls: list[Any] = []
        A = [empty(case.batch, s) for s in case.sizes]
        delta = [empty(case.batch, s) for s in case.sizes]
        for l, (i, o) in enumerate(shapes):
            W, gradient = empty(o, i), empty(o, i)
            self.calls.append((A[l], W.T, A[l + 1]))
            self.calls.append((delta[l + 1].T, A[l], gradient))
            if l:
                self.calls.append((delta[l + 1], W, delta[l]))

    def epoch(self) -> None:
        for _ in range(self.steps):
            for left, right, out in self.calls:
                np.matmul(left, right, out=out)

    def wait(self) -> None:
        """It has waited."""
