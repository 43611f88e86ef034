"""Helpers that the tests of `benches.gpu` share."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import cuda_on_host, require_emulation
from deltaprop.benches.gpu_parts.channel import Channel
from host_cuda import in_place_of_cupy

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def emulated():
    require_emulation()
    with in_place_of_cupy(cuda_on_host()) as backend:
        yield backend


class Told(Channel):
    """A channel whose messages are kept."""

    def __init__(self):
        self.messages = []

    def _send(self, message):
        self.messages.append(json.loads(json.dumps(message)))

    @property
    def rows(self):
        return {message["row"]["name"]: message["row"] for message in self.messages if "row" in message}


def program(*arguments, script=("-m", "benches.gpu")):
    return subprocess.run(
        [sys.executable, *script, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False
    )
