"""Makes damaged and hostile files for every reader: each must be refused in one line, or read right.

    python tests/fuzz.py [--kind damaged] [--inputs 10000] [--seed 0]

Of the kind "damaged", half of the inputs are model files, checkpoints and tabular estimators, which must be refused or
read as they were saved; the others are CSV, Parquet, NumPy and idx files, and tables. Those of the kind "forged" have a
right checksum; more is said in `forged.py`. Memory is limited to a GiB above what the process starts with. Those of the kind "caches" are
caches of compiled files that are damaged or hold what others planted: a fit in a process of its own has to end well,
with the numbers of a fit without a cache.
"""

import argparse
import gzip
import io
import os
import random
import resource
import shutil
import struct
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import forged
import numpy as np
from damaged_caches import plant
from prepared_compiler import fitted, prepared_compiler

import deltaprop as dp
from deltaprop.backends.native.compiler import find_compiler
from deltaprop.files.model_file import read_model
from deltaprop.inputs.files import load_dataset
from deltaprop.tabular.column_roles import choose_roles
from deltaprop.tabular.suspects import suspicious
from deltaprop.tabular.table_file import read_table

#: Seconds that one file may take, on a busy machine.
LONGEST = 5.0
ROOM = 2**30
#: The names of files that the library has saved.
MODELS = ("model", "checkpoint", "estimator")


def seeds(folder):
    """Write an intact file of every kind, by the name that it must have."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((12, 3)).round(3), rng.integers(0, 3, 12)
    net = dp.Network([3, 4, 3], loss="categorical_cross_entropy", backend="numpy")
    net.save(folder / "model")
    net.fit(X, y, epochs=2, optimizer=dp.Adam(0.01), checkpoint=folder / "checkpoint")
    table = "\n".join(["a,b,c,kind", *(",".join(map(str, [*row, label])) for row, label in zip(X, y, strict=True))])
    dp.TabularRegressor(2, 4, random_state=0, backend="numpy").fit(X, X[:, 0]).save(folder / "estimator")
    files = {name: (folder / name).read_bytes() for name in MODELS} | {"data.csv": table.encode()}
    odd = "\n".join(["id;x;when;y", *(f"{n};{n / 4:g};{n + 1}.3.2020;0{n % 2}" for n in range(60))]).replace(
        ".25", ",25"
    )
    files |= {"table.csv": odd.encode(), "table.csv.gz": gzip.compress(odd.encode("utf-16"))}
    for name, save in (
        ("data.npy", lambda file: np.save(file, X)),
        ("data.npz", lambda file: np.savez(file, X=X, y=y)),
    ):
        buffer = io.BytesIO()
        save(buffer)
        files[name] = buffer.getvalue()
    images, labels = rng.integers(0, 256, (6, 4, 4), np.uint8), rng.integers(0, 10, 6).astype(np.uint8)
    files["train-images-idx3-ubyte"] = b"\0\0\x08\3" + struct.pack(">III", *images.shape) + images.tobytes()
    files["train-labels-idx1-ubyte"] = b"\0\0\x08\1" + struct.pack(">I", 6) + labels.tobytes()
    files["train-images-idx3-ubyte.gz"] = gzip.compress(files["train-images-idx3-ubyte"])
    try:
        import pyarrow
        from pyarrow import parquet

        buffer = io.BytesIO()
        parquet.write_table(pyarrow.table({"a": X[:, 0], "b": X[:, 1], "kind": y}), buffer)
        files["data.parquet"] = files["table.parquet"] = buffer.getvalue()
    except ImportError:
        pass
    return files


def mutated(content, generator):
    """Return `content` with one or several faults."""
    data = bytearray(content)
    for _ in range(generator.choice((1, 1, 1, 2, 5))):
        at = generator.randrange(len(data) + 1)
        match generator.randrange(8):
            case 0:
                del data[at:]
            case 1 if at < len(data):
                data[at] ^= 1 << generator.randrange(8)
            case 2 if at < len(data):
                data[at] = generator.choice(b'\0\xff,;"{}[]-019\n')
            case 3:
                data[at:at] = generator.randbytes(generator.randrange(1, 40))
            case 4:
                del data[at : at + generator.randrange(1, 64)]
            case 5:
                data[at:at] = data[at : at + generator.randrange(1, 200)]
            case 6 if len(data) >= 8:  # a length, a shape or an offset becomes huge or negative
                at = min(at, len(data) - 8)
                data[at : at + 8] = struct.pack("<q", generator.choice((-1, 0, 2**31 - 1, 2**62, 2**40, -(2**63))))
            case 7:
                for number, other in ((b"3", b"999999999999"), (b"12", b"-1"), (b"0", b"1e999")):
                    if generator.random() < 0.4:
                        data = bytearray(bytes(data).replace(number, other, 1))
    return bytes(data)


def read(name, path, net):
    """Read a file by the reader of its kind; a model must be as it was saved."""
    if name == "model":
        loaded = dp.Network.load(path, backend="numpy")
        assert np.array_equal(loaded.parameters, net.parameters)
        assert loaded.configuration == net.configuration
    elif name in MODELS:
        before = read_model(path.parent / f"{name}.whole")
        content, tensors = read_model(path)
        assert content == before[0]
        assert all(np.array_equal(tensors[key], before[1][key]) for key in before[1])
    elif name.startswith("table."):
        table = read_table(path)
        roles = choose_roles(table)
        assert set(suspicious(table, roles, next(reversed(table.columns.values())))) <= set(table.columns)
    else:
        source = path.parent if name.startswith("train-") else path
        dataset = load_dataset(str(source))
        assert np.isfinite(dataset.X.astype(float)).all()
        assert dataset.y is None or len(dataset.y) == len(dataset.X)


def run(inputs, seed, folder, say=lambda text: None):
    """Try so many inputs; return how many were refused, by kind."""
    generator = random.Random(seed)
    files = seeds(folder)
    trained = dp.Network.load(folder / "model", backend="numpy")
    others = [name for name in files if name not in MODELS]
    counts = {name: [0, 0] for name in files}
    for number in range(inputs):
        name = generator.choice(MODELS if number % 2 else others)
        content = mutated(files[name], generator)
        where = folder / "case"
        where.mkdir(exist_ok=True)
        for path in where.iterdir():
            path.unlink()
        if name.startswith("train-"):
            pair = [kind for kind in files if kind.startswith("train-") and not kind.endswith(".gz")]
            for kind in pair:
                if kind != name.removesuffix(".gz"):
                    (where / kind).write_bytes(files[kind])
        for kind in MODELS:
            (where / f"{kind}.whole").write_bytes(files[kind])
        path = where / name
        path.write_bytes(content)
        began, said = time.perf_counter(), "nothing, for it was read"
        counts[name][0] += 1
        try:
            read(name, path, trained)
        except (ValueError, OSError) as error:
            counts[name][1] += 1
            said = str(error)
        except Exception as error:
            raise AssertionError(f"{name}, input {number} of seed {seed}: {type(error).__name__}: {error}") from error
        seconds = time.perf_counter() - began
        assert said, (name, number)
        assert seconds < LONGEST, (name, number, seconds)
        if number % 500 == 499:
            say(f"\r{number + 1} inputs")
    return counts


def fitted_elsewhere(cache, **environment):
    """Return the same bytes from a process of its own with that cache, and how it ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.close(reader)
            os.environ.update(environment, DELTAPROP_CACHE_DIR=str(cache))
            os.write(writer, b"".join(parameters.tobytes() for parameters in fitted("numpy")))
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        content = pipe.read()
    return content, os.waitpid(child, 0)[1]


def run_caches(inputs, seed, folder, say=lambda text: None):
    """Try so many caches; return how many of each kind. The process must have no threads and no earlier training."""
    generator, counts = random.Random(seed), dict[str, int]()
    tempfile.tempdir = str(folder)  # killed processes leave their files there
    os.environ["CXX"] = str(prepared_compiler(folder / "compiler"))
    os.environ["DELTAPROP_LIBRARY"] = "native"  # whatever came with the package
    find_compiler.cache_clear()
    clean, stale = folder / "clean", folder / "stale"
    expected, status = fitted_elsewhere(clean)
    assert status == 0
    assert fitted_elsewhere(stale, PREPARED_VERSION="0") == (expected, 0)
    assert len(list(clean.glob("*.so"))) == 2
    assert not {path.name for path in clean.glob("*.so")} & {path.name for path in stale.glob("*.so")}
    ours: Any
    reference: Any
    for ours, reference, tolerance in zip(
        (np.frombuffer(expected, np.float32, count=74), np.frombuffer(expected, np.float64, offset=4 * 74)),
        fitted("reference"),
        (2e-5, 1e-12),
        strict=True,
    ):
        assert np.allclose(ours, reference, rtol=tolerance, atol=tolerance)
    for number in range(inputs):
        cache = folder / f"case-{number}"
        shutil.copytree(clean, cache, copy_function=shutil.copy)
        kinds = [plant(cache, stale, generator) for _ in range(generator.choice((1, 1, 2, 3)))]
        began = time.perf_counter()
        found = fitted_elsewhere(cache)
        assert found == (expected, 0), f"cache {number} of seed {seed}, {kinds}: status {found[1]}"
        assert time.perf_counter() - began < 4 * LONGEST, (number, kinds)
        for kind in kinds:
            counts[kind] = counts.get(kind, 0) + 1
        shutil.rmtree(cache)
        if number % 10 == 9:
            say(f"\r{number + 1} caches")
    tempfile.tempdir = None
    return counts


def limit_memory():
    """Limit memory to `ROOM` more than is used now; return a function that lifts the limit."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, before[1]))
    return lambda: resource.setrlimit(resource.RLIMIT_AS, before)


#: The kinds of inputs, and the functions that make and read them.
KINDS = {"damaged": run, "forged": forged.run}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=[*KINDS, "caches"], default="damaged")
    parser.add_argument("--inputs", type=int, help="10000 by default, 200 caches")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    say = lambda text: print(text, end="", flush=True)  # noqa: E731
    if arguments.kind == "caches":
        with tempfile.TemporaryDirectory() as name:
            kinds = run_caches(arguments.inputs or 200, arguments.seed, Path(name), say)
        print()
        for kind, count in sorted(kinds.items()):
            print(f"{kind:28} {count:6} caches, none crashed, all with the numbers of a clean one")
        return
    made = KINDS[arguments.kind]
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as name:
        made(10, 1, Path(name))  # this loads everything that a reader imports
        limit_memory()
        counts = made(arguments.inputs or 10000, arguments.seed, Path(name), say)
    print()
    for kind, (inputs, refused) in counts.items():
        print(f"{kind:36} {inputs:6} inputs, {refused:6} refused, none crashed, none taken for another")


if __name__ == "__main__":
    main()
