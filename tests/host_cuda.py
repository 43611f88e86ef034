"""Emulates a device without a GPU: the CUDA backend, with its kernels compiled as C++ and run on the host.

`CupyBackend` itself runs: which kernel it launches, with which grid, block and arguments. Only CuPy is replaced, by
`strict_array.py`, and the launch, by `host_cuda.h`. Arguments are checked against the kernel's signature on the way.
"""

import ctypes
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import strict_array
from filelock import FileLock
from strict_array import DEVICES, StrictArray, memory

from deltaprop import backends
from deltaprop.backends.cuda.backend import CupyBackend
from deltaprop.backends.cuda.compiler import STRUCTURES, TYPE_OPTIONS
from deltaprop.backends.cuda.cublas import Products
from deltaprop.backends.cuda.launching import kind_of
from deltaprop.backends.cuda.shared_memory_plan import Shape
from deltaprop.backends.cuda.thread_state import Found, Here
from deltaprop.backends.kernel_names import NAMES, check_names
from deltaprop.backends.kernel_sources import included

#: Bytes of memory that the device claims to have, all free.
MEMORY = 2**40
HEADER = Path(__file__).with_name("host_cuda.h")
#: Where compiled kernels are kept, for the processes that test side by side; ``pytest --cache-clear`` empties it.
COMPILED = Path(__file__).parents[1] / ".pytest_cache" / "d" / "host_cuda"


def compiler_problem():
    return None if shutil.which("g++") else "no g++ to compile the kernels as C++"


@cache
def library(file, dtype, definitions=()):
    """Compile ``kernels/cuda/<file>.cu`` for the host; return the library, and each kernel's blocks in a cluster."""
    kernels = Path(str(files("deltaprop.kernels")))
    options = ["-std=c++17", f"-I{kernels}", "-DDELTAPROP_HAS_CLUSTERS=1", *TYPE_OPTIONS[dtype], *definitions]
    source = kernels / "cuda" / f"{file}.cu"
    # The preprocessor leaves __global__ in place, so that it marks the kernels that macros spell out.
    expanded = subprocess.run(
        ["g++", "-E", "-x", "c++", *options, str(source)], check=True, capture_output=True, text=True
    ).stdout
    declared = re.findall(r'extern "C" __global__\s+((?:__\w+__\([^)]*\)\s*)*)void (\w+)\(', expanded)
    assert declared, f"cuda/{file}.cu holds no kernel"
    clusters = {name: re.search(r"__cluster_dims__\((\d+)", attributes) for attributes, name in declared}
    names = list(clusters)
    wrapper = "\n".join([f'#include "{HEADER}"', f'#include "{source}"', *(f"HOST_KERNEL({name})" for name in names)])
    # Fortified jumps refuse to go from one stack to another.
    settings = ["-O1", "-U_FORTIFY_SOURCE", "-shared", "-fPIC", "-ffp-contract=off", *options]
    output = compiled_once(wrapper, settings, expanded + HEADER.read_text())
    if NAMES in included(f"cuda/{file}.cu"):
        check_names(output.read_bytes(), f"cuda/{file}.cu", STRUCTURES.get(file, ()))
    return ctypes.CDLL(str(output)), {name: int(found[1]) if found else 1 for name, found in clusters.items()}


def compiled_once(wrapper, settings, content):
    """Compile a source, unless a process has compiled the same content with the same settings; return the library."""
    COMPILED.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256("\0".join((wrapper, *settings, content)).encode()).hexdigest()[:32]
    output = COMPILED / f"{key}.so"
    with FileLock(COMPILED / f"{key}.lock"):
        if not output.exists():
            with tempfile.TemporaryDirectory(dir=COMPILED) as folder:
                source, made = Path(folder, "wrapper.cpp"), Path(folder, "kernels.so")
                source.write_text(wrapper)
                command = ["g++", *settings, str(source), "-o", str(made)]
                subprocess.run(command, check=True, capture_output=True, text=True)
                made.replace(output)
    return output


def check_shape(grid, block):
    """Check that a device could launch it: only the first number of a grid may be large."""
    assert min(grid) > 0
    assert grid[0] < 2**31
    assert max((1, *grid[1:])) <= 65535
    assert np.prod(block) <= 1024


def kernel(file, function, dtype, definitions=()):
    """Return a callable with the calling convention of CuPy's kernels."""
    host, clusters = library(file, dtype, definitions)
    blocks = clusters[function]
    sizes = (ctypes.c_int * 32)()
    expected = list(sizes[: getattr(host, f"host_sizes_{function}")(sizes)])

    def launch(grid, block, arguments, shared_mem=0):
        assert len(arguments) == len(expected), f"{function} takes {len(expected)} arguments, got {len(arguments)}"
        held = []
        for position, (argument, size) in enumerate(zip(arguments, expected, strict=True)):
            if isinstance(argument, StrictArray):
                assert size == 8, f"{function}: argument {position} is no pointer"
                array = memory(argument)
                assert array.flags.c_contiguous
                argument = np.uintp(array.ctypes.data)
            if not isinstance(argument, np.generic):
                raise TypeError(
                    f"{function}: argument {position} is a {type(argument).__name__}, which is not on the device"
                )
            given = -argument.itemsize if argument.dtype.kind == "f" else argument.itemsize
            assert given == size, f"{function}: argument {position} is {argument.dtype}, expected size {size}"
            held.append(np.array([argument]))
        check_shape(grid, block)
        assert grid[0] % blocks == 0
        assert shared_mem <= 227 * 1024
        pointers = (ctypes.c_void_p * len(held))(*(value.ctypes.data for value in held))
        shapes = [(ctypes.c_uint * 3)(*(*map(int, shape), 1, 1)[:3]) for shape in (grid, block)]
        getattr(host, f"host_launch_{function}")(*shapes, pointers, blocks, -(-shared_mem // 16) * 16)

    return launch


class OutOfMemoryError(Exception):
    """Stands for CuPy's error when the device has no more memory."""


def allocated(make):
    """Return an array by NumPy's `make`, if it fits into `MEMORY`."""

    def within_the_device(shape, dtype):
        if np.prod(shape, dtype=float) * np.dtype(dtype).itemsize > MEMORY:
            raise OutOfMemoryError
        return make(shape, dtype)

    return within_the_device


class CUDARuntimeError(RuntimeError):
    """Stands for CuPy's error when the runtime refuses something."""


class CUDADriverError(RuntimeError):
    """Stands for CuPy's error when the driver refuses something."""


class HostProducts(Products):
    """Products by NumPy in place of cublasLt: they can be captured, and read numbers on the device when they run."""

    capturable = True

    def __init__(self, run):
        self.run = run

    def __call__(self, A, B, out, *, kind, factor, transpose_A, transpose_B, keep):
        A, B, out = memory(A), memory(B), memory(out)
        A, B = A.swapaxes(-1, -2) if transpose_A else A, B.swapaxes(-1, -2) if transpose_B else B
        A, B = A[..., : out.shape[-2], :], B[..., : out.shape[-1]]
        keep = memory(keep)

        def multiply():
            real = np.float64 if kind == "float64" else np.float32
            product = np.matmul(*(operand(x, kind) for x in (A, B))).astype(real) * real(factor)
            if out.dtype == np.uint16:
                assert keep is None
                out[...] = bfloat16(product)
            else:
                out[...] = product if keep is None else keep * out + product

        self.run(multiply)


def bfloat16(x):
    """Return the bits of bfloat16, rounded to nearest, ties to even."""
    bits = x.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)


def operand(x, kind):
    """Return an operand as the matrix units round it."""
    if kind == "bfloat16":
        return (x.astype(np.uint32) << 16).view(np.float32)
    if kind == "float16":
        return x.view(np.float16).astype(np.float32)
    if kind == "tf32":
        bits = np.ascontiguousarray(x).view(np.uint32)
        return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    return x


class Graph:
    def __init__(self, launches):
        self.launches = launches

    def launch(self, stream):
        for launch in self.launches:
            launch()

    def drop(self):
        self.launches = None


class Streams(threading.local):
    """Streams, one of them the current one."""

    def __init__(self, recording):
        self.current, self.made, self.recording = [], 0, recording
        self.current.append(Stream(self))
        self.top().waits = False

    def top(self):
        """The current stream, as cupy.cuda.get_current_stream returns it."""
        return self.current[-1]


class Stream:
    """A stream whose launches run only when another stream waits for them: as late as dependencies allow."""

    def __init__(self, streams):
        streams.made += 1
        self.streams, self.ptr, self.launches, self.run, self.waits = streams, streams.made, [], 0, True

    def is_capturing(self):
        return self.streams.recording.launches is not None

    def synchronize(self):
        """Raise the error of a device that does nothing more after it."""
        if self.streams.recording.broken is not None:
            raise self.streams.recording.broken

    def __enter__(self):
        self.streams.current.append(self)
        return self

    def __exit__(self, *error):
        self.streams.current.pop()


class HostCudaBackend(CupyBackend):
    """`CupyBackend` with strict arrays in place of CuPy's and the host in place of the device."""

    def __init__(self, devices=1):
        self.recording = SimpleNamespace(launches=None, broken=None)  # the variants of all precisions share them
        self.devices, self.streams = DEVICES, Streams(self.recording)
        limits = {"multiprocessors": 1, "shared": 232448}
        runtime = SimpleNamespace(
            memGetInfo=lambda: (MEMORY, MEMORY),
            getDeviceCount=lambda: devices,
            cudaDevAttrMultiProcessorCount="multiprocessors",
            cudaDevAttrMaxSharedMemoryPerBlockOptin="shared",
            deviceGetAttribute=lambda attribute, device: limits[attribute],
            CUDARuntimeError=CUDARuntimeError,
        )
        memory = SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
        cuda = SimpleNamespace(
            Device=self.devices.device,
            get_current_stream=self.streams.top,
            runtime=runtime,
            driver=SimpleNamespace(CUDADriverError=CUDADriverError),
            memory=memory,
            alloc_pinned_memory=lambda size: np.full(size, 0xFF, np.uint8),  # NaN until it is written to
        )
        functions = strict_array.functions()
        functions |= {name: allocated(functions[name]) for name in ("empty", "zeros")}
        pool = SimpleNamespace(free_all_blocks=lambda: None, free_bytes=lambda: 0)
        self.cp = ModuleType("cupy")
        self.cp.__dict__.update(functions, cuda=cuda, get_default_memory_pool=lambda: pool)
        self._functions = {}
        self._found = Found(HostProducts(self.run))
        self._variants = {("fp32", None): self}
        self._limits = {}
        self._small_choices = {}
        self.way = "library"  # ways to form a small layer: there is no device whose clock could choose
        self._here = Here([])

    def is_capturing(self):
        return self.recording.launches is not None

    def fastest_way(self, ways):
        for call in ways.values():
            call()
        return self.way if self.way in ways else next(iter(ways))

    def run(self, launch):
        """Run on the current stream: at once on the caller's, as late as possible on others."""
        stream = self.streams.top()
        if stream.waits:
            stream.launches.append(launch)
        else:
            self._run_now(launch)

    def _mark(self, stream):
        return stream, stream.run + len(stream.launches)

    def _wait(self, stream, event):
        other, end = event
        while other.run < end:
            other.run += 1
            self._run_now(other.launches.pop(0))

    def _run_now(self, launch):
        """Run now or, while a graph is captured, when the graph is launched."""
        if self.recording.launches is None:
            launch()
        else:
            self.recording.launches.append(launch)

    def new_stream(self):
        return Stream(self.streams)

    @contextmanager
    def on_stream(self, stream):
        stream.waits = False
        with stream:
            yield

    def capture(self, stream, body):
        assert self.recording.launches is None
        self.recording.launches = []
        try:
            body()
            return Graph(self.recording.launches)
        except BaseException:
            for other in self._here.streams.values():
                other.launches.clear()  # with the launches captured there
            raise
        finally:
            self.recording.launches = None

    #: Whether each network in shared memory gets a kernel of its own, as on a device, or one kernel reads all shapes.
    compiles_shapes = False

    def run_resident(self, plan, dtype, residence, members):
        if (
            not self.compiles_shapes
        ):  # a fiber takes longer than a thread, so use the fewest threads that make two warps
            shape = Shape.from_buffer_copy(residence.shape)
            shape.threads = 64
            residence = replace(residence, shape=shape)
        super().run_resident(plan, dtype, residence, members)

    def send(self, source, target, event):
        assert event in (None, "uploaded")
        target.set(source)
        return "uploaded"

    def upload(self, sources, targets, stream, after):
        for source, target in zip(sources, targets, strict=True):
            target.set(source)
        return "uploaded"

    def event(self):
        return "used"

    def wait_on_device(self, event):
        assert event == "uploaded"

    def wait_on_host(self, event):
        assert event in (None, "uploaded")

    def compile_for(self, step):
        """Compile nothing beforehand: the host's compiler takes one file at a time."""

    def _kernel(self, file, function, dtype, definitions=(), shared_bytes=None):
        kind, definitions = kind_of(dtype), definitions if self.compiles_shapes else ()
        key = (file, function, kind, *definitions)
        if key not in self._functions:
            launch = kernel(file, function, kind, definitions)
            self._functions[key] = lambda *args, **options: self.run(lambda: launch(*args, **options))
        return self._functions[key]


#: The calls that stand for an allocation, a copy to the device, or a wait for it.
ALLOCATES = {"empty", "zeros", "asarray", "full", "zeros_like", "empty_like", "alloc_pinned_memory", "copy", "astype"}
UPLOADS = {"asarray", "set"}
WAITS = {"get", "item", "tolist", "__float__", "__int__", "__bool__", "synchronize"}
KINDS = {"allocates": ALLOCATES, "uploads": UPLOADS, "waits": WAITS}


@contextmanager
def counting(backend):
    """Inside, count how often something "allocates", "uploads" and "waits"."""
    counted: Counter[Any] = Counter()

    def watched(name, function):
        def watching(*arguments, **options):
            counted.update(kind for kind, names in KINDS.items() if name in names)
            return function(*arguments, **options)

        return watching

    with ExitStack() as stack:
        names = set().union(*KINDS.values())
        for owner in (backend.cp, backend.cp.cuda, StrictArray, Stream):
            for name in names & set(vars(owner)):
                stack.enter_context(patch.object(owner, name, watched(name, getattr(owner, name))))
        yield counted


@contextmanager
def in_place_of_cupy(backend):
    """Inside, ``import cupy`` and the backend "cupy" are the emulated ones, so that its arrays are recognised."""
    own, cupy = backends.BACKENDS["cupy"], sys.modules.get("cupy")
    backends.BACKENDS["cupy"], sys.modules["cupy"] = lambda: backend, backend.cp
    backends.backend_problem.cache_clear()
    try:
        yield backend
    finally:
        backends.BACKENDS["cupy"] = own
        del sys.modules["cupy"]
        if cupy is not None:
            sys.modules["cupy"] = cupy
        backends.backend_problem.cache_clear()
