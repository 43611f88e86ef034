"""Bytes of files and of standard input, read more than once."""

import gzip
import io
import sys

import pytest

from deltaprop.inputs.byte_source import ByteSource

CONTENT = bytes(range(256)) * 20_000  # several parts


def read(source):
    with source.open() as file:
        return file.read()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("from_input", [False, True])
def test_bytes_are_read_again_and_again(packed, from_input, tmp_path, monkeypatch):
    stored = gzip.compress(CONTENT) if packed else CONTENT
    path = tmp_path / "file"
    path.write_bytes(stored)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stored)))
    source = ByteSource("-" if from_input else path)
    assert source.is_packed == packed
    assert source.name == ("standard input" if from_input else str(path))
    with source.open() as file:  # left before its end
        assert file.read(3) == CONTENT[:3]
        assert 0.0 < source.share <= 1.0
    for _ in range(2):
        assert read(source) == CONTENT
        assert source.share == 1.0


def test_an_empty_file(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    source = ByteSource(tmp_path / "file")
    assert read(source) == b""
    assert source.share == 0.0


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        ByteSource(tmp_path / "file")
