"""Networks as safetensors files: tensors by layer, the configuration in the metadata, and nothing that runs code."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from pathlib import Path
from textwrap import shorten
from typing import BinaryIO

import numpy as np

from deltaprop.arguments import check_path
from deltaprop.backends.array_types import HostArray
from deltaprop.derivation.state import Configuration
from deltaprop.files.atomic_file import write_atomically

FORMAT = "deltaprop-network"
VERSION = 1

Tensors = dict[str, HostArray]


def write_model(path: str | os.PathLike[str], configuration: Configuration, tensors: Tensors) -> None:
    """Write `tensors` and `configuration` (JSON types only) to `path`, all or nothing.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    from safetensors.numpy import save

    text = json.dumps(dict(configuration), sort_keys=True)
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "configuration": text,
        "sha256": _digest(text, tensors),
    }
    content = save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, metadata=metadata)
    write_atomically(path, content)


def read_model(path: str | os.PathLike[str]) -> tuple[Configuration, Tensors]:
    """Read the configuration and the tensors from a file that `write_model` wrote.

    Raises
    ------
    FileNotFoundError, OSError
        If there is no such file or it cannot be read.
    ValueError
        If it is truncated, changed, or not a model of this package.
    """
    from safetensors import SafetensorError, safe_open

    path = check_path("path", path)
    with _open_regular_file(path):
        pass  # a file that is missing or may not be read says so in the words of the operating system
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError(f"{path}: not a deltaprop model (a safetensors file of another program)")
            if metadata.get("version") != str(VERSION):
                version = in_one_line(repr(metadata.get("version")))
                raise ValueError(f"{path}: model format version {version}, expected {VERSION}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, UnicodeDecodeError, TypeError, KeyError) as error:
        other = "; Network.from_onnx reads ONNX models" if path.suffix == ".onnx" else ""
        raise ValueError(f"{path}: not a model file, or a damaged one ({in_one_line(error)}){other}") from error
    text = metadata.get("configuration", "")
    if metadata.get("sha256") != _digest(text, tensors):
        raise ValueError(f"{path}: the content does not match its checksum: the file is damaged")
    return parse_configuration(path, text), tensors


def parse_configuration(path: str | os.PathLike[str], text: str) -> Configuration:
    """Parse a text from a file as a JSON object, and check nothing else.

    Raises
    ------
    ValueError
        If it is not a JSON object; the message begins with `path`.
    """
    try:
        configuration = json.loads(text)
        json.dumps(configuration, ensure_ascii=False).encode()  # JSON can hold halves of characters
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the configuration is not JSON ({in_one_line(error)})") from error
    if not isinstance(configuration, dict):
        raise ValueError(f"{path}: the configuration is no JSON object")
    return configuration


def read_regular_file(path: str | os.PathLike[str]) -> bytes:
    """Read a file, but never a pipe or a device, which may have no end.

    Raises
    ------
    OSError
        If there is no such file or it cannot be read.
    ValueError
        If it is not a regular file.
    """
    with _open_regular_file(check_path("path", path)) as file:
        return file.read()


def in_one_line(said: object) -> str:
    """Shorten what another library says of a file, or the file itself, so that it fits into a message."""
    return shorten(str(said)[:1000], 200, placeholder=" …")


def _open_regular_file(path: Path) -> BinaryIO:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        missing = FileNotFoundError(f"{path}: no such file")
        missing.errno = errno.ENOENT
        raise missing from None
    if stat.S_ISDIR(mode):
        raise ValueError(f"{path}: is a folder, not a model file")
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path}: is a pipe or a device, not a model file")
    return path.open("rb")


def _digest(configuration: str, tensors: Tensors) -> str:
    """Compute SHA-256 over the configuration and every tensor's name, dtype, shape and bytes."""
    digest = hashlib.sha256(configuration.encode())
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        digest.update(f"\0{name}\0{tensor.dtype.str}\0{tensor.shape}\0".encode())
        digest.update(tensor.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
