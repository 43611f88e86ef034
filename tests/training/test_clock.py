"""What is done once, such as loading the compiled library, is no part of an epoch's time."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.backends.native import library
from deltaprop.backends.native.scipy_threads import own_threads
from deltaprop.backends.native.selection import select_library
from deltaprop.cli import run, sweep_folds, train_network
from deltaprop.epochs import compiled
from deltaprop.training import loop, stack_loop

X, Y = np.zeros((12, 3)), np.zeros((12, 2))


@pytest.fixture
def events(monkeypatch):
    """What happens, in order: "library" where it is asked for anew, "blas" where scipy's is, "clock" where time is read."""
    found = []

    def watched(name, function):
        return lambda *arguments, **options: (found.append(name), function(*arguments, **options))[1]

    library._load.cache_clear()
    monkeypatch.setattr(library, "select_library", watched("library", select_library))
    monkeypatch.setattr(compiled, "own_threads", watched("blas", own_threads))
    for module in (loop, stack_loop):
        clock = SimpleNamespace(perf_counter=watched("clock", module.time.perf_counter))
        monkeypatch.setattr(module, "time", clock)
    yield found
    library._load.cache_clear()


@pytest.mark.parametrize("options", [{}, {"callbacks": [lambda *arguments: None]}], ids=["many at once", "one by one"])
def test_a_network(options, events):
    network = dp.Network([3, 4, 2], loss="squared_error", backend="numpy")
    network.fit(X, Y, epochs=2, batch_size=4, **options)
    assert events[:2] == ["library", "blas"]
    assert set(events[2:]) == {"clock"}


def test_a_stack(events):
    stack = dp.NetworkStack(2, [3, 4, 2], loss="squared_error", backend="numpy")
    stack.fit(X, Y, epochs=2, batch_size=4)
    assert events[0] == "library"
    assert set(events[1:]) == {"clock"}


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_the_command_line(command, monkeypatch):
    """The time that it shows begins when the library is there."""
    module = {"train": train_network, "sweep": sweep_folds}[command]
    own = ["--grid", "lr=0.01"] if command == "sweep" else []
    found = []
    library._load.cache_clear()
    monkeypatch.setattr(
        library, "select_library", lambda *arguments: (found.append("library"), select_library(*arguments))[1]
    )
    clock = SimpleNamespace(perf_counter=lambda: (found.append("clock"), time.perf_counter())[1])
    monkeypatch.setattr(module, "time", clock)
    try:
        assert run([command, "digits", "--epochs", "1", "--no-progress", "--backend", "numpy", *own]) == 0
    finally:
        library._load.cache_clear()
    assert found[0] == "library"
    assert "clock" in found
