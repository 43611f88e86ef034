"""A compiler that copies what the real one made, and a small fit that shows what its libraries compute.

Many processes of tests begin with it, so it imports little.
"""

from pathlib import Path

import numpy as np

import deltaprop as dp
from deltaprop.backends.native.compiler import native_library

#: A compiler whose output was made beforehand: everything but the compilation is as with any other.
COMPILER = """#!/bin/sh
real= output=
while [ $# -gt 0 ]; do
    case $1 in
        -E) echo '#define PREPARED 1'; exit;;
        --version) echo "prepared ${PREPARED_VERSION:-1}"; exit;;
        -DDELTAPROP_REAL=*) real=${1#*=};;
        -o) output=$2;;
    esac
    shift
done
echo compiled >> "${PREPARED_LOG:-/dev/null}"
cp "$(dirname "$0")/$real.so" "$output"
"""


def prepared_compiler(folder):
    """Return the command of a compiler that copies what the real one made."""
    folder.mkdir()
    for real in ("float", "double"):
        (folder / f"{real}.so").write_bytes(native_library(real, Path.read_bytes))
    command = folder / "c++"
    command.write_text(COMPILER)
    command.chmod(0o755)
    return command


def fitted(backend):
    """Return the parameters after a few epochs in float32 and in float64."""
    X = np.random.default_rng(3).standard_normal((40, 5))
    nets = [
        dp.Network([5, 9, 2], loss="squared_error", dtype=np.dtype(t), seed=1, backend=backend) for t in ("f4", "f8")
    ]
    for net in nets:
        net.fit(X, np.sin(X[:, :2]), epochs=3, batch_size=8)
    return [net.parameters.copy() for net in nets]
