"""A message carries arrays from the host to the device before a launch."""

import numpy as np
from conftest import backend_or_skip
from host_cuda import counting

from deltaprop.backends.cuda.message import Message


def test_arrays_of_any_kind_by_one_copy(device, rng):
    """Arrays are converted to the dtype of each field; a field that is not named keeps its last content."""
    kinds = {
        "count": ((), np.int64),
        "bytes": ((5,), np.uint8),
        "table": ((3, 2), np.float32),
        "order": ((7,), np.int64),
    }
    message = Message(device, **kinds)
    assert all(device.address(array) % 16 == 0 for array in message.device.values())
    table, order = rng.standard_normal((3, 2)), rng.permutation(7)
    message.send(count=9, bytes=np.arange(5), table=table, order=order)
    expected = {"count": 9, "bytes": np.arange(5), "table": table.astype(np.float32), "order": order}
    for name, (shape, dtype) in kinds.items():
        array = message.device[name]
        assert (array.shape, array.dtype) == (shape, dtype)
        assert np.array_equal(device.to_numpy(array), expected[name])
    message.send(order=order[::-1], table=None)
    assert np.array_equal(device.to_numpy(message.device["order"]), order[::-1])
    assert np.array_equal(device.to_numpy(message.device["table"]), expected["table"])


def test_the_host_waits_only_for_the_last_copy(monkeypatch):
    """It waits before it writes again, and before it frees the memory; not for launches after the copy."""
    device, seen = backend_or_skip("cuda-on-host"), []
    monkeypatch.setattr(device, "wait_on_host", lambda event: seen.append(("wait", event)))
    monkeypatch.setattr(
        device, "send", lambda source, target, event: (seen.append(("copy", source[0])), event or "e")[1]
    )
    message = Message(device, bytes=((1,), np.uint8))
    for number in range(3):
        message.send(bytes=number)
    assert seen == [("wait", None), ("copy", 0), ("wait", "e"), ("copy", 1), ("wait", "e"), ("copy", 2)]
    seen.clear()
    del message
    assert seen == [("wait", "e")]


def test_a_broken_device_is_waited_for_in_vain(monkeypatch):
    """A broken device reads nothing any more, so its memory may be freed."""
    device = backend_or_skip("cuda-on-host")
    message = Message(device, bytes=((1,), np.uint8))
    message.send(bytes=1)
    waits = []

    def broken(event):
        waits.append(event)
        raise device.device_errors[0]

    monkeypatch.setattr(device, "wait_on_host", broken)
    del message
    assert len(waits) == 1


def test_nothing_is_allocated_by_sending():
    device = backend_or_skip("cuda-on-host")
    message = Message(device, table=((3, 2), np.float32))
    with counting(device) as counted:
        message.send(table=np.ones((3, 2)))
    assert counted == {"uploads": 1}
